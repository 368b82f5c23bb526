//! Linux's counterparts, extracted from its sources and compiled when measuring.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::code::Code;

type Error = Box<dyn std::error::Error>;

const COMPILER: &str = "aarch64-linux-gnu-gcc";

/// What the routines need from the rest of Linux, in our own words.
const SURROUNDINGS: &str = r#"
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long u64;
typedef unsigned char __u8; typedef unsigned int __u32; typedef unsigned long __u64; typedef long s64; typedef int s32;
#define __init
#define asmlinkage
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)
#define __always_inline inline __attribute__((always_inline))
#define __stringify_1(x...) #x
#define __stringify(x...) __stringify_1(x)
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define smp_rmb() __asm__ volatile("dmb ishld" : : : "memory")
#define EXPORT_SYMBOL_GPL(x)
#define BUG_ON(condition) do { if (__builtin_expect(!!(condition), 0)) __builtin_trap(); } while (0)
#define HV_HYPERCALL_RESULT_MASK 0xffff
#define HV_HYPERCALL_FAST_BIT (1UL << 16)
#define HV_HYPERCALL_REP_COMP_1 (1UL << 32)
#define HVCALL_GET_VP_REGISTERS 0x50
#define HVCALL_SET_VP_REGISTERS 0x51
#define HV_PARTITION_ID_SELF ((u64)-1)
#define HV_VP_INDEX_SELF ((u32)-2)
#define HV_FUNC_ID 0x46000001
#define HVMSG_NONE 0
#define hv_result_success(status) (((status) & HV_HYPERCALL_RESULT_MASK) == 0)
#define HV_MSR_EOM 0xa0014
#define hv_set_msr(reg, value) hv_set_vpreg(reg, value)
#define virt_to_phys(address) ((u64)(address))
struct ms_hyperv_tsc_page { volatile u32 tsc_sequence; u32 reserved1; volatile u64 tsc_scale; volatile s64 tsc_offset; };
struct hv_message { struct { u32 message_type; u8 payload_size; struct { u8 msg_pending : 1; } message_flags; } header; };
struct hv_get_vp_registers_output { struct { u64 low, high; } as64; };
static inline u64 hv_get_raw_timer(void)
{
    u64 ticks;
    __asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(ticks) : : "memory");
    return ticks;
}
static inline u64 mul_u64_u64_shr(u64 a, u64 b, unsigned shift)
{
    return (u64)(((unsigned __int128)a * b) >> shift);
}
#define cmpxchg(pointer, old, new) __ll_sc__cmpxchg_case_mb_32(pointer, old, new)
void hv_set_vpreg(u32 msr, u64 value);
"#;

/// Functions to be found in the object.
const ENTRIES: &str = r"
u64 linux_clock_read(const struct ms_hyperv_tsc_page *page)
{
    u64 counter, time;
    return hv_read_tsc_page_tsc(page, &counter, &time) ? time : ~0UL;
}
void linux_end_of_message(struct hv_message *message, u32 seen) { vmbus_signal_eom(message, seen); }
u64 linux_hypercall(u64 control, u64 input, u64 output) { return hv_do_hypercall(control, (void *)input, (void *)output); }
";

/// Headers included by Linux's headers, none of whose contents are needed.
const EMPTY: [&str; 6] = [
    "linux/init.h",
    "linux/types.h",
    "asm/opcodes-sec.h",
    "asm/opcodes-virt.h",
    "asm/assembler.h",
    "asm/alternative-macros.h",
];
const LINKAGE: &str = "#define SYM_FUNC_START(name) .globl name; .type name, %function; name:\n\
    #define SYM_FUNC_END(name) .size name, . - name\n#define EXPORT_SYMBOL(name)\n";

/// Extracts the definition that starts with `start` from a source, up to the line `end`.
fn cut(tree: &Path, file: &str, start: &str, end: &str) -> Result<String, Error> {
    let path = tree.join(file);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let from = text.find(start).ok_or_else(|| format!("{file} has no `{start}`"))?;
    let length = text[from..].find(end).ok_or_else(|| format!("{file}: `{start}` does not end"))? + end.len();
    Ok(text[from..from + length].to_owned())
}

/// Compiles the counterparts from an unpacked Linux tree.
pub(crate) fn compile(tree: &Path, out: &Path) -> Result<Code, Error> {
    let folder = out.join("linux");
    let write = |name: &str, text: &str| -> Result<PathBuf, Error> {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        std::fs::write(&path, text)?;
        Ok(path)
    };
    for name in EMPTY {
        write(name, "")?;
    }
    write("linux/linkage.h", LINKAGE)?;
    let registers: String =
        (0..18).step_by(2).map(|n| format!("#define ARM_SMCCC_1_2_REGS_X{n}_OFFS {}\n", n * 8)).collect();
    write("asm/asm-offsets.h", &registers)?;

    let core = "arch/arm64/hyperv/hv_core.c";
    let atomics = "arch/arm64/include/asm/atomic_ll_sc.h";
    let source = [
        SURROUNDINGS.to_owned(),
        "#include <linux/arm-smccc.h>\n".to_owned(),
        cut(tree, atomics, "#define __CMPXCHG_CASE(", "\treturn oldval;\t\t\t\t\t\t\t\\\n}\n")?,
        "__CMPXCHG_CASE(w,  ,  mb_, 32, dmb ish,  , l, \"memory\", K)\n".to_owned(),
        cut(
            tree,
            "include/clocksource/hyperv_timer.h",
            "static __always_inline bool\nhv_read_tsc_page_tsc",
            "\n}\n",
        )?,
        cut(tree, "include/asm-generic/mshyperv.h", "static inline void vmbus_signal_eom", "\n}\n")?,
        cut(tree, core, "u64 hv_do_hypercall", "\n}\n")?,
        cut(tree, core, "u64 hv_do_fast_hypercall8", "\n}\n")?,
        cut(tree, core, "void hv_set_vpreg", "\n}\n")?,
        cut(tree, core, "void hv_get_vpreg_128", "\n}\n")?,
        cut(tree, core, "u64 hv_get_vpreg(", "\n}\n")?,
        ENTRIES.to_owned(),
    ];
    let source = write("counterparts.c", &source.concat())?;
    let assembly = cut(tree, "arch/arm64/kernel/smccc-call.S", "\t.macro SMCCC_1_2 instr", ".endm\n")?;
    let assembly = format!(
        "#include <linux/linkage.h>\n#include <asm/asm-offsets.h>\n{assembly}\
         SYM_FUNC_START(arm_smccc_1_2_hvc)\n\tSMCCC_1_2 hvc\nSYM_FUNC_END(arm_smccc_1_2_hvc)\n"
    );
    let assembly = write("smccc.S", &assembly)?;

    let mut objects = Vec::new();
    for input in [source, assembly] {
        let output = input.with_extension("o");
        let status = Command::new(COMPILER)
            .args([
                "-O2",
                "-w",
                "-std=gnu11",
                "-ffreestanding",
                "-fno-pic",
                "-mgeneral-regs-only",
                "-DCONFIG_ARM64",
            ])
            .args(["-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-I"])
            .arg(&folder)
            .arg("-I")
            .arg(tree.join("include"))
            .arg("-c")
            .arg(&input)
            .arg("-o")
            .arg(&output)
            .status()
            .map_err(|error| format!("{COMPILER}: {error}"))?;
        if !status.success() {
            return Err(format!("{COMPILER} cannot compile Linux's routines").into());
        }
        objects.push(output);
    }
    Code::read_objects(&objects.iter().map(PathBuf::as_path).collect::<Vec<_>>())
}
