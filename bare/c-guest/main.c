/* Uses every routine of hv_guest.h, and every hypercall that the 2018 patch names, and says of each whether it did what
   it should; or, with "devices" on the command line, VMBus and its devices (devices.c).
   crates/hv-guest-c/tests/header.rs holds this file to that. */
#include "hv_guest.h"
#include "platform.h"

#define HVMSG_NONE 0
#define HVMSG_TIMER_EXPIRED 0x80000010
#define HV_REGISTER_FEATURES 0x00000200
#define HV_REGISTER_REFERENCE_TSC 0x00090017
#define HV_REGISTER_GUEST_OSID 0x00090002
#define HV_GET_ONE 0x100010050UL
#define HV_SET_ONE 0x100010051UL
#define HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE 0x2
#define HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST 0x3
#define HVCALL_NOTIFY_LONG_SPIN_WAIT 0x8
#define HVCALL_SEND_IPI 0xb
#define HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX 0x13
#define HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX 0x14
#define HVCALL_SEND_IPI_EX 0x15
#define HVCALL_GET_VP_REGISTERS 0x50
#define HVCALL_SET_VP_REGISTERS 0x51
#define HVCALL_POST_MESSAGE 0x5c
#define HVCALL_SIGNAL_EVENT 0x5d
#define HVCALL_RETARGET_INTERRUPT 0x7e
#define HVCALL_START_VIRTUAL_PROCESSOR 0x99
#define HV_FLUSH_ALL_PROCESSORS 1UL
#define HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES 2UL
#define HV_GENERIC_SET_SPARSE_4K 0UL
#define HV_GENERIC_SET_ALL 1UL
#define HV_STATUS_INVALID_CONNECTION_ID 0x12
#define SELF UINT64_MAX
#define THIS_VP 0xfffffffeUL
#define VMBUS_SINT 2
#define IPI_INTID 21 /* a private interrupt that nothing else uses */
#define STIMER_DIRECT_ONESHOT(intid) (1UL << 12 | (uint64_t)(intid) << 4 | 1 << 3)
#define STIMER_MESSAGE_ONESHOT(sint) ((uint64_t)(sint) << 16 | 1 << 3)

static struct machine machine;
static uint32_t vp_indices[MAX_CPUS];
static _Alignas(PAGE) uint8_t message_pages[MAX_CPUS][PAGE], event_pages[MAX_CPUS][PAGE];
static _Alignas(PAGE) uint8_t tsc_page[PAGE], call_page[PAGE], output_page[PAGE], crash_page[PAGE];
static volatile uint32_t checks, failures, cpus_ready, cpus_done;
static volatile uint32_t vmbus_interrupts, timer_interrupts, ipis[MAX_CPUS];

void check(const char *what, bool good)
{
    __atomic_fetch_add(&checks, 1, __ATOMIC_RELAXED);
    if (good)
        return;
    __atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
    line_begin();
    print("c-guest: WRONG: ");
    print(what);
    print("\n");
    line_end();
}

static void vmbus_irq(void) { vmbus_interrupts++; }
static void timer_irq(void) { timer_interrupts++; }
static bool vmbus_irq_came(void) { return vmbus_interrupts != 0; }
static bool timer_irq_came(void) { return timer_interrupts != 0; }
static void ipi(void) { __atomic_fetch_add(&ipis[cpu_number()], 1, __ATOMIC_RELEASE); }
static bool first_ipi_came(void)
{
    uint32_t cpus = 0;
    for (uint32_t cpu = 0; cpu < machine.cpus; cpu++)
        cpus += ipis[cpu] != 0;
    return cpus == machine.cpus;
}
static bool ipis_came(void) { return ipis[cpu_number()] == 2; }
static bool all_cpus_ready(void) { return cpus_ready == machine.cpus - 1; }
static bool all_cpus_done(void) { return cpus_done == machine.cpus - 1; }

static struct hv_message *slot(uint32_t cpu, uint32_t sint)
{
    return (struct hv_message *)(message_pages[cpu] + sint * 256);
}

