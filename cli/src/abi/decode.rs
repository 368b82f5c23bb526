//! `hv decode`: explains a word of the ABI.

use std::fmt::Write as _;

use clap::ValueEnum;
use hv_tlfs::abi::{self, Constant, Struct};
use hv_tlfs::guest_id::{GuestOsId, OpenSourceOs};
use hv_tlfs::vmbus::Version;
use hv_tlfs::vmbus::ic::PIPE_PACKET_DATA;
use hv_tlfs::vmbus::socket::MAX_PAYLOAD;

use super::word::{self, Word};
use super::{plain, wrap};
use crate::exit::Exit;
use crate::ui;

/// Explain a word of the ABI
///
/// KIND is one of those below, or a register by name or number; VALUE is decimal, or hexadecimal with 0x.
/// Alternatively, a line of Linux's log: the one with Hyper-V's features, "privilege flags low ..., high ..., hints
/// ..., misc ...", or that of a disk's request that has failed, "status: scsi ... srb ... hv ...".
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Kind of the word, and the word; or a line of Linux's log
    #[arg(value_name = "KIND VALUE", required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  cargo hv decode hypercall 0x100010050
  cargo hv decode guest-id 0x810000060c6b0000
  cargo hv decode sint 0x10000
  cargo hv decode vmbus-version 0x50003
  cargo hv decode HV_REGISTER_SINT2 0x10012
  cargo hv decode srb 0x84
  cargo hv decode \"status: scsi 0x0 srb 0x20 hv 0x8000ffff\"
  cargo hv decode \"privilege flags low 0x2e7f, high 0x3a8030, hints 0xe, misc 0x31e1\"

Kinds: hypercall, result, status, register, guest-id, sint, simp, siefp, scontrol, stimer, crash, features, hints,
version, reference-tsc, message-type, vmbus-version, nvsp-version, nvsp-message, oid, rndis-message, rndis-status,
transmit-checksum, receive-checksum, large-send, vlan, pipe-header, ic-message, ic-status, srb-status (srb),
scsi-status (scsi), sense-key (sense), nt-status";

/// The known kinds of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Hypercall input value
    Hypercall,
    /// Hypercall result value
    Result,
    /// Status of a hypercall
    Status,
    /// Name of a VP register
    Register,
    /// Guest OS id
    GuestId,
    /// Synthetic interrupt source
    Sint,
    /// Location of the message page
    Simp,
    /// Location of the event flags page
    Siefp,
    /// SynIC control
    Scontrol,
    /// Configuration of a synthetic timer
    Stimer,
    /// Crash control
    Crash,
    /// Register 0x200: privileges and features, 128 bits
    Features,
    /// Register 0x201: hints, up to 128 bits
    Hints,
    /// Register 0x100: version of the hypervisor, 128 bits
    Version,
    /// Location of the reference TSC page
    ReferenceTsc,
    /// Type of a message
    MessageType,
    /// Version of VMBus
    VmbusVersion,
    /// Version of a network card's protocol
    NvspVersion,
    /// Type of a network card's packet
    NvspMessage,
    /// Object of a network card
    Oid,
    /// Type of an RNDIS message
    RndisMessage,
    /// Outcome of an RNDIS request, or a status that is indicated
    RndisStatus,
    /// What the host computes for a frame
    TransmitChecksum,
    /// What the host found out about a frame
    ReceiveChecksum,
    /// A long TCP segment that the host cuts
    LargeSend,
    /// VLAN tag of a frame
    Vlan,
    /// Header of a packet of a socket or an integration service, 64 bits
    PipeHeader,
    /// Type of an integration service's message
    IcMessage,
    /// Outcome of an integration service's request
    IcStatus,
    /// Outcome of a disk's request for the port driver, with its flags
    #[value(alias = "srb")]
    SrbStatus,
    /// Outcome of a disk's command
    #[value(alias = "scsi")]
    ScsiStatus,
    /// Why a disk's command has failed
    #[value(alias = "sense")]
    SenseKey,
    /// Outcome of a packet or a request of VMBus: an NTSTATUS
    NtStatus,
}

/// Part of a word: its bits, and the row of the table that describes them.
struct Part {
    shift: u32,
    width: u32,
    structure: &'static str,
}

