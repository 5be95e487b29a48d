//! `nexuserofs export` and `nexuserofs exports`: disks over vhost-user, and what was done with them.
//!
//! * `serve`: the process that serves, told by the daemon or by arguments. `list`: what all of a daemon's did.

pub(super) mod arguments;
mod list;
mod serve;

pub(super) use list::list;
pub(super) use serve::serve;
