//! The rules of the strict mode: what the interface requires of a guest, and where it says so.
//!
//! Only the rules are here. The strict mode of hv-host detects violations.

use core::fmt;
use core::ops::Deref;

/// Severity of a rule violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Allowed, but not what a careful guest does.
    Note,
    /// Works here but may fail elsewhere, or hides an error.
    Warning,
    /// Against the interface's rules.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// A requirement on a guest: a number, which dereferences to its [`Terms`].
///
/// A host that finds violations needs the number alone; so the texts of all rules are only in programs that show them.
#[derive(PartialEq, Eq)]
pub struct Rule {
    number: u16,
}

impl Rule {
    /// Returns the index of the rule in [`RULES`].
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number as usize
    }
}

impl Deref for Rule {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &TERMS[self.number()]
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// What a rule says.
#[derive(Debug, PartialEq, Eq)]
pub struct Terms {
    /// Name of the rule, for people and scripts. It does not change.
    pub id: &'static str,
    /// Severity of a violation.
    pub severity: Severity,
    /// The requirement.
    pub asks: &'static str,
    /// Source of the rule: document and section.
    pub source: &'static str,
    /// Meaning of a finding's value.
    pub value: &'static str,
}

macro_rules! rules {
    ($($NAME:ident = $id:literal, $severity:ident, $value:literal: $asks:literal ($source:literal);)+) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the rules' names, to number them")]
        enum Number { $($NAME),+ }
        $(
            #[doc = $asks]
            pub static $NAME: Rule = Rule { number: Number::$NAME as u16 };
        )+
        /// Every rule: those of the hypervisor in the order of the TLFS's chapters, those of VMBus, those of its
        /// devices.
        pub static RULES: &[&Rule] = &[$(&$NAME),+];
        static TERMS: &[Terms] = &[
            $(Terms { id: $id, severity: Severity::$severity, asks: $asks, source: $source, value: $value }),+
        ];
    };
}