/// Fields whose values have names: structure, field, kind of constants.
const NAMED: &[(&str, &str, &str)] = &[
    ("hv_hypercall_input", "CallCode", "hypercall"),
    ("hv_hypercall_output", "CallStatus", "status"),
    ("HV_GUEST_OS_OPEN_SOURCE", "OsType", "guest-os-type"),
    ("HV_GUEST_OS_MICROSOFT", "VendorId", "guest-os-vendor"),
    ("HV_GUEST_OS_MICROSOFT", "OsId", "guest-os-microsoft"),
];

/// Runs `hv decode`.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    for word in word::parse(&args.words.join(" "))? {
        let Word { kind, value } = word;
        ui::out(&explain(kind, value)?);
    }
    Ok(Exit::Success)
}

/// Explains `NAME:VALUE`; returns `None` if the text has another form.
pub(super) fn of_register(text: &str) -> Option<anyhow::Result<String>> {
    let Word { kind, value } = word::pair(text)?;
    Some(explain(kind, value))
}

fn explain(kind: Kind, value: u128) -> anyhow::Result<String> {
    let whole = |structure| vec![Part { shift: 0, width: 64, structure }];
    let half = |structure| vec![Part { shift: 0, width: 32, structure }];
    let parts = match kind {
        Kind::Hypercall => whole("hv_hypercall_input"),
        Kind::Result => whole("hv_hypercall_output"),
        Kind::GuestId if value >> 63 & 1 == 1 => whole("HV_GUEST_OS_OPEN_SOURCE"),
        Kind::GuestId => whole("HV_GUEST_OS_MICROSOFT"),
        Kind::Sint => whole("hv_synic_sint"),
        Kind::Simp => whole("hv_synic_simp"),
        Kind::Siefp => whole("hv_synic_siefp"),
        Kind::Scontrol => whole("hv_synic_scontrol"),
        Kind::Stimer => whole("hv_stimer_config"),
        Kind::Crash => whole("HV_CRASH_CTL_REG_CONTENTS"),
        Kind::ReferenceTsc => whole("hv_reference_tsc_msr"),
        Kind::TransmitChecksum => half("TxTcpIpChecksumInfo"),
        Kind::ReceiveChecksum => half("RxTcpIpChecksumInfo"),
        Kind::LargeSend => half("ndis_tcp_lso_info"),
        Kind::Vlan => half("ndis_pkt_8021q_info"),
        Kind::Features => vec![
            Part { shift: 0, width: 64, structure: "HV_PARTITION_PRIVILEGE_MASK" },
            Part { shift: 64, width: 32, structure: "HV_ARM64_FEATURES_C" },
        ],
        Kind::Hints => vec![Part { shift: 0, width: 32, structure: "HV_ARM64_ENLIGHTENMENTS" }],
        Kind::Status => return constant("status", 16, value),
        Kind::Register => return constant("register", 32, value),
        Kind::MessageType => return constant("message-type", 32, value),
        Kind::VmbusVersion => return constant("vmbus-version", 32, value),
        Kind::NvspVersion => return constant("nvsp-version", 32, value),
        Kind::NvspMessage => return constant("nvsp-message", 32, value),
        Kind::Oid => return constant("oid", 32, value),
        Kind::RndisMessage => return constant("rndis-message", 32, value),
        Kind::RndisStatus => return constant("rndis-status", 32, value),
        Kind::IcMessage => return constant("ic-message", 16, value),
        Kind::IcStatus => return constant("ic-status", 32, value),
        Kind::ScsiStatus => return constant("scsi-status", 8, value),
        Kind::SenseKey => return constant("sense-key", 4, value),
        Kind::NtStatus => return constant("nt-status", 32, value),
        Kind::SrbStatus => return srb_status(value),
        Kind::PipeHeader => return pipe_header(value),
        Kind::Version => return Ok(hypervisor_version(value)),
    };
    let bits = match kind {
        Kind::Features | Kind::Hints => 128,
        Kind::TransmitChecksum | Kind::ReceiveChecksum | Kind::LargeSend | Kind::Vlan => 32,
        _ => 64,
    };
    check_width(value, bits)?;
    let mut out = String::new();
    for part in &parts {
        fields(&mut out, part, value)?;
    }
    match kind {
        Kind::GuestId => linux_version(&mut out, GuestOsId::from_bits(value as u64))?,
        Kind::Simp | Kind::Siefp | Kind::ReferenceTsc => {
            writeln!(out, "  the page is at {:#x}", value & !0xfff)?;
        }
        Kind::Hints if value >> 32 != 0 => match (value >> 32) as u32 {
            u32::MAX => writeln!(out, "  63:32  never notify the hypervisor of long spin waits")?,
            spins => writeln!(out, "  63:32  notify the hypervisor after {spins} spins")?,
        },
        _ => {}
    }
    Ok(out)
}

