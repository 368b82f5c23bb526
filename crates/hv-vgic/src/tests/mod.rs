//! One file for each part of the rules.

mod delivery;
mod model;
mod others;
mod registers;
mod threads;

use std::vec::Vec;

use crate::testing::GicMachine;
use crate::{RegisterFrame, VpGic};

/// Physically backed in the tests: a level-triggered PPI as the virtual timer is, another, and an SPI.
const BACKED: [u32; 3] = [27, 30, 33];
const SGI_FRAME: u32 = 0x1_0000;

fn vps(count: usize) -> Vec<VpGic> {
    (0..count).map(|_| VpGic::new()).collect()
}

/// Creates a machine after what Linux does at boot: all VPs reset and awake, Group 1, everything at priority 0xa0, SGIs
/// enabled.
fn booted(vps: &[VpGic], lists: usize) -> GicMachine<'_> {
    let machine = GicMachine::new(vps, lists, &BACKED);
    write_d(&machine, 0, 0x84, 0xffff_ffff);
    for n in 8..16 {
        write_d(&machine, 0, 0x400 + n * 4, 0xa0a0_a0a0);
    }
    write_d(&machine, 0, 0x0, 0x13);
    for vp in 0..vps.len() {
        machine.cpus[vp].reset();
        machine.reset_vp(vp);
        machine.sync(vp);
        write_r(&machine, vp, vp, 0x14, 0);
        write_r(&machine, vp, vp, SGI_FRAME + 0x80, 0xffff_ffff);
        write_r(&machine, vp, vp, SGI_FRAME + 0x380, 0xffff_ffff);
        write_r(&machine, vp, vp, SGI_FRAME + 0x180, 0xffff_0000);
        for n in 0..8 {
            write_r(&machine, vp, vp, SGI_FRAME + 0x400 + n * 4, 0xa0a0_a0a0);
        }
        write_r(&machine, vp, vp, SGI_FRAME + 0x100, 0xffff);
    }
    machine
}

fn write_d(machine: &GicMachine<'_>, vp: usize, offset: u32, value: u32) {
    machine.write(vp, RegisterFrame::Distributor, offset, 4, value.into()).unwrap();
}

fn read_d(machine: &GicMachine<'_>, vp: usize, offset: u32) -> u32 {
    machine.read(vp, RegisterFrame::Distributor, offset, 4).unwrap() as u32
}

fn write_r(machine: &GicMachine<'_>, vp: usize, of: usize, offset: u32, value: u32) {
    machine.write(vp, RegisterFrame::Redistributor(of), offset, 4, value.into()).unwrap();
}

fn read_r(machine: &GicMachine<'_>, vp: usize, of: usize, offset: u32) -> u32 {
    machine.read(vp, RegisterFrame::Redistributor(of), offset, 4).unwrap() as u32
}

/// Enables an interrupt: of VP `of` below 32, else an SPI.
fn enable(machine: &GicMachine<'_>, of: usize, intid: u32) {
    if intid < 32 {
        write_r(machine, of, of, SGI_FRAME + 0x100, 1 << intid);
    } else {
        write_d(machine, of, 0x104, 1 << (intid - 32));
    }
}

fn disable(machine: &GicMachine<'_>, of: usize, intid: u32) {
    if intid < 32 {
        write_r(machine, of, of, SGI_FRAME + 0x180, 1 << intid);
    } else {
        write_d(machine, of, 0x184, 1 << (intid - 32));
    }
}

/// Sets one priority, by a byte access.
fn prioritise(machine: &GicMachine<'_>, of: usize, intid: u32, priority: u8) {
    let (frame, base) = if intid < 32 {
        (RegisterFrame::Redistributor(of), SGI_FRAME)
    } else {
        (RegisterFrame::Distributor, 0)
    };
    machine.write(of, frame, base + 0x400 + intid, 1, priority.into()).unwrap();
}
