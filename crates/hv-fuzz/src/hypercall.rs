//! Hypercalls of any form, with parameters in memory that another VP writes to at the same time.

use hv_partition::Action;
use hv_partition::Host as _;
use hv_tlfs::smccc::HYPERCALL;

use crate::input::Input;
use crate::machine::{FuzzedMachine, Setup, VPS, run};
use crate::memory::RAM;

/// Maximum number of calls in a run.
const CALLS: usize = 64;

/// Fuzzes hypercall dispatch with guest memory.
pub fn hypercall(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = Setup::of(&mut input);
    let how = input.byte();
    run(setup, |[machine, fresh]| {
        if how & 1 == 0 {
            machine.boot();
        } else {
            machine.online(0);
        }
        let mut calls = 0;
        while !input.is_empty() && calls < CALLS {
            machine.any_hypercall(&mut input);
            calls += 1;
        }
        machine.check_deadlines();
        machine.check_service();
        machine.check_reset(fresh, how == 0xf0);
    });
}

impl FuzzedMachine<'_> {
    /// Makes a hypercall on any running VP.
    pub(crate) fn any_hypercall(&self, input: &mut Input<'_>) {
        let shape = input.byte();
        let vp = self.running(usize::from(shape) % VPS);
        if shape & 0x80 != 0 {
            self.host.memory().race(input);
        }
        let code = input.code();
        let control = input.control(code);
        let parameters = input.parameters(code);
        let first = usize::from(shape & 4 != 0);
        let mut x = [0; 31];
        for (n, register) in x.iter_mut().enumerate() {
            *register = 0x5a5a_0000 + n as u64;
        }
        if first == 1 {
            x[0] = u64::from(HYPERCALL);
        }
        x[first] = control;
        if control >> 16 & 1 != 0 {
            let words = parameters
                .chunks_exact(8)
                .map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
            x[first + 1..first + 17].iter_mut().zip(words).for_each(|(register, word)| *register = word);
        } else {
            // Mostly valid ones.
            let gpa = if shape & 0x38 == 0 { input.address() } else { RAM + vp as u64 * 0x800 };
            let output = if shape & 0x40 == 0 { 0 } else { input.address() };
            self.write(gpa, &parameters);
            x[first + 1] = gpa;
            x[first + 2] = output;
        }
        let before = x;
        let action = self.hvc(vp, 1 - first as u16, &mut x);
        assert_eq!(action, Action::Resume);
        assert_eq!(x[18..], before[18..], "registers that are not results");
        let (status, done) = (x[0] as u16, x[0] >> 32 & 0xfff);
        let count = control >> 32 & 0xfff;
        assert!(done <= count, "{done} of {count} elements");
        assert!(status != 0 || done == count, "success after {done} of {count} elements");
    }
}