fn check_width(value: u128, bits: u32) -> anyhow::Result<()> {
    if value.checked_shr(bits).unwrap_or(0) != 0 {
        anyhow::bail!("{value:#x} has more than {bits} bits");
    }
    Ok(())
}

/// Prints the bit fields of a part, and the bits that are set but not named.
fn fields(out: &mut String, part: &Part, value: u128) -> anyhow::Result<()> {
    let row = structure(part.structure);
    let mut rest = (value >> part.shift) as u64 & (u64::MAX >> (64 - part.width));
    let word = rest;
    writeln!(out, "{} {word:#x}", row.name)?;
    let width = row.fields.iter().map(|field| field.name.len()).max().unwrap_or(0);
    for field in row.fields.iter().filter(|field| !field.ty.is_empty()) {
        let Some((low, bits)) = field.bits else { continue };
        let mask = u64::MAX >> (64 - bits);
        let content = word >> low & mask;
        rest &= !(mask << low);
        let place = if bits == 1 { low.to_string() } else { format!("{}:{low}", low + bits - 1) };
        let named = NAMED.iter().find(|(structure, name, _)| *structure == row.name && *name == field.name);
        let meaning = match named.and_then(|(.., kind)| find(kind, content)) {
            Some(constant) => format!("{}: {}", constant.name, plain::summary(constant.doc)),
            None => plain::summary(field.doc),
        };
        let head = format!("  {place:6} {:width$}  {:<10} ", field.name, format!("{content:#x}"));
        out.push_str(&wrap::hanging(&head, &meaning, wrap::columns()));
    }
    if rest != 0 {
        writeln!(out, "  reserved bits are set: {rest:#x}")?;
    }
    Ok(())
}

/// Explains a word that is an enumerated number.
fn constant(kind: &str, bits: u32, value: u128) -> anyhow::Result<String> {
    check_width(value, bits)?;
    let mut out = String::new();
    match find(kind, value as u64) {
        Some(row) => {
            let head = format!("{} = {:#x}: ", row.name, row.value);
            out.push_str(&wrap::hanging(&head, &plain::summary(row.doc), wrap::columns()));
            if !row.aliases.is_empty() {
                out.push_str(&wrap::hanging("  also: ", &row.aliases.join(", "), wrap::columns()));
            }
        }
        None => writeln!(out, "{value:#x} is no {kind} known to this version of hv")?,
    }
    if kind == "vmbus-version" {
        writeln!(out, "  version {}", Version(value as u32))?;
    }
    Ok(out)
}

/// Explains the outcome of a disk's request: a number, and flags in the bits above it.
fn srb_status(value: u128) -> anyhow::Result<String> {
    check_width(value, 8)?;
    let flags = || abi::constants().filter(|row| row.kind == "srb-status-flag");
    let number = flags().fold(value as u64, |number, flag| number & !flag.value);
    let mut out = constant("srb-status", 8, number.into())?;
    for flag in flags().filter(|flag| value as u64 & flag.value != 0) {
        let head = format!("  {} ({:#x}): ", flag.name, flag.value);
        out.push_str(&wrap::hanging(&head, &plain::summary(flag.doc), wrap::columns()));
    }
    Ok(out)
}

/// Explains the two words before the bytes of a pipe's packet.
fn pipe_header(value: u128) -> anyhow::Result<String> {
    check_width(value, 64)?;
    let (kind, bytes) = (value as u32, (value >> 32) as u32);
    let kind_of = if kind == PIPE_PACKET_DATA { "VMBUS_PIPE_PACKET_DATA" } else { "not a packet's type" };
    let size_of = match bytes {
        0 => "the end of a socket's direction; no message of a service".to_owned(),
        1..=MAX_PAYLOAD => format!("{bytes} bytes follow"),
        _ => format!("{bytes} bytes, more than the {MAX_PAYLOAD} that a packet of a socket has"),
    };
    let row = structure("vmbuspipe_hdr");
    Ok(format!(
        "{} {value:#x}\n  flags    {kind:#x}: {kind_of}\n  msgsize  {bytes:#x}: {size_of}\n",
        row.name
    ))
}

