//! Interrupts arrive, once, on the right VP, in the right order.

use super::{SGI_FRAME, booted, disable, enable, prioritise, read_d, read_r, vps, write_d};
use crate::testing::SPURIOUS;
use crate::{ListRegisters as _, SgiRegister};

#[test]
fn a_level_comes_again_until_the_device_is_quiet() {
    let vps = vps(1);
    let m = booted(&vps, 4);
    enable(&m, 0, 27);
    m.drive(0, 27, true);
    assert_eq!(m.acknowledge(0), 27);
    assert_eq!(m.acknowledge(0), SPURIOUS, "active at the physical GIC until the guest ends it");
    m.end(0, 27);
    assert_eq!(m.acknowledge(0), 27);
    m.drive(0, 27, false);
    m.end(0, 27);
    assert_eq!(m.acknowledge(0), SPURIOUS);
    assert!(!m.line(0, 27).active);
}

#[test]
fn an_edge_while_active_comes_after_the_end() {
    let vps = vps(1);
    let m = booted(&vps, 4);
    enable(&m, 0, 18);
    m.assert(0, 0, 18);
    assert_eq!(m.acknowledge(0), 18);
    m.assert(0, 0, 18);
    m.assert(0, 0, 18);
    assert_eq!(m.acknowledge(0), SPURIOUS);
    m.end(0, 18);
    assert_eq!(m.acknowledge(0), 18);
    m.end(0, 18);
    assert_eq!(m.acknowledge(0), SPURIOUS, "two edges before the acknowledge are one interrupt");
}

#[test]
fn an_edge_on_another_vp_arrives_by_a_kick() {
    let vps = vps(3);
    let m = booted(&vps, 4);
    enable(&m, 2, 18);
    m.assert(0, 2, 18);
    assert_eq!(m.acknowledge(0), SPURIOUS);
    assert_eq!(m.acknowledge(1), SPURIOUS);
    assert_eq!(m.acknowledge(2), 18);
}

#[test]
fn sgis_reach_the_list_and_all_others() {
    let vps = vps(18);
    let m = booted(&vps, 4);
    m.sgi(0, 3 << 24 | 0b11); // Aff1 0, VPs 0 and 1
    m.sgi(0, 4 << 24 | 1 << 16 | 0b10); // Aff1 1, VP 17
    m.sgi(0, 5 << 24 | 1 << 16 | 0b100); // no such VP
    m.sgi(17, 6 << 24 | 1 << 40);
    assert_eq!(m.acknowledge(0), 3);
    m.end(0, 3);
    assert_eq!(m.acknowledge(0), 6);
    assert_eq!(m.acknowledge(1), 3);
    assert_eq!(m.acknowledge(17), 4);
    m.end(17, 4);
    assert_eq!(m.acknowledge(17), SPURIOUS);
}

#[test]
fn more_interrupts_than_list_registers_come_by_priority() {
    for lists in [1, 2, 4, 16] {
        let vps = vps(1);
        let m = booted(&vps, lists);
        for intid in 0..16u8 {
            prioritise(&m, 0, intid.into(), 0xf8 - intid * 8);
        }
        for intid in 0..16 {
            m.sgi(0, intid << 24 | 1);
        }
        for intid in (0..16).rev() {
            assert_eq!(m.acknowledge(0), intid, "{lists} list registers");
            m.end(0, intid);
        }
        assert_eq!(m.acknowledge(0), SPURIOUS);
        assert_eq!(
            m.cpus[0].control(),
            crate::hcr::EN | crate::hcr::TDIR,
            "no maintenance interrupt without need"
        );
    }
}

