//! Drivers' own structures, of which no header tells: from the type information (BTF) in Debian's modules.
//!
//! Sources: Linux, Documentation/bpf/btf.rst; System V ABI, "Sections". A module's types follow the kernel's, and so do
//! its strings: names that the kernel has too cannot be read here, and are compared by their place alone.

use std::fs;

use anyhow::{Context as _, bail, ensure};
use hv_machine::initrd::Module;
use hv_tlfs::abi::{self, Struct};
use hv_tlfs::vmbus::ic::PipeHeader;
use hv_tlfs::vmbus::socket::MAX_PAYLOAD;

use hv_setup::cache::Cache;
use hv_setup::stock::{self, Piece, Stock};

/// A driver, and what it and the table have.
pub(super) struct Driver {
    kernel: Stock,
    module: &'static str,
    /// Structures.
    records: &'static [&'static str],
    /// Those that end within a word in Linux: the table's have the rest of the word.
    longer: &'static [&'static str],
    /// A structure that this driver alone has, and its size.
    own: (&'static str, usize),
    /// Beginning of the names of the messages' kinds.
    kinds: &'static str,
    /// Names with that beginning that are not a kind: of what ends a list of them, or of something else.
    ends: &'static [&'static str],
    /// Structures of a [`PipeHeader`] and payload, and the constant of the table that is the payload's length.
    pipes: &'static [(&'static str, &'static str)],
    /// Minimum number of comparisons: fewer mean that nothing was read.
    least: usize,
}

/// The storage driver.
pub(super) const STORAGE: Driver = Driver {
    kernel: Stock::Cloud61,
    module: "hv_storvsc.ko",
    records: &[
        "vmscsi_request",
        "vmstorage_channel_properties",
        "vmstorage_protocol_version",
        "vstor_packet",
    ],
    longer: &[],
    own: ("vmscsi_request", 52),
    kinds: "VSTOR_OPERATION_",
    ends: &["VSTOR_OPERATION_MAXIMUM"],
    pipes: &[],
    least: 30,
};

/// The network driver.
pub(super) const NETWORK: Driver = Driver {
    kernel: Stock::Cloud61,
    module: "hv_netvsc.ko",
    records: &[
        "nvsp_message_header",
        "nvsp_message_init",
        "nvsp_message_init_complete",
        "nvsp_1_message_send_ndis_version",
        "nvsp_1_message_send_receive_buffer",
        "nvsp_1_receive_buffer_section",
        "nvsp_1_message_send_receive_buffer_complete",
        "nvsp_1_message_revoke_receive_buffer",
        "nvsp_1_message_send_send_buffer",
        "nvsp_1_message_send_send_buffer_complete",
        "nvsp_1_message_send_rndis_packet",
        "nvsp_1_message_send_rndis_packet_complete",
        "nvsp_2_send_ndis_config",
        "nvsp_4_send_vf_association",
        "nvsp_4_sw_datapath",
        "nvsp_5_subchannel_request",
        "nvsp_5_subchannel_complete",
        "nvsp_5_send_indirect_table",
        "rndis_initialize_request",
        "rndis_initialize_complete",
        "rndis_halt_request",
        "rndis_query_request",
        "rndis_query_complete",
        "rndis_set_request",
        "rndis_set_complete",
        "rndis_reset_request",
        "rndis_reset_complete",
        "rndis_indicate_status",
        "rndis_keepalive_request",
        "rndis_keepalive_complete",
        "rndis_packet",
        "rndis_per_packet_info",
        "rndis_pktinfo_id",
        "rndis_config_parameter_info",
        "ndis_object_header",
        "ndis_recv_scale_cap",
        "ndis_recv_scale_param",
        "ndis_offload",
        "ndis_offload_params",
    ],
    longer: &["nvsp_1_message_send_receive_buffer", "nvsp_1_message_send_send_buffer", "ndis_recv_scale_cap"],
    own: ("nvsp_message", 40),
    kinds: "NVSP_",
    ends: &["NVSP_STAT_MAX", "NVSP_DATAPATH_MAX", "NVSP_SUBCHANNEL_MAX"],
    pipes: &[],
    least: 190,
};

