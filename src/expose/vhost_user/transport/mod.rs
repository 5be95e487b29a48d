//! The socket: vhost-user by the crate vhost-user-backend.
//!
//! * `backend`: a device as that crate wants it, for one connection. * `export`: one connection after the other.
//! * `stop`: the end of it, from outside. * `presence`: whether a monitor is connected, for others to know.

mod backend;
mod export;
mod presence;
mod stop;

pub use backend::{MOST_QUEUES, QUEUE_SIZE};
pub use export::Export;
pub use stop::Stop;
