//! Rules on PSCI, SMCCC and crashes.

use hv_tlfs::crash::CrashControl;
use hv_tlfs::page;
use hv_tlfs::smccc::{HYPERCALL, NOT_SUPPORTED};

use super::{Found, Judge, rules};
use crate::event::SmcccConduit;
use crate::psci;

/// Owner field of a function id, and the owner "vendor-specific hypervisor".
const OWNER: u32 = 0x3f00_0000;
const VENDOR_HYPERVISOR: u32 = 0x0600_0000;

impl<const VPS: usize> Judge<VPS> {
    pub(super) fn smccc(
        &mut self,
        found: &mut Found<'_>,
        vp: usize,
        conduit: SmcccConduit,
        function: u32,
        arguments: [u64; 3],
        result: u64,
    ) {
        let id = u64::from(function);
        if function == HYPERCALL && conduit == SmcccConduit::Smc {
            found.add(&rules::CALL_SMC, id);
        } else if result == NOT_SUPPORTED && function & OWNER == VENDOR_HYPERVISOR {
            found.add(&rules::FUNCTION, id);
        }
        match function & !psci::SMC64 {
            psci::CPU_ON if matches!(result, psci::INVALID_PARAMETERS | psci::INVALID_ADDRESS) => {
                found.add(&rules::PSCI_ON, arguments[0]);
            }
            psci::CPU_OFF => {
                if let Some(state) = self.vps.get(vp).filter(|state| state.synic_on()) {
                    found.add(&rules::OFFLINE_SYNIC, state.control);
                }
            }
            _ => {}
        }
    }

    pub(super) fn crash(&mut self, found: &mut Found<'_>, control: u64, parameters: &[u64; 5], text: &[u8]) {
        self.crashes = self.crashes.saturating_add(1);
        found.add_if(self.crashes == 2, &rules::CRASH_TWICE, control);
        found.add_if(CrashControl(control).reserved() != 0, &rules::CRASH_RESERVED, control);
        if !CrashControl(control).crash_message() {
            return;
        }
        let [.., address, length] = *parameters;
        found.add_if(length == 0, &rules::CRASH_EMPTY, length);
        found.add_if(length > page::SIZE as u64, &rules::CRASH_LONG, length);
        let cut = (text.len() as u64) < length.min(page::SIZE as u64);
        found.add_if(cut, &rules::CRASH_ADDRESS, address);
    }
}
