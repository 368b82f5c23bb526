//! The guest to build.

use crate::platform::Platform;
use crate::smbios::Identity;

/// Bytes of entropy for a guest.
pub const RNG_SEED_LEN: usize = 64;

/// The description of the machine that a guest gets.
///
/// Exhaustive on purpose: a host that reports or offers the forms has to name each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// ACPI tables and an EFI system table, as from Hyper-V's firmware.
    Acpi,
    /// A device tree.
    DeviceTree,
    /// A device tree that also leads to the EFI system table and thus to ACPI: for a program that acts as firmware for
    /// another.
    Both,
}

/// What to build; [`Spec::new`] and the setters make one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Spec<'a> {
    /// The hardware.
    pub platform: &'a Platform,
    /// The kernel's file, in a known format.
    pub kernel: Vec<u8>,
    /// The initramfs, in any form that the kernel accepts.
    pub initrd: Option<Vec<u8>>,
    /// The user's part of the command line. If it has no `console=`, the default console is prepended.
    pub append: String,
    /// Bytes of guest memory, from [`Platform::ram_base`]; a multiple of 2 MiB.
    pub memory: u64,
    /// Virtual processors, 1 to [`Platform::max_vps`].
    pub vps: u32,
    /// The description of the machine.
    pub firmware: Firmware,
    /// INTID of the VMBus interrupt, a PPI.
    pub vmbus_intid: u32,
    /// INTID for direct-mode synthetic timers, a PPI.
    pub stimer_intid: u32,
    /// SMBIOS identity of the machine. Not visible to a guest without EFI tables.
    pub identity: Identity,
    /// Entropy for the guest; the same seed gives the same bytes.
    pub rng_seed: [u8; RNG_SEED_LEN],
}

impl<'a> Spec<'a> {
    /// Returns a guest with this kernel and entropy, and the defaults for the rest: no initramfs, an empty command
    /// line, 512 MiB of memory, one VP, ACPI, VMBus at INTID 18 and synthetic timers at 17, [`Identity::DEFAULT`].
    #[must_use]
    pub fn new(platform: &'a Platform, kernel: Vec<u8>, rng_seed: [u8; RNG_SEED_LEN]) -> Self {
        Self {
            platform,
            kernel,
            initrd: None,
            append: String::new(),
            memory: 512 << 20,
            vps: 1,
            firmware: Firmware::Acpi,
            vmbus_intid: 18,
            stimer_intid: 17,
            identity: Identity::DEFAULT,
            rng_seed,
        }
    }

    /// Sets the initramfs.
    #[must_use]
    pub fn with_initrd(self, initrd: Option<Vec<u8>>) -> Self {
        Self { initrd, ..self }
    }

    /// Sets the user's part of the command line.
    #[must_use]
    pub fn with_append(self, append: impl Into<String>) -> Self {
        Self { append: append.into(), ..self }
    }

    /// Sets the bytes of guest memory.
    #[must_use]
    pub fn with_memory(self, memory: u64) -> Self {
        Self { memory, ..self }
    }

    /// Sets the number of virtual processors.
    #[must_use]
    pub fn with_vps(self, vps: u32) -> Self {
        Self { vps, ..self }
    }

    /// Sets the description of the machine.
    #[must_use]
    pub fn with_firmware(self, firmware: Firmware) -> Self {
        Self { firmware, ..self }
    }

    /// Sets the INTID of the VMBus interrupt.
    #[must_use]
    pub fn with_vmbus_intid(self, intid: u32) -> Self {
        Self { vmbus_intid: intid, ..self }
    }

    /// Sets the INTID for direct-mode synthetic timers.
    #[must_use]
    pub fn with_stimer_intid(self, intid: u32) -> Self {
        Self { stimer_intid: intid, ..self }
    }

    /// Sets the SMBIOS identity.
    #[must_use]
    pub fn with_identity(self, identity: Identity) -> Self {
        Self { identity, ..self }
    }
}
