//! The page with which a ring begins.

bits! {
    table BITS, from "Linux 6.12, include/linux/hyperv.h";

    /// What the sender of a ring is able to do.
    pub struct RingFeatures(u32) = "hv_ring_feature_bits" {
        /// The sender of this ring says in `pending_send_size` how much room it waits for, and interrupts the other
        /// side for the room that it frees in the other ring.
        pending_send_size / with_pending_send_size: bool @ 0 = "feat_pending_send_sz";
    }
}

structs! {
    table STRUCTS, from "Linux 6.12, include/linux/hyperv.h; OpenVMM, vmbus_ring";

    /// The first 4096 bytes of a ring; the data follows in the next page of its GPADL. (A Linux with larger pages
    /// spends a whole page of its own on the header, and lists only the first 4096 bytes of it.)
    ///
    /// An index is an offset in the data, a multiple of 8. Equal indices: the ring is empty; it is never filled
    /// completely.
    pub struct RingHeader = "hv_ring_buffer", size 4096 {
        /// Where the next packet will be written. The sender's.
        write_index: u32 = 0,
        /// Where the next packet will be read. The receiver's.
        read_index: u32 = 4,
        /// Not 0: the receiver wants no interrupt for new packets. The receiver's.
        interrupt_mask: u32 = 8,
        /// Not 0: the sender waits for so much room, in bytes. The sender's.
        pending_send_size: u32 = 12 "pending_send_sz",
        /// Zero.
        reserved1: [u32; 12] = 16,
        /// What the sender is able to do. The sender's.
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