/// The keyboard's driver.
pub(super) const KEYBOARD: Driver = Driver {
    kernel: Stock::Cloud61,
    module: "hyperv-keyboard.ko",
    records: &[
        "synth_kbd_msg_hdr",
        "synth_kbd_protocol_request",
        "synth_kbd_protocol_response",
        "synth_kbd_keystroke",
    ],
    longer: &[],
    own: ("synth_kbd_keystroke", 12),
    kinds: "SYNTH_KBD_",
    ends: &[],
    pipes: &[],
    least: 13,
};

/// The mouse's driver, which only the kernel with 16K pages has.
pub(super) const MOUSE: Driver = Driver {
    kernel: Stock::Pages16k,
    module: "hid-hyperv.ko.xz",
    records: &[
        "synthhid_msg_hdr",
        "synthhid_protocol_request",
        "synthhid_protocol_response",
        "synthhid_device_info",
        "synthhid_device_info_ack",
        "hv_input_dev_info",
    ],
    longer: &[],
    own: ("synthhid_device_info", 49),
    kinds: "SYNTH_HID_",
    ends: &["SYNTH_HID_MAX"],
    pipes: &[],
    least: 22,
};

/// The screen's driver.
pub(super) const VIDEO: Driver = Driver {
    kernel: Stock::Cloud61,
    module: "hyperv_fb.ko",
    records: &[
        "synthvid_msg_hdr",
        "synthvid_version_req",
        "synthvid_version_resp",
        "synthvid_vram_location",
        "synthvid_vram_location_ack",
        "video_output_situation",
        "synthvid_situation_update",
        "synthvid_situation_update_ack",
        "synthvid_pointer_position",
        "synthvid_pointer_shape",
        "synthvid_feature_change",
        "synthvid_dirt",
        "synthvid_supported_resolution_req",
        "hvd_screen_info",
        "synthvid_supported_resolution_resp",
    ],
    longer: &[],
    own: ("synthvid_supported_resolution_resp", 387),
    kinds: "SYNTHVID_",
    ends: &["SYNTHVID_MAX"],
    pipes: &[],
    least: 50,
};

/// The driver of dynamic memory.
pub(super) const BALLOON: Driver = Driver {
    kernel: Stock::Cloud61,
    module: "hv_balloon.ko",
    records: &[
        "dm_header",
        "dm_version_request",
        "dm_version_response",
        "dm_capabilities",
        "dm_capabilities_resp_msg",
        "dm_status",
        "dm_balloon",
        "dm_balloon_response",
        "dm_unballoon_request",
        "dm_unballoon_response",
        "dm_hot_add",
        "dm_hot_add_response",
        "dm_info_msg",
    ],
    longer: &[],
    own: ("dm_status", 48),
    kinds: "DM_",
    ends: &[
        "DM_VERSION_03_MAX",
        "DM_VERSION_1_MAX",
        // States of the driver.
        "DM_INITIALIZING",
        "DM_INITIALIZED",
        "DM_BALLOON_UP",
        "DM_BALLOON_DOWN",
        "DM_HOT_ADD",
        "DM_INIT_ERROR",
    ],
    pipes: &[],
    least: 40,
};

/// The sockets' transport.
pub(super) const SOCKETS: Driver = Driver {
    kernel: Stock::Cloud61,
    module: "hv_sock.ko",
    records: &["vmpipe_proto_header"],
    longer: &[],
    own: ("hvs_recv_buf", size_of::<PipeHeader>() + MAX_PAYLOAD as usize),
    kinds: "HVS_",
    ends: &[],
    pipes: &[("hvs_recv_buf", "HVS_MTU_SIZE"), ("hvs_send_buf", "HVS_SEND_BUF_SIZE")],
    least: 6,
};

/// Compares a driver with the table.
pub(super) fn compare(driver: &Driver) -> anyhow::Result<()> {
    let cache = Cache::open()?;
    let piece = Piece::Drivers(driver.kernel);
    stock::prepare(&cache, &[piece])?;
    let file = cache.entry(piece.folder()).join("modules").join(driver.module);
    let packed = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let module = Module::read(driver.module, packed)?.bytes;
    let types = section(&module, b".BTF").context("the module has no type information")?;
    let types = Types::read(types, driver.own)?;
    let compared = records(&types, driver)? + kinds(&types, driver)? + pipes(&types, driver)?;
    ensure!(compared >= driver.least, "only {compared} places and numbers were compared");
    Ok(())
}

