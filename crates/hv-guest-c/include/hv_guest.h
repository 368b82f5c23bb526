/* hv-guest for kernels in C: the routines of the 2018 patch "arm64: hyperv: Add core Hyper-V include files".
 * Generated from crates/hv-guest-c by cbindgen: cargo run -p hv-guest-c --example header.
 * Every structure shared with the hypervisor is little-endian. MIT OR Apache-2.0. */

#ifndef HV_GUEST_H
#define HV_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
/* Registers, numbers and limits that the macros below need; `hv abi --c-header` prints all of them, and
 * whichever of the two headers comes first defines what both have. */
#ifndef HV_ARM64_ABI_H
#define HV_REGISTER_TIME_REFCOUNT 0x00090004
#define HV_REGISTER_VPINDEX 0x00090003
#define HV_REGISTER_CRASH_CTL 0x00000215
#define HV_REGISTER_SINT0 0x000A0000
#define HV_REGISTER_SCONTROL 0x000A0010
#define HV_REGISTER_SIFP 0x000A0012
#define HV_REGISTER_SIPP 0x000A0013
#define HV_REGISTER_EOM 0x000A0014
#define HV_REGISTER_STIMER0_CONFIG 0x000B0000
#define HV_REGISTER_STIMER0_COUNT 0x000B0001
#define VP_INVAL UINT32_MAX

struct ms_hyperv_info {
    uint32_t features;      /* register 0x200, word A */
    uint32_t misc_features; /* register 0x200, word C: ARM64's bit numbers */
    uint32_t hints;         /* register 0x201, word A: ARM64's bit numbers */
    uint32_t max_vp_index;
    uint32_t max_lp_index;
};
#endif
extern struct ms_hyperv_info ms_hyperv;

/* The map from CPU to VP; VP_INVAL for a CPU that has not come up. */
extern uint32_t *hv_vp_index;
extern uint32_t hv_max_vp_index;


// Output of a Get of one register.
struct hv_get_vp_register_output {
  // Bits 63:0.
  uint64_t registervaluelow;
  // Bits 127:64.
  uint64_t registervaluehigh;
};

// The registers of a CPU that `hyperv_report_panic` uses.
struct pt_regs {
  // X0 to X30.
  uint64_t regs[31];
  // Stack pointer.
  uint64_t sp;
  // Program counter.
  uint64_t pc;
  // Processor state.
  uint64_t pstate;
};

// What the kernel provides to the library. Must stay valid and unchanged once passed to `hv_guest_init`.
struct hv_guest_os {
  // Returns the guest physical address of `address`.
  uint64_t (*virt_to_phys)(const void *address);
  // Returns the number of the calling CPU, starting at 0.
  uint32_t (*cpu_number)(void);
  // Configures an interrupt as edge-triggered and registers `handler` for it, on all CPUs, without enabling it.
  void (*setup_irq)(uint32_t intid, void (*handler)(void));
  // Reverts `setup_irq`.
  void (*remove_irq)(uint32_t intid);
  // Enables an interrupt on the calling CPU.
  void (*enable_irq)(uint32_t intid);
  // Disables an interrupt on the calling CPU.
  void (*disable_irq)(uint32_t intid);
  // INTID of VMBus, from ACPI or the device tree.
  uint32_t vmbus_intid;
  // INTID for synthetic timer 0 in direct mode.
  uint32_t stimer0_intid;
  // The map from CPU to VP: `cpus` entries.
  uint32_t *vp_index;
  // Number of CPUs.
  uint32_t cpus;
  // 0: detect; 1: `hvc #0`; 2: `hvc #1`.
  uint32_t convention;
};

#if !defined(HV_ARM64_ABI_H)
// The header of a message.
struct hv_message_header {
  // Type of the message; HVMSG_NONE in an empty slot.
  uint32_t message_type;
  // Size of the payload in bytes.
  uint8_t payload_size;
  // Bit 0: more messages are pending.
  uint8_t message_flags;
  // Zero.
  uint8_t reserved[2];
  // The port of a posted message.
  uint64_t sender;
};
#endif

