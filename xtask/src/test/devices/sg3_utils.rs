//! sg3-utils asks a disk and a DVD everything that they answer, and does to them what they take.

use std::fs;

use anyhow::ensure;

use super::super::context::Context;
use super::super::runner::Step;
use super::programs::{Expected, GuestFiles, Programs, judge, script};
use super::storage::SIZE;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("devices/storage/sg3-utils", run).slow()]
}

const fn say(command: &'static str, status: u32, lines: &'static [&'static str]) -> Expected {
    Expected { command, status, lines }
}

/// sg3-utils's exit statuses (sg3_utils(8), "EXIT STATUS").
const INVALID_OPCODE: u32 = 9;
const ILLEGAL_REQUEST: u32 = 5;
const OUT_OF_RANGE: u32 = 22;
const MALFORMED: u32 = 97;
const NOT_READY: u32 = 2;
const UNIT_ATTENTION: u32 = 6;
/// An option that the kernel does not have.
const NOT_AVAILABLE: u32 = 1;
/// `errno` + 50.
const READ_ONLY: u32 = 80;

/// INQUIRY, vital product data and mode pages.
const IDENTITY: &[Expected] = &[
    say(
        "sg_inq $D",
        0,
        &[
            "PQual=0  PDT=0  RMB=0  LU_CONG=0  hot_pluggable=0  version=0x05  [SPC-3]",
            "[RelAdr=0]  WBus16=0  Sync=0  [Linked=0]  [TranDis=0]  CmdQue=1",
            "Vendor identification: Msft",
            "Product identification: Virtual Disk",
            "Product revision level: 1.0",
            "Unit serial number: 697761726d3644218a6400155d000001",
        ],
    ),
    say(
        "sg_vpd -p sv $D",
        0,
        &[
            "Supported VPD pages [sv]",
            "Unit serial number [sn]",
            "Device identification [di]",
            "Block limits (SBC) [bl]",
            "Block device characteristics (SBC) [bdc]",
            "Logical block provisioning (SBC) [lbpv]",
        ],
    ),
    say("sg_vpd -p sn $D", 0, &["Unit serial number: 697761726d3644218a6400155d000001"]),
    say(
        "sg_vpd -p di $D",
        0,
        &[
            "designator type: T10 vendor identification,  code set: ASCII",
            "vendor specific: 697761726d3644218a6400155d000001",
            "designator type: NAA,  code set: Binary",
            "0x60022480697761726d3644218a640015",
        ],
    ),
    say(
        "sg_vpd -p bl $D",
        0,
        &[
            "Optimal transfer length granularity: 8 blocks",
            "Maximum transfer length: 512 blocks",
            "Maximum unmap LBA count: 65536",
            "Maximum unmap block descriptor count: 8",
            "Optimal unmap granularity: 8 blocks",
            "Maximum write same length: 0x10000 blocks",
        ],
    ),
    say("sg_vpd -p bdc $D", 0, &["Non-rotating medium (e.g. solid state)", "ZONED=0"]),
    say(
        "sg_vpd -p lbpv $D",
        0,
        &[
            "Unmap command supported (LBPU): 1",
            "Write same (16) with unmap bit supported (LBPWS): 1",
            "Write same (10) with unmap bit supported (LBPWS10): 1",
            "Logical block provisioning read zeros (LBPRZ): 1",
            "Anchored LBAs supported (ANC_SUP): 0",
            "Provisioning type: 2 (thin provisioned)",
        ],
    ),
    say("sg_vpd -p lbpv $L", 0, &["Unmap command supported (LBPU): 0"]),
    // The disk refuses it, but storvsc takes every INQUIRY for good, so that there is no data.
    say("sg_vpd --page=0xb6 --force $D", MALFORMED, &[]),
    say("sg_vpd -p sv /dev/sr0", 0, &["Device identification [di]"]),
    say(
        "sg_inq /dev/sr0",
        0,
        &["Product identification: Virtual DVD-ROM", "length=36 (0x24)   Peripheral device type: cd/dvd"],
    ),
    say("sg_modes -a $D", 0, &["00     08 12 04 00 00 00 00 00  00 00 00 00 00 00 00 00"]),
    say(
        "sg_modes -a $L",
        0,
        &[
            "Mode data length=48, medium type=0x00, WP=1, DpoFua=1, longlba=0",
            "00     00 00 20 00 00 00 02 00",
        ],
    ),
    say(
        "sg_luns $D",
        0,
        &[
            "Lun list length = 24 which imples 3 lun entries",
            "0000000000000000",
            "0001000000000000",
            "0002000000000000",
        ],
    ),
    say("sg_luns -s 1 $D", 0, &["Lun list length = 0 which imples 0 lun entries"]),
    say("sg_luns -s 5 $D", ILLEGAL_REQUEST, &[]),
    say(
        "sg_readcap $D",
        0,
        &["Last LBA=49151 (0xbfff), Number of logical blocks=49152", "Logical block length=512 bytes"],
    ),
    say(
        "sg_readcap --16 $D",
        0,
        &[
            "Logical block provisioning: lbpme=1, lbprz=1",
            "Last LBA=49151 (0xbfff), Number of logical blocks=49152",
            "Logical blocks per physical block exponent=3 [so physical block length=4096 bytes]",
        ],
    ),
    say(
        "sg_readcap /dev/sr0",
        0,
        &["Last LBA=2047 (0x7ff), Number of logical blocks=2048", "Logical block length=2048 bytes"],
    ),
    say("sg_requests $D", 0, &["Additional sense: No additional sense information"]),
    say("sg_opcodes $D", INVALID_OPCODE, &[]),
    say("sg_persist -k $D", INVALID_OPCODE, &[]),
    say("sg_logs -a $D", INVALID_OPCODE, &[]),
    say("sg_verify --lba=0 --count=8 $D", 0, &[]),
    say("sg_verify --lba=49150 --count=8 $D", OUT_OF_RANGE, &[]),
];

/// Commands that change blocks. The disk is `0123456\n` repeated in its first 64 KiB, and `block` is `abcdefg\n`
/// repeated.
const WRITES: &[Expected] = &[
    say("dd if=all of=$D bs=65536 oflag=direct", 0, &["1+0 records out"]),
    say("sg_unmap --force --lba=8 --num=8 $D", 0, &[]),
    say("sg_unmap --force --lba=20,24 --num=2,3 $D", 0, &[]),
    say("sg_unmap --force --lba=0 --num=0 $D", 0, &[]),
    say("sg_unmap --force --lba=49150 --num=8 $D", OUT_OF_RANGE, &[]),
    say("sg_unmap --force --lba=8 --num=8 --anchor $D", ILLEGAL_REQUEST, &[]),
    say("sg_unmap --force --lba=8 --num=8 $L", READ_ONLY, &[]),
    say("sg_write_same --10 --lba=64 --num=8 --in=block $D", 0, &[]),
    say("sg_write_same --16 --lba=80 --num=8 --in=block $D", 0, &[]),
    say("sg_write_same --16 --unmap --lba=96 --num=8 --in=/dev/zero $D", 0, &[]),
    say("sg_write_same --16 --lba=49150 --num=8 --in=block $D", OUT_OF_RANGE, &[]),
    say("sg_write_same --16 --lba=112 --num=8 --in=block $L", READ_ONLY, &[]),
    say("sg_dd if=$D of=x bs=512 blk_sgio=1 iflag=sgio skip=0 count=8", 0, &["8+0 records out"]),
    say("sg_dd if=$D of=y bs=512 blk_sgio=1 iflag=sgio skip=49152 count=1", OUT_OF_RANGE, &[]),
    say("sg_dd of=$D if=x bs=512 blk_sgio=1 oflag=sgio,fua seek=1000 count=8", 0, &["8+0 records out"]),
    say("sg_sync $D", 0, &[]),
];

/// Resets. storvsc can reset its host only, and a reset of a device without --no-esc ends there.
const RESETS: &[Expected] = &[
    say("sg_reset -d -N $D", NOT_AVAILABLE, &[]),
    say("sg_reset -t -N $D", NOT_AVAILABLE, &[]),
    say("sg_reset -b -N $D", NOT_AVAILABLE, &[]),
    say("sg_turs $D", 0, &[]),
    say("sg_reset -H -N $D", 0, &[]),
    say(
        "sg_turs -v $D",
        UNIT_ATTENTION,
        &["Additional sense: Power on, reset, or bus device reset occurred"],
    ),
    say("sg_turs $D", 0, &[]),
    say("sg_reset -d $D", 0, &[]),
    say("sg_turs $D", UNIT_ATTENTION, &[]),
    say("sg_turs $D", 0, &[]),
    say("sg_reset -b $D", 0, &[]),
    say("sg_turs $D", UNIT_ATTENTION, &[]),
    say("sg_turs $D", 0, &[]),
    // In the middle of reading: the kernel repeats what the reset has stopped.
    say(READ_AND_RESET, 0, &["1000+0 records out"]),
    say("sg_dd if=$D of=z bs=512 blk_sgio=1 iflag=sgio count=8 && cmp z x", 0, &["8+0 records out"]),
];

/// Resets the host after a hundred reads. The reader goes on until that is done.
const READ_AND_RESET: &str = "reads() { set -- $(cat /sys/block/${D##*/}/stat); echo $1; }; was=$(reads); \
    (until [ -e reset ]; do dd if=$D of=/dev/null bs=512 count=1000 iflag=direct || exit 1; done) & \
    until [ $(reads) -gt $((was + 100)) ]; do :; done; sg_reset -H -N $D && touch reset && wait $!";

/// Resets that reach the host, each as one of the bus (Linux, drivers/scsi/storvsc_drv.c, `storvsc_host_reset`).
const RESETS_OF_BUS: usize = 4;

/// The tray, by commands and by eject(1); discards by blkdiscard(8).
const REST: &[Expected] = &[
    // The kernel locks the tray as long as the device is open, and allows its removal when it is closed.
    say("exec 3</dev/sr0", 0, &[]),
    say("sg_start --eject /dev/sr0", ILLEGAL_REQUEST, &[]),
    say("sg_prevent --allow /dev/sr0", 0, &[]),
    say("exec 3<&-", 0, &[]),
    say("sg_start --eject /dev/sr0", 0, &[]),
    say("sg_turs -v /dev/sr0", NOT_READY, &["Additional sense: Medium not present"]),
    say("sg_readcap /dev/sr0", NOT_READY, &[]),
    say("sg_start --load /dev/sr0", 0, &[]),
    say("sg_readcap /dev/sr0", 0, &["Logical block length=2048 bytes"]),
    say("eject /dev/sr0", 0, &[]),
    say("sg_turs /dev/sr0", NOT_READY, &[]),
    say("eject -t /dev/sr0", 0, &[]),
    say("dd if=/dev/sr0 of=/dev/null bs=2048 count=2048", 0, &["2048+0 records out"]),
    say("dd if=all of=$D bs=65536 seek=16 oflag=direct", 0, &[]),
    say("blkdiscard -o 1048576 -l 32768 $D", 0, &[]),
    say("dd if=all of=$D bs=65536 seek=200 oflag=direct", 0, &[]),
    say("blkdiscard -o 8388608 $D", 0, &[]),
    say("blkdiscard $L", 1, &[]),
];

fn run(context: &Context) -> anyhow::Result<()> {
    let names = [
        "inq",
        "vpd",
        "modes",
        "luns",
        "readcap",
        "requests",
        "opcodes",
        "persist",
        "logs",
        "verify",
        "unmap",
        "write_same",
        "dd",
        "sync",
        "reset",
        "turs",
        "prevent",
        "start",
    ];
    let mut paths: Vec<String> = names.iter().map(|name| format!("usr/bin/sg_{name}")).collect();
    paths.push("usr/bin/eject".to_owned());
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let programs = Programs { packages: &["sg3-utils", "eject"], paths: &paths };
    let all = [IDENTITY, WRITES, RESETS, REST].concat();
    let head = "L=$(find_disk 8192)\nbusybox yes abcdefg | head -c 512 >block\nbusybox yes 0123456 | head -c 65536 >all\n\
        until [ -b /dev/sr0 ]; do sleep 0.1; done\n";
    let guest = GuestFiles::new(context, &programs, &[], &format!("{head}{}", script(&all)))?;
    let trace = context.folder()?.join("trace").display().to_string();
    let booted =
        guest.run(context, &["--vps", "2", "--strict=note", "--trace", &trace, "--trace-buffer", "64M"])?;
    judge(&booted.console, &all)?;
    let resets = context.hv(&["trace", &trace, "--kind", "packet", "--name", "reset"])?.stdout;
    let of_bus = resets.lines().filter(|line| line.contains("VSTOR_OPERATION_RESET_BUS channel=")).count();
    ensure!(of_bus == RESETS_OF_BUS && resets.lines().count() == of_bus, "the host has the resets\n{resets}");
    written(&fs::read(&guest.data)?)
}

/// Checks the disk's blocks.
fn written(disk: &[u8]) -> anyhow::Result<()> {
    ensure!(disk.len() as u64 == SIZE, "the file has {} bytes", disk.len());
    const ALL: &[u8; 8] = b"0123456\n";
    const SAME: &[u8; 8] = b"abcdefg\n";
    const ZEROS: &[u8; 8] = &[0; 8];
    let expected = |block: usize| match block {
        8..16 | 20..22 | 24..27 | 96..104 => ZEROS,
        64..72 | 80..88 => SAME,
        0..128 => ALL,
        1000..1008 => ALL,
        // blkdiscard has discarded the first half of what was written here, and all after 8 MiB.
        2112..2176 => ALL,
        _ => ZEROS,
    };
    for (number, block) in disk.chunks_exact(512).enumerate() {
        let expected = expected(number);
        ensure!(
            block.chunks_exact(8).all(|part| part == expected),
            "block {number} begins with {:?}, expected {:?}",
            String::from_utf8_lossy(&block[..8]),
            String::from_utf8_lossy(expected)
        );
    }
    Ok(())
}
