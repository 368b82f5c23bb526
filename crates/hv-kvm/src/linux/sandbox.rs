//! What the process may ask of the kernel once its machine exists: a seccomp filter.
//!
//! A fault that lets a guest run code in this process leaves that code the calls of a run alone: it opens no file and
//! no socket, starts no process, makes no memory executable, and gives no virtual machine other memory.

use std::collections::BTreeMap;
use std::io;
use std::mem::offset_of;

use kvm_bindings::{
    KVMIO, kvm_device_attr, kvm_irq_level, kvm_mp_state, kvm_one_reg, kvm_reg_list, kvm_vcpu_events,
    kvm_vcpu_init,
};
use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, c_long,
    seccomp_data,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads, sock_filter,
};
use vmm_sys_util::{ioctl_io_nr, ioctl_ior_nr, ioctl_iow_nr, ioctl_iowr_nr};

use super::error::Error;

ioctl_io_nr!(KVM_RUN, KVMIO, 0x80);
ioctl_iow_nr!(KVM_IRQ_LINE, KVMIO, 0x61, kvm_irq_level);
ioctl_ior_nr!(KVM_GET_MP_STATE, KVMIO, 0x98, kvm_mp_state);
ioctl_iow_nr!(KVM_SET_MP_STATE, KVMIO, 0x99, kvm_mp_state);
ioctl_ior_nr!(KVM_GET_VCPU_EVENTS, KVMIO, 0x9f, kvm_vcpu_events);
ioctl_iow_nr!(KVM_SET_VCPU_EVENTS, KVMIO, 0xa0, kvm_vcpu_events);
ioctl_iow_nr!(KVM_GET_ONE_REG, KVMIO, 0xab, kvm_one_reg);
ioctl_iow_nr!(KVM_SET_ONE_REG, KVMIO, 0xac, kvm_one_reg);
ioctl_iow_nr!(KVM_ARM_VCPU_INIT, KVMIO, 0xae, kvm_vcpu_init);
ioctl_iowr_nr!(KVM_GET_REG_LIST, KVMIO, 0xb0, kvm_reg_list);
ioctl_iow_nr!(KVM_GET_DEVICE_ATTR, KVMIO, 0xe2, kvm_device_attr);

/// Calls that are allowed with any arguments: output, the end of what is open, memory, threads, signals of a thread to
/// itself, time, and the end.
const ALLOWED: [c_long; 32] = [
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_mremap,
    libc::SYS_membarrier,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_sigaltstack,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_delete,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_ppoll,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_set_tid_address,
];

/// AUDIT_ARCH_AARCH64 (Linux, include/uapi/linux/audit.h): EM_AARCH64, 64 bits, little-endian.
const ARCH: u32 = 0xc000_00b7;

/// Confines the process, all its threads, to the system calls of a machine that runs or is saved, and sets
/// no_new_privs. It cannot be undone; any other call ends the process with SIGSYS.
///
/// Call it when the [`Machine`](crate::Machine) exists and all that it needs is open; it may run before or after.
/// `more` are numbers of system calls that the embedder needs besides, with any arguments: `SYS_read` for input, for
/// example. The list has been tried with musl; another C library may need more.
///
/// # Errors
/// [`Error::Sandbox`]: the kernel has no seccomp filters.
pub fn enter_sandbox(more: &[c_long]) -> Result<(), Error> {
    let enter = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (otherwise, then) = (SeccompAction::KillProcess, SeccompAction::Allow);
        let all: BpfProgram =
            SeccompFilter::new(rules(more)?, otherwise, then, TargetArch::aarch64)?.try_into()?;
        // One filter: the kernel runs each of them for each call.
        apply_filter_all_threads(&[&first()[..], &all].concat())?;
        Ok(())
    };
    enter().map_err(|error| Error::Sandbox(io::Error::other(error)))
}

