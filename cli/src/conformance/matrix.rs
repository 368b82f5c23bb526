//! The machine shapes that the suite runs on.

use std::collections::BTreeMap;
use std::fmt;

use clap::ValueEnum;

/// Calling convention of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CallConvention {
    /// hvc #0, the SMC Calling Convention
    Smccc,
    /// hvc #1
    Hvc1,
}

impl CallConvention {
    const fn name(self) -> &'static str {
        match self {
            Self::Smccc => "smccc",
            Self::Hvc1 => "hvc1",
        }
    }
}

/// Page size of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Granule {
    /// 4 KiB
    #[value(name = "4k")]
    K4,
    /// 16 KiB
    #[value(name = "16k")]
    K16,
    /// 64 KiB
    #[value(name = "64k")]
    K64,
}

impl Granule {
    const fn name(self) -> &'static str {
        match self {
            Self::K4 => "4k",
            Self::K16 => "16k",
            Self::K64 => "64k",
        }
    }

    const fn bytes(self) -> u32 {
        match self {
            Self::K4 => 4 << 10,
            Self::K16 => 16 << 10,
            Self::K64 => 64 << 10,
        }
    }

    /// Returns what our guest says on a CPU without it.
    pub(super) fn lacking(self) -> String {
        format!("this CPU has no {} KiB granule", self.bytes() >> 10)
    }

    /// Returns the fastest CPU under emulation with this page size.
    pub(super) const fn cpu(self) -> &'static str {
        match self {
            Self::K4 | Self::K64 => "cortex-a72",
            Self::K16 => "cortex-a76",
        }
    }
}

/// A machine shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) vps: u32,
    pub(super) conduit: CallConvention,
    pub(super) granule: Granule,
}

impl Shape {
    /// Returns the guest's command line for it.
    pub(super) fn command_line(&self) -> String {
        format!("conformance.conduit={} rt.granule={}", self.conduit.name(), self.granule.name())
    }

    /// Returns the shape in the form that a guest reports.
    pub(super) fn setting(&self) -> BTreeMap<String, String> {
        let pairs = [
            ("vps", self.vps.to_string()),
            ("conduit", self.conduit.name().to_owned()),
            ("granule", self.granule.bytes().to_string()),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vps, conduit, granule } = self;
        let s = if *vps == 1 { "" } else { "s" };
        let immediate = if *conduit == CallConvention::Smccc { 0 } else { 1 };
        write!(f, "{vps} VP{s}, hvc #{immediate}, {} pages", granule.name().to_uppercase())
    }
}

/// Returns every combination, each once.
pub(super) fn shapes(vps: &[u32], conduits: &[CallConvention], granules: &[Granule]) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = Vec::new();
    for &vps in vps {
        for &conduit in conduits {
            for &granule in granules {
                let shape = Shape { vps, conduit, granule };
                if !shapes.contains(&shape) {
                    shapes.push(shape);
                }
            }
        }
    }
    shapes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_runs_once() {
        let all = shapes(
            &[1, 2, 4, 8, 2],
            &[CallConvention::Smccc, CallConvention::Hvc1],
            &[Granule::K4, Granule::K16, Granule::K64],
        );
        assert_eq!(all.len(), 24);
        assert_eq!(all[1].to_string(), "1 VP, hvc #0, 16K pages");
        assert_eq!(all[23].to_string(), "8 VPs, hvc #1, 64K pages");
        assert_eq!(all[23].command_line(), "conformance.conduit=hvc1 rt.granule=64k");
    }

    #[test]
    fn a_granule_runs_on_a_cpu_that_has_it() {
        assert_eq!(Granule::K16.cpu(), "cortex-a76");
        assert_eq!(Granule::K4.cpu(), "cortex-a72");
    }
}
