//! Names of machines.

use std::fmt;
use std::str::FromStr;

/// Maximum length of a name.
const LONGEST: usize = 32;

/// The name of a machine. It is the name of a folder, and a word of `hv ctl`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

impl Name {
    /// Returns the name of a machine that was given none.
    pub(super) fn numbered(number: u32) -> Self {
        Self(format!("vm{number}"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !(begins && plain && text.len() <= LONGEST) {
            return Err(format!(
                "expected at most {LONGEST} letters, digits, - and _, beginning with a letter or a digit"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
