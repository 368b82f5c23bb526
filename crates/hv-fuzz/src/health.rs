//! Checks after any guest activity: the partition still works, and a reset leaves nothing behind.

use hv_partition::{GuestMemory as _, Host as _};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::time::ReferenceTime;

use crate::machine::{FREQUENCY, FuzzedMachine};

impl FuzzedMachine<'_> {
    /// Checks that a restarted VP gets its messages and its timers, whatever happened before.
    pub(crate) fn check_service(&self) {
        self.calm();
        // A realistic counter frequency: the guest's may be beyond all deadlines.
        let now = self.time().min(1 << 50);
        self.partition.migrate(self.host, FREQUENCY, ReferenceTime(now));
        self.host.set_counter(self.host.counter_now().min(1 << 61));
        self.partition.migrate(self.host, FREQUENCY, ReferenceTime(now));
        self.expire_all();
        self.offline(0);
        self.online(0);
        // Pending VMBus messages would interfere.
        self.partition.with_vmbus(self.host, |bus| bus.reset());
        assert_eq!(self.set(0, Name::GUEST_OS_ID, 1), HvStatus::SUCCESS);
        self.uncover();
        self.enable_synic(0);
        self.take_interrupts();
        let posted = self.partition.post_message(self.host, 0, 2, MessageType(1), 9, b"hello");
        assert_eq!(posted, Ok(()));
        assert_eq!(self.take_interrupts(), [(0, 18)]);
        let mut slot = [0; 21];
        let _ = self.host.memory().read(Self::message_page(0) + 2 * 256, &mut slot);
        assert_eq!(slot[..5], [1, 0, 0, 0, 5]);
        assert_eq!(&slot[16..], b"hello");
        if self.setup.config.hypervisor.profile.features.c.direct_synthetic_timers() {
            self.check_timer();
        }
    }

    /// Disables the overlays that may cover VP 0's pages: of several on one page the guest sees the first.
    fn uncover(&self) {
        for vp in 1..self.vps() {
            for name in [Name::SIMP, Name::SIEFP, Name::VP_ASSIST_PAGE] {
                let _ = self.set(vp, name, 0);
            }
        }
        let _ = self.set(0, Name::REFERENCE_TSC, 0);
    }

    fn check_timer(&self) {
        let due = self.time() + 1000;
        assert_eq!(self.set(0, Name::STIMER0_COUNT, due), HvStatus::SUCCESS);
        assert_eq!(self.set(0, Name::STIMER0_CONFIG, 1 | 1 << 12 | 17 << 4), HvStatus::SUCCESS);
        assert_eq!(self.take_interrupts(), [], "early");
        self.check_deadlines();
        let deadline = self.deadline(0).expect("a timer is armed");
        self.host.set_counter(deadline);
        self.expire(0);
        let late = self.time() - due;
        // VMBus may have set an earlier deadline.
        if self.time() >= due {
            assert!(self.take_interrupts().contains(&(0, 17)));
            assert!(late <= 2, "late by {late}");
        }
    }

    /// Checks that the state after a reset is that after creation; `fields` compares field by field, and takes long.
    pub(crate) fn check_reset(&self, fresh: &FuzzedMachine<'_>, fields: bool) {
        self.calm();
        self.host.set_counter(1000);
        self.partition.reset(self.host);
        fresh.partition.reset(self.host);
        assert!(self.image() == fresh.image(), "the images of a reset and a new partition differ");
        if fields {
            let [this, other] = [self, fresh].map(|m| format!("{:?}", m.partition));
            assert!(this == other, "a reset and a new partition differ");
        }
    }
}