static void registers(void)
{
    struct hv_get_vp_register_output wide, same;
    uint64_t id, index;
    check("hv_get_vpreg", hv_get_vpreg(HV_REGISTER_GUEST_OSID) == generate_guest_id(0x42, 0x10000, 7));
    check("generate_guest_id", generate_guest_id(0x42, 0x10000, 7) == 0x8142000100000007UL);
    check("hv_get_vpreg_128", hv_get_vpreg_128(HV_REGISTER_FEATURES, &wide) == 0);
    check("ms_hyperv", (uint32_t)wide.registervaluelow == ms_hyperv.features &&
                           (uint32_t)wide.registervaluehigh == ms_hyperv.misc_features && ms_hyperv.hints);
    check("hv_do_hvc_fast_get",
          (hv_do_hvc_fast_get(HV_GET_ONE, SELF, THIS_VP, HV_REGISTER_FEATURES, &same) & 0xffff) == 0);
    check("hv_do_hvc_fast_get gives the same", same.registervaluelow == wide.registervaluelow &&
                                                   same.registervaluehigh == wide.registervaluehigh);
    id = hv_get_vpreg(HV_REGISTER_GUEST_OSID);
    check("hv_do_hvc", (hv_do_hvc(HV_SET_ONE, SELF, THIS_VP, (uint64_t)HV_REGISTER_GUEST_OSID, 0UL, id, 0UL) &
                        0xffff) == 0);
    check("hv_set_vpreg of what cannot be written", hv_set_vpreg(HV_REGISTER_TIME_REFCOUNT, 1) != 0);
    hv_get_vp_index(index);
    check("hv_get_vp_index", index == 0);
}

static void hypercalls(void)
{
    uint64_t *header = (uint64_t *)call_page, *values = (uint64_t *)output_page;
    uint32_t *names = (uint32_t *)(call_page + 16);
    header[0] = SELF;
    header[1] = THIS_VP;
    for (int i = 0; i < 100; i++)
        names[i] = HV_REGISTER_GUEST_OSID;
    check("hv_do_hypercall", hv_do_hypercall(HVCALL_GET_VP_REGISTERS | 2UL << 32, call_page, output_page) == 2UL << 32);
    check("hv_do_hypercall's output", values[2] == values[0] && values[0] == hv_get_vpreg(HV_REGISTER_GUEST_OSID));
    values[198] = 0;
    check("hv_do_rep_hypercall",
          hv_do_rep_hypercall(HVCALL_GET_VP_REGISTERS, 100, 0, call_page, output_page) == 100UL << 32);
    check("hv_do_rep_hypercall's output", values[198] == values[0]);
    check("hv_do_fast_hypercall8", hv_do_fast_hypercall8(HVCALL_NOTIFY_LONG_SPIN_WAIT, 1) == 0);
    check("hv_do_fast_hypercall8's error",
          (hv_do_fast_hypercall8(HVCALL_SIGNAL_EVENT, 0xabcdef) & 0xffff) == HV_STATUS_INVALID_CONNECTION_ID);
    check("HVCALL_SET_VP_REGISTERS of a name that is none",
          (hv_do_rep_hypercall(HVCALL_SET_VP_REGISTERS, 1, 0, call_page, NULL) & 0xffff) != 0);
}

/* Makes a hypercall with a block of these words in memory. Returns its status. */
static uint64_t call(uint64_t control, const uint64_t *words, size_t count)
{
    uint64_t *page = (uint64_t *)call_page;
    for (size_t i = 0; i < count; i++)
        page[i] = words[i];
    return hv_do_hypercall(control, call_page, NULL) & 0xffff;
}
#define CALL(control, ...)                                                              \
    ({ const uint64_t words_[] = { __VA_ARGS__ }; call(control, words_, sizeof(words_) / sizeof(words_[0])); })
#define VARIABLE_HEADER(words) ((uint64_t)(words) << 17)
#define REPS(count) ((uint64_t)(count) << 32)

