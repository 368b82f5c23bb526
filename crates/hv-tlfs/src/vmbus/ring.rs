//! The page with which a ring begins.

bits! {
    table BITS, from "Linux 6.12, include/linux/hyperv.h";

    /// Features of the sender of a ring.
    pub struct RingFeatures(u32) = "hv_ring_feature_bits" {
        /// The sender of this ring puts the room it waits for into `pending_send_size`, and interrupts the other side
        /// when it frees the room that is awaited in the other ring.
        pending_send_size / with_pending_send_size: bool @ 0 = "feat_pending_send_sz";
    }
}

structs! {
    table STRUCTS, from "Linux 6.12, include/linux/hyperv.h; OpenVMM, vmbus_ring";

    /// The first 4096 bytes of a ring; the data follows in the next page of its GPADL. (Linux with larger pages spends
    /// a whole page of its own size on the header, and lists only the first 4096 bytes of it.)
    ///
    /// An index is an offset in the data, a multiple of 8. The ring is empty if the indices are equal; it is never
    /// filled completely.
    pub struct RingHeader = "hv_ring_buffer", size 4096 {
        /// Offset of the next packet to write. Owned by the sender.
        write_index: u32 = 0,
        /// Offset of the next packet to read. Owned by the receiver.
        read_index: u32 = 4,
        /// Nonzero: the receiver wants no interrupts for new packets. Owned by the receiver.
        interrupt_mask: u32 = 8,
        /// Nonzero: the sender waits for this much room, in bytes. Owned by the sender.
        pending_send_size: u32 = 12 "pending_send_sz",
        /// Zero.
        reserved1: [u32; 12] = 16,
        /// Features of the sender. Owned by the sender.
        features: RingFeatures = 64 "feature_bits",
        /// The rest of the page.
        reserved2: [u8; 4028] = 68,
    }
    also {
        "feature_bits.feat_pending_send_sz" @ 64, 4, bits 0;
        "feature_bits.value" @ 64, 4;
        "buffer" @ 4096, 0;
    }
}
