//! A SCSI request on the way from packet to answer.

use crate::scsi::{CDB_LEN, Sense, Status};
use hv_tlfs::vmbus::NtStatus;
use hv_tlfs::vmbus::storage::{AUTOSENSE_VALID, Operation, Packet, PacketHeader, ScsiRequest, SrbStatus};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// A copy of the guest's request, with the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Srb {
    request: ScsiRequest,
    cdb: [u8; CDB_LEN],
    status: NtStatus,
    /// Size of the packet in bytes, which is also the answer's.
    len: usize,
    /// The data is longer than the guest's buffer.
    overrun: bool,
}

const INQUIRY: u8 = 0x12;
const REPORT_LUNS: u8 = 0xa0;

impl Srb {
    pub(crate) fn read(packet: &Packet) -> Self {
        let request =
            ScsiRequest::read_from_bytes(&packet.body).unwrap_or_else(|_| ScsiRequest::new_zeroed());
        // Guests may give wrong values for both lengths: the fields have a fixed size.
        let mut cdb = [0; CDB_LEN];
        cdb.copy_from_slice(&request.cdb_or_sense[..CDB_LEN]);
        Self { request, cdb, status: NtStatus::SUCCESS, len: size_of::<Packet>(), overrun: false }
    }

    pub(crate) fn of_length(self, len: usize) -> Self {
        Self { len, ..self }
    }

    pub(crate) fn cdb(&self) -> &[u8; CDB_LEN] {
        &self.cdb
    }

    pub(crate) fn path(&self) -> u8 {
        self.request.path
    }

    pub(crate) fn target(&self) -> u8 {
        self.request.target
    }

    pub(crate) fn lun(&self) -> u8 {
        self.request.lun
    }

    /// Returns the size of the guest's buffer or data in bytes.
    pub(crate) fn transfer(&self) -> u32 {
        self.request.transfer_length
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_inquiry(&self) -> bool {
        self.cdb[0] == INQUIRY
    }

    pub(crate) fn is_report_luns(&self) -> bool {
        self.cdb[0] == REPORT_LUNS
    }

    /// Returns the maximum number of bytes that REPORT LUNS requests; other commands have truncated their data already.
    pub(crate) fn allocation(&self, len: usize) -> usize {
        let [.., a, b, c, d] = self.cdb[..10] else { return len };
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
        self.request.srb_status |= AUTOSENSE_VALID;
        self.request.cdb_or_sense = [0; 20];
        self.request.cdb_or_sense[..Sense::LEN].copy_from_slice(sense);
        self.request.sense_length = Sense::LEN as u8;
    }

    /// Ends exactly like this.
    pub(crate) fn exactly(&mut self, srb: u8, scsi: u8, sense: Option<[u8; 3]>) {
        self.ended(SrbStatus(srb), Status::Good, 0);
        self.request.scsi_status = scsi;
        if let Some([key, code, qualifier]) = sense {
            let mut bytes = Sense::NONE.bytes();
            (bytes[2], bytes[12], bytes[13]) = (key, code, qualifier);
            self.sensed(&bytes);
        }
    }

    /// Fails: there is no such logical unit.
    pub(crate) fn no_lun(&mut self) {
        self.ended(SrbStatus::INVALID_LUN, Status::Good, 0);
        self.status = NtStatus::UNSUCCESSFUL;
    }

    /// Fails: the request is inconsistent.
    pub(crate) fn invalid(&mut self) {
        self.ended(SrbStatus::INVALID_REQUEST, Status::Good, 0);
        self.status = NtStatus::INVALID_PARAMETER;
    }

    /// Fails: busy.
    pub(crate) fn busy(&mut self) {
        self.ended(SrbStatus::ERROR, Status::Busy, 0);
    }

    fn ended(&mut self, srb: SrbStatus, scsi: Status, bytes: u32) {
        self.request.srb_status = srb.0;
        self.request.scsi_status = scsi as u8;
        self.request.transfer_length = bytes;
        self.request.sense_length = 0;
    }

    /// Writes the answer.
    pub(crate) fn write(&self, packet: &mut Packet) {
        packet.header = PacketHeader::new_zeroed();
        packet.header.operation = Operation::COMPLETE_IO;
        packet.header.status = self.status;
        packet.body.copy_from_slice(self.request.as_bytes());
    }
}
