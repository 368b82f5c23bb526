/* QEMU's virt machine, as far as this kernel needs it: PL011, GICv3, PSCI, an identity map, the device tree. */
#include "platform.h"

static inline uint32_t read32(uint64_t address) { return *(volatile uint32_t *)address; }
static inline void write32(uint64_t address, uint32_t value) { *(volatile uint32_t *)address = value; }
#define mrs(name) ({ uint64_t value_; __asm__ volatile("mrs %0, " name : "=r"(value_)); value_; })
#define msr(name, value) __asm__ volatile("msr " name ", %0" : : "r"((uint64_t)(value)) : "memory")
#define isb() __asm__ volatile("isb" : : : "memory")

/* Console */

#define UART 0x09000000UL

static void put(char c)
{
    while (read32(UART + 0x18) & (1 << 5))
        ;
    write32(UART, (uint32_t)c);
}

static char line_lock;

void line_begin(void)
{
    while (__atomic_exchange_n(&line_lock, 1, __ATOMIC_ACQUIRE))
        ;
}

void line_end(void) { __atomic_store_n(&line_lock, 0, __ATOMIC_RELEASE); }

void print(const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            put('\r');
        put(*text);
    }
}

void print_number(uint64_t number)
{
    char digits[21], *at = digits + sizeof(digits) - 1;
    *at = 0;
    do {
        *--at = '0' + number % 10;
    } while (number /= 10);
    print(at);
}

void die(uint64_t esr, uint64_t elr, uint64_t far)
{
    print("c-guest: exception: ESR ");
    print_number(esr);
    print(" ELR ");
    print_number(elr);
    print(" FAR ");
    print_number(far);
    print("\n");
    machine_off();
}

/* Memory: the first GiB is devices, the next three are RAM, all mapped to themselves with 1 GiB blocks. */

static uint64_t level1[512] __attribute__((aligned(4096)));

void build_tables(void)
{
    const uint64_t accessed = 1 << 10, inner_shareable = 3 << 8, block = 1;
    level1[0] = accessed | block | (1UL << 54);
    for (uint64_t i = 1; i < 4; i++)
        level1[i] = i << 30 | accessed | inner_shareable | 1 << 2 | block;
}

void enable_mmu(void)
{
    msr("mair_el1", 0xff00); /* 0: device-nGnRnE, 1: normal write-back */
    msr("tcr_el1", 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2UL << 32);
    msr("ttbr0_el1", level1);
    __asm__ volatile("dsb sy; tlbi vmalle1; dsb sy; isb" : : : "memory");
    msr("sctlr_el1", SCTLR_OFF | 1 | 1 << 2 | 1 << 12);
    isb();
}

uint64_t virt_to_phys(const void *address) { return (uint64_t)address; }

/* Interrupts */

#define GICD 0x08000000UL
#define GICR_SGI(cpu) (0x080a0000UL + (cpu) * 0x20000UL + 0x10000UL)

static void (*handlers[64])(void);

uint32_t cpu_number(void) { return (uint32_t)mrs("tpidr_el1"); }

void gic_init(void) { write32(GICD, 1 << 4 | 1 << 1); }

void gic_init_cpu(void)
{
    uint64_t redistributor = GICR_SGI(cpu_number()) - 0x10000;
    write32(redistributor + 0x14, 0); /* awake */
    while (read32(redistributor + 0x14) & (1 << 2))
        ;
    write32(GICR_SGI(cpu_number()) + 0x80, ~0U); /* group 1 */
    msr("s3_0_c12_c12_5", 7);                    /* ICC_SRE_EL1 */
    isb();
    msr("s3_0_c4_c6_0", 0xff);   /* ICC_PMR_EL1 */
    msr("s3_0_c12_c12_7", 1);    /* ICC_IGRPEN1_EL1 */
    isb();
}

void setup_irq(uint32_t intid, void (*handler)(void)) { handlers[intid % 64] = handler; }
void remove_irq(uint32_t intid) { handlers[intid % 64] = NULL; }

