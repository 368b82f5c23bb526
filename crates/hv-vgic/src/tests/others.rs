//! Accesses that concern other VPs, and VPs that stop and start.

use super::{SGI_FRAME, booted, disable, enable, read_d, read_r, vps, write_d, write_r};
use crate::testing::SPURIOUS;

#[test]
fn another_vps_active_state_is_read_as_it_is_now() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    enable(&m, 1, 18);
    m.assert(0, 1, 18);
    assert_eq!(read_r(&m, 0, 1, SGI_FRAME + 0x200), 1 << 18, "pending before the other CPU came");
    m.settle(1);
    assert_eq!(m.cpus[1].acknowledge(), 18);
    assert_eq!(read_r(&m, 0, 1, SGI_FRAME + 0x200), 0);
    assert_eq!(read_r(&m, 0, 1, SGI_FRAME + 0x300), 1 << 18);
    m.end(1, 18);
    assert_eq!(read_r(&m, 0, 1, SGI_FRAME + 0x300), 0);
    assert!(m.waits.get() > 0);
}

#[test]
fn disabling_on_another_vp_is_in_force_when_the_write_ends() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    enable(&m, 1, 18);
    enable(&m, 1, 27);
    m.assert(0, 1, 18);
    m.drive(1, 27, true);
    m.settle(1);
    assert!(m.cpus[1].signalled());
    write_r(&m, 0, 1, SGI_FRAME + 0x180, 1 << 18 | 1 << 27);
    assert!(!m.cpus[1].signalled());
    assert!(!m.line(1, 27).active);
    write_r(&m, 0, 1, SGI_FRAME + 0x100, 1 << 18);
    assert_eq!(m.acknowledge(1), 18, "it stayed pending");
}

#[test]
fn a_vp_that_does_not_come_gets_the_change_later() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    enable(&m, 1, 18);
    m.assert(0, 1, 18);
    m.settle(1);
    m.away.set(0b10);
    write_r(&m, 0, 1, SGI_FRAME + 0x280, 1 << 18);
    m.assert(0, 1, 18);
    m.away.set(0);
    assert_eq!(m.acknowledge(1), 18, "an edge that came after the clear is not lost");
    m.end(1, 18);
    assert_eq!(m.acknowledge(1), SPURIOUS, "and the one before it is gone");
}

#[test]
fn a_clear_that_is_on_its_way_does_not_take_a_later_interrupt_of_the_vp_itself() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    enable(&m, 1, 18);
    m.assert(0, 1, 18);
    m.settle(1);
    m.away.set(0b10);
    write_r(&m, 0, 1, SGI_FRAME + 0x280, 1 << 18);
    m.assert(1, 1, 18);
    m.away.set(0);
    assert_eq!(m.acknowledge(1), 18);
}

#[test]
fn reading_while_spis_move_gives_each_ones_state() {
    let vps = vps(3);
    let m = booted(&vps, 1);
    for (spi, vp) in [(33, 1), (41, 2)] {
        enable(&m, 0, spi);
        write_d(&m, 0, 0x6000 + spi * 8, vp);
    }
    m.drive(0, 33, true);
    m.settle_all();
    assert_eq!(m.acknowledge(1), 33);
    write_d(&m, 0, 0x6000 + 33 * 8, 2);
    m.drive(0, 33, false);
    m.assert(0, 0, 41);
    m.settle_all();
    m.end(1, 33); // 33 moves only when VP 1 is asked about it
    assert_eq!(m.acknowledge(2), 41);
    assert_eq!(read_d(&m, 0, 0x204), 0);
    assert_eq!(read_d(&m, 0, 0x304), 1 << 9);
}

