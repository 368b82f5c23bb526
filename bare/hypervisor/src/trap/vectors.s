// The path of a trap.
//
// While the guest runs, SP_EL2 points to the CPU's TrapFrame (cpu.rs), at the top of the CPU's stack. An exit stores
// the guest's registers there ({{x}} is the offset of X0) and calls Rust with x0 = frame; the return path loads them
// again. Rust keeps x19 to x28 by the procedure call standard, so hypercalls and interrupts, which need no guest
// register beyond x18, store only what Rust may clobber; everything else stores all. Interrupts stay masked at EL2, so
// exits do not nest.

.macro save_all_volatile_but_x0_x1
    stp     x2, x3, [sp, #{x} + 8 * 2]
    stp     x4, x5, [sp, #{x} + 8 * 4]
    stp     x6, x7, [sp, #{x} + 8 * 6]
    stp     x8, x9, [sp, #{x} + 8 * 8]
    stp     x10, x11, [sp, #{x} + 8 * 10]
    stp     x12, x13, [sp, #{x} + 8 * 12]
    stp     x14, x15, [sp, #{x} + 8 * 14]
    stp     x16, x17, [sp, #{x} + 8 * 16]
    str     x18, [sp, #{x} + 8 * 18]
    stp     x29, x30, [sp, #{x} + 8 * 29]
.endm

.macro save_volatile
    stp     x0, x1, [sp, #{x} + 8 * 0]
    save_all_volatile_but_x0_x1
.endm

.macro save_preserved
    stp     x19, x20, [sp, #{x} + 8 * 19]
    stp     x21, x22, [sp, #{x} + 8 * 21]
    stp     x23, x24, [sp, #{x} + 8 * 23]
    stp     x25, x26, [sp, #{x} + 8 * 25]
    stp     x27, x28, [sp, #{x} + 8 * 27]
.endm

.macro load_volatile_and_return
    ldp     x2, x3, [sp, #{x} + 8 * 2]
    ldp     x4, x5, [sp, #{x} + 8 * 4]
    ldp     x6, x7, [sp, #{x} + 8 * 6]
    ldp     x8, x9, [sp, #{x} + 8 * 8]
    ldp     x10, x11, [sp, #{x} + 8 * 10]
    ldp     x12, x13, [sp, #{x} + 8 * 12]
    ldp     x14, x15, [sp, #{x} + 8 * 14]
    ldp     x16, x17, [sp, #{x} + 8 * 16]
    ldr     x18, [sp, #{x} + 8 * 18]
    ldp     x29, x30, [sp, #{x} + 8 * 29]
    ldp     x0, x1, [sp, #{x} + 8 * 0]
    eret
.endm

// An exception taken from EL2 itself is a bug of the hypervisor. The stack may have reached its guard page, so the
// exception is reported on another one.
.macro own vector
    .balign 128
    mov     x0, #\vector
    adrp    x1, __fault_stack_end
    add     x1, x1, :lo12:__fault_stack_end
    mov     sp, x1
    b       {hypervisor_fault}
.endm

.section .text.vectors, "ax"
.balign 2048
.global vectors
vectors:
    own 0
    own 1
    own 2
    own 3
    own 4
    own 5
    own 6
    own 7

    // Lower EL, AArch64: synchronous. The hypercall path fits into the vector's 32 instructions.
    .balign 128
    stp     x0, x1, [sp, #{x} + 8 * 0]
    mrs     x1, esr_el2
    lsr     x0, x1, #{class_shift}
    cmp     x0, #{hvc64}            // EC: HVC from AArch64
    b.ne    other_sync
    save_all_volatile_but_x0_x1
    mov     x0, sp
    bl      {hvc_exit}
    load_volatile_and_return

    // Lower EL, AArch64: IRQ
    .balign 128
    save_volatile
    mov     x0, sp
    bl      {irq_exit}
    b       return_from_call

    // Lower EL, AArch64: FIQ; nothing here is in group 0
    .balign 128
    save_volatile
    mov     x0, sp
    bl      {irq_exit}
    b       return_from_call

    // Lower EL, AArch64: SError
    .balign 128
    save_volatile
    save_preserved
    mov     x0, sp
    bl      {serror_exit}
    b       enter_guest

    // Lower EL, AArch32: HCR_EL2.RW keeps EL1 in AArch64; EL0 in AArch32 comes here
    .balign 128
    save_volatile
    save_preserved
    mov     x0, sp
    mrs     x1, esr_el2
    bl      {sync_exit}
    b       enter_guest

    .balign 128
    save_volatile
    mov     x0, sp
    bl      {irq_exit}
    b       return_from_call

    .balign 128
    save_volatile
    mov     x0, sp
    bl      {irq_exit}
    b       return_from_call

    .balign 128
    save_volatile
    save_preserved
    mov     x0, sp
    bl      {serror_exit}
    b       enter_guest

// Not a hypercall. X0 and X1 are in the frame, and x1 is ESR_EL2.
other_sync:
    save_all_volatile_but_x0_x1
    save_preserved
    mov     x0, sp
    bl      {sync_exit}
    // fall through

// Loads every guest register from the frame at SP_EL2.
enter_guest:
    ldp     x19, x20, [sp, #{x} + 8 * 19]
    ldp     x21, x22, [sp, #{x} + 8 * 21]
    ldp     x23, x24, [sp, #{x} + 8 * 23]
    ldp     x25, x26, [sp, #{x} + 8 * 25]
    ldp     x27, x28, [sp, #{x} + 8 * 27]
return_from_call:
    load_volatile_and_return

// First entry of a VP: x0 = frame, which becomes SP_EL2.
.global start_guest
start_guest:
    mov     sp, x0
    b       enter_guest
