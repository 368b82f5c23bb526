//! Sending interrupts to VPs, and retargeting device interrupts.

use crate::abi::Tables;
use crate::sets::VpSetHeader;
use crate::vp::{InputVtl, PartitionId};

pub(crate) const TABLES: Tables = Tables {
    constants: &[TYPES, LIMITS, TARGET_FLAGS, SOURCES],
    structs: &[TYPE, CONTROL, ASSERT, SOURCE_TYPE, TARGET_FLAGS_WORD, IPI, MSI, RETARGET],
};

open_enum! {
    table TYPE, from "TLFS, HV_INTERRUPT_TYPE";
    names [TYPES];
    /// Delivery type of an interrupt. ARM64 has only one.
    pub struct InterruptType(u32) = "hv_interrupt_type" ["HV_INTERRUPT_TYPE"];
}

constants! {
    table TYPES, kind "interrupt", from "TLFS, HV_INTERRUPT_TYPE; mshv-bindings", impl InterruptType;

    /// Fixed delivery.
    FIXED = 0, "HV_ARM64_INTERRUPT_TYPE_FIXED" ["HvArm64InterruptTypeFixed"];
}

constants! {
    table LIMITS, kind "interrupt", from "TLFS, HvCallSendSyntheticClusterIpi; mshv-bindings";

    /// No vector.
    pub const VECTOR_NONE: u32 = u32::MAX, "HV_INTERRUPT_VECTOR_NONE";
    /// Lowest vector of an IPI sent by hypercall. On ARM64 the vector is an INTID, so SGIs (0 to 15) cannot be sent by
    /// hypercall: they go through the guest's GIC.
    pub const IPI_LOW_VECTOR: u32 = 0x10, "HV_IPI_LOW_VECTOR";
    /// Highest vector that an IPI by hypercall may have.
    pub const IPI_HIGH_VECTOR: u32 = 0xff, "HV_IPI_HIGH_VECTOR";
}

bits! {
    table CONTROL, from "TLFS, HV_INTERRUPT_CONTROL";

    /// Type of an asserted interrupt, ARM64 layout. Edge or level is configured in the guest's GIC.
    pub struct InterruptControl(u64) = "hv_interrupt_control" ["HV_INTERRUPT_CONTROL", "HV_ARM64_INTERRUPT_CONTROL"] {
        /// Delivery type.
        interrupt_type / with_interrupt_type: InterruptType(u32) @ 31:0;
        /// The line is asserted; else deasserted.
        asserted / with_asserted: bool @ 34;
    }
    also {
        "as_uint64" @ 0, 8;
        "rsvd1" @ 0, 8, bits 33:32;
        "rsvd2" @ 0, 8, bits 63:35;
    }
}

structs! {
    table ASSERT, from "TLFS, HvCallAssertVirtualInterrupt";

    /// Input of [`ASSERT_VIRTUAL_INTERRUPT`](crate::hypercall::HypercallCode::ASSERT_VIRTUAL_INTERRUPT); no output.
    pub struct AssertInterruptInput = "HV_INPUT_ASSERT_VIRTUAL_INTERRUPT", size 32 {
        /// The partition.
        partition_id: PartitionId = 0 "TargetPartition",
        /// Flags.
        control: InterruptControl = 8 "InterruptControl",
        /// To whom: an MPIDR value for a private interrupt.
        destination_address: u64 = 16 "DestinationAddress",
        /// The INTID.
        vector: u32 = 24 "RequestedVector",
        /// Whose VTL.
        target_vtl: u8 = 28 "TargetVtl",
        /// Zero.
        reserved: [u8; 3] = 29 "ReservedZ0",
    }
}

structs! {
    table IPI, from "TLFS, HvCallSendSyntheticClusterIpi and HvCallSendSyntheticClusterIpiEx; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// Input of [`SEND_IPI`](crate::hypercall::HypercallCode::SEND_IPI): 16 bytes, so it can be a fast call.
    pub struct SendIpi = "hv_send_ipi" ["HV_INPUT_SEND_SYNTHETIC_CLUSTER_IPI"], size 16 {
        /// The interrupt: 0x10 to 0xff, an INTID on ARM64.
        vector: u32 = 0,
        /// Whose VTL. Linux counts it to the reserved field.
        target_vtl: InputVtl = 4,
        /// Zero.
        reserved: [u8; 3] = 5 "padding",
        /// Mask of VPs 0 to 63.
        cpu_mask: u64 = 8,
    }
    also {
        "reserved" @ 4, 4;
    }

    /// Input of [`SEND_IPI_EX`](crate::hypercall::HypercallCode::SEND_IPI_EX); the set's banks follow it.
    pub struct SendIpiEx = "hv_send_ipi_ex" ["HV_INPUT_SEND_SYNTHETIC_CLUSTER_IPI_EX"], size 24 {
        /// The interrupt: 0x10 to 0xff, an INTID on ARM64.
        vector: u32 = 0,
        /// Whose VTL. Linux counts it to the reserved field.
        target_vtl: InputVtl = 4,
        /// Zero.
        reserved: [u8; 3] = 5 "padding",
        /// The VPs.
        vp_set: VpSetHeader = 8,
    }
    also {
        "reserved" @ 4, 4;
    }
}

