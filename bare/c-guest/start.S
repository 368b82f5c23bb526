/* Entry at EL1 with X0 = device tree (CPU 0), or X0 = CPU number (the others, by PSCI) or X18 = CPU number (by
   hypercall, which gives no other register), MMU off. */
    .section .text.start, "ax"
    .global _start, secondary_start, secondary_start_x18
_start:
    mov     x19, x0
    mov     x20, #0
    ldr     x0, =__bss_start
    ldr     x1, =__bss_end
1:  cmp     x0, x1
    b.hs    2f
    stp     xzr, xzr, [x0], #16
    b       1b
2:  bl      build_tables
    b       common
secondary_start_x18:
    mov     x0, x18
secondary_start:
    mov     x20, x0
common:
    /* 64 KiB of stack for each CPU, the last one at the end. */
    ldr     x0, =__stacks_end
    sub     x0, x0, x20, lsl #16
    mov     sp, x0
    msr     tpidr_el1, x20
    adr     x0, vectors
    msr     vbar_el1, x0
    bl      enable_mmu
    cbnz    x20, 3f
    mov     x0, x19
    bl      main
    b       machine_off
3:  mov     x0, x20
    bl      secondary_main
    b       cpu_off

    .balign 2048
vectors:
    .rept 5
    b       unexpected
    .balign 128
    .endr
    /* IRQ at EL1 with SP_EL1: 0x280. */
    sub     sp, sp, #176
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    b       irq
    .balign 128
    .rept 10
    b       unexpected
    .balign 128
    .endr
irq:
    stp     x18, x30, [sp, #144]
    bl      handle_irq
    ldp     x18, x30, [sp, #144]
    ldp     x16, x17, [sp, #128]
    ldp     x14, x15, [sp, #112]
    ldp     x12, x13, [sp, #96]
    ldp     x10, x11, [sp, #80]
    ldp     x8, x9, [sp, #64]
    ldp     x6, x7, [sp, #48]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp]
    add     sp, sp, #176
    eret
unexpected:
    mrs     x0, esr_el1
    mrs     x1, elr_el1
    mrs     x2, far_el1
    b       die

    .global smc_call
smc_call:
    hvc     #0
    ret
