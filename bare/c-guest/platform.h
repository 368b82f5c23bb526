/* What is not Hyper-V: console, memory, interrupts, device tree, CPUs. */
#ifndef PLATFORM_H
#define PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Seconds after which what should have come is given up, however busy the machine is. */
#define PATIENCE 120
#define PAGE 4096
#define MAX_CPUS 8
#define SCTLR_OFF 0x30d00800UL /* SCTLR_EL1 with the MMU off: the RES1 bits */

/* What the device tree says. */
struct machine {
    uint32_t vmbus_intid;
    uint32_t stimer_intid;
    uint32_t cpus;
    bool hvc1;    /* "hvc1" is on the command line */
    bool devices; /* "devices" is on the command line */
};
void read_device_tree(const void *tree, struct machine *machine);

/* Between these a CPU prints a line that no other CPU cuts. Interrupt handlers print nothing. */
void line_begin(void);
void line_end(void);
void print(const char *text);
void print_number(uint64_t number);
void machine_off(void) __attribute__((noreturn));
void cpu_off(void) __attribute__((noreturn));
int start_cpu(uint32_t cpu);
void secondary_main(uint32_t cpu);

uint32_t cpu_number(void);
uint64_t virt_to_phys(const void *address);
void gic_init(void);
void gic_init_cpu(void);
void setup_irq(uint32_t intid, void (*handler)(void));
void remove_irq(uint32_t intid);
void enable_irq(uint32_t intid);
void disable_irq(uint32_t intid);
/* Takes interrupts until a condition holds; false after ten seconds: emulated machines are slow. */
bool wait_for(bool (*condition)(void));
/* Sleeps until an interrupt is pending, and takes it. */
void wait_for_interrupt(void);

/* Counts a check, and says so if it failed. */
void check(const char *what, bool good);
/* The devices of VMBus, on the first CPU and on the second. */
void devices(const struct machine *machine);
void devices_secondary(uint32_t cpu);

#endif