rules! {
    CALL_CODE = "call-code", Error, "control word":
        "Make only hypercalls that exist." ("TLFS, Hypercall Interface, Common Hypercall Status Codes");
    CALL_RESERVED = "call-reserved-bits", Error, "control word":
        "Reserved bits of the hypercall input value are zero." ("TLFS, Hypercall Interface, Hypercall Inputs");
    CALL_NESTED = "call-nested", Error, "control word":
        "Only guests of a nested hypervisor set the nested bit." ("TLFS, Hypercall Interface, Hypercall Inputs");
    CALL_REPS = "call-reps", Error, "control word":
        "The rep count is zero for a simple call, and greater than the start index for a rep call."
        ("TLFS, Hypercall Interface, Common Hypercall Status Codes");
    CALL_START = "call-start", Note, "control word":
        "A rep call starts at element 0 unless it is continued." ("TLFS, Hypercall Interface, Hypercall Classes");
    CALL_VARIABLE = "call-variable-header", Error, "control word":
        "The variable header's size is zero unless the call has one, and then fits its contents."
        ("TLFS, Hypercall Interface, Variable Sized Hypercall Input Headers");
    CALL_FAST = "call-fast-size", Error, "control word":
        "A fast call's input and output fit into 128 bytes together."
        ("TLFS, Hypercall Interface, Register Fast Call Input (ARM64 SMCCC)");
    CALL_ALIGNMENT = "call-alignment", Error, "input or output address":
        "Parameter blocks are 8-byte aligned." ("TLFS, Hypercall Interface, Alignment Requirements");
    CALL_PLACE = "call-place", Error, "input address":
        "Parameter blocks lie in guest memory, do not cross a 4096-byte page, and do not overlap."
        ("TLFS, Hypercall Interface, Alignment Requirements");
    CALL_OUTPUT = "call-unused-output", Warning, "output address":
        "A call without output gets no output address." ("Linux, commit of 2025 to drivers/hv");
    CALL_INPUT = "call-unused-input", Warning, "input address":
        "A call without input gets no input address." ("TLFS, Hypercall Interface, Alignment Requirements");
    CALL_EARLY = "call-before-guest-id", Error, "control word":
        "Write the guest OS id before the first hypercall."
        ("TLFS, Hypercall Interface, Reporting the Guest OS Identity");
    CALL_PRIVILEGE = "call-privilege", Error, "control word":
        "Make only hypercalls for which the partition has the privilege."
        ("TLFS, Partitions, Partition Privilege Flags");
    CALL_IGNORED = "call-status-ignored", Warning, "control word":
        "A failed call is not made again unchanged." ("TLFS, Hypercall Interface, Hypercall Status Codes");
    CALL_HVC1 = "call-hvc-1", Note, "control word":
        "New code makes hypercalls by hvc #0." ("TLFS, Hypercall Interface, Hypercall Register Conventions (ARM64 HVC #1)");
    CALL_SMC = "call-by-smc", Error, "function":
        "Hypercalls are made by hvc." ("TLFS, Hypercall Interface, Hypercall Register Conventions (ARM64 SMCCC)");
    CALL_PARTITION = "call-partition", Error, "control word":
        "A guest names its own partition only." ("TLFS, HvCallGetVpRegisters, Restrictions");
    CALL_VP = "call-vp", Error, "control word":
        "VP indices are those of existing VPs." ("TLFS, HV_VP_INDEX");
    IMMEDIATE = "immediate", Error, "immediate":
        "The immediate of hvc and smc is a defined one." ("TLFS, Hypercall Interface");
    FUNCTION = "smccc-function", Warning, "function":
        "Call only functions of the vendor's range that exist." ("Arm SMCCC, Function Identifiers");

    REGISTER_MSR = "register-x86-msr", Error, "register":
        "Registers are selected by register name; an x86 MSR number is not one." ("TLFS, HV_REGISTER_NAME");
    REGISTER_UNKNOWN = "register-unknown", Error, "register":
        "Use only registers that exist." ("TLFS, HV_REGISTER_NAME");
    REGISTER_READ_ONLY = "register-read-only", Error, "register":
        "Read-only registers are not written." ("TLFS, HvCallSetVpRegisters");
    REGISTER_EARLY = "register-before-guest-id", Error, "register":
        "Write the guest OS id before using registers that are not on the early list."
        ("TLFS, HvCallGetVpRegisters, Early Register List (ARM64)");
    REGISTER_PRIVILEGE = "register-privilege", Error, "register":
        "Use only registers that the features announce." ("TLFS, Partitions, Partition Privilege Flags");
    REGISTER_HIGH = "register-high-bits", Error, "register":
        "Bits beyond a register's size are zero." ("TLFS, HvCallSetVpRegisters");
    REGISTER_VALUE = "register-value", Error, "register":
        "Register values and the reserved fields around them are valid." ("TLFS, HvCallSetVpRegisters");
    REGISTER_POLLED = "register-polled", Note, "register":
        "Values that do not change are read once." ("TLFS, Virtual Processors, Virtual Processor Indices");

    ID_SECONDARY = "guest-id-vp", Warning, "guest OS id":
        "The guest OS id is written on the boot processor."
        ("TLFS, Hypercall Interface, Reporting the Guest OS Identity");
    ID_FORM = "guest-id-form", Warning, "guest OS id":
        "The guest OS id names a vendor or an OS type."
        ("TLFS, Hypercall Interface, Reporting the Guest OS Identity");
    ID_CHANGED = "guest-id-changed", Warning, "guest OS id":
        "The guest OS id is not replaced by another." ("TLFS, Hypercall Interface, Reporting the Guest OS Identity");
    ID_CLEARED = "guest-id-cleared", Warning, "VP whose SynIC is on":
        "Every SynIC is off before the guest OS id is cleared for a hand-over."
        ("TLFS, Inter-Partition Communication, SynIC Registers; Linux, commits of 2019 and 2024");

    SCONTROL_RESERVED = "scontrol-reserved", Warning, "register value":
        "Reserved bits of SCONTROL are preserved." ("TLFS, Inter-Partition Communication, SCONTROL Register");
    SCONTROL_PAGES = "scontrol-without-pages", Warning, "register value":
        "The SynIC is enabled once its pages are." ("TLFS, Inter-Partition Communication, SynIC Messages");
    PAGE_RESERVED = "page-reserved", Warning, "register value":
        "Reserved bits of a page register are preserved." ("TLFS, Inter-Partition Communication, SIMP Register");
    PAGE_OUTSIDE = "page-outside-memory", Error, "register value":
        "A page shared with the hypervisor lies in guest memory."
        ("TLFS, Inter-Partition Communication, SIMP Register");
    PAGE_UNITS = "page-units", Error, "register value":
        "Page numbers count 4096-byte pages, whatever the guest's page size."
        ("TLFS, HV_GPA_PAGE_NUMBER; Linux, commits of 2020 and 2022");
    PAGE_SHARED = "page-shared", Error, "register value":
        "Each VP's message and event flags pages are pages of their own."
        ("TLFS, Inter-Partition Communication, SIM Page");
    PAGE_MOVED = "page-moved", Warning, "register value":
        "A page is not moved while the SynIC is enabled."
        ("TLFS, Inter-Partition Communication, SynIC Registers");
    PAGE_OFF = "page-off-with-messages", Warning, "messages that wait":
        "The message page is switched off when no message is waiting."
        ("TLFS, Inter-Partition Communication, Reliability and Sequencing of Guest Message Buffers");
    SINT_VECTOR = "sint-vector", Error, "register value":
        "The vector of an unmasked SINT is 16 to 255." ("TLFS, Inter-Partition Communication, SINTx Registers");
    SINT_RESERVED = "sint-reserved", Warning, "register value":
        "Reserved bits of a SINT are preserved." ("TLFS, Inter-Partition Communication, SINTx Registers");
    SINT_AUTO_EOI = "sint-auto-eoi", Warning, "register value":
        "ARM64 guests end interrupts themselves." ("TLFS, Virtual Interrupt Controller, On ARM64 Platforms");
    SINT_CHANGED = "sint-changed", Warning, "register value":
        "An unmasked SINT keeps its settings." ("TLFS, Inter-Partition Communication, SINTx Registers");
    EOM_NEEDLESS = "eom-needless", Note, "register value":
        "End of message is written only if the message-pending flag was set." ("TLFS, HV_MESSAGE");
    EOM_MISSING = "eom-missing", Error, "messages so far":
        "End of message is written if the message-pending flag was set." ("TLFS, HV_MESSAGE");
    OFFLINE_SYNIC = "offline-with-synic", Note, "SCONTROL":
        "A VP that goes offline masks its SINTs and disables its SynIC."
        ("Linux, drivers/hv, CPU hotplug and kexec clean-up");

    POST_TYPE = "post-type", Error, "message type":
        "A posted message's type is not zero and has bit 31 clear." ("TLFS, HvCallPostMessage");
    POST_FORM = "post-form", Error, "connection":
        "A posted message has at most 240 bytes of payload, and zero in the reserved field."
        ("TLFS, HvCallPostMessage");
    CONNECTION = "connection", Error, "connection":
        "Messages and events go to connections that exist and are of the right type."
        ("TLFS, Inter-Partition Communication, Ports and Connections");
    TARGET_OFF = "target-synic-off", Error, "connection":
        "A VP that receives messages or events has its SynIC, pages and SINT set up; all VPs, not the boot VP alone."
        ("TLFS, Inter-Partition Communication, Event Flag Delivery; FreeBSD D40279");
    BUFFERS = "post-buffers", Note, "connection":
        "Messages are taken faster than they are posted."
        ("TLFS, Inter-Partition Communication, Guest Message Buffers");
    SIGNAL_FLAG = "signal-flag", Error, "flag":
        "A signalled flag is below the port's count, and the reserved field is zero." ("TLFS, HvCallSignalEvent");

    IPI = "ipi", Error, "control word":
        "An IPI's vector is 0x10 to 0xff, its VTL the caller's and its padding zero."
        ("TLFS, HvCallSendSyntheticClusterIpi");
    FLUSH = "flush-flags", Error, "control word":
        "Reserved flags of a flush are zero, and a list flush does not ask for non-global mappings only."
        ("TLFS, HvCallFlushVirtualAddressSpace and HvCallFlushVirtualAddressList");
    START_VP = "start-vp", Error, "status":
        "A VP is started when it is off, in VTL 0, at an instruction." ("TLFS, HvCallStartVirtualProcessor");
    PSCI_ON = "psci-cpu-on", Error, "target":
        "CPU_ON names a VP that exists and an entry point in guest memory." ("Arm PSCI, CPU_ON");

    TIMER_SINT0 = "timer-sint-0", Error, "register value":
        "A timer that is not direct has a SINT other than 0." ("TLFS, Timers, Synthetic Timer Configuration Register");
    TIMER_RESERVED = "timer-reserved", Error, "register value":
        "Reserved bits of a timer's configuration are zero."
        ("TLFS, Timers, Synthetic Timer Configuration Register");
    TIMER_VECTOR = "timer-vector", Error, "register value":
        "Direct timers are used only if announced, with a vector of at least 16."
        ("TLFS, Timers, Direct Synthetic Timers");
    TIMER_LIVE = "timer-live", Warning, "register value":
        "A timer is disabled before its properties change."
        ("TLFS, Timers, Synthetic Timer Configuration Register");
    TIMER_ZERO = "timer-zero", Warning, "register value":
        "A timer is enabled when its count is set." ("TLFS, Timers, Synthetic Timer Configuration Register");
    TIMER_PAST = "timer-past", Note, "how late, in 100 ns":
        "A one-shot timer's count is an absolute time in the future." ("TLFS, Timers, Synthetic Timer Count Register");
    TIMER_SHORT = "timer-short", Warning, "period in 100 ns":
        "A period is long enough to be served." ("TLFS, Timers, Periodic Timers");
    TIME_POLLED = "time-polled", Note, "reads in a row":
        "A guest that reads the time often uses the reference TSC page."
        ("TLFS, Timers, Partition Reference Time Enlightenment");

    CRASH_TWICE = "crash-twice", Error, "control register":
        "A crash is notified once." ("TLFS, Partitions, Invoking Guest Crash Capabilities");
    CRASH_RESERVED = "crash-reserved", Error, "control register":
        "Reserved bits of the crash control register are zero." ("TLFS, HV_CRASH_CTL_REG_CONTENTS");
    CRASH_SILENT = "crash-silent", Error, "control register":
        "A crash message comes with a notification."
        ("TLFS, Partitions, Invoking Guest Crash Capabilities");
    CRASH_EMPTY = "crash-empty", Warning, "length":
        "A crash message is announced if there is one." ("Linux, commit of 2025 to drivers/hv");
    CRASH_LONG = "crash-long", Error, "length":
        "A crash message has at most 4096 bytes." ("TLFS, Partitions, Invoking Guest Crash Capabilities");
    CRASH_ADDRESS = "crash-address", Error, "address":
        "A crash message lies in guest memory, by its guest physical address."
        ("TLFS, Partitions, Invoking Guest Crash Capabilities");

    VMBUS_MESSAGE = "vmbus-message", Error, "message type":
        "VMBus messages are complete." ("Linux, include/linux/hyperv.h");
    VMBUS_TYPE = "vmbus-message-type", Error, "message type":
        "VMBus messages are of a type that guests send and that the negotiated version has."
        ("Linux, include/linux/hyperv.h");
    VMBUS_LENGTH = "vmbus-message-length", Note, "message type":
        "A message has exactly the bytes of its type." ("Linux, drivers/hv/channel.c and channel_mgmt.c");
    VMBUS_PADDING = "vmbus-message-padding", Note, "message type":
        "The word after a message's type is zero." ("Linux, include/linux/hyperv.h, vmbus_channel_message_header");
    VMBUS_ORDER = "vmbus-order", Error, "message type":
        "A guest connects before it sends anything else." ("Linux, drivers/hv/connection.c");
    VMBUS_OFFERS = "vmbus-offers-twice", Error, "message type":
        "A guest asks for offers once in a connection." ("Linux, drivers/hv/channel_mgmt.c, vmbus_request_offers");
    VMBUS_CONTACT = "vmbus-contact", Error, "message type":
        "The contact names SINT 2 and VTL 0." ("Linux, drivers/hv/connection.c");
    VMBUS_MONITOR = "vmbus-monitor-pages", Error, "message type":
        "The contact names both monitor pages or none." ("Linux, drivers/hv/connection.c");
    VMBUS_AGAIN = "vmbus-contact-again", Warning, "version":
        "A connected guest unloads before it makes contact again." ("Linux, drivers/hv/vmbus_drv.c, hv_kexec_handler");
    VMBUS_VERSION = "vmbus-version-order", Warning, "version":
        "After a refused version a guest asks for an older one." ("Linux, drivers/hv/connection.c, vmbus_connect");
    VMBUS_SYNIC = "vmbus-synic-off", Error, "message type":
        "The VP that VMBus's messages go to has its SynIC and message page on, and SINT 2 unmasked, before the contact."
        ("TLFS, HvCallPostMessage; openvmm, issue 2276 and pull request 962");
    VMBUS_GPADL = "vmbus-gpadl", Error, "message type":
        "Page lists are complete, and count 4096-byte pages." ("Linux, drivers/hv/channel.c; commits of 2020 and 2024");
    GPADL_UNKNOWN = "gpadl-unknown", Error, "message type":
        "Requests name a page list of the channel that exists." ("Linux, drivers/hv/channel.c");
    GPADL_TWICE = "gpadl-twice", Error, "message type":
        "Page lists that exist at the same time have different ids." ("Linux, drivers/hv/channel.c, next_gpadl_handle");
    GPADL_BUSY = "gpadl-busy", Error, "message type":
        "A page list is used when it was created, by one channel, until its teardown is requested."
        ("Linux, drivers/hv/channel.c");
    GPADL_ZERO = "gpadl-zero", Warning, "channel":
        "The id of a page list is not zero, which means none." ("Linux, drivers/hv/channel.c, vmbus_teardown_gpadl");
    GPADL_LENGTH = "gpadl-length", Warning, "GPADL":
        "A page list has exactly the page numbers that its range needs."
        ("Linux, drivers/hv/channel.c, create_gpadl_header");
    GPADL_OUTSIDE = "gpadl-outside-memory", Error, "GPADL":
        "The pages of a page list are guest memory." ("openvmm, vmbus_server");
    GPADL_REPEATED = "gpadl-repeated", Error, "GPADL":
        "A page list does not name a page twice in a row: page numbers count 4096-byte pages, whatever the guest's page size."
        ("Linux, commits of 2020 and 2022 to drivers/hv");
    GPADL_EARLY = "gpadl-teardown-early", Error, "GPADL":
        "A channel is closed before the page list of its rings is torn down."
        ("Linux, drivers/hv/channel.c, vmbus_close_internal");
    GPADL_LEFT = "gpadl-left", Warning, "GPADL":
        "The page list of a closed channel's rings is torn down before the channel is opened with another."
        ("Linux, drivers/hv/channel.c, vmbus_disconnect_ring");
    VMBUS_CHANNEL = "vmbus-channel", Error, "message type":
        "Requests name a channel that was offered and is not released." ("Linux, drivers/hv/channel.c");
    CHANNEL_TWICE = "channel-open-twice", Error, "message type":
        "An open channel is not opened again." ("Linux, drivers/hv/channel.c, __vmbus_open");
    CHANNEL_RELEASE = "channel-release-open", Error, "message type":
        "A channel is closed before its number is released." ("Linux, drivers/hv/channel_mgmt.c, vmbus_onoffer_rescind");
    CHANNEL_CLOSED = "channel-not-open", Error, "message type":
        "Only an open channel is closed or modified." ("Linux, drivers/hv/channel.c");
    CHANNEL_PENDING = "channel-close-pending", Warning, "requests":
        "A channel is closed when its requests are completed." ("Linux, drivers/scsi/storvsc_drv.c, storvsc_wait_to_drain");
    VMBUS_RING = "vmbus-ring", Error, "message type":
        "Both rings lie in one page list and have a page of data." ("Linux, drivers/hv/ring_buffer.c");
    VMBUS_TARGET = "vmbus-target", Error, "message type":
        "A channel's interrupts go to a VP that exists." ("Linux, drivers/hv/channel_mgmt.c");
    CHANNEL_FLAG = "channel-signal", Error, "message type":
        "A guest that chooses a channel's event flag and connection chooses a flag below 2048 and a connection other than 0."
        ("openvmm, vmbus_server");
    CHANNEL_SILENT = "channel-no-interrupt", Error, "message type":
        "The interrupts of a channel that was opened without any are not moved."
        ("openvmm, vmbus_core, VMBUS_VP_INDEX_DISABLE_INTERRUPT");
    CHANNEL_TARGET = "channel-target-off", Error, "VP":
        "The VP that takes a channel's interrupts has its SynIC and event flags page on, and SINT 2 unmasked."
        ("Linux, drivers/hv/hv.c, hv_synic_enable_regs; FreeBSD D40279");
    CHANNEL_OFFLINE = "channel-vp-offline", Warning, "channel":
        "The interrupts of open channels are moved away before their VP goes offline."
        ("Linux, drivers/hv/hv.c, hv_synic_cleanup");
    SUBCHANNEL_EARLY = "subchannel-open-order", Error, "channel":
        "Sub-channels are opened while their device's first channel is open." ("Linux, drivers/scsi/storvsc_drv.c");
    SUBCHANNEL_LATE = "subchannel-close-order", Error, "channel":
        "Sub-channels are closed before their device's first channel." ("Linux, drivers/hv/channel.c, vmbus_close");
    VMBUS_RING_DATA = "vmbus-ring-data", Error, "channel":
        "A ring's indices are multiples of 8 within its data." ("Linux, drivers/hv/ring_buffer.c");
    RING_LENGTH = "ring-packet-length", Error, "channel":
        "Packets have at least a descriptor, and lie within what was written." ("Linux, drivers/hv/ring_buffer.c");
    RING_OFFSET = "ring-data-offset", Error, "channel":
        "A packet's payload begins after its descriptor and within the packet." ("Linux, drivers/hv/ring_buffer.c");
    RING_MEMORY = "ring-memory", Error, "channel":
        "The pages of open rings are guest memory." ("openvmm, vmbus_ring");
    VMBUS_DEVICE = "vmbus-device", Error, "channel":
        "Packets follow the protocol of the channel's device." ("Linux, the driver of the device");

    PACKET_TYPE = "packet-type", Error, "packet type":
        "Guests send in-band data, data in listed pages, and completions." ("Linux, drivers/hv/channel.c");
    PACKET_FLAGS = "packet-flags", Warning, "flags":
        "Packets have no flag but the one that requests a completion." ("Linux, include/linux/hyperv.h");
    PACKET_ID_ZERO = "packet-id-zero", Warning, "channel":
        "A packet that requests a completion has an id other than 0." ("Linux, drivers/scsi/storvsc_drv.c, storvsc_on_channel_callback");
    PACKET_ID_USED = "packet-id-used", Error, "transaction id":
        "An id is not used again before its completion." ("Linux, drivers/hv/channel.c, vmbus_next_request_id");
    PACKET_UNASKED = "packet-completion-unasked", Error, "transaction id":
        "Completions name a packet of the host that requested one, once." ("Linux, drivers/net/hyperv/netvsc.c; openvmm, netvsp");
    PACKET_RANGES = "packet-ranges", Error, "channel":
        "A packet with listed pages has a range, and each range lies in the packet, has bytes, and begins in its first page."
        ("Linux, include/linux/hyperv.h, gpa_range");
    PACKET_OUTSIDE = "packet-outside-memory", Error, "channel":
        "The pages that a packet lists are guest memory." ("openvmm, vmbus_ring");
    PACKET_PAGES = "packet-pages", Error, "channel":
        "A packet lists no more pages than its device takes." ("Linux, include/linux/hyperv.h, MAX_PAGE_BUFFER_COUNT");
    PIPE_HEADER = "pipe-header", Error, "channel":
        "In-band packets of a pipe begin with a header of type 1, whose size lies within the packet."
        ("Linux, include/linux/hyperv.h, vmbuspipe_hdr");

    STORAGE_SIZE = "storage-packet-size", Error, "bytes":
        "Packets of a storage controller have 64 bytes, from version 5.1 on." ("Linux, drivers/scsi/storvsc_drv.c, vstor_packet");
    STORAGE_OPERATION = "storage-operation", Error, "operation":
        "Packets have an operation that guests send to a SCSI controller." ("Linux, drivers/scsi/storvsc_drv.c, vstor_packet_operation");
    STORAGE_COMPLETION = "storage-completion", Error, "operation":
        "Packets of a storage controller request a completion." ("Linux, drivers/scsi/storvsc_drv.c");
    STORAGE_RESERVED = "storage-header", Note, "flags, or status << 32":
        "A request's status is zero, and of its flags only the first may be set." ("Linux, drivers/scsi/storvsc_drv.c, vstor_packet");
    STORAGE_ORDER = "storage-order", Error, "operation":
        "The initialization is begun, agrees on a version, queries the properties and is ended, in this order and once."
        ("Linux, drivers/scsi/storvsc_drv.c, storvsc_channel_init");
    STORAGE_EARLY = "storage-early", Error, "operation":
        "Commands and resets follow the end of the initialization." ("Linux, drivers/scsi/storvsc_drv.c");
    STORAGE_PRIMARY = "storage-sub-channel", Error, "operation":
        "A sub-channel carries commands only." ("Linux, drivers/scsi/storvsc_drv.c; openvmm, storvsp");
    STORAGE_CHANNELS = "storage-channels", Error, "number of sub-channels":
        "A guest asks for no more sub-channels than the properties allow." ("Linux, drivers/scsi/storvsc_drv.c, handle_multichannel_storage");
    STORAGE_LENGTH = "storage-request-length", Warning, "length":
        "The length of a SCSI request is that of the structure, 52." ("Linux, drivers/scsi/storvsc_drv.c, vmscsi_request");
    STORAGE_CDB = "storage-cdb-length", Warning, "length << 8 | operation code":
        "A command has the length of its group, at most 16." ("SCSI SPC-4, Operation code");
    STORAGE_SENSE = "storage-sense-length", Warning, "length":
        "A request has room for 1 to 20 bytes of sense." ("Linux, drivers/scsi/storvsc_drv.c, STORVSC_SENSE_BUFFER_SIZE");
    STORAGE_DIRECTION = "storage-direction", Error, "direction << 8 | operation code":
        "The direction of the data is to, from or none, and that of the command." ("Linux, drivers/scsi/storvsc_drv.c, storvsc_queuecommand");
    STORAGE_TRANSFER = "storage-transfer", Error, "transfer length":
        "The transfer length is the number of bytes in the packet's range." ("openvmm, storvsp");
    STORAGE_RANGE = "storage-range", Error, "number of ranges":
        "A command's data is one range." ("openvmm, storvsp");
    STORAGE_MOST = "storage-max-transfer", Error, "transfer length":
        "A command transfers no more bytes than the properties allow." ("Linux, drivers/scsi/storvsc_drv.c, max_transfer_bytes");

    IC_PACKET = "ic-packet", Error, "packet type":
        "Messages of integration services are in-band packets without a completion." ("Linux, drivers/hv/hv_util.c");
    IC_FORM = "ic-form", Error, "bytes":
        "A service's message has a header, and the bytes that the header counts." ("Linux, include/linux/hyperv.h, icmsg_hdr");
    IC_FLAGS = "ic-flags", Error, "flags":
        "A guest's messages are responses of a transaction." ("Linux, drivers/hv/hv_util.c; openvmm, hyperv_ic");
    IC_UNASKED = "ic-unasked", Error, "message type":
        "A guest answers only what it was asked, once." ("openvmm, hyperv_ic");
    IC_ECHO = "ic-echo", Error, "message type":
        "A response repeats the type, the transaction and the versions of its request." ("openvmm, hyperv_ic");
    IC_SIZE = "ic-size", Warning, "bytes":
        "A response has the size of its request." ("openvmm, hyperv_ic");
    IC_VERSION = "ic-version", Error, "counts: framework << 16 | service":
        "A guest selects one framework version and one service version of those that it was offered, or none."
        ("Linux, drivers/hv/channel_mgmt.c, vmbus_prep_negotiate_resp");
    HEARTBEAT_NUMBER = "heartbeat-number", Error, "number":
        "A guest adds 1 to a heartbeat's number." ("Linux, drivers/hv/hv_util.c, heartbeat_onchannelcallback");
    KVP_SIZES = "kvp-sizes", Error, "key size << 32 | value size":
        "A key has at most 512 bytes, a value at most 2048." ("Linux, include/uapi/linux/hyperv.h, hv_kvp_exchg_msg_value");
    FCOPY_OPERATION = "fcopy-operation", Error, "operation":
        "An answer of the file copy service has the operation of its request." ("Linux 6.1, drivers/hv/hv_fcopy.c, fcopy_respond_to_host");

    NETWORK_SIZE = "network-packet-size", Error, "bytes":
        "Packets of a network card have 28 bytes at least, and 40 from version 6.1 on." ("openvmm, netvsp; Linux, drivers/net/hyperv/hyperv_net.h, nvsp_message");
    NETWORK_MESSAGE = "network-message", Error, "message type":
        "Packets have a type that guests send to a network card." ("Linux, drivers/net/hyperv/hyperv_net.h");
    NETWORK_ORDER = "network-order", Error, "message type":
        "The driver negotiates a version first, and once; then come the configuration, each buffer once, and RNDIS with a receive buffer."
        ("Linux, drivers/net/hyperv/netvsc.c, netvsc_connect_vsp");
    NETWORK_VERSION = "network-version", Error, "message type":
        "A message exists in the version that was agreed: the configuration from 2 on, data paths from 4, sub-channels from 5." ("Linux, drivers/net/hyperv/hyperv_net.h");
    NETWORK_PROPOSAL = "network-proposal", Warning, "second version":
        "Both versions of a proposal are the same." ("Linux, drivers/net/hyperv/netvsc.c, negotiate_nvsp_ver");
    NETWORK_PRIMARY = "network-sub-channel", Error, "message type":
        "A sub-channel carries frames only." ("Linux, drivers/net/hyperv/netvsc.c; openvmm, netvsp");
    NETWORK_COMPLETION = "network-completion", Error, "message type":
        "Packets that have an answer request a completion." ("Linux, drivers/net/hyperv/netvsc.c");
    NETWORK_REVOKE = "network-revoke", Error, "id":
        "A buffer that is revoked is one that the host has, named by its id." ("Linux, drivers/net/hyperv/netvsc.c, netvsc_revoke_recv_buf");
    NETWORK_REVOKE_EARLY = "network-revoke-early", Warning, "id":
        "The card is halted before a buffer is revoked." ("Linux, drivers/net/hyperv/rndis_filter.c, rndis_filter_device_remove");
    NETWORK_TORN = "network-buffer-teardown", Error, "GPADL":
        "A buffer is revoked, or its channel closed, before its page list is torn down." ("Linux, drivers/net/hyperv/netvsc.c, netvsc_device_remove");
    NETWORK_SECTION = "network-section", Error, "section":
        "Data in a section of the send buffer fits into it, and the host has that buffer." ("Linux, drivers/net/hyperv/netvsc.c, netvsc_init_buf");
    NETWORK_SECTION_USED = "network-section-in-use", Error, "section":
        "A section of the send buffer is not used again before its packet is completed." ("Linux, drivers/net/hyperv/netvsc.c, netvsc_free_send_slot");
    NETWORK_DATA = "network-no-data", Error, "channel":
        "A packet with a message of RNDIS has data: a section, pages, or both." ("openvmm, netvsp");
    NETWORK_CHANNEL_TYPE = "network-channel-type", Error, "channel type":
        "A packet carries frames (0) or a control message (1)." ("Linux, drivers/net/hyperv/netvsc.c; openvmm, netvsp");
    NETWORK_RETURN = "network-receive-completion", Error, "status << 32 | message type":
        "A received packet is completed with a message of type 108 and status 1." ("Linux, drivers/net/hyperv/netvsc.c, send_recv_completions");
    NETWORK_REFUSED = "network-refused", Error, "status << 32 | message type":
        "The card answers no buffer, request or message of RNDIS with a failure." ("openvmm, netvsp");

    RNDIS_LENGTH = "rndis-length", Error, "length":
        "The length of a message covers its structure, and lies within the packet's data." ("Linux, drivers/net/hyperv/rndis_filter.c; openvmm, netvsp");
    RNDIS_MESSAGE = "rndis-message", Error, "message type":
        "A control message has a type that guests send." ("Linux, include/linux/rndis.h");
    RNDIS_ORDER = "rndis-order", Error, "message type":
        "The card is initialized once, before it is queried, set or sent frames, and again after a halt." ("Linux, drivers/net/hyperv/rndis_filter.c, rndis_filter_device_add");
    RNDIS_VERSION = "rndis-version", Error, "major version << 32 | minor version":
        "A guest asks for version 1.0." ("Linux, include/linux/rndis.h");
    RNDIS_REQUEST = "rndis-request-id", Error, "request id":
        "The id of a request is not used again before its answer." ("Linux, drivers/net/hyperv/rndis_filter.c, get_rndis_request");
    RNDIS_INFORMATION = "rndis-information", Error, "object":
        "The information of a query or a set follows the request, within the message." ("openvmm, netvsp; Linux, include/linux/rndis.h");
    RNDIS_SET = "rndis-set-refused", Error, "object":
        "A guest sets objects that can be set, to values that they take." ("openvmm, netvsp");
    RNDIS_QUERY = "rndis-query-refused", Note, "object":
        "A guest queries objects that the card has." ("openvmm, netvsp");
    RNDIS_FRAME = "rndis-frame", Error, "length":
        "A frame's message has type 1, and lies within the packet's data; the frame and the information about it follow its header."
        ("Linux, drivers/net/hyperv/netvsc_drv.c, netvsc_xmit; openvmm, netvsp");
    RNDIS_FRAME_LENGTH = "rndis-frame-length", Error, "bytes":
        "A frame has its header of 14 bytes, and unless it is a large send no more bytes than the configuration says, and 4 for a tag."
        ("Linux, drivers/net/hyperv/netvsc_drv.c; openvmm, netvsp");
    RNDIS_FRAME_RESERVED = "rndis-frame-reserved", Note, "length":
        "The fields of a frame's message for out-of-band data and handles are zero." ("Linux, include/linux/rndis.h");
    RNDIS_INFO = "rndis-info", Error, "kind":
        "Information about a frame has a header, and a size that is a multiple of 4, lies within the total and covers its value." ("Linux, drivers/net/hyperv/hyperv_net.h, rndis_per_packet_info");
    RNDIS_INFO_REPEATED = "rndis-info-repeated", Warning, "kind":
        "A frame has each kind of information once." ("Linux, drivers/net/hyperv/netvsc_drv.c, netvsc_xmit");
    RNDIS_LARGE_SEND = "rndis-large-send", Error, "large send":
        "A large send is of version 2, and has a segment size that is not 0 and fits into a frame, and the offset of the TCP header."
        ("Linux, drivers/net/hyperv/netvsc_drv.c, netvsc_xmit");
    RNDIS_CHECKSUM = "rndis-checksum", Error, "checksums":
        "Checksums are those of either IPv4 or IPv6 and of either TCP or UDP, whose header's offset is given." ("Linux, drivers/net/hyperv/netvsc_drv.c, netvsc_xmit");
    RNDIS_VLAN = "rndis-vlan", Warning, "tag":
        "The number of a VLAN is below 4095." ("IEEE 802.1Q, Tag Control Information");
    KEYBOARD_FORM = "keyboard-form", Error, "bytes":
        "Messages to a keyboard are in-band packets with a type and a field: 8 bytes at least."
        ("Linux, drivers/input/serio/hyperv-keyboard.c, synth_kbd_protocol_request");
    KEYBOARD_MESSAGE = "keyboard-message", Error, "message type":
        "A keyboard's driver asks for a version, and tells which lights are on." ("openvmm, uidevices, keyboard");
    KEYBOARD_ORDER = "keyboard-order", Error, "message type":
        "A version is asked for first, and once one is accepted, not again." ("openvmm, uidevices, keyboard");
    MOUSE_FORM = "mouse-form", Error, "bytes":
        "Messages to a mouse are in-band packets of their fixed length, which the headers count."
        ("Linux, drivers/hid/hid-hyperv.c, mousevsc_connect_to_vsp");
    MOUSE_MESSAGE = "mouse-message", Error, "message type":
        "A mouse's driver asks for a version, and acknowledges the description." ("openvmm, uidevices, mouse");
    MOUSE_ORDER = "mouse-order", Error, "message type":
        "A version is asked for until one is accepted, and a description acknowledged once." ("openvmm, uidevices, mouse");

    VIDEO_FORM = "video-form", Error, "bytes":
        "Messages to a screen are in-band packets that have the length of their type, which the headers count."
        ("Linux, drivers/video/fbdev/hyperv_fb.c; openvmm, uidevices, video");
    VIDEO_MESSAGE = "video-message", Error, "message type":
        "Messages to a screen have a type that guests send." ("Linux, drivers/video/fbdev/hyperv_fb.c, synthvid_msg_type; openvmm, uidevices, video");
    VIDEO_ORDER = "video-order", Error, "message type":
        "A version is asked for until one is accepted, which has the messages that follow; the memory is placed before a picture is shown, and that before a part of it changes."
        ("Linux, drivers/video/fbdev/hyperv_fb.c, synthvid_connect_vsp; openvmm, uidevices, video");
    VIDEO_PICTURE = "video-picture", Error, "width << 32 | height":
        "A picture has pixels of 16 or 32 bits, rows no longer than their distance, and lies in the video memory." ("openvmm, uidevices, video");
    VIDEO_DIRT = "video-dirt", Warning, "right << 32 | bottom":
        "A report of changes has a rectangle with pixels, on the screen." ("Linux, drivers/video/fbdev/hyperv_fb.c, synthvid_update");

    BALLOON_FORM = "balloon-form", Error, "bytes":
        "Messages of dynamic memory are in-band packets without a completion, and have the size of their type."
        ("Linux, drivers/hv/hv_balloon.c");
    BALLOON_MESSAGE = "balloon-message", Error, "message type":
        "Messages of dynamic memory have a type that guests send." ("Linux, drivers/hv/hv_balloon.c, dm_message_type");
    BALLOON_ORDER = "balloon-order", Error, "message type":
        "A version is agreed first and once, then capabilities are reported once; all else follows."
        ("Linux, drivers/hv/hv_balloon.c, balloon_connect_vsp");
    BALLOON_UNASKED = "balloon-unasked", Error, "message type":
        "A guest answers only what it was asked; the last of several answers says that it is." ("Linux, drivers/hv/hv_balloon.c, balloon_up");
    BALLOON_RANGE = "balloon-range", Error, "range: pages << 40 | first page":
        "A range of pages that a guest gives up has a page." ("QEMU, hw/hyperv/hv-balloon.c");
    BALLOON_PAGES = "balloon-pages", Error, "pages":
        "A guest gives up no more pages than it was asked for." ("QEMU, hw/hyperv/hv-balloon.c");

    SOCKET_PACKET = "socket-packet", Error, "packet type":
        "Packets of a socket are in-band packets without a completion." ("Linux, net/vmw_vsock/hyperv_transport.c, hvs_send_data");
    SOCKET_PAYLOAD = "socket-payload", Error, "bytes":
        "A packet of a socket carries at most 16384 bytes." ("Linux, net/vmw_vsock/hyperv_transport.c, HVS_MTU_SIZE");
    SOCKET_END = "socket-after-end", Error, "bytes":
        "A direction of a socket is ended once, by a packet without bytes, and nothing follows."
        ("Linux, net/vmw_vsock/hyperv_transport.c, hvs_shutdown_lock_held");
    SOCKET_TWICE = "socket-connect-twice", Error, "channel":
        "An endpoint connects to a service when the last connection between the two has ended."
        ("Linux, net/vmw_vsock/hyperv_transport.c, hvs_connect");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_plain() {
        for (n, rule) in RULES.iter().enumerate() {
            assert!(
                rule.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{}",
                rule.id
            );
            assert!(RULES[..n].iter().all(|other| other.id != rule.id), "{}", rule.id);
            assert_eq!(rule.number(), n);
            assert!(rule.asks.ends_with('.') && !rule.source.is_empty());
        }
        assert!(RULES.len() >= 40);
    }
}
