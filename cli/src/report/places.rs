//! Symbolic names for guest addresses.
//!
//! With KASLR a kernel runs at other addresses than in its symbols. The offset is derived from the exception vectors:
//! VBAR_EL1 gives their address, and the symbols their link address.

use std::cell::Cell;

use hv_wire::Place;
use serde::Serialize;

use super::hex;
use crate::symbols::Symbols;

/// Alignment of Linux's address offset: the largest page size.
///
/// Source: Linux, arch/arm64/kernel/pi/map_kernel.c; Documentation/arch/arm64/booting.rst, "Call the kernel image".
const SLIDE: u64 = 64 << 10;
/// Distance between the vectors of `__bp_harden_el1_vectors`, of which each CPU uses those required by its errata, and
/// their maximum number.
///
/// Source: Linux, arch/arm64/include/asm/vectors.h, `enum arm64_bp_harden_el1_vectors`.
const HARDENED: u64 = 2 << 10;
const HARDENED_COUNT: u64 = 4;

/// Maximum distance of modules from Linux's own code, before or after it; BPF programs are in that range too.
///
/// Source: Linux, arch/arm64/include/asm/memory.h, `MODULES_VSIZE`; arch/arm64/mm/init.c, `module_init_limits`.
const MODULES: u64 = 2 << 30;
/// Placeholder for the name of an address in a module, whose names only the kernel can find.
pub(super) const IN_MODULE: &str = "[module]";

/// The bit of a virtual address that selects the upper half, which is the kernel's.
const UPPER: u64 = 1 << 55;

/// The address of a caller.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Caller {
    /// The return address.
    pub(super) pc: String,
    /// Symbol and offset, if symbols are known.
    pub(super) symbol: Option<String>,
    /// True if the address is in a Linux module.
    pub(super) in_module: bool,
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.symbol.as_ref().unwrap_or(&self.pc))?;
        if self.in_module { write!(f, " {IN_MODULE}") } else { Ok(()) }
    }
}

/// Names for the places in a run.
#[derive(Debug)]
pub(super) struct Places<'s> {
    symbols: &'s Symbols,
    /// VBAR_EL1 of a place that does not match the symbols.
    misfit: Cell<Option<u64>>,
}

/// Returns symbol and offset of an address in a guest whose VBAR_EL1 is `vbar`.
pub(crate) fn place(symbols: &Symbols, pc: u64, vbar: u64) -> Option<String> {
    Places::new(symbols).name(&Place { vbar, ..Place::at(pc) }, pc)
}

impl<'s> Places<'s> {
    pub(super) const fn new(symbols: &'s Symbols) -> Self {
        Self { symbols, misfit: Cell::new(None) }
    }

    /// Returns symbol and offset of an address at a place.
    pub(super) fn name(&self, place: &Place, address: u64) -> Option<String> {
        match slide(self.symbols, place.vbar) {
            Slide::By(slide) => self.symbols.name(address.wrapping_sub(slide)),
            // A program of the guest, which may have other vectors; or a kernel that is still at its load address.
            _ if address & UPPER == 0 => None,
            Slide::Unknown => None,
            Slide::None => {
                self.misfit.set(Some(place.vbar));
                None
            }
        }
    }

    /// Returns true if an address at a place is in a Linux module: near the kernel's code, but not in it.
    pub(super) fn in_module(&self, place: &Place, address: u64) -> bool {
        let Slide::By(slide) = slide(self.symbols, place.vbar) else { return false };
        let Some((first, last)) = self.symbols.range().filter(|_| is_linux(self.symbols)) else {
            return false;
        };
        let linked = address.wrapping_sub(slide);
        // Addresses before the first symbol wrap around, and those after the last are excluded too.
        let near = first.wrapping_sub(linked).min(linked.wrapping_sub(last)) < MODULES;
        address & UPPER != 0 && near && self.symbols.name(linked).is_none()
    }

    /// Returns the callers, the innermost first.
    pub(super) fn callers(&self, place: &Place) -> Vec<Caller> {
        let callers = place.callers.iter().take_while(|caller| **caller != 0);
        // A return address is after its call, which may be the last instruction of a function.
        callers
            .map(|&pc| Caller {
                pc: hex(pc),
                symbol: self.name(place, pc.wrapping_sub(4)).map(|name| behind(&name)),
                in_module: self.in_module(place, pc.wrapping_sub(4)),
            })
            .collect()
    }

    /// Returns a warning, if there was a place that does not match the symbols.
    pub(super) fn misfit(&self) -> Option<String> {
        let vbar = self.misfit.get()?;
        Some(format!(
            "the symbols do not match: VBAR_EL1 is {vbar:#x}, and they have no vectors at a multiple of 64 KiB from it; \
             give --symbols the System.map of this very kernel"
        ))
    }
}

/// Returns the name of the address 4 bytes later.
fn behind(name: &str) -> String {
    let offset = name
        .rsplit_once("+0x")
        .and_then(|(name, offset)| Some((name, u64::from_str_radix(offset, 16).ok()?)));
    offset.map_or_else(|| name.to_owned(), |(name, offset)| format!("{name}+{:#x}", offset + 4))
}

/// Returns true if the symbols are those of a Linux kernel.
fn is_linux(symbols: &Symbols) -> bool {
    symbols.address("__primary_switched").is_some()
}

/// The offset of a kernel from its symbols.
enum Slide {
    By(u64),
    /// The kernel has not set its vectors yet.
    Unknown,
    /// No offset maps the symbols to its vectors.
    None,
}

