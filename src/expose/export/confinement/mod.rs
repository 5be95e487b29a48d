//! What a process gives up before it serves a guest.
//!
//! A guest that finds a fault in the code that serves it has the process, and so its own memory, the files that the
//! process holds, and nothing else: in this order go
//!
//! 1. the daemon's terminal and session, its place at the end of the kernel's list of what to kill, and core files, which
//!    would hold the guest's memory;
//! 2. user, groups and with them all capabilities, for good (`no_new_privs`), and from then on any look into its memory by
//!    core dumps and debuggers;
//! 3. the file system and the network (Landlock), as far as the kernel has that;
//! 4. every system call that serving does not need ([`filter`]). The kernel kills the process at any other.
//!
//! It has one thread until then: each of these holds for the thread that asks, and for those that come from it.

pub mod filter;
mod landlock;
mod privileges;

use super::Error;
use super::specification::Identity;

/// Gives up everything. A process that is not root stays who it is.
///
/// # Errors
/// If something cannot be given up. The process must not go on then.
pub fn confine(identity: Identity) -> Result<(), Error> {
    privileges::leave_the_daemon()?;
    privileges::become_another(identity)?;
    privileges::hide_memory()?;
    landlock::enter()?;
    filter::enter()
}
