//! Mounts whose files have other owners: each identifier is shifted as a user namespace shifts it.
//!
//! Interfaces: user_namespaces(7), and mount_setattr(2) with `MOUNT_ATTR_IDMAP` (Linux 5.12; EROFS and
//! overlay below 5.19 refuse).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use linux_raw_sys::general::{
    __NR_clone, __NR_mount_setattr, AT_EMPTY_PATH, CLONE_NEWUSER, MOUNT_ATTR_IDMAP, mount_attr,
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// A user namespace that nothing runs in.
#[derive(Debug)]
pub struct UserNamespace(OwnedFd);

impl UserNamespace {
    /// Makes a user namespace. `uids` and `gids` are what is written to `/proc/PID/uid_map` and
    /// `gid_map`: lines of first identifier inside, first one outside, and how many.
    ///
    /// # Errors
    /// If the kernel has no user namespaces, allows no more of them, or refuses a map.
    pub fn new(uids: &str, gids: &str) -> io::Result<Self> {
        let child = clone_into_namespace()?;
        let opened = map_and_open(child, uids, gids);
        // Neither can fail on a child of ours that nobody waited for.
        let _ = kill_process(child, Signal::KILL);
        let _ = waitpid(Some(child), WaitOptions::empty());
        opened.map(|file| Self(file.into()))
    }
}

impl AsFd for UserNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn map_and_open(child: Pid, uids: &str, gids: &str) -> io::Result<File> {
    let process = format!("/proc/{child}");
    fs::write(format!("{process}/uid_map"), uids)?;
    fs::write(format!("{process}/gid_map"), gids)?;
    File::open(format!("{process}/ns/user"))
}

/// Starts a child in a user namespace of its own, which does nothing until it is killed.
fn clone_into_namespace() -> io::Result<Pid> {
    let flags = CLONE_NEWUSER as libc::c_long | libc::c_long::from(libc::SIGCHLD);
    let parent = std::process::id();
    // SAFETY: without CLONE_VM this is a fork. Other threads may hold locks at this moment, so the
    // child calls nothing but system calls and never returns from this function.
    let child =
        unsafe { libc::syscall(__NR_clone as libc::c_long, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    if child == 0 {
        // SAFETY: these are system calls without pointers. The child asks to be killed with its
        // parent, and looks whether that has ended before it asked.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            while u32::try_from(libc::getppid()) == Ok(parent) {
                libc::pause();
            }
            libc::_exit(0);
        }
    }
    let child = i32::try_from(child).ok().filter(|child| *child > 0).and_then(Pid::from_raw);
    child.ok_or_else(io::Error::last_os_error)
}

/// Shifts the owners of a mount that is not attached anywhere yet, such as one from `open_tree`.
///
/// # Errors
/// `EINVAL` if the file system cannot be shifted, `EPERM` if the mount is shifted already or the
/// caller has no right to.
pub fn shift(mount: BorrowedFd<'_>, namespace: &UserNamespace) -> io::Result<()> {
    let descriptor = u64::try_from(namespace.0.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let attributes = mount_attr {
        attr_set: u64::from(MOUNT_ATTR_IDMAP),
        attr_clr: 0,
        propagation: 0,
        userns_fd: descriptor,
    };
    // SAFETY: the call reads an empty path and one `mount_attr` of the size that is given; both
    // descriptors stay open until it returns.
    let result = unsafe {
        libc::syscall(
            __NR_mount_setattr as libc::c_long,
            mount.as_raw_fd(),
            c"".as_ptr(),
            AT_EMPTY_PATH,
            std::ptr::from_ref(&attributes),
            size_of::<mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::skipped::skip;

    #[test]
    fn a_map_that_the_kernel_refuses_leaves_nothing_behind() {
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        assert!(UserNamespace::new("0 0 0\n", "0 0 1\n").is_err());
        assert!(open() <= before + 1, "other tests may open a file meanwhile");
    }

    #[test]
    fn namespaces_are_different() {
        let test = "namespaces_are_different";
        let (one, two) =
            match (UserNamespace::new("0 1000 1\n", "0 1 1\n"), UserNamespace::new("0 1 1\n", "0 1 1\n")) {
                (Ok(one), Ok(two)) => (one, two),
                (Err(error), _) | (_, Err(error)) => {
                    skip(test, format!("user namespaces need root: {error}"));
                    return;
                }
            };
        let inode = |namespace: UserNamespace| File::from(namespace.0).metadata().unwrap().ino();
        assert_ne!(inode(one), inode(two));
    }
}
