// Entry of every CPU: at EL1, MMU off, interrupts masked.
//
// The program runs on SP_EL0 and exceptions on SP_EL1 (PSTATE.SP = 0), so that an overflow of the program's stack
// can still be reported. TPIDR_EL1 holds the CPU's number.

.section .text.start, "ax"
.global _start
_start:
    // x0 = device tree. QEMU's own loader leaves 0, and puts the tree at the start of RAM. x1 = 0, or the generation
    // that `restart` counts.
    mov     x20, #0x40000000
    cmp     x0, #0
    csel    x20, x20, x0, eq
    mov     x21, x1
    mov     x19, #0
    bl      prepare_cpu
    adrp    x0, __bss_start
    add     x0, x0, :lo12:__bss_start
    adrp    x1, __bss_end
    add     x1, x1, :lo12:__bss_end
0:  cmp     x0, x1
    b.hs    1f
    stp     xzr, xzr, [x0], #16
    b       0b
1:  // A copy of the data as it is in the file, for `restart`.
    adrp    x0, __data_start
    add     x0, x0, :lo12:__data_start
    adrp    x1, __data_end
    add     x1, x1, :lo12:__data_end
    adrp    x2, __data_copy
    add     x2, x2, :lo12:__data_copy
    bl      copy
    mov     x0, x20
    bl      {build_tables}
    bl      enable_mmu
    mov     x0, x20
    mov     x1, x21
    bl      {primary}

// Copies x0 to x1, both multiples of 8, to x2.
copy:
    cmp     x0, x1
    b.hs    2f
    ldr     x3, [x0], #8
    str     x3, [x2], #8
    b       copy
2:  ret

// x0 = device tree, x1 = generation. Interrupts are masked, the other CPUs off.
.global rt_restart
rt_restart:
    mov     x20, x0
    mov     x21, x1
    adrp    x2, __data_start
    add     x2, x2, :lo12:__data_start
    adrp    x1, __data_end
    add     x1, x1, :lo12:__data_end
    sub     x1, x1, x2
    adrp    x0, __data_copy
    add     x0, x0, :lo12:__data_copy
    add     x1, x0, x1
    bl      copy
    // Addresses are the same without the MMU. Caches are coherent with what it sees then, as on QEMU.
    dsb     sy
    ldr     x2, ={sctlr_off}
    msr     sctlr_el1, x2
    isb
    mov     x0, x20
    mov     x1, x21
    b       _start

// x0 = number of the CPU.
.global rt_secondary_start
rt_secondary_start:
    mov     x19, x0
    bl      prepare_cpu
    bl      enable_mmu
    mov     x0, x19
    bl      {secondary}

// x19 = number of the CPU. Main stack n ends at __stacks + (n + 1) * __stack_stride, exception stack n likewise
// (rt.ld).
prepare_cpu:
    msr     tpidr_el1, x19
    add     x2, x19, #1
    adrp    x1, __exception_stacks
    add     x1, x1, :lo12:__exception_stacks
    ldr     x3, =__exception_stack_stride
    madd    x1, x2, x3, x1
    msr     spsel, #1
    mov     sp, x1
    adrp    x1, __stacks
    add     x1, x1, :lo12:__stacks
    ldr     x3, =__stack_stride
    madd    x1, x2, x3, x1
    msr     spsel, #0
    mov     sp, x1
    adrp    x1, rt_vectors
    add     x1, x1, :lo12:rt_vectors
    msr     vbar_el1, x1
    // FPEN: floating point and SIMD do not trap. Rust code does not use them, but probes may.
    mov     x1, #0x300000
    msr     cpacr_el1, x1
    isb
    ret

// mmu.rs chose the values, with the MMU off, and explains them.
enable_mmu:
    adrp    x2, {translation}
    add     x2, x2, :lo12:{translation}
    ldp     x0, x1, [x2]
    msr     ttbr0_el1, x0
    msr     tcr_el1, x1
    ldr     x1, ={mair}
    msr     mair_el1, x1
    dsb     sy
    tlbi    vmalle1
    dsb     nsh
    ic      iallu
    dsb     nsh
    isb
    ldr     x1, ={sctlr_on}
    msr     sctlr_el1, x1
    isb
    ret
.ltorg
