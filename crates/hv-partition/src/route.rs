//! Connections that lead to VMBus: those that are not a port's.

use hv_host::{Connections, RawMutex};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;

use crate::joined::{Core, HasCore, Joined};
use crate::partition::Partition;
use crate::port::ServerPort;
use crate::served::Served;
use crate::split::Forms;

impl<R: RawMutex, B> HasCore for Partition<'_, R, B> {
    type Lock = R;

    #[inline(always)]
    fn core(&self) -> &Core<'_, R> {
        self.core_ref()
    }
}

impl<'h, R, H, B> Connections for Joined<'h, Partition<'h, R, B>, H>
where
    R: RawMutex,
    H: Forms,
    B: Served<'h, R, H::Full>,
{
    fn post_message(
        &self,
        vp: usize,
        connection: u32,
        _: MessageType,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        self.partition.bus().message(&self.port(), vp, connection, payload)
    }

    /// Signals VMBus. Its signals carry no flag: the connection identifies the channel.
    fn signal_event(&self, vp: usize, connection: u32, _: u16) -> Result<(), HvStatus> {
        self.partition.bus().signal(&self.port(), vp, connection)
    }

    #[inline]
    fn buffer_freed(&self, vp: usize) {
        if self.partition.bus().has_pending() {
            self.partition.bus().flush(&self.port(), vp);
        }
    }
}

impl<'h, R: RawMutex, B, H: Forms> Joined<'h, Partition<'h, R, B>, H> {
    /// Returns the partition as presented to the server.
    #[inline(always)]
    fn port(self) -> ServerPort<'h, R, H::Full> {
        ServerPort(Joined { partition: self.partition.core_ref(), host: self.host.full() })
    }
}
