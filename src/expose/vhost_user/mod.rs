//! A disk for a virtual machine, over vhost-user-blk: a whole image, or a snapshot's writable block.
//!
//! A monitor that reads no descriptor of ours, or must not see the host's files, connects to a socket and gives us
//! the guest's memory. Whoever serves it is a process of its own for each virtual machine.
//!
//! Protocols: vhost-user (QEMU's `docs/interop/vhost-user.rst`) and VIRTIO 1.3, sections 2.7 and 5.2.
//!
//! * [`Disk`]: what the guest sees. * [`Serial`]: what it is called.
//! * `request`, `segments`: what the guest asks for. * `device`: carrying it out. * `queue`: all of one queue.
//!   None of them knows a socket. `pieces`: data in the guest's memory. `config_space`: what its driver reads.
//! * `readers`: threads that take a part of large reads. `polling`: whether a thread looks at its queue before it sleeps.
//!   `gathering`: whether it lets requests gather before it answers them.
//! * [`Counters`]: what was done.
//! * [`Bare`]: a disk for somebody else's transport.
//! * `transport`: the socket, and one monitor after the other on it. [`Export`], [`Stop`].

mod bare;
mod config_space;
mod counters;
mod device;
mod disk;
mod error;
mod gathering;
mod pieces;
mod polling;
mod queue;
mod readers;
mod request;
mod segments;
mod serial;
#[cfg(test)]
mod tests;
mod transport;

pub use bare::Bare;
pub use counters::{Counters, Counts, OperationCounts, Operations};
pub use disk::{Access, Content, DamagedBlock, Disk, Part, Tree, TreeBlock, TreePlace, log_damage};
pub use error::Error;
pub use serial::{InvalidSerial, SERIAL_BYTES, Serial};
pub use transport::{Export, MOST_QUEUES, QUEUE_SIZE, Stop};
