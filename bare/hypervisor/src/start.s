// Entry of every CPU: at EL2, MMU off, interrupts masked.
//
// CPU 0 comes from QEMU's loader. The others come from a PSCI CPU_ON that CPU 0 makes, with x0 = CPU number; by then
// the stage-1 tables exist. Before a CPU turns on its MMU it reads two words that CPU 0 has written with its own off,
// so no cache has them: where the stacks are, and the tables' root.

.section .text.start, "ax"
.global _start
_start:
    adrp    x1, __fault_stack_end
    add     x1, x1, :lo12:__fault_stack_end
    bl      use_stack
    bl      {primary_main}
    // primary_main placed the stacks, built the tables and returned TTBR0_EL2.
    mov     x20, x0
    mov     x19, #0
    bl      set_stack
    mov     x0, x20
    bl      enable_mmu
    mov     x0, #0
    b       {cpu_main}

.global secondary_start
secondary_start:
    mov     x19, x0
    bl      set_stack
    adrp    x0, {stage1_root}
    ldr     x0, [x0, :lo12:{stage1_root}]
    bl      enable_mmu
    mov     x0, x19
    b       {cpu_main}

// x19 = CPU number. Stack n ends (n + 1) strides after the start of the stacks (stacks.rs). The CPU's TrapFrame is at
// the end, and the stack begins below it.
set_stack:
    adrp    x1, {stacks}
    ldr     x1, [x1, :lo12:{stacks}]
    add     x2, x19, #1
    ldr     x3, ={stack_stride}
    madd    x1, x2, x3, x1
    sub     x1, x1, #{frame}
    // fall through

// x1 = the stack's end.
use_stack:
    mov     sp, x1
    msr     spsel, #1
    mov     sp, x1
    adrp    x1, vectors
    add     x1, x1, :lo12:vectors
    msr     vbar_el2, x1
    isb
    ret

// x0 = TTBR0_EL2. The other values are those of mmu.rs.
enable_mmu:
    msr     ttbr0_el2, x0
    ldr     x1, ={mair}
    msr     mair_el2, x1
    mrs     x1, id_aa64mmfr0_el1
    and     x1, x1, #0xf
    cmp     x1, #5
    mov     x2, #5
    csel    x1, x1, x2, ls
    ldr     x2, ={tcr}
    orr     x2, x2, x1, lsl #16
    msr     tcr_el2, x2
    tlbi    alle2
    dsb     nsh
    ic      iallu
    dsb     nsh
    isb
    ldr     x1, ={sctlr}
    msr     sctlr_el2, x1
    isb
    ret
.ltorg