#[test]
fn a_more_urgent_interrupt_preempts_even_when_all_list_registers_are_active() {
    for lists in 1..=4 {
        let vps = vps(1);
        let m = booted(&vps, lists);
        for intid in 0..8u8 {
            prioritise(&m, 0, intid.into(), 0xf0 - intid * 8);
        }
        for intid in 0..8 {
            m.sgi(0, u64::from(intid) << 24 | 1);
            assert_eq!(m.acknowledge(0), intid, "{lists} list registers");
        }
        for intid in (0..8).rev() {
            m.end(0, intid);
        }
        assert_eq!(read_r(&m, 0, 0, SGI_FRAME + 0x300), 0);
        m.sgi(0, 1);
        assert_eq!(m.acknowledge(0), 0);
    }
}

#[test]
fn what_isactiver_made_active_does_not_take_the_end_of_what_was_acknowledged() {
    for lists in 1..=4 {
        let vps = vps(2);
        let m = booted(&vps, lists);
        let force = |bits: u32| {
            write_d(&m, 1, 0x304, bits << 8);
            m.settle_all();
        };
        for (spi, priority) in [(46, 0xa0), (40, 0x98), (41, 0x98), (42, 0x08), (43, 0x08), (47, 0x90)] {
            prioritise(&m, 0, spi, priority);
            enable(&m, 0, spi);
        }
        // All of this was active before and no longer is. One stays.
        force(0b1100_0010);
        write_d(&m, 1, 0x384, 0b1100_0000 << 8);
        for spi in [46, 47] {
            m.assert(0, 0, spi);
            assert_eq!(m.acknowledge(0), spi, "{lists} list registers");
            // The other VP makes active what is more urgent, pending or not, and what is active already.
            m.assert(0, 0, 40);
            m.settle(0);
            force(0b0000_1111);
            force(0b1100_0000 & 1 << (spi - 40));
        }
        for spi in [47, 46] {
            m.end(0, spi);
        }
        assert_eq!(read_d(&m, 0, 0x304), 0b0000_1111 << 8, "{lists} list registers");
    }
}

#[test]
fn disabling_takes_a_pending_interrupt_out_and_lets_the_physical_one_go() {
    let vps = vps(1);
    let m = booted(&vps, 4);
    enable(&m, 0, 27);
    m.drive(0, 27, true);
    m.settle(0);
    assert!(m.line(0, 27).active);
    disable(&m, 0, 27);
    assert!(!m.line(0, 27).active && !m.line(0, 27).enabled);
    assert_eq!(m.acknowledge(0), SPURIOUS);
    assert_ne!(read_r(&m, 0, 0, SGI_FRAME + 0x200) & 1 << 27, 0, "the level still shows");
    enable(&m, 0, 27);
    assert_eq!(m.acknowledge(0), 27);
}

#[test]
fn an_spi_goes_where_it_is_routed_and_moves_when_it_is_not_active() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    enable(&m, 0, 40);
    m.assert(0, 0, 40);
    assert_eq!(m.acknowledge(0), 40);
    write_d(&m, 1, 0x6000 + 40 * 8, 1);
    assert_eq!(read_d(&m, 1, 0x304), 1 << 8, "active on the other VP");
    m.settle_all();
    m.end(0, 40);
    m.assert(0, 0, 40);
    m.settle_all();
    assert_eq!(m.acknowledge(0), SPURIOUS);
    assert_eq!(m.acknowledge(1), 40);
    m.end(1, 40);
    write_d(&m, 1, 0x6000 + 40 * 8, 0x77);
    m.assert(0, 0, 40);
    m.settle_all();
    assert_eq!((m.acknowledge(0), m.acknowledge(1)), (SPURIOUS, SPURIOUS), "no such VP");
    write_d(&m, 1, 0x6000 + 40 * 8, 0);
    assert_eq!(m.acknowledge(0), 40, "it stayed pending");
}

