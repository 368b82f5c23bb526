//! The kind of a word, as given by users and logs.

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum as _;
use hv_tlfs::register::RegisterName as Name;

use super::decode::Kind;
use super::{number, search};
use crate::TOOL;

/// A word and its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) kind: Kind,
    pub(super) value: u128,
}

/// Parses `KIND VALUE`, `KIND:VALUE`, or a line of Linux's log that contains several words.
pub(super) fn parse(text: &str) -> anyhow::Result<Vec<Word>> {
    if text.to_lowercase().contains("privilege flags") {
        return linux(text);
    }
    if let Some(words) = failed_request(text) {
        return words;
    }
    let (kind, value) = split(text).with_context(|| {
        format!("'{}' is not a kind of word and its value, such as: {TOOL} decode sint 0x10000", text.trim())
    })?;
    let kind = by_name(kind).or_else(|| by_register(kind)).with_context(|| {
        let kinds: Vec<_> = Kind::value_variants().iter().map(name).collect();
        let kinds = kinds.join(", ");
        match registers(kind).is_empty() {
            true => format!("'{kind}' is not a kind of word; expected a register with fields, or one of {kinds}"),
            false => format!(
                "the register '{kind}' has no fields to explain: `{TOOL} abi {kind}` says what its value is; expected another \
                 register, or one of {kinds}"
            ),
        }
    })?;
    let Some(number) = number::parse(value).or_else(|| number::bare_hexadecimal(value)) else {
        bail!("'{value}' is not a number; write it in decimal, or in hexadecimal with 0x");
    };
    Ok(vec![Word { kind, value: number }])
}

/// Parses `NAME:VALUE` or `NAME=VALUE` of something that can be explained.
pub(super) fn pair(text: &str) -> Option<Word> {
    let (name, value) = text.split_once([':', '='])?;
    let kind = by_name(name).or_else(|| by_register(name))?;
    Some(Word { kind, value: number::parse(value).or_else(|| number::bare_hexadecimal(value))? })
}

/// Splits the text into the kind and the word, which comes last.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let (kind, value) = text.rsplit_once(|c: char| c.is_whitespace() || matches!(c, ':' | '='))?;
    let kind = kind.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, ':' | '='));
    (!kind.is_empty() && !value.is_empty()).then_some((kind, value))
}