/// Determines the offset of a kernel from its symbols, by its vectors. Symbols other than Linux's are used without an
/// offset, and so are Linux's until it has set its vectors.
fn slide(symbols: &Symbols, vbar: u64) -> Slide {
    let vectors = symbols.address("vectors").filter(|_| is_linux(symbols));
    let vectors = match (vectors, symbols.is_floating()) {
        (Some(vectors), _) if vbar != 0 => vectors,
        (_, true) => return Slide::Unknown,
        (_, false) => return Slide::By(0),
    };
    let hardened = symbols.address("__bp_harden_el1_vectors").into_iter();
    let hardened =
        hardened.flat_map(|first| (0..HARDENED_COUNT).map(move |n| first.wrapping_add(n * HARDENED)));
    let mut slides = std::iter::once(vectors).chain(hardened).map(|linked| vbar.wrapping_sub(linked));
    slides.find(|slide| slide.is_multiple_of(SLIDE)).map_or(Slide::None, Slide::By)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &[u8] = b"ffff800080000000 T _text\nffff800080010800 T vectors\nffff800080012000 T hv_do_hypercall\n\
        ffff800080014000 t hv_init\nffff800080015000 T __bp_harden_el1_vectors\nffff800080020000 t __primary_switched\n";

    fn names(vbar: u64, slide: u64) -> (Option<String>, Vec<Option<String>>, Option<String>) {
        let symbols = Symbols::of_map(MAP.to_vec()).unwrap();
        let places = Places::new(&symbols);
        let at = |offset: u64| 0xffff_8000_8000_0000 + offset + slide;
        let mut place = Place { vbar, ..Place::at(at(0x1_2010)) };
        (place.callers[0], place.callers[1]) = (at(0x1_4000), at(0x1_4058));
        let callers = places.callers(&place).into_iter().map(|caller| caller.symbol).collect();
        (places.name(&place, place.pc), callers, places.misfit())
    }

    #[test]
    fn a_kernel_that_moved_is_found_by_its_vectors() {
        let slide = 0x2a_bcde_0000;
        let pc = Some("hv_do_hypercall+0x10".to_owned());
        // The first caller ends a function: its call is the last instruction before the next one.
        let callers = vec![Some("hv_do_hypercall+0x2000".to_owned()), Some("hv_init+0x58".to_owned())];
        for (vbar, slide) in [
            (0xffff_8000_8001_0800, 0),
            (0xffff_8000_8001_0800 + slide, slide),
            (0xffff_8000_8001_5000 + slide, slide),
            (0xffff_8000_8001_6800 + slide, slide),
            // No vectors yet.
            (0, 0),
        ] {
            assert_eq!(names(vbar, slide), (pc.clone(), callers.clone(), None), "{vbar:#x}");
        }
    }

    #[test]
    fn symbols_that_do_not_fit_name_nothing_and_are_warned_of() {
        for vbar in [0xffff_8000_8001_1000, 0xffff_8000_8001_7000, u64::MAX] {
            let (pc, callers, warning) = names(vbar, 0);
            assert_eq!((pc, callers), (None, vec![None, None]));
            assert!(warning.unwrap().contains(&format!("VBAR_EL1 is {vbar:#x}")));
        }
    }

    #[test]
    fn what_is_near_the_kernel_and_not_in_it_is_a_module() {
        let symbols = Symbols::of_map(MAP.to_vec()).unwrap();
        let slide = 0x2a_bcde_0000;
        let place = Place { vbar: 0xffff_8000_8001_0800 + slide, ..Place::at(0) };
        let places = Places::new(&symbols);
        for (linked, module) in [
            (0xffff_8000_0000_0004, true),
            (0xffff_8000_7fff_fffc, true),
            (0xffff_8000_8001_2010, false),
            (0xffff_8000_8f00_0000, true),
            (0xffff_7fff_ffff_0000, false),
            (0xffff_8001_8f00_0000, false),
        ] {
            assert_eq!(places.in_module(&place, linked + slide), module, "{linked:#x}");
        }
        assert!(!places.in_module(&place, 0x4c_7ed8));
        assert!(!places.in_module(&Place { vbar: 0x1234, ..place }, 0xffff_8000_0000_0004));
        let own = Symbols::of_map(b"ffff800080000000 T main\n".to_vec()).unwrap();
        assert!(!Places::new(&own).in_module(&place, 0xffff_8000_0000_0004));
        let caller = Caller { pc: "0x1".to_owned(), symbol: None, in_module: true };
        assert_eq!(caller.to_string(), "0x1 [module]");
    }

    #[test]
    fn a_program_of_the_guests_has_no_name_and_is_no_misfit() {
        let symbols = Symbols::of_map(MAP.to_vec()).unwrap();
        let places = Places::new(&symbols);
        let place = Place { vbar: 0xffff_fdff_bfa0_1000, ..Place::at(0x4c_7ed8) };
        assert_eq!((places.name(&place, place.pc), places.misfit()), (None, None));
    }

    #[test]
    fn the_symbols_of_other_programs_are_taken_as_they_are() {
        let symbols = Symbols::of_map(b"40400000 T vectors\n40401000 T main\n".to_vec()).unwrap();
        let place = Place { vbar: 0x1234, ..Place::at(0x4040_1008) };
        assert_eq!(Places::new(&symbols).name(&place, place.pc).as_deref(), Some("main+0x8"));
    }
}
