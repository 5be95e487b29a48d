//! Session, user and capabilities.

use std::fs;

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Gid, Resource, Rlimit, Uid, geteuid, set_dumpable_behavior, setrlimit, setsid,
};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::expose::export::Error;
use crate::expose::export::specification::Identity;

/// How much a process is worth to the kernel when memory runs out. The daemon is worth more than all that it starts.
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// What makes the process one that ends with its virtual machine, not with the daemon.
pub(super) fn leave_the_daemon() -> Result<(), Error> {
    match setsid() {
        // It leads one already, as when a shell started it.
        Ok(_) | Err(Errno::PERM) => {}
        Err(error) => return Err(cannot("the daemon's session", &error)),
    }
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|error| cannot("core dumps", &error))?;
    let score = fs::read_to_string(OOM_SCORE).map_err(|error| cannot("the daemon's rank", &error))?;
    if score.trim_start().starts_with('-') {
        fs::write(OOM_SCORE, "0").map_err(|error| cannot("the daemon's rank", &error))?;
    }
    Ok(())
}

/// Becomes this user, if it can become any. The capabilities of root go with root.
pub(super) fn become_another(identity: Identity) -> Result<(), Error> {
    if geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        set_thread_groups(&[]).map_err(|error| cannot("the groups of root", &error))?;
        set_thread_res_gid(gid, gid, gid).map_err(|error| cannot("the group of root", &error))?;
        set_thread_res_uid(uid, uid, uid).map_err(|error| cannot("the rights of root", &error))?;
    }
    set_no_new_privs(true).map_err(|error| cannot("new rights", &error))
}

/// Keeps the guest's memory, which the process maps, out of core dumps and from debuggers of the same user.
///
/// A limit of 0 holds for files only: where the kernel pipes core dumps to a program (core(5)), it does that
/// whatever the limit is. A change of user sets this back, so it comes after that.
pub(super) fn hide_memory() -> Result<(), Error> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| cannot("core dumps", &error))
}

fn cannot(what: &'static str, error: &dyn std::error::Error) -> Error {
    Error::Confinement { what, reason: error.to_string() }
}
