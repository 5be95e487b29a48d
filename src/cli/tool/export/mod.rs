//! `nexuserofs export` and `nexuserofs exports`: disks over vhost-user, and what was done with them.
//!
//! * `serve`: the process that serves, told by the daemon or by arguments. `metadata`: what of merged layers is served.
//! * `list`: what all of a daemon's processes did.

pub(super) mod arguments;
mod list;
mod metadata;
mod serve;

pub(super) use list::list;
pub(super) use serve::serve;
