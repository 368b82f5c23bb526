//! What registers read, and which accesses are refused.

use super::{SGI_FRAME, booted, read_d, read_r, vps, write_d, write_r};
use crate::testing::GicMachine;
use crate::{Fault, RegisterFrame};

#[test]
fn identification_says_gicv3_with_one_security_state() {
    let vps = vps(18);
    let m = GicMachine::new(&vps, 4, &super::BACKED);
    assert_eq!(read_d(&m, 0, 0x0), 0x50, "ARE and DS are fixed");
    assert_eq!(read_d(&m, 0, 0x4) & 0x1f, 1, "64 INTIDs");
    assert_eq!(read_d(&m, 0, 0xffe8) >> 4 & 0xf, 3);
    assert_eq!(read_r(&m, 0, 17, 0xffe8) >> 4 & 0xf, 3);
    assert_eq!(read_r(&m, 0, 17, 0x1_ffe8) >> 4 & 0xf, 3);
    assert_eq!(m.read(0, RegisterFrame::Redistributor(17), 8, 8), Ok(0x0000_0101_0000_1110));
    assert_eq!(m.read(0, RegisterFrame::Redistributor(3), 8, 8), Ok(0x0000_0003_0000_0300));
    assert_eq!(read_r(&m, 0, 17, 0xc), 0x0101);
}

#[test]
fn the_distributor_has_no_part_in_private_interrupts_nor_the_sgi_frame_in_shared_ones() {
    let vps = vps(1);
    let m = booted(&vps, 4);
    for bank in [0x80, 0x100, 0x200, 0x300] {
        write_d(&m, 0, bank, u32::MAX);
        assert_eq!(read_d(&m, 0, bank), 0);
        write_r(&m, 0, 0, SGI_FRAME + bank + 4, u32::MAX);
        assert_eq!(read_r(&m, 0, 0, SGI_FRAME + bank + 4), 0);
    }
    write_d(&m, 0, 0x400, u32::MAX);
    assert_eq!(read_d(&m, 0, 0x400), 0);
    assert_eq!(read_d(&m, 0, 0xc00), 0);
    assert_eq!(read_r(&m, 0, 0, SGI_FRAME + 0xc08), 0);
}

#[test]
fn priorities_keep_five_bits_and_can_be_accessed_by_bytes() {
    let vps = vps(1);
    let m = booted(&vps, 4);
    m.write(0, RegisterFrame::Distributor, 0x400 + 33, 1, 0xff).unwrap();
    assert_eq!(read_d(&m, 0, 0x420), 0xa0a0_f8a0);
    assert_eq!(m.read(0, RegisterFrame::Distributor, 0x400 + 33, 1), Ok(0xf8));
    write_r(&m, 0, 0, SGI_FRAME + 0x41c, 0x1234_5678);
    assert_eq!(read_r(&m, 0, 0, SGI_FRAME + 0x41c), 0x1030_5078);
}

#[test]
fn triggers_of_sgis_are_fixed() {
    let vps = vps(1);
    let m = booted(&vps, 4);
    write_r(&m, 0, 0, SGI_FRAME + 0xc00, 0);
    assert_eq!(read_r(&m, 0, 0, SGI_FRAME + 0xc00), 0xaaaa_aaaa);
    write_r(&m, 0, 0, SGI_FRAME + 0xc04, u32::MAX);
    assert_eq!(read_r(&m, 0, 0, SGI_FRAME + 0xc04), 0xaaaa_aaaa);
    assert!(m.line(0, 27).edge && m.line(0, 30).edge && !m.line(0, 33).edge);
    write_d(&m, 0, 0xc08, 0b1000);
    assert_eq!(read_d(&m, 0, 0xc08), 0b1000);
    assert!(m.line(0, 33).edge);
}

#[test]
fn enabling_is_passed_on_for_backed_interrupts() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    write_r(&m, 0, 1, SGI_FRAME + 0x100, u32::MAX);
    assert!(m.line(1, 27).enabled && m.line(1, 30).enabled);
    assert!(!m.line(0, 27).enabled && !m.line(1, 26).enabled);
    write_r(&m, 0, 1, SGI_FRAME + 0x180, 1 << 27);
    assert!(!m.line(1, 27).enabled && m.line(1, 30).enabled);
    assert_eq!(read_r(&m, 0, 1, SGI_FRAME + 0x100), !(1 << 27));
}

#[test]
fn routes_hold_the_affinity_fields_that_exist() {
    let vps = vps(1);
    let m = booted(&vps, 4);
    m.write(0, RegisterFrame::Distributor, 0x6100, 8, u64::MAX).unwrap();
    assert_eq!(m.read(0, RegisterFrame::Distributor, 0x6100, 8), Ok(0x00ff_ffff), "no 1-of-N, no Aff3");
    write_d(&m, 0, 0x6104, u32::MAX);
    write_d(&m, 0, 0x6100, 1);
    assert_eq!(m.read(0, RegisterFrame::Distributor, 0x6100, 8), Ok(1));
    assert_eq!(m.read(0, RegisterFrame::Distributor, 0x6000, 8), Ok(0), "private interrupts have no route");
    assert_eq!(m.read(0, RegisterFrame::Distributor, 0x7ff8, 8), Ok(0));
}