void enable_irq(uint32_t intid)
{
    uint64_t sgi = GICR_SGI(cpu_number());
    write32(sgi + 0xc04, read32(sgi + 0xc04) | 2U << (intid - 16) * 2); /* edge */
    write32(sgi + 0x100, 1U << intid);
}

void disable_irq(uint32_t intid) { write32(GICR_SGI(cpu_number()) + 0x180, 1U << intid); }

void handle_irq(void)
{
    uint64_t intid = mrs("s3_0_c12_c12_0"); /* ICC_IAR1_EL1 */
    if (intid < 64 && handlers[intid])
        handlers[intid]();
    msr("s3_0_c12_c12_1", intid); /* ICC_EOIR1_EL1 */
}

bool wait_for(bool (*condition)(void))
{
    uint64_t end = mrs("cntvct_el0") + PATIENCE * mrs("cntfrq_el0");
    bool met;
    __asm__ volatile("msr daifclr, #2" : : : "memory");
    while (!(met = condition()) && mrs("cntvct_el0") < end)
        ;
    __asm__ volatile("msr daifset, #2" : : : "memory");
    return met;
}

void wait_for_interrupt(void)
{
    __asm__ volatile("wfi; msr daifclr, #2; isb; msr daifset, #2" : : : "memory");
}

/* CPUs. Source: Arm Power State Coordination Interface (DEN0022), "PSCI function IDs". */

#define PSCI_CPU_OFF 0x84000002
#define PSCI_SYSTEM_OFF 0x84000008
#define PSCI_CPU_ON_64 0xc4000003

uint64_t smc_call(uint64_t function, uint64_t a, uint64_t b, uint64_t c);
extern char secondary_start[];

int start_cpu(uint32_t cpu) { return (int)smc_call(PSCI_CPU_ON_64, cpu, (uint64_t)secondary_start, cpu); }

void cpu_off(void)
{
    for (;;)
        smc_call(PSCI_CPU_OFF, 0, 0, 0);
}

void machine_off(void)
{
    for (;;)
        smc_call(PSCI_SYSTEM_OFF, 0, 0, 0);
}

/* Device tree */

static uint32_t be32(const uint8_t *at) { return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]; }

static bool same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static bool has_word(const char *text, const char *word)
{
    for (; *text; text++) {
        const char *at = word, *from = text;
        while (*at && *at == *from)
            at++, from++;
        if (!*at && (!*from || *from == ' '))
            return true;
    }
    return false;
}

void read_device_tree(const void *tree, struct machine *machine)
{
    const uint8_t *base = tree, *at = base + be32(base + 8);
    const char *strings = (const char *)base + be32(base + 12);
    uint32_t interrupts = 0;
    bool vmbus = false;
    for (;;) {
        uint32_t token = be32(at);
        at += 4;
        if (token == 1) { /* a node begins */
            size_t length = 0;
            while (at[length])
                length++;
            at += (length + 4) & ~3UL;
            vmbus = false;
            interrupts = 0;
        } else if (token == 3) { /* a property */
            uint32_t length = be32(at);
            const char *name = strings + be32(at + 4);
            const uint8_t *value = at + 8;
            if (same(name, "compatible") && same((const char *)value, "microsoft,vmbus"))
                vmbus = true;
            if (same(name, "interrupts") && length >= 8 && be32(value) == 1)
                interrupts = 16 + be32(value + 4);
            if (same(name, "device_type") && same((const char *)value, "cpu"))
                machine->cpus++;
            if (same(name, "hv-arm64,stimer-intid"))
                machine->stimer_intid = be32(value);
            if (same(name, "bootargs")) {
                machine->hvc1 = has_word((const char *)value, "hvc1");
                machine->devices = has_word((const char *)value, "devices");
            }
            if (vmbus && interrupts)
                machine->vmbus_intid = interrupts;
            at += 8 + ((length + 3) & ~3U);
        } else if (token == 9) {
            return;
        }
    }
}