#if !defined(HV_ARM64_ABI_H)
// A message, or a slot of the message page.
struct hv_message {
  // The header.
  struct hv_message_header header;
  // The payload.
  uint64_t payload[30];
};
#endif

#if !defined(HV_ARM64_ABI_H)
// The reference TSC page.
struct ms_hyperv_tsc_page {
  // Changes with scale and offset; 0 while the page is invalid.
  uint32_t tsc_sequence;
  // Zero.
  uint32_t reserved1;
  // Units of 100 ns per tick, in 1/2^64.
  uint64_t tsc_scale;
  // Units of 100 ns to add.
  int64_t tsc_offset;
  // Zero.
  uint64_t reserved2[509];
};
#endif

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Issues a fast hypercall with three words of input and 16 bytes of output. Returns the result value.
//
// # Safety
//
// The same as for `hv_do_hvc`; `output` is valid for writes.
uint64_t hv_do_hvc_fast_get(uint64_t control,
                            uint64_t input1,
                            uint64_t input2,
                            uint64_t input3,
                            struct hv_get_vp_register_output *output);

// Issues a memory-based hypercall. Either address may be null. Returns the result value.
//
// # Safety
//
// The same as for `hv_do_hvc`; `outputaddr` is valid for the writes of the hypercall.
uint64_t hv_do_hypercall(uint64_t control, const void *inputaddr, void *outputaddr);

// Issues a rep hypercall and continues it until all elements are completed. Returns the result value: status, and
// elements completed.
//
// # Safety
//
// The same as for `hv_do_hypercall`.
uint64_t hv_do_rep_hypercall(uint16_t code,
                             uint16_t rep_count,
                             uint16_t varhead_size,
                             const void *inputaddr,
                             void *outputaddr);

// Issues a fast hypercall with one word of input. Returns the result value.
//
// # Safety
//
// The same as for `hv_do_hvc`.
uint64_t hv_do_fast_hypercall8(uint16_t control, uint64_t input8);

// Issues a fast hypercall with two words of input. Returns the result value.
//
// # Safety
//
// The same as for `hv_do_hvc`.
uint64_t hv_do_fast_hypercall16(uint16_t control, uint64_t input1, uint64_t input2);

// Reports a crash with the error, the guest OS id, program counter and stack pointer. Returns 0 or a status.
//
// # Safety
//
// `regs` is null or valid for reads.
uint64_t hyperv_report_panic(const struct pt_regs *regs, int64_t err);

// Reports a crash with a text of `size` bytes, at most 4096, at guest physical address `pa`, in one page. If the text
// is empty, the crash is reported without it. Returns 0 or a status.
//
// # Safety
//
// The host may read the text and show it to anyone with access to its log.
uint64_t hyperv_report_panic_msg(uint64_t pa,
                                 size_t size);

// Registers `handler` for the VMBus interrupt.
//
// # Safety
//
// `handler` may be called at any time until `hv_remove_vmbus_irq`.
void hv_setup_vmbus_irq(void (*handler)(void));

// Reverts `hv_setup_vmbus_irq`.
void hv_remove_vmbus_irq(void);

// Enables the VMBus interrupt on the calling CPU.
void hv_enable_vmbus_irq(void);

// Disables the VMBus interrupt on the calling CPU.
void hv_disable_vmbus_irq(void);

// Registers `handler` for the interrupt of synthetic timer 0 in direct mode. Stores its number in `irq` and `vector`.
// Returns 0, or -1 before `hv_guest_init`.
//
// # Safety
//
// `irq` and `vector` are valid for writes. `handler` may be called at any time until `hv_remove_stimer0_irq`.
int32_t hv_setup_stimer0_irq(int32_t *irq,
                             int32_t *vector,
                             void (*handler)(void));