/// Compares the places of the structures' members.
fn records(types: &Types<'_>, driver: &Driver) -> anyhow::Result<usize> {
    let mut compared = 0;
    for name in driver.records {
        let ours = abi::structs().find(|row| row.has_name(name)).with_context(|| format!("no {name}"))?;
        let theirs = types.record(name)?;
        let fits = if driver.longer.contains(name) {
            theirs.size < ours.size && ours.size - theirs.size < 4
        } else {
            theirs.size == ours.size
        };
        ensure!(fits, "{name} has {} bytes in Linux, {} here", theirs.size, ours.size);
        for &(member, bit) in &theirs.parts {
            compared += usize::from(member_is(ours, theirs.size, types.name(member), bit as usize)?);
        }
    }
    Ok(compared)
}

/// Checks that the table has a field at this place, with this name if it is known.
fn member_is(ours: &Struct, size: usize, name: Option<&str>, bit: usize) -> anyhow::Result<bool> {
    let offset = bit / 8;
    // The beginning of a packet is a structure of its own here; an open end has no bytes; a bit is a flag of its word
    // here.
    if (ours.name == "vstor_packet" && offset < 12) || offset == size || !bit.is_multiple_of(8) {
        return Ok(false);
    }
    // The members of a structure in it are fields, with both names.
    let named =
        |field: &str, name: &str| name.is_empty() || field == name || field.split('.').next() == Some(name);
    let there = ours
        .fields
        .iter()
        .any(|field| field.offset == offset && name.is_none_or(|name| named(field.name, name)));
    ensure!(there, "{}: Linux has {} at {offset}, the table has not", ours.name, name.unwrap_or("a member"));
    Ok(true)
}

/// Compares the numbers of the messages' kinds.
fn kinds(types: &Types<'_>, driver: &Driver) -> anyhow::Result<usize> {
    let mut compared = 0;
    let all = types.all.iter().filter(|kind| !kind.members).flat_map(|kind| &kind.parts);
    for &(name, value) in all {
        let Some(name) = types.name(name).filter(|name| name.starts_with(driver.kinds)) else {
            continue;
        };
        if driver.ends.contains(&name) {
            continue;
        }
        let row = abi::constants().find(|row| row.has_name(name)).with_context(|| format!("no {name}"))?;
        ensure!(row.value == u64::from(value), "{name} is {value} in Linux, {} here", row.value);
        compared += 1;
    }
    Ok(compared)
}

/// Compares the lengths of packets of a pipe: a header, then the payload, whose maximum length is in the table.
fn pipes(types: &Types<'_>, driver: &Driver) -> anyhow::Result<usize> {
    for (name, most) in driver.pipes {
        let theirs = types.record(name)?;
        let most = abi::constants().find(|row| row.has_name(most)).with_context(|| format!("no {most}"))?;
        let (header, payload) = (size_of::<PipeHeader>(), most.value as usize);
        ensure!(
            theirs.size == header + payload,
            "{name} has {} bytes in Linux, here {header} of the header and {payload} of payload",
            theirs.size
        );
        let places: Vec<u32> = theirs.parts.iter().map(|(_, bit)| bit / 8).collect();
        ensure!(places == [0, header as u32], "{name} has its parts at {places:?} in Linux");
    }
    Ok(2 * driver.pipes.len())
}

/// A structure or an enumeration.
struct Kind {
    name: u32,
    size: usize,
    /// A structure, and no enumeration.
    members: bool,
    /// Names, with bit offsets or values.
    parts: Vec<(u32, u32)>,
}

struct Types<'m> {
    all: Vec<Kind>,
    strings: &'m [u8],
    /// Offset of the module's first string.
    base: u32,
}

fn word(bytes: &[u8], at: usize) -> anyhow::Result<u32> {
    let word =
        bytes.get(at..).and_then(|bytes| bytes.first_chunk()).context("the type information ends early")?;
    Ok(u32::from_le_bytes(*word))
}

