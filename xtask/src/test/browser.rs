//! A headless browser, driven as a user drives it: by mouse and keys.
//!
//! Source: Chrome DevTools Protocol, domains Target, Runtime, Input and Page; chromium's `--remote-debugging-pipe`:
//! messages in JSON, each with a NUL at its end, on descriptors 3 and 4.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::life::until;

/// A page in a browser. Dropping it ends the browser.
pub(super) struct Page {
    browser: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    session: Value,
    last: u64,
}

/// Modifier keys of events.
pub(super) const SHIFT: u64 = 8;

impl Page {
    /// Starts a browser with its own files in `profile`, and opens a page once its body has `data-ready`.
    pub(super) fn open(address: &str, profile: &Path) -> anyhow::Result<Self> {
        // The shell gives chromium its pipes as descriptors 3 and 4.
        let script = r#"exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null"#;
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh", "--remote-debugging-pipe"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg("--window-size=1600,900")
            .arg(format!("--user-data-dir={}", profile.display()));
        let mut browser = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a shell")?;
        let pipes = browser.stdin.take().zip(browser.stdout.take());
        let (requests, answers) = pipes.context("no pipes to the browser")?;
        let answers = BufReader::new(answers);
        let mut page = Self { browser, requests, answers, session: Value::Null, last: 0 };
        let target = page.call("Target.createTarget", json!({ "url": address }))?["targetId"].take();
        let attached = page.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }))?;
        page.session = attached["sessionId"].clone();
        page.until("document.body !== null && document.body.dataset.ready === 'yes'")?;
        Ok(page)
    }

    /// Sends a command, and returns its result.
    fn call(&mut self, method: &str, parameters: Value) -> anyhow::Result<Value> {
        self.last += 1;
        let mut request = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.session.is_null() {
            request["sessionId"] = self.session.clone();
        }
        let mut bytes = serde_json::to_vec(&request)?;
        bytes.push(0);
        let explain =
            || format!("{method}: the browser has ended; is chromium installed (apt-get install chromium)?");
        self.requests.write_all(&bytes).with_context(explain)?;
        loop {
            let mut answer = Vec::new();
            self.answers.read_until(0, &mut answer)?;
            ensure!(answer.pop() == Some(0), explain());
            let mut answer: Value = serde_json::from_slice(&answer)?;
            // What has no such number is an event.
            if answer["id"] == self.last {
                ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].take());
            }
        }
    }

    /// Evaluates an expression in the page.
    pub(super) fn value(&mut self, expression: &str) -> anyhow::Result<Value> {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", parameters)?;
        ensure!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        Ok(answer["result"]["value"].take())
    }

    pub(super) fn number(&mut self, expression: &str) -> anyhow::Result<f64> {
        let value = self.value(expression)?;
        value.as_f64().with_context(|| format!("{expression} is {value}"))
    }

    /// Waits until an expression is true.
    pub(super) fn until(&mut self, expression: &str) -> anyhow::Result<()> {
        until(expression, || Ok(self.value(expression)? == true))
    }

    /// Returns the middle of an element.
    pub(super) fn middle(&mut self, id: &str) -> anyhow::Result<(f64, f64)> {
        let of = format!("document.getElementById('{id}').getBoundingClientRect()");
        let x = self.number(&format!("{of}.x + {of}.width / 2"))?;
        Ok((x, self.number(&format!("{of}.y + {of}.height / 2"))?))
    }

    fn mouse(&mut self, kind: &str, (x, y): (f64, f64), more: Value) -> anyhow::Result<()> {
        let mut event = json!({ "type": kind, "x": x, "y": y });
        let (Some(event_fields), Value::Object(more)) = (event.as_object_mut(), more) else {
            bail!("an event is an object");
        };
        event_fields.extend(more);
        self.call("Input.dispatchMouseEvent", event).map(drop)
    }

    pub(super) fn wheel(&mut self, at: (f64, f64), by: f64, modifiers: u64) -> anyhow::Result<()> {
        self.mouse("mouseWheel", at, json!({ "deltaX": 0, "deltaY": by, "modifiers": modifiers }))
    }

    /// Presses the left button, moves to another place in steps, and lets go.
    pub(super) fn drag(&mut self, from: (f64, f64), to: (f64, f64), modifiers: u64) -> anyhow::Result<()> {
        const STEPS: u8 = 4;
        let held = json!({ "button": "left", "buttons": 1, "clickCount": 1, "modifiers": modifiers });
        self.mouse("mousePressed", from, held.clone())?;
        for step in 1..=STEPS {
            let part = f64::from(step) / f64::from(STEPS);
            let at = (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part);
            self.mouse("mouseMoved", at, held.clone())?;
        }
        self.mouse("mouseReleased", to, held)
    }

    pub(super) fn click(&mut self, at: (f64, f64)) -> anyhow::Result<()> {
        self.drag(at, at, 0)
    }

    /// Presses a key: a character, or one that has a name.
    pub(super) fn key(&mut self, key: &str) -> anyhow::Result<()> {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "ArrowLeft" => 37,
            "ArrowRight" => 39,
            _ => 0,
        };
        let text = if code == 0 { key } else { "" };
        let down = json!({ "type": "keyDown", "key": key, "text": text, "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", down)?;
        self.call(
            "Input.dispatchKeyEvent",
            json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code }),
        )?;
        Ok(())
    }

    /// Types text.
    pub(super) fn text(&mut self, text: &str) -> anyhow::Result<()> {
        text.chars().try_for_each(|character| self.key(&character.to_string()))
    }

    /// Returns a picture of the page as PNG.
    pub(super) fn picture(&mut self) -> anyhow::Result<Vec<u8>> {
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png" }))?;
        Ok(base64(answer["data"].as_str().unwrap_or_default()))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // A clean end, so that its helpers end too; the end of its pipe ends it otherwise.
        self.session = Value::Null;
        let _ = self.call("Browser.close", json!({}));
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}

/// Encodes bytes of text in base64 (RFC 4648, section 4).
fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bits, mut word, mut bytes) = (0, 0u32, Vec::new());
    for digit in text.bytes().map_while(digit) {
        word = word << 6 | digit;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9vYmFy", "foobar")] {
            assert_eq!(base64(text), bytes.as_bytes());
        }
        assert_eq!(base64("+/8="), [0xfb, 0xff]);
    }
}
