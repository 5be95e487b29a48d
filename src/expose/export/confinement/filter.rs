//! The system calls of a process that serves, by the crate seccompiler.
//!
//! There are two filters, since one has one answer for what it finds: the first says that there is no `clone3(2)`, whose
//! flags no filter can see, so that the C library takes `clone(2)`; the second kills the process at whatever is not
//! listed here.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::expose::export::Error;

/// Calls with any arguments.
const ALLOWED: &[libc::c_long] = &[
    // Data of the disks, and the tally.
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pread64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_pwrite64,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    // The monitor's connection, its notifications, and the log.
    libc::SYS_accept4,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    // For what a front-end may hand over as a socket of its own; without it one message would end the process.
    libc::SYS_getsockopt,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fstat,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    // Memory, of the guest and our own.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Threads.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
];

/// Those that only this processor has.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[libc::SYS_poll, libc::SYS_epoll_wait];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// Calls of which an argument has to have bits in this way.
const RESTRICTED: &[Restricted] = &[
    // Nothing becomes code.
    Restricted { call: libc::SYS_mmap, argument: 2, mask: libc::PROT_EXEC as u64, value: 0 },
    Restricted { call: libc::SYS_mprotect, argument: 2, mask: libc::PROT_EXEC as u64, value: 0 },
    // A thread, and no process.
    Restricted {
        call: libc::SYS_clone,
        argument: 0,
        mask: libc::CLONE_THREAD as u64,
        value: libc::CLONE_THREAD as u64,
    },
    Restricted { call: libc::SYS_prctl, argument: 0, mask: WHOLE, value: libc::PR_SET_NAME as u64 },
    Restricted { call: libc::SYS_ioctl, argument: 1, mask: WHOLE, value: libc::FIONBIO },
];

/// All bits of an argument.
const WHOLE: u64 = u32::MAX as u64;

/// A call of which an argument has to have bits in some way.
struct Restricted {
    call: libc::c_long,
    argument: u8,
    mask: u64,
    value: u64,
}

/// Gives up all other system calls, for this thread and those that come from it.
///
/// # Errors
/// If the kernel has no seccomp.
pub fn enter() -> Result<(), Error> {
    let filters = [without_clone3(), allowed()];
    for filter in filters {
        let filter = filter.map_err(|error| cannot(&error))?;
        seccompiler::apply_filter(&filter).map_err(|error| cannot(&error))?;
    }
    Ok(())
}

fn without_clone3() -> Result<BpfProgram, BackendError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    program(rules, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))
}

fn allowed() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, Vec::new())).collect();
    for Restricted { call, argument, mask, value } in RESTRICTED {
        let operator = SeccompCmpOp::MaskedEq(*mask);
        let condition = SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator, *value)?;
        rules.entry(*call).or_default().push(SeccompRule::new(vec![condition])?);
    }
    program(rules, SeccompAction::KillProcess, SeccompAction::Allow)
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    mismatch: SeccompAction,
    found: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, mismatch, found, ARCH.try_into()?)?.try_into()
}

fn cannot(error: &dyn std::error::Error) -> Error {
    Error::Confinement { what: "system calls", reason: error.to_string() }
}
