//! The interrupt controller's descriptor, by which its state is read and written.
#![expect(unsafe_code, reason = "an ioctl that writes to an address")]

use kvm_bindings::{
    KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
    KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT, kvm_device_attr,
};
use kvm_ioctls::DeviceFd;

use crate::gic::GicRegister;

/// The interrupt controller.
#[derive(Debug)]
pub(super) struct Gic(pub(super) DeviceFd);

/// Returns a VP's affinity, as attributes have it: KVM has 16 virtual CPUs for each Aff1 (Linux,
/// arch/arm64/kvm/sys_regs.c, `reset_mpidr`), and there are no more VPs than Aff0 and Aff1 count.
const fn affinity(vp: usize) -> u64 {
    let vp = vp as u64;
    (vp >> 4 << 8 | vp & 0xf) << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT
}

/// Returns the attribute of a register whose value is at `addr`.
fn attribute(register: GicRegister, addr: u64) -> kvm_device_attr {
    let (group, attr) = match register {
        GicRegister::Distributor { offset } => (KVM_DEV_ARM_VGIC_GRP_DIST_REGS, offset.into()),
        GicRegister::Redistributor { vp, offset } => {
            (KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, affinity(vp) | u64::from(offset))
        }
        GicRegister::Cpu { vp, encoding } => {
            (KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, affinity(vp) | u64::from(encoding))
        }
    };
    kvm_device_attr { flags: 0, group, attr, addr }
}

impl Gic {
    /// Reads a register.
    pub(super) fn get(&self, register: GicRegister) -> Result<u64, kvm_ioctls::Error> {
        let mut value = 0_u64;
        let mut attribute = attribute(register, (&raw mut value) as u64);
        // SAFETY: the kernel writes 4 or 8 bytes, by the attribute's group, to the address, where `value` has 8 bytes
        // that nothing else accesses until the call returns. The machine is little-endian, so 4 bytes are the low half.
        unsafe { self.0.get_device_attr(&mut attribute) }?;
        Ok(value)
    }

    /// Writes a register.
    pub(super) fn set(&self, register: GicRegister, value: u64) -> Result<(), kvm_ioctls::Error> {
        self.0.set_device_attr(&attribute(register, (&raw const value) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::attribute;
    use crate::gic::GicRegister;

    #[test]
    fn an_attribute_names_the_vp_by_its_affinity() {
        let of = |register| attribute(register, 0).attr;
        assert_eq!(of(GicRegister::Distributor { offset: 0x104 }), 0x104);
        assert_eq!(of(GicRegister::Redistributor { vp: 35, offset: 0x1_0200 }), 0x203_0001_0200);
        assert_eq!(of(GicRegister::Cpu { vp: 1, encoding: 0xc664 }), 0x1_0000_c664);
    }
}
