// memcpy and memset, which the compiler calls for whatever is longer than a few words: a request's way from packet to
// answer takes twenty such calls, of 100 bytes on average.
//
// EL2 checks alignment. What is aligned alike goes by pairs of words, the rest by bytes.

.section .text.memcpy, "ax", %progbits
.globl memcpy
.type memcpy, %function
memcpy:
    mov     x3, x0
    orr     x4, x0, x1
    tst     x4, #7
    b.ne    6f
1:  subs    x2, x2, #32
    b.lo    3f
2:  ldp     x4, x5, [x1], #16
    ldp     x6, x7, [x1], #16
    stp     x4, x5, [x3], #16
    stp     x6, x7, [x3], #16
    subs    x2, x2, #32
    b.hs    2b
    // Below its bit 5, X2 is what is left.
3:  tbz     x2, #4, 4f
    ldp     x4, x5, [x1], #16
    stp     x4, x5, [x3], #16
4:  tbz     x2, #3, 5f
    ldr     x4, [x1], #8
    str     x4, [x3], #8
5:  and     x2, x2, #7
    cbz     x2, 9f
    b       8f
    // Up to a word's beginning, if both get there at once.
6:  eor     x4, x0, x1
    tst     x4, #7
    b.ne    7f
    neg     x4, x0
    and     x4, x4, #7
    cmp     x4, x2
    b.hs    7f
    sub     x2, x2, x4
0:  ldrb    w5, [x1], #1
    strb    w5, [x3], #1
    subs    x4, x4, #1
    b.ne    0b
    b       1b
7:  cbz     x2, 9f
8:  ldrb    w4, [x1], #1
    strb    w4, [x3], #1
    subs    x2, x2, #1
    b.ne    8b
9:  ret
.size memcpy, . - memcpy

.section .text.memset, "ax", %progbits
.globl memset
.type memset, %function
memset:
    mov     x3, x0
    and     x4, x1, #0xff
    orr     x4, x4, x4, lsl #8
    orr     x4, x4, x4, lsl #16
    orr     x4, x4, x4, lsl #32
1:  tst     x3, #7
    b.eq    2f
    cbz     x2, 9f
    strb    w4, [x3], #1
    sub     x2, x2, #1
    b       1b
2:  subs    x2, x2, #32
    b.lo    4f
3:  stp     x4, x4, [x3], #16
    stp     x4, x4, [x3], #16
    subs    x2, x2, #32
    b.hs    3b
    // Below its bit 5, X2 is what is left.
4:  tbz     x2, #4, 5f
    stp     x4, x4, [x3], #16
5:  tbz     x2, #3, 6f
    str     x4, [x3], #8
6:  and     x2, x2, #7
7:  cbz     x2, 9f
    strb    w4, [x3], #1
    sub     x2, x2, #1
    b       7b
9:  ret
.size memset, . - memset
