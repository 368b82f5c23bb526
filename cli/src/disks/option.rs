//! The words of `--disk` and `--dvd`.

use std::path::PathBuf;
use std::str::FromStr;

use hv_wire::{MAX_CONTROLLERS, MAX_LUNS};
use serde::{Deserialize, Serialize};

/// Destination of what the guest writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// It cannot write.
    ReadOnly,
    /// It goes to the file.
    ReadWrite,
    /// It goes to a copy that ends with the run.
    Snapshot,
}

/// The value of `--disk`: a file, where writes go, and where the disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskOption {
    pub(crate) path: PathBuf,
    pub(crate) mode: Mode,
    /// Controller and logical unit; the next free one of the first controller without.
    pub(crate) place: Option<(u16, u16)>,
}

impl FromStr for DiskOption {
    type Err = String;

    /// Parses a disk option, taking words from the end as long as they are known: a file's name may have commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let (mut path, mut mode, mut place) = (text, None, None);
        while let Some((rest, word)) = path.rsplit_once(',') {
            let again = match word {
                "ro" => mode.replace(Mode::ReadOnly).is_some(),
                "rw" => mode.replace(Mode::ReadWrite).is_some(),
                "snapshot" => mode.replace(Mode::Snapshot).is_some(),
                _ => match word.strip_prefix("at=") {
                    Some(at) => place.replace(parse_place(at)?).is_some(),
                    None => break,
                },
            };
            if again {
                return Err(format!(
                    "{word} contradicts another word: expected one of ro, rw and snapshot, and at= once"
                ));
            }
            path = rest;
        }
        if path.is_empty() {
            return Err("there is no file: expected FILE[,ro|,rw|,snapshot][,at=CONTROLLER:LUN]".to_owned());
        }
        Ok(Self { path: path.into(), mode: mode.unwrap_or(Mode::Snapshot), place })
    }
}

/// Reads `CONTROLLER:LUN`.
pub(crate) fn parse_place(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str, most: usize| text.parse::<u16>().ok().filter(|n| usize::from(*n) < most);
    let place = text
        .split_once(':')
        .and_then(|(controller, lun)| Some((number(controller, MAX_CONTROLLERS)?, number(lun, MAX_LUNS)?)));
    place.ok_or_else(|| {
        format!(
            "{text}: expected CONTROLLER:LUN, a controller from 0 to {} and a logical unit from 0 to {}",
            MAX_CONTROLLERS - 1,
            MAX_LUNS - 1
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(path: &str, mode: Mode, place: Option<(u16, u16)>) -> Result<DiskOption, String> {
        Ok(DiskOption { path: path.into(), mode, place })
    }

    #[test]
    fn words_are_taken_from_the_end_and_the_rest_is_the_file() {
        let parse = str::parse::<DiskOption>;
        assert_eq!(parse("a.img"), disk("a.img", Mode::Snapshot, None));
        assert_eq!(parse("a.img,rw"), disk("a.img", Mode::ReadWrite, None));
        assert_eq!(parse("a,b.img,at=1:63,ro"), disk("a,b.img", Mode::ReadOnly, Some((1, 63))));
        assert_eq!(parse("rw,x,snapshot"), disk("rw,x", Mode::Snapshot, None));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for text in
            ["a,rw,ro", "a,rw,rw", "a,at=0:0,at=0:1", ",rw", "", "a,at=4:0", "a,at=0:64", "a,at=0", "a,at=:"]
        {
            assert!(text.parse::<DiskOption>().is_err(), "{text}");
        }
    }
}
