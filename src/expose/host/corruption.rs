//! What the kernel says when dm-verity finds a changed byte.
//!
//! Whoever reads the byte gets an I/O error and no reason. The kernel tells its log, and whoever listens to
//! its events (netlink(7), `NETLINK_KOBJECT_UEVENT`): a change of the device, with the variable
//! `DM_VERITY_ERR_BLOCK_NR=KIND,BLOCK` (`drivers/md/dm-verity-target.c`). It does so up to 100 times for a device.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};

use super::integrity::{layer_of_device, name_of_node};
use crate::layer::LayerKey;

/// The kernel's own events, as opposed to those that udev tells once more.
const KERNEL: u32 = 1;

/// The longest event, `UEVENT_BUFFER_SIZE` and room for its first line.
const LONGEST: usize = 8 << 10;

/// The variable that names the block.
const VARIABLE: &str = "DM_VERITY_ERR_BLOCK_NR=";

/// What an operator does about a damaged layer.
pub const REMEDY: &str =
    "whoever reads what is changed gets an I/O error; remove the images with this layer and pull them again";

/// A block that is not what its hash says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The layer that it is of.
    pub layer: LayerKey,
    /// The device that found it.
    pub device: String,
    /// What is in the block.
    pub part: Part,
    /// Its number from the beginning of the layer's file, in the blocks that the hash tree has for this part.
    pub block: u64,
}

/// What is in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The EROFS image.
    Data,
    /// The hash tree.
    HashTree,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::HashTree => "hash tree",
        })
    }
}

/// A thread that listens. It ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts to listen, and gives `report` each block that is found in a layer, whoever mounted it: the daemon or
    /// containerd's mount manager.
    ///
    /// # Errors
    /// If there is no such socket here, or no thread.
    pub fn start(report: impl Fn(Corruption) + Send + 'static) -> io::Result<Self> {
        let events = listen()?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("corruption".to_owned()).spawn(move || {
            if let Err(error) = follow(&events, &stopped, &report) {
                tracing::warn!(%error, "the kernel is not heard any more: damaged layers show in its log only");
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends the thread, without waiting for it.
    pub fn stop(&self) {
        // It can only fail if there were more stops than a number can count.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was logged when it happened.
            let _ = thread.join();
        }
    }
}

fn listen() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
    bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
    Ok(socket)
}

fn follow(events: &OwnedFd, stop: &OwnedFd, report: &impl Fn(Corruption)) -> io::Result<()> {
    let mut event = Vec::with_capacity(LONGEST);
    loop {
        let mut ready = [PollFd::new(events, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [_, stopped] = &ready;
        if stopped.revents().contains(PollFlags::IN) {
            return Ok(());
        }
        event.clear();
        match recvfrom(events, spare_capacity(&mut event), RecvFlags::empty()) {
            Ok((_, _, sender)) => {
                let event = parse(&event).filter(|_| is_kernel(sender));
                event.and_then(corruption).into_iter().for_each(report);
            }
            // Nothing there after all; or events were lost, because more came than fit. Those that fit
            // come next.
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Any process with the right to can send events to the group.
fn is_kernel(sender: Option<rustix::net::SocketAddrAny>) -> bool {
    sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok()).is_some_and(|sender| sender.pid() == 0)
}

/// What an event says about a block.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    /// `dm-N`.
    node: String,
    part: Part,
    block: u64,
}

/// Reads an event: `ACTION@PATH`, then variables, each with a NUL behind it.
fn parse(event: &[u8]) -> Option<Event> {
    let text = std::str::from_utf8(event).ok()?;
    let (part, block) = text.split('\0').find_map(|line| line.strip_prefix(VARIABLE))?.split_once(',')?;
    let node = text.split('\0').find_map(|line| line.strip_prefix("DEVNAME="))?;
    let part = match part {
        "0" => Part::Data,
        "1" => Part::HashTree,
        _ => return None,
    };
    Some(Event { node: node.trim_start_matches("/dev/").to_owned(), part, block: block.parse().ok()? })
}

/// The event as one of a layer; None if the device is none of a layer.
fn corruption(event: Event) -> Option<Corruption> {
    let device = name_of_node(&event.node)?;
    Some(Corruption { layer: layer_of_device(&device)?, device, part: event.part, block: event.block })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_damaged_blocks_are_told_from_others() {
        let event = |variables: &str| {
            let text =
                format!("change@/devices/virtual/block/dm-3\0ACTION=change\0SUBSYSTEM=block\0{variables}");
            parse(text.as_bytes())
        };
        let expected = |part, block| Some(Event { node: "dm-3".to_owned(), part, block });
        assert_eq!(
            event("DM_VERITY_ERR_BLOCK_NR=0,146\0DEVNAME=dm-3\0SEQNUM=9\0"),
            expected(Part::Data, 146)
        );
        assert_eq!(event("DEVNAME=/dev/dm-3\0DM_VERITY_ERR_BLOCK_NR=1,7\0"), expected(Part::HashTree, 7));
        for other in [
            "DEVNAME=dm-3\0",
            "DM_VERITY_ERR_BLOCK_NR=0,146\0",
            "DEVNAME=dm-3\0DM_VERITY_ERR_BLOCK_NR=2,146\0",
            "DEVNAME=dm-3\0DM_VERITY_ERR_BLOCK_NR=0\0",
        ] {
            assert_eq!(event(other), None, "{other}");
        }
        assert_eq!(parse(&[0xff, 0xfe]), None);
    }

    #[test]
    fn a_watch_ends_when_it_is_dropped() {
        drop(Watch::start(|_| {}).unwrap());
    }
}