fn hypervisor_version(value: u128) -> String {
    use hv_tlfs::features::HypervisorVersion;
    use hv_tlfs::register::RegisterValue;
    let version =
        HypervisorVersion::from_register(RegisterValue { low: value as u64, high: (value >> 64) as u64 });
    format!(
        "hv_hypervisor_version_info {value:#x}\n  {}.{}, build {}, service pack {}, service {} of branch {}\n",
        version.major_version,
        version.minor_version,
        version.build_number,
        version.service_pack,
        version.service.number(),
        version.service.branch()
    )
}

fn linux_version(out: &mut String, id: GuestOsId) -> std::fmt::Result {
    if id.open_source() && id.os_type() == OpenSourceOs::LINUX {
        let code = id.version();
        writeln!(out, "  Linux {}.{}.{}", code >> 16, code >> 8 & 0xff, code & 0xff)?;
    }
    Ok(())
}

fn find(kind: &str, value: u64) -> Option<&'static Constant> {
    abi::constants().find(|row| row.kind == kind && row.value == value)
}

/// Returns a row that this file names; a test checks all of them.
fn structure(name: &str) -> &'static Struct {
    abi::structs().find(|row| row.name == name).expect("a row of the table")
}

#[cfg(test)]
mod tests {
    use hv_tlfs::abi::Field;

    use super::*;

    #[test]
    fn every_kind_explains_zero_and_all_ones_without_panicking() {
        for kind in Kind::value_variants() {
            for value in [0, 1, u128::from(u16::MAX), u128::from(u32::MAX), u128::from(u64::MAX), u128::MAX] {
                let _ = explain(*kind, value);
            }
            assert!(explain(*kind, 0).is_ok(), "{kind:?}");
        }
    }

    #[test]
    fn named_fields_are_fields_of_the_table() {
        for (name, field, kind) in NAMED {
            assert!(structure(name).fields.iter().any(|row| row.name == *field), "{name}.{field}");
            assert!(abi::constants().any(|row| row.kind == *kind), "{kind}");
        }
    }