#[test]
fn it_begins_as_firmware_leaves_it() {
    let vps = vps(2);
    let m = GicMachine::new(&vps, 4, &[]);
    m.gic.start_vp(0);
    assert_eq!(read_d(&m, 0, 0x0), 0x50, "affinity routing, one security state, no group enabled");
    assert_eq!(read_d(&m, 0, 0x84), u32::MAX, "GICD_IGROUPR1");
    for (vp, waker) in [(0, 0), (1, 6)] {
        assert_eq!(read_r(&m, 0, vp, 0x14), waker, "GICR_WAKER of VP {vp}");
        assert_eq!(read_r(&m, 0, vp, SGI_FRAME + 0x80), u32::MAX, "GICR_IGROUPR0");
        for offset in [0x100, 0x200, 0x300, 0x400] {
            assert_eq!(read_r(&m, 0, vp, SGI_FRAME + offset), 0, "{offset:#x}");
        }
    }
    for offset in [0x104, 0x204, 0x304, 0x420] {
        assert_eq!(read_d(&m, 0, offset), 0, "{offset:#x}");
    }
}

#[test]
fn a_redistributor_sleeps_while_its_vp_is_off() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    m.reset_vp(1);
    assert_eq!((read_r(&m, 0, 0, 0x14), read_r(&m, 0, 1, 0x14)), (0, 6));
    m.gic.start_vp(1);
    assert_eq!(read_r(&m, 0, 1, 0x14), 0);
}

#[test]
fn an_spi_keeps_its_settings_when_it_moves() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    // In Group 0, which its new home has not heard of.
    write_d(&m, 0, 0x84, !(1 << 8));
    write_d(&m, 0, 0x6000 + 40 * 8, 1);
    assert_eq!(read_d(&m, 0, 0x84), !(1 << 8));
    write_d(&m, 0, 0x84, u32::MAX);
    write_d(&m, 0, 0x6000 + 40 * 8, 0);
    assert_eq!(read_d(&m, 0, 0x84), u32::MAX);
}

#[test]
fn the_waker_follows_processor_sleep() {
    let vps = vps(1);
    let m = GicMachine::new(&vps, 4, &[]);
    assert_eq!(read_r(&m, 0, 0, 0x14), 6);
    write_r(&m, 0, 0, 0x14, 0);
    assert_eq!(read_r(&m, 0, 0, 0x14), 0);
    write_r(&m, 0, 0, 0x14, 2);
    assert_eq!(read_r(&m, 0, 0, 0x14), 6);
}

#[test]
fn sizes_and_places_that_do_not_exist_are_refused() {
    let vps = vps(1);
    let m = booted(&vps, 4);
    let (d, r) = (RegisterFrame::Distributor, RegisterFrame::Redistributor(0));
    for (frame, offset, size) in [
        (d, 0x0, 0),
        (d, 0x0, 1),
        (d, 0x0, 2),
        (d, 0x100, 8),
        (d, 0x102, 4),
        (d, 0x104, 3),
        (d, 0x6104, 8),
        (d, 0x400, 2),
        (d, 0x1_0000, 4),
        (r, 0x4, 8),
        (r, 0x8, 1),
        (r, 0x400, 1),
        (r, 0x2_0000, 4),
        (r, u32::MAX, 1),
        (r, u32::MAX - 3, 4),
        (RegisterFrame::Redistributor(1), 0x8, 4),
        (RegisterFrame::Redistributor(usize::MAX), 0x8, 4),
    ] {
        assert_eq!(m.read(0, frame, offset, size), Err(Fault), "{frame:?} {offset:#x} {size}");
        assert_eq!(m.write(0, frame, offset, size, 0), Err(Fault), "{frame:?} {offset:#x} {size}");
    }
    let access = crate::Access { frame: d, offset: 0, size: 4 };
    assert_eq!(m.gic.read(&m.view(0).claiming(1), access), Err(Fault), "no such VP");
}

#[test]
fn every_access_of_every_size_is_answered() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    for frame in
        [RegisterFrame::Distributor, RegisterFrame::Redistributor(0), RegisterFrame::Redistributor(1)]
    {
        for offset in (0..0x2_0000).step_by(4) {
            for size in [1, 4, 8] {
                let _ = m.read(0, frame, offset, size);
                let _ = m.write(0, frame, offset, size, u64::MAX);
                let _ = m.read(0, frame, offset, size);
            }
        }
    }
    m.settle_all();
}
