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

/* The map from CPU to VP; VP_INVAL while a CPU is not up. */
extern uint32_t *hv_vp_index;
extern uint32_t hv_max_vp_index;


// Output of a Get of one register.
struct hv_get_vp_register_output {
  // Bits 63:0.
  uint64_t registervaluelow;
  // Bits 127:64.
  uint64_t registervaluehigh;
};

// What `hyperv_report_panic` takes of a CPU's registers.
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

// What the library needs of the kernel. It stays where it is, and as it is, once given to `hv_guest_init`.
struct hv_guest_os {
  // Guest physical address of what is at `address`.
  uint64_t (*virt_to_phys)(const void *address);
  // Number of the CPU that calls, from 0 on.
  uint32_t (*cpu_number)(void);
  // Makes an interrupt edge-triggered and lets `handler` run when it arrives; on all CPUs, not enabled yet.
  void (*setup_irq)(uint32_t intid, void (*handler)(void));
  // Undoes `setup_irq`.
  void (*remove_irq)(uint32_t intid);
  // Enables an interrupt on the CPU that calls.
  void (*enable_irq)(uint32_t intid);
  // Disables an interrupt on the CPU that calls.
  void (*disable_irq)(uint32_t intid);
  // INTID of VMBus, from ACPI or the device tree.
  uint32_t vmbus_intid;
  // INTID for synthetic timer 0 in direct mode.
  uint32_t stimer0_intid;
  // The map from CPU to VP: `cpus` entries.
  uint32_t *vp_index;
  // Number of CPUs.
  uint32_t cpus;
  // 0: ask the hypervisor; 1: `hvc #0`; 2: `hvc #1`.
  uint32_t convention;
};

#if !defined(HV_ARM64_ABI_H)
// The head of a message.
struct hv_message_header {
  // What it is; HVMSG_NONE in an empty slot.
  uint32_t message_type;
  // Bytes of the payload.
  uint8_t payload_size;
  // Bit 0: more messages wait.
  uint8_t message_flags;
  // Zero.
  uint8_t reserved[2];
  // The port of a posted message.
  uint64_t sender;
};
#endif

#if !defined(HV_ARM64_ABI_H)
// A message, and a slot of the message page.
struct hv_message {
  // The head.
  struct hv_message_header header;
  // The payload.
  uint64_t payload[30];
};
#endif