// Reverts `hv_setup_stimer0_irq`.
//
// # Safety
//
// `irq` is the value stored by `hv_setup_stimer0_irq`.
void hv_remove_stimer0_irq(int32_t irq);

// Enables the timer's interrupt on the calling CPU.
//
// # Safety
//
// `irq` is the value stored by `hv_setup_stimer0_irq`.
void hv_enable_stimer0_percpu_irq(int32_t irq);

// Disables the timer's interrupt on the calling CPU.
//
// # Safety
//
// `irq` is the value stored by `hv_setup_stimer0_irq`.
void hv_disable_stimer0_percpu_irq(int32_t irq);

// Registers `handler` to run when the kernel calls `hv_kexec`.
//
// # Safety
//
// `handler` may be called until it is removed.
void hv_setup_kexec_handler(void (*handler)(void));

// Reverts `hv_setup_kexec_handler`.
void hv_remove_kexec_handler(void);

// Runs the registered handler, if there is one. The kernel calls it before it starts another kernel.
void hv_kexec(void);

// Registers `handler` to run when the kernel calls `hv_crash`.
//
// # Safety
//
// `handler` may be called until it is removed.
void hv_setup_crash_handler(void (*handler)(struct pt_regs *regs));

// Reverts `hv_setup_crash_handler`.
void hv_remove_crash_handler(void);

// Runs the registered handler, if there is one. The kernel calls it when it crashes.
//
// # Safety
//
// `regs` is valid for the registered handler.
void hv_crash(struct pt_regs *regs);

// Detects Hyper-V, identifies the guest with its id (`generate_guest_id`), and reads features, hints and limits.
// Called once, on the boot CPU, and again after `hyperv_cleanup`. Returns 0, or the hypervisor's status;
// `HV_STATUS_NOT_FOUND` (0x10) if this is not Hyper-V.
//
// # Safety
//
// `os` points to a structure that is valid and unchanged from now on, with functions that do what their fields say.
uint64_t hv_guest_init(const struct hv_guest_os *os,
                       uint64_t guest_id);

// Records the calling CPU in the map, with the index of its VP. Called on each CPU as it comes up. Returns 0 or the
// hypervisor's status.
uint64_t hv_cpu_init(void);

// Returns the VP index of a CPU; `VP_INVAL` if it has not come up.
int32_t hv_cpu_number_to_vp_number(int32_t cpu_number);

// Returns true if `hv_guest_init` has found Hyper-V.
bool hv_is_hyperv_initialized(void);

// Resets the calling VP: timers, SINTs, pages, SynIC; removes the CPU from the map. Called on each CPU, before
// `hyperv_cleanup` on the last one. Returns 0 or the first error, after all steps have been tried.
uint64_t hyperv_cleanup_cpu(void);

// Does the same for the last CPU, and then resets the partition: the reference TSC page, which is filled with zeros,
// and the guest OS id. Afterwards the clock reads the counter register, which the hypervisor rejects until there is a
// guest OS id again; `ms_hyperv` is zero; the map is empty. Returns 0 or the first error, after all steps have been
// tried.
uint64_t hyperv_cleanup(void);

// Composes the id of a guest that is Linux or follows its rules: distribution's bits 55:48, kernel version,
// distribution's bits 15:0.
uint64_t generate_guest_id(uint64_t d_info1, uint64_t kernel_version, uint64_t d_info2);

// Writes a register of the calling VP. Returns 0 or the hypervisor's status. (The patch's version returns nothing.)
//
// # Safety
//
// A page that the value lends to the hypervisor may be written by it until another value takes the page back.
uint64_t hv_set_vpreg(uint32_t reg,
                      uint64_t value);

// Reads a register of the calling VP. Returns 0 if the hypervisor rejects the read; `hv_get_vpreg_128` returns the
// status.
uint64_t hv_get_vpreg(uint32_t reg);