open_enum! {
    table SOURCE_TYPE, from "TLFS, HV_INTERRUPT_ENTRY; Linux 6.12, include/asm-generic/hyperv-tlfs.h";
    names [SOURCES];
    /// The source of a device interrupt.
    pub struct InterruptSource(u32) = "hv_interrupt_source" ["HV_INTERRUPT_SOURCE"];
}

constants! {
    table SOURCES, kind "interrupt", from "TLFS, HV_INTERRUPT_ENTRY; Linux 6.12, include/asm-generic/hyperv-tlfs.h", impl InterruptSource;

    /// MSI or MSI-X.
    MSI = 1, "HV_INTERRUPT_SOURCE_MSI" ["HvInterruptSourceMsi"];
    /// An I/O APIC, which ARM64 does not have.
    IOAPIC = 2, "HV_INTERRUPT_SOURCE_IOAPIC";
}

constants! {
    table TARGET_FLAGS, kind "interrupt", from "TLFS, HV_DEVICE_INTERRUPT_TARGET; Linux 6.12, include/asm-generic/hyperv-tlfs.h; openvmm, vm/hv1/hvdef", impl InterruptTargetFlags;

    /// [`Self::multicast`] alone.
    MULTICAST = 1, "HV_DEVICE_INTERRUPT_TARGET_MULTICAST";
    /// [`Self::processor_set`] alone.
    PROCESSOR_SET = 2, "HV_DEVICE_INTERRUPT_TARGET_PROCESSOR_SET";
    /// [`Self::proxy_redirect`] alone.
    PROXY_REDIRECT = 4, "HV_DEVICE_INTERRUPT_TARGET_PROXY_REDIRECT";
}

bits! {
    table TARGET_FLAGS_WORD, from "TLFS, HV_DEVICE_INTERRUPT_TARGET; openvmm, vm/hv1/hvdef";

    /// Flags that say how to interpret the target of an interrupt.
    pub struct InterruptTargetFlags(u32) = "HV_DEVICE_INTERRUPT_TARGET_FLAGS" {
        /// To every VP of the target; else to one of them.
        multicast / with_multicast: bool @ 0;
        /// The target is a VP set; else a mask.
        processor_set / with_processor_set: bool @ 1;
        /// Redirect through a proxy.
        proxy_redirect / with_proxy_redirect: bool @ 2;
    }
}

structs! {
    table MSI, from "TLFS, HV_MSI_ENTRY; Linux 6.12, arch/arm64/include/asm/hyperv-tlfs.h";

    /// A message-signalled interrupt, ARM64 layout (x64's is 8 bytes, with a 32-bit address; the TLFS documents only
    /// that one).
    pub struct MsiEntry = "hv_msi_entry" ["HV_MSI_ENTRY"], size 16 {
        /// Address that the device writes to.
        address: u64 = 0,
        /// Data that the device writes.
        data: u32 = 8,
        /// Zero.
        reserved: u32 = 12,
    }
    also {
        "as_uint64" @ 0, 16;
    }
}

structs! {
    table RETARGET, from "TLFS, HvCallRetargetDeviceInterrupt; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// An interrupt of a device.
    pub struct InterruptEntry = "hv_interrupt_entry" ["HV_INTERRUPT_ENTRY"], size 24 {
        /// The source.
        source: InterruptSource = 0,
        /// Zero.
        reserved: u32 = 4 "reserved1",
        /// The message.
        msi: MsiEntry = 8 "msi_entry",
    }

    /// Target of an interrupt. With [`InterruptTargetFlags::processor_set`] a VP set begins at offset 8: its first word
    /// is the format, and it continues after this structure.
    pub struct InterruptTarget = "hv_device_interrupt_target" ["HV_DEVICE_INTERRUPT_TARGET"], size 16 {
        /// The interrupt.
        vector: u32 = 0,
        /// How to interpret the target.
        flags: InterruptTargetFlags = 4,
        /// A mask of VPs 0 to 63, or the format of the VP set.
        mask_or_format: u64 = 8 "vp_mask",
    }
    also {
        "vp_set.format" @ 8, 8;
    }

    /// Input of [`RETARGET_INTERRUPT`](crate::hypercall::HypercallCode::RETARGET_INTERRUPT), with a mask.
    pub struct RetargetInterruptInput = "hv_retarget_device_interrupt"
        ["HV_INPUT_RETARGET_DEVICE_INTERRUPT"], size 64 {
        /// Whose device it is.
        partition_id: PartitionId = 0,
        /// Logical id of the device.
        device_id: u64 = 8,
        /// The interrupt.
        entry: InterruptEntry = 16 "int_entry",
        /// Zero.
        reserved: u64 = 40 "reserved2",
        /// The target.
        target: InterruptTarget = 48 "int_target",
    }
}