#if !defined(HV_ARM64_ABI_H)
// The reference TSC page.
struct ms_hyperv_tsc_page {
  // Changes with the other two; 0 while the page is not valid.
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

// A fast hypercall of three words of input and 16 bytes of output. Returns the result value.
//
// # Safety
//
// As for `hv_do_hvc`; `output` can be written.
uint64_t hv_do_hvc_fast_get(uint64_t control,
                            uint64_t input1,
                            uint64_t input2,
                            uint64_t input3,
                            struct hv_get_vp_register_output *output);

// A memory-based hypercall. Either address may be null. Returns the result value.
//
// # Safety
//
// As for `hv_do_hvc`; what the hypercall writes to `outputaddr` may be written there.
uint64_t hv_do_hypercall(uint64_t control, const void *inputaddr, void *outputaddr);

// A rep hypercall, continued until every element is done. Returns the result value: status, and elements done.
//
// # Safety
//
// As for `hv_do_hypercall`.
uint64_t hv_do_rep_hypercall(uint16_t code,
                             uint16_t rep_count,
                             uint16_t varhead_size,
                             const void *inputaddr,
                             void *outputaddr);

// A fast hypercall of one word. Returns the result value.
//
// # Safety
//
// As for `hv_do_hvc`.
uint64_t hv_do_fast_hypercall8(uint16_t control, uint64_t input8);

// A fast hypercall of two words. Returns the result value.
//
// # Safety
//
// As for `hv_do_hvc`.
uint64_t hv_do_fast_hypercall16(uint16_t control, uint64_t input1, uint64_t input2);

// Reports a crash with the error, the guest's id, program counter and stack pointer. Returns 0 or a status.
//
// # Safety
//
// `regs` is null or can be read.
uint64_t hyperv_report_panic(const struct pt_regs *regs, int64_t err);

// Reports a crash with a text of `size` bytes, 4096 at most, at guest physical address `pa`, in one page. Of an empty text
// the crash is reported all the same. Returns 0 or a status.
//
// # Safety
//
// The host may read the text and show it to whoever looks at its log.
uint64_t hyperv_report_panic_msg(uint64_t pa,
                                 size_t size);

// Lets `handler` run for the VMBus interrupt.
//
// # Safety
//
// `handler` may be called at any time from now on, until `hv_remove_vmbus_irq`.
void hv_setup_vmbus_irq(void (*handler)(void));

// Undoes `hv_setup_vmbus_irq`.
void hv_remove_vmbus_irq(void);

// Enables the VMBus interrupt on the CPU that calls.
void hv_enable_vmbus_irq(void);

// Disables the VMBus interrupt on the CPU that calls.
void hv_disable_vmbus_irq(void);

// Lets `handler` run for the interrupt of synthetic timer 0 in direct mode. `irq` and `vector` become its number. Returns
// 0, or -1 before `hv_guest_init`.
//
// # Safety
//
// `irq` and `vector` can be written. `handler` may be called at any time from now on, until `hv_remove_stimer0_irq`.
int32_t hv_setup_stimer0_irq(int32_t *irq,
                             int32_t *vector,
                             void (*handler)(void));

// Undoes `hv_setup_stimer0_irq`.
//
// # Safety
//
// `irq` is what `hv_setup_stimer0_irq` gave.
void hv_remove_stimer0_irq(int32_t irq);

// Enables the timer's interrupt on the CPU that calls.
//
// # Safety
//
// `irq` is what `hv_setup_stimer0_irq` gave.
void hv_enable_stimer0_percpu_irq(int32_t irq);

// Disables the timer's interrupt on the CPU that calls.
//
// # Safety
//
// `irq` is what `hv_setup_stimer0_irq` gave.
void hv_disable_stimer0_percpu_irq(int32_t irq);

// Lets `handler` run when the kernel calls `hv_kexec`.
//
// # Safety
//
// `handler` may be called until it is removed.
void hv_setup_kexec_handler(void (*handler)(void));

// Undoes `hv_setup_kexec_handler`.
void hv_remove_kexec_handler(void);

// Runs the handler that was set up, if there is one: the kernel calls it before it starts another.
void hv_kexec(void);

// Lets `handler` run when the kernel calls `hv_crash`.
//
// # Safety
//
// `handler` may be called until it is removed.
void hv_setup_crash_handler(void (*handler)(struct pt_regs *regs));

// Undoes `hv_setup_crash_handler`.
void hv_remove_crash_handler(void);

// Runs the handler that was set up, if there is one: the kernel calls it when it crashes.
//
// # Safety
//
// `regs` is what the handler expects.
void hv_crash(struct pt_regs *regs);

// Looks whether this is Hyper-V, tells it the guest's id (`generate_guest_id`), and reads what it tells. Once, on the
// boot CPU; and once again after `hyperv_cleanup`. Returns 0, or the hypervisor's status; `HV_STATUS_NOT_FOUND` (0x10) if
// this is not Hyper-V.
//
// # Safety
//
// `os` points to a structure that stays as it is from now on, with functions that are what it says.
uint64_t hv_guest_init(const struct hv_guest_os *os,
                       uint64_t guest_id);

// Enters the CPU that calls in the map, with the index of its VP. On each CPU as it comes up. Returns 0 or the
// hypervisor's status.
uint64_t hv_cpu_init(void);

// The VP that a CPU is; `VP_INVAL` while it is not up.
int32_t hv_cpu_number_to_vp_number(int32_t cpu_number);

// Whether `hv_guest_init` has found Hyper-V.
bool hv_is_hyperv_initialized(void);

// Puts the VP that calls into reset state: timers, SINTs, pages, SynIC; the CPU leaves the map. On each CPU, before
// `hyperv_cleanup` on the last one. Returns 0 or the first error, after every step was tried.
uint64_t hyperv_cleanup_cpu(void);

// The same for the last CPU, and then for the partition: the reference TSC page, which becomes a page of zeros, and the
// guest id. Nothing of the partition is left: the clock reads the counter register, which the hypervisor refuses until
// there is a guest id again; `ms_hyperv` is zero; no CPU is in the map. Returns 0 or the first error, after every step was
// tried.
uint64_t hyperv_cleanup(void);

// The id of a guest that is Linux or goes by its rules: distribution's bits 55:48, kernel version, distribution's
// bits 15:0.
uint64_t generate_guest_id(uint64_t d_info1,
                           uint64_t kernel_version,
                           uint64_t d_info2);

// Writes a register of the VP that calls. Returns 0 or the hypervisor's status. (The patch's returns nothing.)
//
// # Safety
//
// A page that the value lends to the hypervisor may be written by it until another value takes the page back.
uint64_t hv_set_vpreg(uint32_t reg,
                      uint64_t value);

// Reads a register of the VP that calls; 0 where the hypervisor refuses, which `hv_get_vpreg_128` tells.
uint64_t hv_get_vpreg(uint32_t reg);

// Reads all 128 bits of a register of the VP that calls. Returns 0 or the hypervisor's status, and then leaves `result` as
// it is. (The patch's returns nothing.)
//
// # Safety
//
// `result` can be written.
uint64_t hv_get_vpreg_128(uint32_t reg,
                          struct hv_get_vp_register_output *result);

// Frees a slot of a message page, if it still holds a message of the type that was seen, and writes EOM if another waits.
// Returns 0 or the hypervisor's status of the EOM.
//
// # Safety
//
// `msg` is a slot of a message page that is enabled.
uint64_t vmbus_signal_eom(struct hv_message *msg,
                          uint32_t old_msg_type);

// The counter, CNTVCT_EL0, not read ahead of time.
uint64_t hv_read_hwclock(void);

// The reference time by a reference TSC page, in 100 ns; `cur_tsc` becomes the counter that it was made of. Returns
// UINT64_MAX, and leaves `cur_tsc`, while the page is not valid or changes: then read the register.
//
// # Safety
//
// `tsc_pg` is a reference TSC page; `cur_tsc` can be written.
uint64_t hv_read_tsc_page_tsc(const struct ms_hyperv_tsc_page *tsc_pg,
                              uint64_t *cur_tsc);

// Lends a page of zeros to the hypervisor as the partition's reference TSC page. Returns 0 or the hypervisor's status.
//
// # Safety
//
// `tsc_pg` is at a multiple of 4096, and stays the hypervisor's until `hyperv_cleanup` returns.
uint64_t hv_setup_tsc_page(struct ms_hyperv_tsc_page *tsc_pg);

// The reference time in 100 ns: by the page of `hv_setup_tsc_page` while it is valid, else by the counter register; 0 if
// the hypervisor refuses that.
uint64_t hv_read_reference_counter(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HV_GUEST_H */

#ifdef __cplusplus
extern "C" {
#endif
/* A hypercall with up to seven words of input: two addresses, or fast input. Returns the result value. */
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