fn name(kind: &Kind) -> String {
    kind.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Finds a kind by its own name, in any case, with hyphens, underscores or spaces.
fn by_name(text: &str) -> Option<Kind> {
    let text = text.trim().to_lowercase().replace(['_', ' '], "-");
    let is_it = |kind: &Kind| kind.to_possible_value().is_some_and(|value| value.matches(&text, false));
    Kind::value_variants().iter().copied().find(is_it)
}

/// Returns the registers of this name or number, current or former, with or without the prefix.
fn registers(text: &str) -> Vec<u64> {
    let text = text.trim();
    let names = [text.to_owned(), format!("HV_REGISTER_{text}")];
    names
        .iter()
        .map(|text| search::exact(text, "register"))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// Finds the kind of a register's contents, by the register's name or number.
fn by_register(text: &str) -> Option<Kind> {
    let kinds: Vec<Kind> =
        registers(text).iter().filter_map(|value| of_register(Name(*value as u32))).collect();
    kinds.first().copied().filter(|first| kinds.iter().all(|kind| kind == first))
}

fn of_register(register: Name) -> Option<Kind> {
    Some(match register {
        Name::HYPERVISOR_VERSION => Kind::Version,
        Name::PRIVILEGES_AND_FEATURES_INFO => Kind::Features,
        Name::FEATURES_INFO => Kind::Hints,
        Name::GUEST_OS_ID => Kind::GuestId,
        Name::REFERENCE_TSC => Kind::ReferenceTsc,
        Name::GUEST_CRASH_CTL => Kind::Crash,
        Name::SIMP => Kind::Simp,
        Name::SIEFP => Kind::Siefp,
        Name::SCONTROL => Kind::Scontrol,
        _ if (0..16).any(|sint| register == Name::sint(sint)) => Kind::Sint,
        _ if (0..4).any(|timer| register == Name::stimer_config(timer)) => Kind::Stimer,
        _ => return None,
    })
}

/// Parses "Hyper-V: privilege flags low 0x..., high 0x..., hints 0x..., misc 0x...", as printed by
/// arch/arm64/hyperv/mshyperv.c: three words of register 0x200 and the first of 0x201.
fn linux(line: &str) -> anyhow::Result<Vec<Word>> {
    let words = in_words(line);
    let value = |name: &str| -> anyhow::Result<Option<u128>> {
        let Some(at) = words.iter().position(|word| word.eq_ignore_ascii_case(name)) else { return Ok(None) };
        let text = words.get(at + 1).copied().unwrap_or_default();
        let value = number::parse(text).or_else(|| u128::from_str_radix(text, 16).ok());
        let value = value.with_context(|| format!("'{text}' after '{name}' is not a number"))?;
        ensure!(value <= u128::from(u32::MAX), "'{text}' after '{name}' has more than 32 bits");
        Ok(Some(value))
    };
    let (low, high, misc) = (value("low")?, value("high")?, value("misc")?);
    let mut found = Vec::new();
    if low.is_some() || high.is_some() || misc.is_some() {
        let value = low.unwrap_or(0) | high.unwrap_or(0) << 32 | misc.unwrap_or(0) << 64;
        found.push(Word { kind: Kind::Features, value });
    }
    found.extend(value("hints")?.map(|value| Word { kind: Kind::Hints, value }));
    ensure!(!found.is_empty(), "the line has none of: low, high, hints, misc");
    Ok(found)
}

/// Parses "tag#... cmd 0x... status: scsi 0x... srb 0x... hv 0x...", as printed by drivers/scsi/storvsc_drv.c; returns
/// `None` for a text of another form.
fn failed_request(line: &str) -> Option<anyhow::Result<Vec<Word>>> {
    const STATUSES: [(&str, Kind); 3] =
        [("scsi", Kind::ScsiStatus), ("srb", Kind::SrbStatus), ("hv", Kind::NtStatus)];
    let words = in_words(line);
    let at = words.windows(2).position(|pair| pair == ["status", STATUSES[0].0])?;
    let mut rest = words[at + 1..].iter();
    let statuses = STATUSES.map(|(name, kind)| {
        ensure!(rest.next() == Some(&name), "the line has no {name} after its status");
        let value = rest.next().with_context(|| format!("the line ends without a value after '{name}'"))?;
        let value =
            number::parse(value).with_context(|| format!("'{value}' after '{name}' is not a number"))?;
        Ok(Word { kind, value })
    });
    Some(statuses.into_iter().collect())
}

/// Splits a line of a log at spaces and the marks between names and values.
fn in_words(line: &str) -> Vec<&str> {
    line.split(|c: char| c.is_whitespace() || matches!(c, ',' | ':' | '='))
        .filter(|w| !w.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_named_as_people_and_c_name_it() {
        let sint = |value| vec![Word { kind: Kind::Sint, value }];
        for text in [
            "sint 0x10012",
            "SINT:0x10012",
            "sint2 = 0x10012",
            "HV_REGISTER_SINT2 0x10012UL",
            "0xa0002 65554",
        ] {
            assert_eq!(parse(text).unwrap(), sint(0x10012), "{text}");
        }
        let kind = |text| parse(text).unwrap()[0].kind;
        assert_eq!(kind("guest_id 1"), Kind::GuestId);
        assert_eq!(kind("Guest OS ID 8100000"), Kind::GuestId);
        assert_eq!(kind("HvRegisterSipp 0"), Kind::Simp);
        assert_eq!(kind("HV_REGISTER_STIMER3_CONFIG 0"), Kind::Stimer);
        assert_eq!(kind("reference tsc 1"), Kind::ReferenceTsc);
        let error = |text| parse(text).unwrap_err().to_string();
        assert!(error("HV_REGISTER_EOM 1").starts_with("the register 'HV_REGISTER_EOM' has no fields"));
        assert!(error("vp index 1").contains("hv abi vp index`"));
        assert!(error("no such 1").starts_with("'no such' is not a kind of word"));
        assert!(parse("sint").is_err() && parse("nothing 1").is_err() && parse("sint x").is_err());
        assert_eq!(pair("sint2:0x10012"), Some(sint(0x10012)[0]));
        assert_eq!((pair("time ref count"), pair("0x13")), (None, None));
    }

    #[test]
    fn a_disks_words_have_short_names_and_linuxs_line_has_three_of_them() {
        let kind = |text| parse(text).unwrap()[0].kind;
        assert_eq!((kind("srb 0x4"), kind("SRB_STATUS 4")), (Kind::SrbStatus, Kind::SrbStatus));
        assert_eq!((kind("scsi 2"), kind("sense 3")), (Kind::ScsiStatus, Kind::SenseKey));
        let line = "hv_storvsc fd1d2cbd: [ 3.1] tag#123 cmd 0x28 status: scsi 0x0 srb 0x20 hv 0x8000ffff";
        let statuses = [(Kind::ScsiStatus, 0), (Kind::SrbStatus, 0x20), (Kind::NtStatus, 0x8000_ffff)];
        assert_eq!(parse(line).unwrap(), statuses.map(|(kind, value)| Word { kind, value }));
        let error = |text| parse(text).unwrap_err().to_string();
        assert_eq!(error("status: scsi 0x0 sense 0x20"), "the line has no srb after its status");
        assert_eq!(error("status: scsi x srb 0x20"), "'x' after 'scsi' is not a number");
        // A line that is cut off.
        assert_eq!(error("status: scsi"), "the line ends without a value after 'scsi'");
        assert_eq!(error("status: scsi 0x0"), "the line has no srb after its status");
        assert_eq!(error("status: scsi 0x0 srb 0x20 hv"), "the line ends without a value after 'hv'");
    }

    #[test]
    fn the_line_that_linux_logs_is_two_registers() {
        let line =
            "[    0.000000] Hyper-V: privilege flags low 0x2e7f, high 0x3a8030, hints 0xe, misc 0x31e1";
        let features = Word { kind: Kind::Features, value: 0x31e1 << 64 | 0x3a8030 << 32 | 0x2e7f };
        assert_eq!(parse(line).unwrap(), [features, Word { kind: Kind::Hints, value: 0xe }]);
        assert_eq!(
            parse("privilege flags low 2e7f, high 3a8030, hints e, misc 0x31e1").unwrap(),
            parse(line).unwrap()
        );
        assert!(parse("privilege flags").is_err());
        assert!(parse("privilege flags low x").is_err());
        assert!(parse("privilege flags low 0x100000000").is_err());
    }
}
