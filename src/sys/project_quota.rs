//! Project quotas: a limit for a directory tree, by a number that its files carry.
//!
//! Interfaces: `FS_IOC_FSSETXATTR` (ioctl_xfs_fssetxattr(2), also ext4's), quotactl(2) and
//! quotactl_fd (Linux 5.14). ext4 and xfs answer to the same calls.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use linux_raw_sys::general::{__NR_quotactl_fd, fsxattr};
use linux_raw_sys::ioctl::{FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR};
use rustix::ioctl::{Getter, Opcode, Setter, ioctl};

/// What is new in the directory belongs to its project (`FS_XFLAG_PROJINHERIT`, `linux/fs.h`).
const INHERIT: u32 = 0x200;

/// `PRJQUOTA` of `linux/quota.h`: the type of the quotas that all commands here are about.
const PROJECT: libc::c_uint = 2;
/// `Q_SETQUOTA` of `linux/quota.h`.
const SET_QUOTA: libc::c_uint = 0x80_0008;
/// `Q_XGETQSTATV` of `linux/dqblk_xfs.h`.
const GET_STATE: libc::c_uint = 0x5808;

/// `QIF_BLIMITS`: of what is set, the limits of blocks count.
const BLOCK_LIMITS: u32 = 1;
/// Unit of the limits in bytes (`QIF_DQBLKSIZE`).
const UNIT: u64 = 1024;

/// `FS_QSTATV_VERSION1`.
const STATE_VERSION: u8 = 1;
/// `FS_QUOTA_PDQ_ENFD`: limits of projects are enforced.
const ENFORCED: u16 = 1 << 5;

/// Whether the file system that holds `directory` enforces limits of projects. One that knows
/// nothing of quotas does not.
#[must_use]
pub fn is_enforced(directory: &File) -> bool {
    // `struct fs_quota_statv` takes 160 bytes, begins with the version and has its flags at byte 2.
    let mut state = [0_u64; 32];
    state[0] = u64::from_ne_bytes([STATE_VERSION, 0, 0, 0, 0, 0, 0, 0]);
    // SAFETY: the command writes one `fs_quota_statv`, which `state` has room and alignment for.
    let result = unsafe { quotactl(directory, GET_STATE, 0, state.as_mut_ptr().cast()) };
    let [_, _, low, high, ..] = state[0].to_ne_bytes();
    result.is_ok() && u16::from_ne_bytes([low, high]) & ENFORCED != 0
}

/// Gives the empty directory, and what will be made in it, to a project.
///
/// # Errors
/// What the file system reports; `ENOTTY` or `EOPNOTSUPP` if it knows no projects.
pub fn assign(directory: &File, project: u32) -> io::Result<()> {
    // SAFETY: FS_IOC_FSGETXATTR writes one `fsxattr`, whose layout comes from the kernel's header.
    let mut attributes: fsxattr =
        unsafe { ioctl(directory, Getter::<{ FS_IOC_FSGETXATTR as Opcode }, fsxattr>::new())? };
    attributes.fsx_xflags |= INHERIT;
    attributes.fsx_projid = project;
    // SAFETY: FS_IOC_FSSETXATTR reads one `fsxattr`.
    unsafe { ioctl(directory, Setter::<{ FS_IOC_FSSETXATTR as Opcode }, _>::new(attributes))? };
    Ok(())
}

/// Limits what a project takes on the file system that holds `directory` to `bytes`, rounded up to
/// 1024. With 0 it has no limit any more, and the file system forgets it once it takes nothing.
///
/// # Errors
/// What the file system reports; `ESRCH` or `ENOSYS` if it has no such quotas.
pub fn limit(directory: &File, project: u32, bytes: u64) -> io::Result<()> {
    let mut limits = libc::dqblk {
        dqb_bhardlimit: bytes.div_ceil(UNIT),
        dqb_bsoftlimit: 0,
        dqb_curspace: 0,
        dqb_ihardlimit: 0,
        dqb_isoftlimit: 0,
        dqb_curinodes: 0,
        dqb_btime: 0,
        dqb_itime: 0,
        dqb_valid: BLOCK_LIMITS,
    };
    // SAFETY: the command reads one `dqblk`, which outlives the call.
    unsafe { quotactl(directory, SET_QUOTA, project, std::ptr::from_mut(&mut limits).cast()) }
}

/// # Safety
/// `data` is what the command reads or writes.
unsafe fn quotactl(
    directory: &File,
    command: libc::c_uint,
    project: u32,
    data: *mut libc::c_void,
) -> io::Result<()> {
    let command = command << 8 | PROJECT;
    // SAFETY: `directory` keeps its descriptor open, and the caller vouches for `data`.
    let result = unsafe {
        libc::syscall(__NR_quotactl_fd as libc::c_long, directory.as_raw_fd(), command, project, data)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_enforces_limits_takes_them() {
        let directory = tempfile::tempdir().unwrap();
        let directory = File::open(directory.path()).unwrap();
        match limit(&directory, 1_999_999_999, 1 << 20) {
            Ok(()) => limit(&directory, 1_999_999_999, 0).unwrap(),
            Err(error) => assert!(!is_enforced(&directory), "{error}"),
        }
    }
}