/* The hypercalls that name processors, to all CPUs, which have the IPI's interrupt enabled. */
static void processor_calls(void)
{
    const uint64_t all = (1UL << machine.cpus) - 1, everything = HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES;
    const uint64_t range = (uint64_t)call_page, self = SELF;
    check("HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE", CALL(HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE, 0, everything, all) == 0);
    check("HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST",
          CALL(HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST | REPS(2), 0, everything | HV_FLUSH_ALL_PROCESSORS, 0, range, range) == 0);
    check("HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX",
          CALL(HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX, 0, everything, HV_GENERIC_SET_ALL, 0) == 0);
    check("HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX",
          CALL(HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX | VARIABLE_HEADER(1) | REPS(1), 0, everything,
               HV_GENERIC_SET_SPARSE_4K, 1, all, range) == 0);
    check("hv_do_fast_hypercall16", hv_do_fast_hypercall16(HVCALL_SEND_IPI, IPI_INTID, all) == 0);
    /* A second one before each has taken the first would be one with it. */
    check("HVCALL_SEND_IPI reaches every CPU", wait_for(first_ipi_came));
    check("HVCALL_SEND_IPI_EX", CALL(HVCALL_SEND_IPI_EX | VARIABLE_HEADER(1), IPI_INTID, HV_GENERIC_SET_SPARSE_4K, 1, all) == 0);
    check("HVCALL_SEND_IPI_EX reaches this CPU", wait_for(ipis_came));
    check("HVCALL_RETARGET_INTERRUPT of a device that is not there",
          CALL(HVCALL_RETARGET_INTERRUPT, self, 0x1234, 1, 0x80000, 64, 0, 64, all) != 0);
}

/* Starts a CPU by hypercall; X18 tells it its number. */
static uint64_t start_vp(uint32_t cpu)
{
    extern char secondary_start_x18[];
    return CALL(HVCALL_START_VIRTUAL_PROCESSOR, SELF, cpu, (uint64_t)secondary_start_x18, 0, SCTLR_OFF, 0, 0, 0, 0, 0, cpu);
}

static void clock(void)
{
    uint64_t before, after, counter = 0, tick;
    hv_get_current_tick(before);
    check("hv_read_tsc_page_tsc of no page",
          hv_read_tsc_page_tsc((struct ms_hyperv_tsc_page *)tsc_page, &counter) == UINT64_MAX);
    check("hv_setup_tsc_page", hv_setup_tsc_page((struct ms_hyperv_tsc_page *)tsc_page) == 0);
    after = hv_read_tsc_page_tsc((struct ms_hyperv_tsc_page *)tsc_page, &counter);
    hv_get_current_tick(tick);
    check("hv_read_tsc_page_tsc", before <= after && after <= tick);
    check("hv_read_hwclock", counter && counter <= hv_read_hwclock());
    check("hyperv_cs", hyperv_cs() >= after);
}

/* Enables the SynIC of this CPU. */
static void synic_on(uint32_t cpu)
{
    uint64_t simp, siefp, sint, control;
    hv_get_simp(simp);
    hv_set_simp((simp & 0xffe) | virt_to_phys(message_pages[cpu]) | 1);
    hv_get_siefp(siefp);
    hv_set_siefp((siefp & 0xffe) | virt_to_phys(event_pages[cpu]) | 1);
    hv_enable_vmbus_irq();
    hv_get_synint_state(VMBUS_SINT, sint);
    check("hv_get_synint_state", sint == 0x10000);
    hv_set_synint_state(VMBUS_SINT, machine.vmbus_intid);
    hv_get_synic_state(control);
    hv_set_synic_state(control | 1);
    hv_get_simp(simp);
    hv_get_siefp(siefp);
    check("hv_set_simp", simp == (virt_to_phys(message_pages[cpu]) | 1));
    check("hv_set_siefp", siefp == (virt_to_phys(event_pages[cpu]) | 1));
}

static void post_contact(uint32_t vp)
{
    struct {
        uint32_t connection, reserved, type, size;
        uint32_t contact_type, padding, version, target_vp;
        uint64_t target_info, monitor1, monitor2;
    } *post = (void *)call_page;
    *post = (typeof(*post)){ .connection = 4, .type = 1, .size = 40, .contact_type = 14,
                             .version = 0x50003, .target_vp = vp, .target_info = VMBUS_SINT };
    check("HVCALL_POST_MESSAGE", hv_do_hypercall(HVCALL_POST_MESSAGE, call_page, NULL) == 0);
}

static void messages(void)
{
    volatile struct hv_message *message = slot(0, VMBUS_SINT);
    vmbus_interrupts = 0;
    post_contact(0);
    check("the VMBus interrupt comes", wait_for(vmbus_irq_came));
    check("with VERSION_RESPONSE", message->header.message_type == 1 && (uint32_t)message->payload[0] == 15);
    check("vmbus_signal_eom of another type", vmbus_signal_eom((void *)message, 2) == 0);
    check("leaves the message", message->header.message_type == 1);
    check("vmbus_signal_eom", vmbus_signal_eom((void *)message, 1) == 0);
    check("frees the slot", message->header.message_type == HVMSG_NONE);
    check("hv_signal_eom", hv_signal_eom() == 0);
}

