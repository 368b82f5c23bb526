//! `hv ctl mouse`: states of the guest's mouse.

use serde::{Deserialize, Serialize};

/// The largest coordinate: the right or the lower edge of the screen.
const EDGE: u16 = 0x7fff;

/// A button of the mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Button {
    Left,
    Right,
    Middle,
}

impl Button {
    const fn bit(self) -> u8 {
        match self {
            Self::Left => 1,
            Self::Right => 2,
            Self::Middle => 4,
        }
    }
}

/// Reads a place on the screen.
pub(super) fn place(text: &str) -> Result<u16, String> {
    let place = text.parse().ok().filter(|&place| place <= EDGE);
    place.ok_or_else(|| "expected a number from 0 to 32767".to_owned())
}

/// Reads how far the wheel is turned.
pub(super) fn steps(text: &str) -> Result<i8, String> {
    let steps = text.parse().ok().filter(|&steps| steps != i8::MIN);
    steps.ok_or_else(|| "expected a number from -127 to 127".to_owned())
}

/// Returns the states of a move, in which the wheel turns, and of a click after it, as in a message to the hypervisor.
///
/// # Errors
/// A coordinate or the number of steps is out of its range.
pub(super) fn states(x: u16, y: u16, scroll: i8, click: Option<Button>) -> Result<Vec<u8>, String> {
    for (name, value) in [("x", x), ("y", y)] {
        if value > EDGE {
            return Err(format!("{name} is {value}, expected 0 to {EDGE}"));
        }
    }
    if scroll == i8::MIN {
        return Err(format!("scroll is {scroll}, expected -127 to 127"));
    }
    let ([x0, x1], [y0, y1]) = (x.to_le_bytes(), y.to_le_bytes());
    let mut states = vec![0, x0, x1, y0, y1, scroll as u8];
    if let Some(button) = click {
        states.extend([button.bit(), x0, x1, y0, y1, 0]);
        states.extend([0, x0, x1, y0, y1, 0]);
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_click_is_a_press_and_a_release_where_the_mouse_is() {
        assert_eq!(states(0x123, 0x7fff, -2, None), Ok(vec![0, 0x23, 1, 0xff, 0x7f, 0xfe]));
        let clicked = states(1, 2, 0, Some(Button::Right)).unwrap();
        assert_eq!(clicked, [0, 1, 0, 2, 0, 0, 2, 1, 0, 2, 0, 0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        assert!(states(0x8000, 0, 0, None).unwrap_err().contains("x is 32768, expected 0 to 32767"));
        assert!(states(0, 0x8000, 0, None).unwrap_err().contains("y is"));
        assert!(states(0, 0, -128, None).unwrap_err().contains("scroll is -128"));
    }
}
