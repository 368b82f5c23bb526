//! A SCSI request on the way from packet to answer.

use crate::scsi::{CDB_LEN, Sense, Status};
use hv_tlfs::vmbus::storage::{AUTOSENSE_VALID, Operation, Packet, PacketHeader, ScsiRequest, SrbStatus};
use hv_tlfs::vmbus::{NtStatus, scsi};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// A [`Packet`] with a SCSI request in its body, aligned so that it is copied by words.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(8))]
struct Whole {
    header: PacketHeader,
    request: ScsiRequest,
}

const _: () = assert!(size_of::<Whole>() == size_of::<Packet>());

/// A copy of the guest's packet, which becomes the answer.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Srb {
    whole: Whole,
    /// Size of the packet in bytes, which is also the answer's.
    len: u8,
    /// The data is longer than the guest's buffer.
    overrun: bool,
}

impl Srb {
    /// One that was not read.
    pub(crate) const EMPTY: Self =
        Self { whole: zerocopy::transmute!([0_u64; size_of::<Whole>() / 8]), len: 0, overrun: false };

    /// Reads a packet: `read` copies its bytes, and returns their number.
    pub(crate) fn read(&mut self, read: impl FnOnce(&mut [u8]) -> usize) {
        let bytes = self.whole.as_mut_bytes();
        let len = read(bytes).min(bytes.len());
        if len < bytes.len() {
            // What is left of an earlier packet.
            bytes[len..].fill(0);
        }
        (self.len, self.overrun) = (len as u8, false);
    }

    pub(crate) fn operation(&self) -> Operation {
        self.whole.header.operation
    }

    /// Returns the packet as one that is not a SCSI request.
    pub(crate) fn packet(&self) -> Packet {
        Packet::read_from_bytes(self.whole.as_bytes()).unwrap_or_else(|_| Packet::new_zeroed())
    }

    /// Returns the command, in a field of fixed size: guests may give wrong values for its length, and for that of
    /// sense.
    pub(crate) fn cdb(&self) -> &[u8; CDB_LEN] {
        let first = self.whole.request.cdb_or_sense.first_chunk();
        first.unwrap_or(&[0; CDB_LEN])
    }

    pub(crate) fn path(&self) -> u8 {
        self.whole.request.path
    }

    pub(crate) fn target(&self) -> u8 {
        self.whole.request.target
    }

    pub(crate) fn lun(&self) -> u8 {
        self.whole.request.lun
    }

    /// Returns the size of the guest's buffer or data in bytes.
    pub(crate) fn transfer(&self) -> u32 {
        self.whole.request.transfer_length
    }

    pub(crate) fn len(&self) -> usize {
        self.len.into()
    }

    pub(crate) fn is_inquiry(&self) -> bool {
        self.cdb()[0] == scsi::OP_INQUIRY
    }

    pub(crate) fn is_report_luns(&self) -> bool {
        self.cdb()[0] == scsi::OP_REPORT_LUNS
    }

    /// Returns the maximum number of bytes that REPORT LUNS requests; other commands have truncated their data already.
    pub(crate) fn allocation(&self, len: usize) -> usize {
        let [.., a, b, c, d] = self.cdb()[..10] else { return len };
        if self.is_report_luns() { u32::from_be_bytes([a, b, c, d]) as usize } else { len }
    }

    pub(crate) fn overruns(&mut self) {
        self.overrun = true;
    }

    /// Completes with this number of bytes transferred.
    pub(crate) fn good(&mut self, bytes: u32) {
        let status = if self.overrun { SrbStatus::DATA_OVERRUN } else { SrbStatus::SUCCESS };
        self.ended(status, Status::Good, bytes);
    }

    /// Fails with sense.
    pub(crate) fn check(&mut self, sense: Sense) {
        self.ended(SrbStatus::ERROR, Status::CheckCondition, 0);
        self.sensed(&sense.bytes());
    }

    fn sensed(&mut self, sense: &[u8; Sense::LEN]) {
        let request = &mut self.whole.request;
        request.srb_status |= AUTOSENSE_VALID;
        request.cdb_or_sense = [0; 20];
        request.cdb_or_sense[..Sense::LEN].copy_from_slice(sense);
        request.sense_length = Sense::LEN as u8;
    }

    /// Ends exactly like this.
    pub(crate) fn exactly(&mut self, srb: u8, scsi: u8, sense: Option<[u8; 3]>) {
        self.ended(SrbStatus(srb), Status::Good, 0);
        self.whole.request.scsi_status = scsi;
        if let Some([key, code, qualifier]) = sense {
            let mut bytes = Sense::NONE.bytes();
            (bytes[2], bytes[12], bytes[13]) = (key, code, qualifier);
            self.sensed(&bytes);
        }
    }

    /// Fails: there is no such logical unit.
    pub(crate) fn no_lun(&mut self) {
        self.ended(SrbStatus::INVALID_LUN, Status::Good, 0);
        self.whole.header.status = NtStatus::UNSUCCESSFUL;
    }

    /// Fails: the request is inconsistent.
    pub(crate) fn invalid(&mut self) {
        self.ended(SrbStatus::INVALID_REQUEST, Status::Good, 0);
        self.whole.header.status = NtStatus::INVALID_PARAMETER;
    }

    /// Fails: busy.
    pub(crate) fn busy(&mut self) {
        self.ended(SrbStatus::ERROR, Status::Busy, 0);
    }

    fn ended(&mut self, srb: SrbStatus, scsi: Status, bytes: u32) {
        self.whole.header =
            PacketHeader { operation: Operation::COMPLETE_IO, flags: 0, status: NtStatus::SUCCESS };
        let request = &mut self.whole.request;
        request.srb_status = srb.0;
        request.scsi_status = scsi as u8;
        request.transfer_length = bytes;
        request.sense_length = 0;
    }

    /// Returns the answer, as long as the packet was.
    pub(crate) fn answer(&self) -> &[u8] {
        &self.whole.as_bytes()[..self.len.into()]
    }
}
