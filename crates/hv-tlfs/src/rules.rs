//! The rules of the strict mode: what the interface requires of a guest, and where it says so.
//!
//! Only the rules are here. The strict mode of hv-host detects violations.

use core::fmt;

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

/// A requirement on a guest.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
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

impl Rule {
    /// Returns the index of the rule in [`RULES`].
    #[must_use]
    pub fn number(&self) -> usize {
        RULES.iter().position(|rule| core::ptr::eq(*rule, self)).unwrap_or(RULES.len())
    }
}

macro_rules! rules {
    ($($NAME:ident = $id:literal, $severity:ident, $value:literal: $asks:literal ($source:literal);)+) => {
        $(
            #[doc = $asks]
            pub static $NAME: Rule =
                Rule { id: $id, severity: Severity::$severity, asks: $asks, source: $source, value: $value };
        )+
        /// Every rule, in the order of the TLFS's chapters.
        pub static RULES: &[&Rule] = &[$(&$NAME),+];
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
        "VMBus messages are of a type that guests send, and complete." ("Linux, include/linux/hyperv.h");
    VMBUS_ORDER = "vmbus-order", Error, "message type":
        "A guest connects first, and asks for offers once." ("Linux, drivers/hv/connection.c");
    VMBUS_CONTACT = "vmbus-contact", Error, "message type":
        "The contact names SINT 2, VTL 0 and both monitor pages or none." ("Linux, drivers/hv/connection.c");
    VMBUS_SYNIC = "vmbus-synic-off", Error, "message type":
        "The VP that VMBus's messages go to has its SynIC and message page on, and SINT 2 unmasked, before the contact."
        ("TLFS, HvCallPostMessage; openvmm, issue 2276 and pull request 962");
    VMBUS_CHANNEL = "vmbus-channel", Error, "message type":
        "Requests name a channel that was offered, and fit its state." ("Linux, drivers/hv/channel.c");
    VMBUS_GPADL = "vmbus-gpadl", Error, "message type":
        "Page lists are complete, count 4096-byte pages, and name each page once."
        ("Linux, drivers/hv/channel.c; commits of 2020 and 2024");
    VMBUS_RING = "vmbus-ring", Error, "message type":
        "Both rings lie in one page list and have a page of data." ("Linux, drivers/hv/ring_buffer.c");
    VMBUS_TARGET = "vmbus-target", Error, "message type":
        "A channel's interrupts go to a VP that exists and takes them." ("Linux, drivers/hv/channel_mgmt.c");
    VMBUS_RING_DATA = "vmbus-ring-data", Error, "channel":
        "A ring's indices are multiples of 8 within its data, and its packets lie within what was written."
        ("Linux, drivers/hv/ring_buffer.c");
    VMBUS_DEVICE = "vmbus-device", Error, "channel":
        "Packets follow the protocol of the channel's device." ("Linux, the driver of the device");
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