// Reads all 128 bits of a register of the calling VP. Returns 0 or the hypervisor's status; on error `result` is
// unchanged. (The patch's version returns nothing.)
//
// # Safety
//
// `result` is valid for writes.
uint64_t hv_get_vpreg_128(uint32_t reg,
                          struct hv_get_vp_register_output *result);

// Frees a slot of a message page, if it still holds a message of the type that was seen, and writes EOM if another is
// pending. Returns 0 or the hypervisor's status for the EOM.
//
// # Safety
//
// `msg` is a slot of an enabled message page.
uint64_t vmbus_signal_eom(struct hv_message *msg,
                          uint32_t old_msg_type);

// Reads the counter, CNTVCT_EL0, not ahead of program order.
uint64_t hv_read_hwclock(void);

// Reads the reference time from a reference TSC page, in 100 ns, and stores the counter that it was computed from in
// `cur_tsc`. Returns UINT64_MAX, without changing `cur_tsc`, if the page is invalid or being updated: then read the
// register.
//
// # Safety
//
// `tsc_pg` is a reference TSC page; `cur_tsc` is valid for writes.
uint64_t hv_read_tsc_page_tsc(const struct ms_hyperv_tsc_page *tsc_pg,
                              uint64_t *cur_tsc);

// Lends a page to the hypervisor as the partition's reference TSC page. Returns 0 or the hypervisor's status.
//
// # Safety
//
// `tsc_pg` is aligned to 4096, and the kernel does not use the page until `hyperv_cleanup` and all calls to
// `hv_read_reference_counter` that began before it have returned.
uint64_t hv_setup_tsc_page(struct ms_hyperv_tsc_page *tsc_pg);

// Returns the reference time in 100 ns: from the page of `hv_setup_tsc_page` while it is valid, else from the counter
// register; 0 if the hypervisor rejects reading that.
uint64_t hv_read_reference_counter(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HV_GUEST_H */

#ifdef __cplusplus
extern "C" {
#endif
/* Issues a hypercall with up to seven words of input: two addresses, or fast input. Returns the result value. */
uint64_t hv_do_hvc(uint64_t control, ...);
#ifdef __cplusplus
}
#endif

/* The macros of the patch. */
#define hv_init_timer(timer, tick) hv_set_vpreg(HV_REGISTER_STIMER0_COUNT + (2 * (timer)), tick)
#define hv_init_timer_config(timer, val) hv_set_vpreg(HV_REGISTER_STIMER0_CONFIG + (2 * (timer)), val)
#define hv_get_current_tick(tick) (tick = hv_get_vpreg(HV_REGISTER_TIME_REFCOUNT))
#define hv_get_simp(val) (val = hv_get_vpreg(HV_REGISTER_SIPP))
#define hv_set_simp(val) hv_set_vpreg(HV_REGISTER_SIPP, val)
#define hv_get_siefp(val) (val = hv_get_vpreg(HV_REGISTER_SIFP))
#define hv_set_siefp(val) hv_set_vpreg(HV_REGISTER_SIFP, val)
#define hv_get_synic_state(val) (val = hv_get_vpreg(HV_REGISTER_SCONTROL))
#define hv_set_synic_state(val) hv_set_vpreg(HV_REGISTER_SCONTROL, val)
#define hv_get_vp_index(index) (index = hv_get_vpreg(HV_REGISTER_VPINDEX))
#define hv_signal_eom() hv_set_vpreg(HV_REGISTER_EOM, 0)
#define hv_get_synint_state(sint_num, val) (val = hv_get_vpreg(HV_REGISTER_SINT0 + (sint_num)))
#define hv_set_synint_state(sint_num, val) hv_set_vpreg(HV_REGISTER_SINT0 + (sint_num), val)
#define hv_get_crash_ctl(val) (val = hv_get_vpreg(HV_REGISTER_CRASH_CTL))

/* The clock source of the patch is a function here. */
#define hyperv_cs hv_read_reference_counter