/// Returns the start of the filter, which continues behind it: the requests of a hypercall, of which a guest makes
/// several each time, are allowed before anything else is looked at. And clone3 does not exist: a filter cannot see its
/// arguments, and the C library then asks for threads by clone.
fn first() -> [sock_filter; 11] {
    let load = |offset: usize| step(BPF_LD | BPF_W | BPF_ABS, (0, 0), offset as u32);
    // Passes over so many steps if the loaded word is this one, or else over so many.
    let equal =
        |word: u32, (then, otherwise): (u8, u8)| step(BPF_JMP | BPF_JEQ | BPF_K, (then, otherwise), word);
    let end = |action: u32| step(BPF_RET | BPF_K, (0, 0), action);
    // The low half, which comes first: the kernel takes a request for a number of 32 bits.
    let request = offset_of!(seccomp_data, args) + size_of::<u64>();
    [
        load(offset_of!(seccomp_data, arch)),
        equal(ARCH, (0, 9)),
        load(offset_of!(seccomp_data, nr)),
        equal(libc::SYS_clone3 as u32, (6, 0)),
        equal(libc::SYS_ioctl as u32, (0, 6)),
        load(request),
        equal(KVM_RUN() as u32, (2, 0)),
        equal(KVM_GET_ONE_REG() as u32, (1, 0)),
        equal(KVM_SET_ONE_REG() as u32, (0, 2)),
        end(SECCOMP_RET_ALLOW),
        end(SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
    ]
}

const fn step(code: u32, (jt, jf): (u8, u8), k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

/// Returns what is allowed: a call without a rule with any arguments, else with those of one of its rules.
fn rules(more: &[c_long]) -> Result<BTreeMap<c_long, Vec<SeccompRule>>, BackendError> {
    // Matches if these bits of an argument have this value.
    let when = |argument: u8, mask: u32, value: u32| {
        let operator = SeccompCmpOp::MaskedEq(mask.into());
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value.into())?;
        SeccompRule::new(vec![condition])
    };
    let not_executable = |argument| when(argument, libc::PROT_EXEC as u32, 0);
    let thread = libc::CLONE_THREAD as u32;
    let requests = [
        // Besides those that `first` allows.
        KVM_IRQ_LINE(),
        KVM_SET_MP_STATE(),
        KVM_SET_VCPU_EVENTS(),
        KVM_ARM_VCPU_INIT(),
        // Of a machine that is saved.
        KVM_GET_REG_LIST(),
        KVM_GET_MP_STATE(),
        KVM_GET_VCPU_EVENTS(),
        KVM_GET_DEVICE_ATTR(),
    ];
    let requests = requests.into_iter().map(|request| when(1, u32::MAX, request as u32));
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = [
        (libc::SYS_ioctl, requests.collect::<Result<_, _>>()?),
        (libc::SYS_mmap, vec![not_executable(2)?]),
        (libc::SYS_mprotect, vec![not_executable(2)?]),
        (libc::SYS_clone, vec![when(0, thread, thread)?]),
        (libc::SYS_tgkill, vec![when(0, u32::MAX, std::process::id())?]),
        // A thread's name.
        (libc::SYS_prctl, vec![when(0, u32::MAX, libc::PR_SET_NAME as u32)?]),
    ]
    .into();
    rules.extend(ALLOWED.iter().chain(more).map(|call| (*call, Vec::new())));
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::enter_sandbox;

    /// Names the step that a child takes.
    const STEP: &str = "HV_KVM_SANDBOX_STEP";
    /// What a process does that confines itself, and whether it lives.
    const STEPS: [(&str, fn(), bool); 6] = [
        ("within", within, true),
        ("within and more", within_and_more, true),
        ("a file", a_file, false),
        ("a process", a_process, false),
        ("code", code, false),
        ("another request", another_request, false),
    ];

    /// Each step is taken by a process of its own, which is this test again.
    #[test]
    fn what_a_run_needs_is_allowed_and_the_rest_ends_the_process() {
        if let Ok(step) = std::env::var(STEP) {
            let (_, take, _) = STEPS.iter().find(|(name, ..)| *name == step).unwrap();
            return take();
        }
        for (name, _, lives) in STEPS {
            let mut child = Command::new(std::env::current_exe().unwrap());
            let test = "linux::sandbox::tests::what_a_run_needs_is_allowed_and_the_rest_ends_the_process";
            let status = child.args(["--exact", test]).env(STEP, name).status().unwrap();
            let ends = if lives { (Some(0), None) } else { (None, Some(libc::SIGSYS)) };
            assert_eq!((status.code(), status.signal()), ends, "{name}");
        }
    }

    fn within() {
        enter_sandbox(&[]).unwrap();
        let thread = std::thread::Builder::new().name("named".into()).spawn(|| vec![1_u8; 1 << 24].len());
        assert_eq!(thread.unwrap().join().unwrap(), 1 << 24);
        println!("output");
    }

    fn within_and_more() {
        enter_sandbox(&[libc::SYS_openat, libc::SYS_fcntl]).unwrap();
        std::fs::File::open("/proc/self/exe").unwrap();
    }

    fn a_file() {
        enter_sandbox(&[]).unwrap();
        let _ = std::fs::File::open("/proc/self/exe");
    }

    fn a_process() {
        enter_sandbox(&[libc::SYS_pipe2, libc::SYS_openat, libc::SYS_socketpair]).unwrap();
        let _ = Command::new("/proc/self/exe").status();
    }

    fn code() {
        use vm_memory::mmap::MmapRegionBuilder;
        enter_sandbox(&[]).unwrap();
        let executable = libc::PROT_READ | libc::PROT_EXEC;
        let flags = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE;
        let _ =
            MmapRegionBuilder::<()>::new(1 << 16).with_mmap_prot(executable).with_mmap_flags(flags).build();
    }

    fn another_request() {
        let kvm = kvm_ioctls::Kvm::new().unwrap();
        enter_sandbox(&[]).unwrap();
        let _ = kvm.create_vm();
    }
}
