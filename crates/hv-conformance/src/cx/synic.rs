//! SynIC set-up, messages and events by hand.

use hv_tlfs::features::PartitionPrivileges;
use hv_tlfs::hypercall::HypercallCode;
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::{Message, MessageType};

use super::{Cx, simple};
use crate::outcome::{Outcome, Stop, fail};

const SYNIC: PartitionPrivileges = PartitionPrivileges(0).with_access_synic(true);
const NO_SYNIC: &str = "the partition has no SynIC";

/// The SynIC of a VP, set up.
#[derive(Clone, Copy, Default)]
pub(crate) struct Synic {
    /// VP, by the environment's number.
    pub(crate) vp: usize,
    /// The message page.
    pub(crate) messages: u64,
    /// The event flags page.
    pub(crate) events: u64,
    /// The interrupt of all SINTs that were unmasked.
    pub(crate) intid: u32,
}

impl Synic {
    /// Address of a message slot.
    pub(crate) const fn slot(&self, sint: u8) -> u64 {
        self.messages + sint as u64 * 256
    }

    /// Address of the word that holds an event flag.
    pub(crate) const fn flag_word(&self, sint: u8, flag: u16) -> u64 {
        self.events + sint as u64 * 256 + (flag / 32) as u64 * 4
    }
}

impl Cx<'_> {
    /// Skips on a host without SynIC.
    pub(crate) fn need_synic(&self) -> Outcome {
        self.need(SYNIC, NO_SYNIC)
    }

    /// Skips without the loopback connections, or without the privilege to use them.
    pub(crate) fn need_messages(&self) -> Outcome {
        self.need(SYNIC.with_post_messages(true), "the partition may not post messages")?;
        skip_if!(!self.env.loopback(), "no loopback connections");
        Ok(())
    }

    /// Does the same for events.
    pub(crate) fn need_events(&self) -> Outcome {
        self.need(SYNIC.with_signal_events(true), "the partition may not signal events")?;
        skip_if!(!self.env.loopback(), "no loopback connections");
        Ok(())
    }

    /// Returns the first interrupt that is free.
    pub(crate) fn intid(&self) -> u32 {
        self.env.intids().first().copied().unwrap_or(0)
    }

    /// Sets up the calling VP's SynIC: both pages, SCONTROL, and these SINTs unmasked with the first free interrupt.
    pub(crate) fn synic(&self, sints: &[u8]) -> Result<Synic, Stop> {
        self.need_synic()?;
        let synic =
            Synic { vp: self.env.vp(), messages: self.page()?, events: self.page()?, intid: self.intid() };
        self.env.listen(synic.intid);
        self.write_register(RegisterName::SIMP, synic.messages | 1)?;
        self.write_register(RegisterName::SIEFP, synic.events | 1)?;
        for &sint in sints {
            self.write_register(RegisterName::sint(sint), synic.intid.into())?;
        }
        self.write_register(RegisterName::SCONTROL, 1)?;
        Ok(synic)
    }

    /// Sets up another VP's SynIC.
    pub(crate) fn synic_on(&self, vp: usize, sints: &[u8]) -> Result<Synic, Stop> {
        self.on(vp, |cx| Some(cx.synic(sints))).unwrap_or_else(|| Err(fail("the other VP ran its part")))
    }

    /// Returns the message type in a slot.
    pub(crate) fn slot_type(&self, synic: &Synic, sint: u8) -> u32 {
        self.env.load(synic.slot(sint))
    }

    /// Returns the message in a slot: the type is read first, with acquire.
    pub(crate) fn slot(&self, synic: &Synic, sint: u8) -> Option<Message> {
        if self.slot_type(synic, sint) == 0 {
            return None;
        }
        Some(self.read(synic.slot(sint)))
    }

    /// Empties a slot without telling anybody.
    pub(crate) fn empty(&self, synic: &Synic, sint: u8) {
        self.env.store(synic.slot(sint), 0);
    }

    /// Returns the "message pending" flag of a slot, now.
    pub(crate) fn pending(&self, synic: &Synic, sint: u8) -> bool {
        self.env.load(synic.slot(sint) + 4) >> 8 & 1 != 0
    }

    /// Writes EOM.
    #[track_caller]
    pub(crate) fn eom(&self) -> Outcome {
        self.write_register(RegisterName::EOM, 0)
    }

    /// Takes the message that must be in a slot: copies it, empties the slot, and writes EOM if more wait.
    #[track_caller]
    pub(crate) fn take(&self, synic: &Synic, sint: u8) -> Result<Message, Stop> {
        let message = self.slot(synic, sint).ok_or_else(|| fail("a message is in the slot"))?;
        self.empty(synic, sint);
        if self.pending(synic, sint) {
            self.eom()?;
        }
        Ok(message)
    }

    /// Posts a message.
    pub(crate) fn post(&self, connection: u32, message_type: u32, payload: &[u8]) -> Result<HvStatus, Stop> {
        let size = payload.len() as u32;
        self.post_words([connection, 0, message_type, size], payload)
    }

    /// Posts a message whose header is these four words.
    pub(crate) fn post_words(&self, header: [u32; 4], payload: &[u8]) -> Result<HvStatus, Stop> {
        // The parameters' page is free again after the call.
        let input = self.parameters();
        self.write(input, &header);
        self.env.write(input + 16, &[0; 240]);
        self.env.write(input + 16, payload);
        Ok(self.memory(simple(HypercallCode::POST_MESSAGE), input, 0).status())
    }

    /// Posts a message that the host must take.
    #[track_caller]
    pub(crate) fn posted(&self, connection: u32, message_type: u32, payload: &[u8]) -> Outcome {
        crate::outcome::equal(
            self.post(connection, message_type, payload)?,
            HvStatus::SUCCESS,
            "the post's status",
        )
    }

    /// Signals an event.
    pub(crate) fn signal(&self, connection: u32, flag: u16) -> HvStatus {
        let word = u64::from(connection) | u64::from(flag) << 32;
        let control = simple(HypercallCode::SIGNAL_EVENT).with_fast(true);
        self.env.conduit().call_2(control, [word, 0]).status()
    }

    /// Returns true if an event flag is set.
    pub(crate) fn flag(&self, synic: &Synic, sint: u8, flag: u16) -> bool {
        self.env.load(synic.flag_word(sint, flag)) >> (flag % 32) & 1 != 0
    }

    /// Clears the word of an event flag.
    pub(crate) fn clear_flags(&self, synic: &Synic, sint: u8, flag: u16) {
        self.env.store(synic.flag_word(sint, flag), 0);
    }

    /// Takes all messages out of the calling VP's queues and stops what could send more. What comes is dropped.
    pub(crate) fn drain(&self, page: u64) {
        let set = |name, value| {
            // This prepares a case; one that needs what fails here says so.
            let _ = self.set(name, value);
        };
        set(RegisterName::SIMP, page | 1);
        set(RegisterName::SCONTROL, 1);
        for _ in 0..64 {
            let mut empty = true;
            for sint in 0..16 {
                let slot = page + sint * 256;
                empty &= self.env.load(slot) == MessageType::NONE.0;
                self.env.store(slot, 0);
            }
            if empty {
                break;
            }
            set(RegisterName::EOM, 0);
        }
        set(RegisterName::SCONTROL, 0);
        set(RegisterName::SIMP, 0);
    }
}
