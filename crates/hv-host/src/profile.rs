//! The features that a partition offers to its guest, and its configuration.

use hv_tlfs::features::{
    EnlightenmentHints, Enlightenments, FeatureWordC, Features, HardwareFeatures, HypervisorVersion,
    ImplementationLimits, PartitionPrivileges, ServiceVersion,
};

/// Feature words, privileges and hints: the host visible to the guest. Features that are not in the profile are
/// rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// Register 0x100.
    pub version: HypervisorVersion,
    /// Register 0x200.
    pub features: Features,
    /// Register 0x201.
    pub enlightenments: Enlightenments,
    /// Register 0x202. If `max_virtual_processors` is 0, the partition's own number is reported.
    pub limits: ImplementationLimits,
    /// First word of register 0x203.
    pub hardware: HardwareFeatures,
}

/// The direct-timer bit of dword C in x64's position, where the 2018 patch checks it.
const DIRECT_TIMERS_2018: u32 = 1 << 19;
/// The crash register bit of dword C in x64's position, where the 2018 patch checks it.
const GUEST_CRASH_2018: u32 = 1 << 10;
/// Hint "deprecating auto-EOI", in x64's position, where the 2018 patch checks it.
const DEPRECATING_AUTO_EOI_2018: u32 = 1 << 9;

impl Profile {
    /// A current general-purpose ARM64 host.
    ///
    /// The words are our choice from what the TLFS defines and such a host plausibly grants; no public source documents
    /// those of a real one. Linux prints them as "privilege flags low 0x2e7f, high 0x3a8030, hints 0xe, misc 0x31e1".
    pub const AZURE: Self = Self {
        version: version(10, 0, 26100),
        features: Features {
            privileges: PartitionPrivileges(0x003a_8030_0000_2e7f),
            c: FeatureWordC(0x31e1),
            d: 0,
        },
        enlightenments: hints(0xe, u32::MAX),
        limits: limits(),
        hardware: HardwareFeatures(0x2),
    };

    /// The host of the 2018 patch: crash registers, direct timers and the auto-EOI hint are both where that
    /// patch checks them, which are x64's bit numbers, and where the TLFS has them.
    pub const PATCH_2018: Self = Self {
        version: version(10, 0, 17763),
        features: Features {
            privileges: PartitionPrivileges(0)
                .with_access_vp_runtime(true)
                .with_access_reference_counter(true)
                .with_access_synic(true)
                .with_access_synthetic_timers(true)
                .with_access_interrupt_control(true)
                .with_access_hypercall_registers(true)
                .with_access_vp_index(true)
                .with_access_reference_tsc(true)
                .with_access_frequency(true)
                .with_post_messages(true)
                .with_signal_events(true)
                .with_access_vp_registers(true)
                .with_start_virtual_processor(true),
            c: FeatureWordC(
                FeatureWordC::GUEST_CRASH.0
                    | FeatureWordC::DIRECT_SYNTHETIC_TIMERS.0
                    | GUEST_CRASH_2018
                    | DIRECT_TIMERS_2018,
            ),
            d: 0,
        },
        enlightenments: hints(0xe | DEPRECATING_AUTO_EOI_2018, u32::MAX),
        limits: limits(),
        hardware: HardwareFeatures(0x2),
    };

    /// The minimum for a guest to use messages and events: no timers, no TSC page, no crash registers, no
    /// hypercall IPIs.
    pub const MINIMAL: Self = Self {
        version: version(10, 0, 26100),
        features: Features {
            privileges: PartitionPrivileges(0)
                .with_access_reference_counter(true)
                .with_access_synic(true)
                .with_access_hypercall_registers(true)
                .with_access_vp_index(true)
                .with_post_messages(true)
                .with_signal_events(true)
                .with_access_vp_registers(true),
            c: FeatureWordC(0),
            d: 0,
        },
        enlightenments: hints(0, u32::MAX),
        limits: limits(),
        hardware: HardwareFeatures(0),
    };

    /// Returns the profile with this number: 0 Azure, 1 the 2018 patch, 2 minimal.
    #[must_use]
    pub const fn by_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::AZURE),
            1 => Some(Self::PATCH_2018),
            2 => Some(Self::MINIMAL),
            _ => None,
        }
    }
}