static void timers(void)
{
    int irq = 0, vector = 0;
    uint64_t now;
    volatile struct hv_message *message = slot(0, VMBUS_SINT);
    check("hv_setup_stimer0_irq", hv_setup_stimer0_irq(&irq, &vector, timer_irq) == 0);
    check("its number", irq == vector && (uint32_t)irq == machine.stimer_intid);
    hv_enable_stimer0_percpu_irq(irq);
    timer_interrupts = 0;
    hv_get_current_tick(now);
    check("hv_init_timer_config", hv_init_timer_config(0, STIMER_DIRECT_ONESHOT(irq)) == 0);
    check("hv_init_timer", hv_init_timer(0, now + 50000) == 0);
    check("the timer's interrupt comes", wait_for(timer_irq_came));
    check("not early", hyperv_cs() >= now + 50000);
    hv_disable_stimer0_percpu_irq(irq);
    hv_remove_stimer0_irq(irq);
    vmbus_interrupts = 0;
    hv_init_timer_config(1, STIMER_MESSAGE_ONESHOT(VMBUS_SINT));
    hv_init_timer(1, hyperv_cs() + 50000);
    check("a timer's message interrupts", wait_for(vmbus_irq_came));
    check("and says so", message->header.message_type == HVMSG_TIMER_EXPIRED && (uint32_t)message->payload[0] == 1);
    vmbus_signal_eom((void *)message, HVMSG_TIMER_EXPIRED);
}

/* The other CPUs: each enters itself in the map, enables its SynIC, takes a timer's message, and leaves. */
void secondary_main(uint32_t cpu)
{
    volatile struct hv_message *message = slot(cpu, VMBUS_SINT);
    uint64_t end, index;
    if (machine.devices) {
        devices_secondary(cpu);
        return;
    }
    gic_init_cpu();
    check("hv_cpu_init", hv_cpu_init() == 0);
    hv_get_vp_index(index);
    check("each CPU has its own index", index == cpu);
    synic_on(cpu);
    hv_init_timer_config(3, STIMER_MESSAGE_ONESHOT(VMBUS_SINT));
    hv_init_timer(3, hyperv_cs() + 1000);
    for (end = hyperv_cs() + PATIENCE * 10000000UL; !message->header.message_type && hyperv_cs() < end;)
        ;
    check("a message on each CPU", message->header.message_type == HVMSG_TIMER_EXPIRED);
    vmbus_signal_eom((void *)message, HVMSG_TIMER_EXPIRED);
    enable_irq(IPI_INTID);
    __atomic_fetch_add(&cpus_ready, 1, __ATOMIC_RELEASE);
    check("both IPIs reach each CPU", wait_for(ipis_came));
    hv_disable_vmbus_irq();
    check("hyperv_cleanup_cpu", hyperv_cleanup_cpu() == 0);
    __atomic_fetch_add(&cpus_done, 1, __ATOMIC_RELEASE);
}

static void processors(void)
{
    check("hv_cpu_init", hv_cpu_init() == 0);
    setup_irq(IPI_INTID, ipi);
    enable_irq(IPI_INTID);
    for (uint32_t cpu = 1; cpu < machine.cpus; cpu++) {
        check("VP_INVAL before", (uint32_t)hv_cpu_number_to_vp_number((int)cpu) == VP_INVAL);
        if (cpu == machine.cpus - 1)
            check("HVCALL_START_VIRTUAL_PROCESSOR", start_vp(cpu) == 0);
        else
            check("CPU_ON", start_cpu(cpu) == 0);
    }
    check("a CPU that runs is not started", start_vp(0) != 0);
    check("the other CPUs come up", wait_for(all_cpus_ready));
    for (uint32_t cpu = 0; cpu < machine.cpus; cpu++)
        check("hv_cpu_number_to_vp_number", (uint32_t)hv_cpu_number_to_vp_number((int)cpu) == hv_vp_index[cpu] &&
                                                hv_vp_index[cpu] == cpu);
    processor_calls();
    check("the other CPUs are done", wait_for(all_cpus_done));
    for (uint32_t cpu = 1; cpu < machine.cpus; cpu++)
        check("VP_INVAL afterwards", (uint32_t)hv_cpu_number_to_vp_number((int)cpu) == VP_INVAL);
    check("hv_max_vp_index", hv_max_vp_index == machine.cpus - 1);
    check("no such CPU", (uint32_t)hv_cpu_number_to_vp_number(99) == VP_INVAL);
}

