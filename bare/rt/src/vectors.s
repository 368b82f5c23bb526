// Exceptions store all general registers, ELR and SPSR in an ExceptionFrame (exception.rs) on the exception stack, and
// call Rust with x0 = frame. Rust's changes to the frame are loaded again.

.macro entry handler
    .balign 128
    sub     sp, sp, #{size}
    stp     x0, x1, [sp, #{x} + 8 * 0]
    adr     x0, \handler
    b       take_exception
.endm

.section .text.vectors, "ax"
.balign 2048
.global rt_vectors
rt_vectors:
    // From EL1 on SP_EL0, where the program runs
    entry   sync
    entry   irq
    entry   other
    entry   other
    // From EL1 on SP_EL1: an exception inside a handler
    entry   sync
    entry   irq
    entry   other
    entry   other
    // From EL0, which these programs do not use
    entry   other
    entry   other
    entry   other
    entry   other
    entry   other
    entry   other
    entry   other
    entry   other

sync:   b       {sync}
irq:    b       {irq}
other:  b       {other}

// x0 = handler; x0 and x1 are stored.
take_exception:
    stp     x2, x3, [sp, #{x} + 8 * 2]
    stp     x4, x5, [sp, #{x} + 8 * 4]
    stp     x6, x7, [sp, #{x} + 8 * 6]
    stp     x8, x9, [sp, #{x} + 8 * 8]
    stp     x10, x11, [sp, #{x} + 8 * 10]
    stp     x12, x13, [sp, #{x} + 8 * 12]
    stp     x14, x15, [sp, #{x} + 8 * 14]
    stp     x16, x17, [sp, #{x} + 8 * 16]
    stp     x18, x19, [sp, #{x} + 8 * 18]
    stp     x20, x21, [sp, #{x} + 8 * 20]
    stp     x22, x23, [sp, #{x} + 8 * 22]
    stp     x24, x25, [sp, #{x} + 8 * 24]
    stp     x26, x27, [sp, #{x} + 8 * 26]
    stp     x28, x29, [sp, #{x} + 8 * 28]
    mrs     x1, elr_el1
    stp     x30, x1, [sp, #{x} + 8 * 30]
    mrs     x1, spsr_el1
    str     x1, [sp, #{spsr}]
    mov     x1, x0
    mov     x0, sp
    blr     x1
    ldr     x1, [sp, #{spsr}]
    msr     spsr_el1, x1
    ldp     x30, x1, [sp, #{x} + 8 * 30]
    msr     elr_el1, x1
    ldp     x28, x29, [sp, #{x} + 8 * 28]
    ldp     x26, x27, [sp, #{x} + 8 * 26]
    ldp     x24, x25, [sp, #{x} + 8 * 24]
    ldp     x22, x23, [sp, #{x} + 8 * 22]
    ldp     x20, x21, [sp, #{x} + 8 * 20]
    ldp     x18, x19, [sp, #{x} + 8 * 18]
    ldp     x16, x17, [sp, #{x} + 8 * 16]
    ldp     x14, x15, [sp, #{x} + 8 * 14]
    ldp     x12, x13, [sp, #{x} + 8 * 12]
    ldp     x10, x11, [sp, #{x} + 8 * 10]
    ldp     x8, x9, [sp, #{x} + 8 * 8]
    ldp     x6, x7, [sp, #{x} + 8 * 6]
    ldp     x4, x5, [sp, #{x} + 8 * 4]
    ldp     x2, x3, [sp, #{x} + 8 * 2]
    ldp     x0, x1, [sp, #{x} + 8 * 0]
    add     sp, sp, #{size}
    eret

// Saves the registers that a called function must preserve, and loads all registers but X0, X1 and X30 from the array
// [u64; 31] at x1.
.macro begin_run
    stp     x29, x30, [sp, #-112]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    str     x1, [sp, #96]
    ldp     x2, x3, [x1, #16]
    ldp     x4, x5, [x1, #32]
    ldp     x6, x7, [x1, #48]
    ldp     x8, x9, [x1, #64]
    ldp     x10, x11, [x1, #80]
    ldp     x12, x13, [x1, #96]
    ldp     x14, x15, [x1, #112]
    ldp     x16, x17, [x1, #128]
    ldp     x18, x19, [x1, #144]
    ldp     x20, x21, [x1, #160]
    ldp     x22, x23, [x1, #176]
    ldp     x24, x25, [x1, #192]
    ldp     x26, x27, [x1, #208]
    ldp     x28, x29, [x1, #224]
.endm

// Calls x0 with the registers of the array [u64; 31] at x1, and stores their values afterwards there. X30 is the return
// address, whatever the array says.
.section .text.run, "ax"
.global rt_run
rt_run:
    begin_run
    mov     x30, x0
    ldp     x0, x1, [x1, #0]
    blr     x30
end_run:
    str     x1, [sp, #104]
    ldr     x1, [sp, #96]
    str     x0, [x1, #0]
    ldr     x0, [sp, #104]
    str     x0, [x1, #8]
    stp     x2, x3, [x1, #16]
    stp     x4, x5, [x1, #32]
    stp     x6, x7, [x1, #48]
    stp     x8, x9, [x1, #64]
    stp     x10, x11, [x1, #80]
    stp     x12, x13, [x1, #96]
    stp     x14, x15, [x1, #112]
    stp     x16, x17, [x1, #128]
    stp     x18, x19, [x1, #144]
    stp     x20, x21, [x1, #160]
    stp     x22, x23, [x1, #176]
    stp     x24, x25, [x1, #192]
    stp     x26, x27, [x1, #208]
    stp     x28, x29, [x1, #224]
    ldp     x27, x28, [sp, #80]
    ldp     x25, x26, [sp, #64]
    ldp     x23, x24, [sp, #48]
    ldp     x21, x22, [sp, #32]
    ldp     x19, x20, [sp, #16]
    ldp     x29, x30, [sp], #112
    ret

// The same by an exception return with SPSR_EL1 = x2, interrupts masked.
.global rt_run_in_state
rt_run_in_state:
    msr     elr_el1, x0
    msr     spsr_el1, x2
    begin_run
    adr     x30, end_run
    ldp     x0, x1, [x1, #0]
    eret