impl<'m> Types<'m> {
    fn read(bytes: &'m [u8], (own, size_of_own): (&str, usize)) -> anyhow::Result<Self> {
        ensure!(word(bytes, 0)? & 0xffff == 0xeb9f, "no BTF");
        let at = |offset: u32| Ok::<_, anyhow::Error>((word(bytes, 4)? + offset) as usize);
        let (start, strings) = (at(word(bytes, 8)?)?, at(word(bytes, 16)?)?);
        let types = bytes.get(start..start + word(bytes, 12)? as usize).context("types")?;
        let strings = bytes.get(strings..strings + word(bytes, 20)? as usize).context("strings")?;
        let (mut all, mut place) = (Vec::new(), 0);
        while place < types.len() {
            let (name, info, size) = (word(types, place)?, word(types, place + 4)?, word(types, place + 8)?);
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            place += 12;
            // Bytes of each part, and of what belongs to the kind.
            let (each, once) = match kind {
                4 | 5 | 15 | 19 => (12, 0),
                6 | 13 => (8, 0),
                1 | 14 | 17 => (0, 4),
                3 => (0, 12),
                0 | 2 | 7..=12 | 16 | 18 => (0, 0),
                _ => bail!("BTF of kind {kind}"),
            };
            if matches!(kind, 4 | 6) {
                let value = if kind == 4 { 8 } else { 4 };
                let part = |n: usize| {
                    let part = place + n * each;
                    // The upper byte of a member's offset is the size of a bit field.
                    Ok((
                        word(types, part)?,
                        word(types, part + value)? & if kind == 4 { 0xff_ffff } else { u32::MAX },
                    ))
                };
                let parts = (0..count).map(part).collect::<anyhow::Result<_>>()?;
                all.push(Kind { name, size: size as usize, members: kind == 4, parts });
            }
            place += count * each + once;
        }
        // A structure that only this driver has tells where the module's strings begin: it is one of those with its
        // size.
        let known = format!("\0{own}\0");
        let found = strings.windows(known.len()).position(|part| part == known.as_bytes());
        let found = found.with_context(|| format!("no {own}"))? as u32 + 1;
        let candidates = all.iter().filter(|kind: &&Kind| kind.members && kind.size == size_of_own);
        let base = candidates
            .filter_map(|kind| kind.name.checked_sub(found))
            .find(|base| begin(&all, strings, *base));
        let base = base.with_context(|| format!("no structure of {size_of_own} bytes is {own}"))?;
        Ok(Self { all, strings, base })
    }

    /// Returns a structure of the module's own.
    fn record(&self, name: &str) -> anyhow::Result<&Kind> {
        let found = self.all.iter().find(|kind| kind.members && self.name(kind.name) == Some(name));
        found.with_context(|| format!("the driver has no {name}"))
    }

    /// Returns a name, if it is the module's own.
    fn name(&self, offset: u32) -> Option<&'m str> {
        let own = self.strings.get(offset.checked_sub(self.base)? as usize..)?;
        std::str::from_utf8(own.split(|byte| *byte == 0).next()?).ok()
    }
}

/// Returns whether every name of the module's own is a whole string, if the module's strings begin at this offset.
fn begin(all: &[Kind], strings: &[u8], base: u32) -> bool {
    let is_whole = |name: u32| match name.checked_sub(base) {
        None | Some(0) => true,
        Some(own) => strings.get(own as usize - 1) == Some(&0),
    };
    all.iter().all(|kind| is_whole(kind.name) && kind.parts.iter().all(|(name, _)| is_whole(*name)))
}

/// Returns a section of an ELF64 file.
fn section<'m>(file: &'m [u8], wanted: &[u8]) -> Option<&'m [u8]> {
    let long = |at: usize| Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?) as usize);
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(*file.get(at..)?.first_chunk()?)));
    let header = |n: usize| Some(long(0x28)? + n * half(0x3a)?);
    let names = long(header(half(0x3e)?)? + 0x18)?;
    (0..half(0x3c)?).find_map(|n| {
        let at = header(n)?;
        let name = file.get(names + word(file, at).ok()? as usize..)?.split(|byte| *byte == 0).next()?;
        (name == wanted).then(|| file.get(long(at + 0x18)?..long(at + 0x18)? + long(at + 0x20)?))?
    })
}