    #[test]
    fn a_hypercall_is_explained_by_its_fields() {
        let text = explain(Kind::Hypercall, 0x1_0001_0050).unwrap();
        for part in ["HVCALL_GET_VP_REGISTERS", "RepCount", "IsFast"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert!(!text.contains("reserved"), "{text}");
        assert!(explain(Kind::Hypercall, 1 << 27).unwrap().contains("reserved bits are set: 0x8000000"));
    }

    #[test]
    fn a_result_names_its_status() {
        assert!(explain(Kind::Result, 0x13).unwrap().contains("HV_STATUS_INSUFFICIENT_BUFFERS"));
    }

    #[test]
    fn a_guest_os_id_is_read_by_its_top_bit() {
        assert!(explain(Kind::GuestId, 0x8100_0006_0c6b_0000).unwrap().contains("Linux 6.12.107"));
        assert!(
            explain(Kind::GuestId, 0x0001_040a_0000_4f7c).unwrap().contains("HV_GUEST_OS_VENDOR_MICROSOFT")
        );
    }

    #[test]
    fn features_reach_into_the_third_dword() {
        let text = explain(Kind::Features, 1 << 72 | 1 << 36).unwrap();
        let set: Vec<_> = text.lines().filter(|line| line.contains("0x1 ")).collect();
        assert_eq!(set.len(), 2, "{text}");
        assert!(set[0].contains("PostMessages") && set[1].contains("GuestCrashRegsAvailable"), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_none_has_rusts_markup() {
        for kind in Kind::value_variants() {
            for value in [0, 1, u128::from(u16::MAX), u128::from(u32::MAX), u128::from(u64::MAX)] {
                let Ok(text) = explain(*kind, value) else { continue };
                for line in text.lines() {
                    assert!(line.chars().count() <= 100, "{kind:?}: {line}");
                    assert!(!line.contains('`') && !line.contains("::"), "{kind:?}: {line}");
                }
            }
        }
    }

    #[test]
    fn words_of_network_cards_are_explained() {
        let text = |kind, value| explain(kind, value).unwrap();
        assert!(text(Kind::Oid, 0x0001_010e).contains("RNDIS_OID_GEN_CURRENT_PACKET_FILTER"));
        assert!(text(Kind::NvspVersion, 0x6_0001).contains("NVSP_PROTOCOL_VERSION_61"));
        assert!(text(Kind::RndisStatus, 0x4001_000c).contains("RNDIS_STATUS_MEDIA_DISCONNECT"));
        let send = text(Kind::LargeSend, 0x4220_05a8);
        assert!(send.contains("0x5a8") && send.contains("0x22") && !send.contains("reserved"), "{send}");
        assert!(text(Kind::Vlan, 0x0010_0642).contains("reserved bits are set: 0x100000"));
    }

    #[test]
    fn words_of_sockets_and_services_are_explained() {
        let text = |kind, value| explain(kind, value).unwrap();
        let header = |bytes: u128, kind: u128| text(Kind::PipeHeader, bytes << 32 | kind);
        assert!(header(5, 1).contains("VMBUS_PIPE_PACKET_DATA") && header(5, 1).contains("5 bytes follow"));
        assert!(header(0, 1).contains("the end of a socket's direction"));
        assert!(header(0x4000, 1).contains("16384 bytes follow"));
        assert!(header(0x4001, 1).contains("more than the 16384"));
        assert!(header(5, 2).contains("not a packet's type"));
        assert!(explain(Kind::PipeHeader, 1 << 64).is_err());
        assert!(text(Kind::IcMessage, 7).contains("ICMSGTYPE_FCOPY"));
        assert!(text(Kind::IcStatus, 0x8007_0070).contains("HV_ERROR_DISK_FULL"));
    }

    #[test]
    fn words_of_disks_are_explained() {
        let text = |kind, value| explain(kind, value).unwrap();
        assert!(text(Kind::SrbStatus, 0x20).contains("SRB_STATUS_INVALID_LUN = 0x20"));
        let failed = text(Kind::SrbStatus, 0x84);
        assert!(failed.contains("SRB_STATUS_ERROR = 0x4") && failed.contains("SRB_STATUS_AUTOSENSE_VALID"));
        assert!(!failed.contains("QUEUE_FROZEN"), "{failed}");
        assert!(text(Kind::SrbStatus, 0x7f).contains("0x3f is no srb-status"));
        assert!(text(Kind::SrbStatus, 0x7f).contains("SRB_STATUS_QUEUE_FROZEN"));
        assert!(text(Kind::ScsiStatus, 2).contains("SAM_STAT_CHECK_CONDITION"));
        assert!(text(Kind::SenseKey, 3).contains("MEDIUM_ERROR"));
        assert!(text(Kind::NtStatus, 0x8000_ffff).contains("STATUS_UNSUCCESSFUL"));
        assert!(explain(Kind::SenseKey, 0x10).is_err() && explain(Kind::SrbStatus, 0x100).is_err());
    }

    #[test]
    fn every_kind_is_in_the_help() {
        let named = EXAMPLES.split_once("Kinds: ").unwrap().1;
        let named: Vec<&str> =
            named.split([',', ' ', '\n', '(', ')']).filter(|word| !word.is_empty()).collect();
        let kinds: Vec<String> = Kind::value_variants()
            .iter()
            .flat_map(|kind| {
                let value = kind.to_possible_value().unwrap();
                value.get_name_and_aliases().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(named, kinds);
    }

    #[test]
    fn a_bit_that_chooses_says_what_each_value_means() {
        let text = explain(Kind::LargeSend, 0x1000_05b4).unwrap();
        for part in ["0x0        1: version 2 of the offload; 0: version 1.", "0x0        1: IPv6; 0: IPv4."]
        {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
    }

    /// A word or two is a value: read beside a 0, it is a false one. Features alone are listed by their names.
    #[test]
    fn a_bits_meaning_is_more_than_a_value() {
        const FEATURES: [&str; 5] = [
            "HV_PARTITION_PRIVILEGE_MASK",
            "HV_ARM64_FEATURES_C",
            "HV_ARM64_ENLIGHTENMENTS",
            "HV_ARM64_HARDWARE_FEATURES",
            "nvsp_2_vsc_capability",
        ];
        for row in abi::structs().filter(|row| !FEATURES.contains(&row.name)) {
            let bits = |field: &&Field| !field.ty.is_empty() && matches!(field.bits, Some((_, 1)));
            for field in row.fields.iter().filter(bits) {
                let meaning = plain::summary(field.doc);
                assert!(meaning.split_whitespace().count() > 2, "{}.{}: {meaning}", row.name, field.name);
            }
        }
    }

    #[test]
    fn a_word_that_is_too_wide_is_refused() {
        assert!(explain(Kind::Sint, 1 << 64).is_err());
        assert!(explain(Kind::Vlan, 1 << 32).is_err());
        assert!(explain(Kind::Status, 1 << 16).is_err());
        assert!(explain(Kind::VmbusVersion, 0x5_0003).unwrap().contains("version 5.3"));
    }
}