#[test]
fn an_interrupt_that_comes_again_competes_with_those_outside() {
    let vps = vps(1);
    let m = booted(&vps, 2);
    for (intid, priority) in [(7, 0xa0), (8, 0x90), (9, 0x80)] {
        prioritise(&m, 0, intid, priority);
    }
    m.assert(0, 0, 7);
    assert_eq!(m.acknowledge(0), 7);
    for intid in [7, 8, 9] {
        m.assert(0, 0, intid); // two list registers: 7, and one of the others
    }
    for expected in [9, 8] {
        assert_eq!(m.acknowledge(0), expected);
        m.end(0, expected);
    }
    m.end(0, 7);
    assert_eq!(m.acknowledge(0), 7);
}

#[test]
fn an_interrupt_that_ended_does_not_pass_a_more_urgent_one_outside() {
    let vps = vps(1);
    let m = booted(&vps, 2);
    m.assert(0, 0, 7);
    assert_eq!(m.acknowledge(0), 7);
    for intid in [7, 6, 5] {
        m.assert(0, 0, intid);
    }
    m.end(0, 7);
    for expected in [5, 6, 7] {
        assert_eq!(m.acknowledge(0), expected, "equal priorities: the lower INTID first");
        m.end(0, expected);
    }
}

#[test]
fn a_level_that_overflows_is_not_lost_and_its_physical_interrupt_not_stuck() {
    let vps = vps(1);
    let m = booted(&vps, 1);
    enable(&m, 0, 27);
    enable(&m, 0, 30);
    m.drive(0, 30, true);
    m.drive(0, 27, true);
    m.assert(0, 0, 3);
    assert_eq!(m.acknowledge(0), 3);
    m.end(0, 3);
    assert_eq!(m.acknowledge(0), 27);
    m.drive(0, 27, false);
    m.end(0, 27);
    assert_eq!(m.acknowledge(0), 30);
    m.drive(0, 30, false);
    m.end(0, 30);
    assert!(!m.line(0, 27).active && !m.line(0, 30).active);
}

#[test]
fn group_0_interrupts_carry_their_group_and_follow_its_enable() {
    let vps = vps(1);
    let m = booted(&vps, 4);
    write_d(&m, 0, 0, 2);
    super::write_r(&m, 0, 0, SGI_FRAME + 0x80, !(1 << 5));
    m.sgi(0, 5 << 24 | 1);
    assert!(!m.gic.has_pending(&m.view(0)), "Group 0 is not forwarded");
    write_d(&m, 0, 0, 3);
    assert!(m.gic.has_pending(&m.view(0)));
    assert_eq!(m.cpus[0].read(0) & crate::lr::GROUP1, 0);
    assert_eq!(m.acknowledge(0), 5);
}

#[test]
fn sgi0_and_asgi1_reach_group_0_only() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    write_d(&m, 0, 0, 3);
    super::write_r(&m, 1, 1, SGI_FRAME + 0x80, !(1 << 5));
    for (register, intid) in [(SgiRegister::Sgi0, 4), (SgiRegister::Asgi1, 5), (SgiRegister::Sgi0, 6)] {
        m.gic.sgi(&m.view(0), register, intid << 24 | 0b10);
    }
    assert_eq!(m.acknowledge(1), 5);
    m.end(1, 5);
    assert_eq!(m.acknowledge(1), SPURIOUS);
}

#[test]
fn what_does_not_exist_is_ignored() {
    let vps = vps(1);
    let m = booted(&vps, 4);
    for intid in [64, 1023, u32::MAX] {
        m.assert(0, 0, intid);
        m.gic.physical(&m.view(0), intid);
        m.gic.deactivate(&m.view(0), intid);
    }
    for intid in [3, 18, 27, 40] {
        m.assert(0, 9, intid);
    }
    m.gic.physical(&m.view(0).claiming(9), 27);
    m.gic.physical(&m.view(0), 18); // not backed
    m.sgi(0, u64::MAX);
    m.sgi(0, 0xff << 48 | 1);
    assert_eq!(m.acknowledge(0), SPURIOUS);
    assert!(!m.gic.has_pending(&m.view(0).claiming(9)));
}