const fn version(major: u16, minor: u16, build: u32) -> HypervisorVersion {
    HypervisorVersion {
        build_number: build,
        minor_version: minor,
        major_version: major,
        service_pack: 0,
        service: ServiceVersion(0).with_number(1),
    }
}

const fn hints(bits: u32, long_spin_wait_count: u32) -> Enlightenments {
    Enlightenments { hints: EnlightenmentHints(bits), long_spin_wait_count, reserved: [0; 2] }
}

const fn limits() -> ImplementationLimits {
    ImplementationLimits {
        max_virtual_processors: 0,
        max_logical_processors: 0,
        max_interrupt_mappings: 0,
        reserved: 0,
    }
}

/// Configuration of a partition.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The features.
    pub profile: Profile,
    /// Frequency of the guest's counter in Hz.
    pub counter_frequency: u64,
    /// The partition's own id, which the guest can query.
    pub partition_id: u64,
    /// Number of VPs that share all affinity fields except Aff0: VP n has Aff0 = n modulo this, and the rest counts up
    /// from Aff1. 16 matches QEMU's `virt` machine with a GICv3. At most 256.
    pub cluster: u32,
    /// Counter ticks after which a rep hypercall returns to the guest to be continued; 0: after each element.
    pub rep_budget: u64,
}

impl Config {
    /// Creates a configuration like current Azure's, for a counter of this frequency.
    ///
    /// A rep hypercall has the budget of 50 microseconds that the TLFS gives ("Hypercall Continuation").
    #[must_use]
    pub const fn new(counter_frequency: u64) -> Self {
        Self {
            profile: Profile::AZURE,
            counter_frequency,
            partition_id: 2,
            cluster: 16,
            rep_budget: counter_frequency / 20_000,
        }
    }

    /// Returns the same with another profile.
    #[must_use]
    pub const fn with_profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }

    /// Returns the same with another id of the partition.
    #[must_use]
    pub const fn with_partition_id(self, partition_id: u64) -> Self {
        Self { partition_id, ..self }
    }

    /// Returns the same with another [`cluster`](Self::cluster).
    #[must_use]
    pub const fn with_cluster(self, cluster: u32) -> Self {
        Self { cluster, ..self }
    }

    /// Returns the same with another [`rep_budget`](Self::rep_budget).
    #[must_use]
    pub const fn with_rep_budget(self, rep_budget: u64) -> Self {
        Self { rep_budget, ..self }
    }

    /// Returns the affinity fields of a VP's MPIDR_EL1 (without the bits that are not affinity).
    #[must_use]
    pub const fn mpidr(&self, vp: usize) -> u64 {
        let cluster = if self.cluster == 0 { 1 } else { self.cluster as u64 };
        let (aff0, rest) = (vp as u64 % cluster, vp as u64 / cluster);
        aff0 | (rest & 0xffff) << 8 | (rest >> 16 & 0xff) << 32
    }

    /// Returns the VP with these affinity fields. Bits of MPIDR_EL1 that are not affinity must be zero. The VP may be
    /// beyond the partition's.
    #[must_use]
    pub const fn vp_with_mpidr(&self, mpidr: u64) -> Option<usize> {
        if mpidr & !0xff_00ff_ffff != 0 {
            return None;
        }
        let cluster = if self.cluster == 0 { 1 } else { self.cluster as u64 };
        let rest = mpidr >> 8 & 0xffff | (mpidr >> 32) << 16;
        let aff0 = mpidr & 0xff;
        if aff0 < cluster { Some((rest * cluster + aff0) as usize) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mpidr_and_vp_are_each_others_inverse() {
        let config = Config::new(62_500_000);
        for vp in (0..64).chain([255, 256, 4095, 4096, 1 << 20]) {
            assert_eq!(config.vp_with_mpidr(config.mpidr(vp)), Some(vp));
        }
        assert_eq!(config.mpidr(17), 0x101);
        assert_eq!(config.vp_with_mpidr(16), None, "Aff0 is below 16");
        assert_eq!(config.vp_with_mpidr(1 << 31), None, "not an affinity bit");
    }
}