#[test]
fn an_spi_that_comes_again_while_active_goes_to_its_new_vp_once_it_ended() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    enable(&m, 0, 40);
    m.assert(0, 0, 40);
    assert_eq!(m.acknowledge(0), 40);
    write_d(&m, 1, 0x6000 + 40 * 8, 1);
    m.assert(0, 0, 40);
    m.settle_all();
    assert_eq!(m.acknowledge(1), SPURIOUS, "active elsewhere");
    m.end(0, 40);
    assert_eq!(m.acknowledge(0), SPURIOUS);
    assert_eq!(m.acknowledge(1), 40);
}

#[test]
fn a_backed_spi_follows_its_route_physically() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    enable(&m, 0, 33);
    m.drive(0, 33, true);
    m.settle_all();
    write_d(&m, 1, 0x6000 + 33 * 8, 1);
    m.settle_all();
    assert_eq!(m.acknowledge(0), SPURIOUS);
    assert_eq!(m.acknowledge(1), 33);
    m.drive(0, 33, false);
    m.end(1, 33);
    assert!(!m.line(0, 33).active);
    assert_eq!(m.line(0, 33).cpu, 1);
}

#[test]
fn with_split_eoi_an_spi_may_be_deactivated_on_another_vp() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    m.cpus.iter().for_each(|cpu| cpu.split_eoi.set(true));
    enable(&m, 0, 33);
    m.drive(0, 33, true);
    assert_eq!(m.acknowledge(0), 33);
    m.end(0, 33);
    m.drive(0, 33, false);
    assert!(m.line(0, 33).active);
    m.deactivate(1, 33);
    m.settle_all();
    assert!(!m.line(0, 33).active);
}

#[test]
fn a_vp_that_stops_keeps_what_is_pending_and_lets_physical_interrupts_go() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    for intid in [18, 20, 27, 30] {
        enable(&m, 1, intid);
    }
    write_r(&m, 1, 1, SGI_FRAME + 0xc04, 2 << ((30 - 16) * 2)); // 30 is an edge
    m.assert(0, 1, 20);
    assert_eq!(m.acknowledge(1), 20);
    m.assert(0, 1, 18);
    m.drive(1, 27, true);
    m.drive(1, 30, true);
    m.settle(1);
    m.reset_vp(1);
    m.cpus[1].reset();
    assert!(!m.line(1, 27).active && !m.line(1, 30).active);
    assert!(m.line(1, 30).latched);
    assert_eq!(read_r(&m, 0, 1, SGI_FRAME + 0x200), 1 << 18 | 1 << 27 | 1 << 30);
    assert_eq!(read_r(&m, 0, 1, SGI_FRAME + 0x300), 0);
    assert_eq!(m.waits.get(), 0, "no VP waits for one that is off");
    m.drive(1, 27, false);
    m.reset_vp(1);
    m.sync(1);
    assert!(m.gic.has_pending(&m.view(1)));
    for expected in [18, 30] {
        assert_eq!(m.acknowledge(1), expected);
        m.end(1, expected);
    }
    assert_eq!(m.acknowledge(1), SPURIOUS);
}

#[test]
fn spis_of_a_stopped_vp_can_be_routed_to_another() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    enable(&m, 0, 40);
    write_d(&m, 0, 0x6000 + 40 * 8, 1);
    m.reset_vp(1);
    m.cpus[1].reset();
    m.away.set(0b10);
    m.assert(0, 0, 40);
    assert_eq!(read_d(&m, 0, 0x204), 1 << 8);
    write_d(&m, 0, 0x6000 + 40 * 8, 0);
    assert_eq!(m.acknowledge(0), 40);
    assert_eq!(m.waits.get(), 0);
}

#[test]
fn an_asserted_backed_interrupt_goes_through_the_physical_gic() {
    let vps = vps(2);
    let m = booted(&vps, 4);
    m.assert(0, 1, 30);
    m.settle_all();
    assert_eq!(m.acknowledge(1), SPURIOUS);
    enable(&m, 1, 30);
    assert_eq!(m.acknowledge(1), 30);
    m.end(1, 30);
    assert!(!m.line(1, 30).active);
    disable(&m, 1, 30);
}