static uint64_t cleanup_status;
static void on_kexec(void) { cleanup_status = hyperv_cleanup(); }

static void teardown(void)
{
    uint64_t simp, control, sint, before = 0, now, after;
    hv_disable_vmbus_irq();
    hv_remove_vmbus_irq();
    hv_setup_kexec_handler(on_kexec);
    cleanup_status = 1;
    hv_kexec();
    check("hyperv_cleanup", cleanup_status == 0);
    hv_remove_kexec_handler();
    cleanup_status = 1;
    hv_kexec();
    check("hv_remove_kexec_handler", cleanup_status == 1);
    check("hv_is_hyperv_initialized afterwards", !hv_is_hyperv_initialized());
    check("ms_hyperv afterwards", !ms_hyperv.features && !ms_hyperv.hints && !ms_hyperv.max_vp_index);
    check("no CPU in the map afterwards", (uint32_t)hv_cpu_number_to_vp_number(0) == VP_INVAL &&
                                              hv_vp_index[0] == VP_INVAL && !hv_max_vp_index);
    check("the guest id is gone", hv_get_vpreg(HV_REGISTER_GUEST_OSID) == 0);
    check("the page that was given back is not valid",
          hv_read_tsc_page_tsc((struct ms_hyperv_tsc_page *)tsc_page, &before) == UINT64_MAX);
    /* It holds something else now, which the clock must not take for the time. */
    for (size_t i = 0; i < 24; i++)
        tsc_page[i] = 0x7f;
    /* With an id again, everything else is found in reset state. */
    hv_set_vpreg(HV_REGISTER_GUEST_OSID, generate_guest_id(0x42, 0x10000, 7));
    hv_get_current_tick(before);
    now = hyperv_cs();
    hv_get_current_tick(after);
    check("the clock reads the register afterwards", before && before <= now && now <= after);
    hv_get_simp(simp);
    hv_get_synic_state(control);
    hv_get_synint_state(VMBUS_SINT, sint);
    check("reset state", simp == 0 && control == 0 && sint == 0x10000 && !hv_get_vpreg(HV_REGISTER_REFERENCE_TSC));
}

static void on_crash(struct pt_regs *regs)
{
    static const char text[] = "c-guest: a deliberate crash";
    uint64_t control;
    (void)regs;
    hv_get_crash_ctl(control);
    check("hv_get_crash_ctl", control >> 63);
    for (unsigned i = 0; i < sizeof(text); i++)
        crash_page[i] = (uint8_t)text[i];
    check("hyperv_report_panic_msg", hyperv_report_panic_msg(virt_to_phys(crash_page), sizeof(text) - 1) == 0);
}

static void crash(void)
{
    struct pt_regs regs = { .pc = 1, .sp = 2 };
    hv_setup_crash_handler(on_crash);
    hv_crash(&regs);
    check("one report", hyperv_report_panic(&regs, -1) != 0);
    hv_remove_crash_handler();
    hv_crash(&regs);
}

static void routines(void)
{
    registers();
    hypercalls();
    clock();
    hv_setup_vmbus_irq(vmbus_irq);
    synic_on(0);
    messages();
    timers();
    processors();
    teardown();
    crash();
}

void main(const void *tree)
{
    static struct hv_guest_os os;
    uint64_t status;
    read_device_tree(tree, &machine);
    gic_init();
    gic_init_cpu();
    os = (struct hv_guest_os){ virt_to_phys, cpu_number, setup_irq, remove_irq, enable_irq, disable_irq,
                               machine.vmbus_intid, machine.stimer_intid, vp_indices, machine.cpus,
                               machine.hvc1 ? 2 : 0 };
    check("hv_is_hyperv_initialized before", !hv_is_hyperv_initialized());
    status = hv_guest_init(&os, generate_guest_id(0x42, 0x10000, 7));
    check("hv_guest_init", status == 0 && hv_is_hyperv_initialized());
    if (machine.devices)
        devices(&machine);
    else
        routines();
    print("c-guest: ");
    print_number(checks);
    print(" checks over hvc #");
    print(machine.hvc1 ? "1" : "0");
    print(" on ");
    print_number(machine.cpus);
    print(" CPUs, ");
    print_number(failures);
    print(" wrong\n");
}
