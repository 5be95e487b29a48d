//! Messages of the vhost-user protocol, as they are on the socket.
//!
//! Format: QEMU's `docs/interop/vhost-user.rst`. A header of three little-endian numbers (request, flags, size of what
//! follows), the payload, and descriptors beside it.

use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// The most descriptors that a message of the protocol has.
pub const MOST_DESCRIPTORS: usize = 8;

/// Version 1 of the protocol.
pub const VERSION: u32 = 1;
/// The sender wants an answer.
pub const NEED_REPLY: u32 = 1 << 3;

/// Numbers of requests.
pub mod request {
    /// What the device offers.
    pub const GET_FEATURES: u32 = 1;
    /// What the driver takes of it.
    pub const SET_FEATURES: u32 = 2;
    /// The connection begins.
    pub const SET_OWNER: u32 = 3;
    /// All regions of memory.
    pub const SET_MEM_TABLE: u32 = 5;
    /// Number of entries of a ring.
    pub const SET_VRING_NUM: u32 = 8;
    /// Where a ring lies.
    pub const SET_VRING_ADDR: u32 = 9;
    /// At which entry a ring begins.
    pub const SET_VRING_BASE: u32 = 10;
    /// Stops a ring, and asks where it was.
    pub const GET_VRING_BASE: u32 = 11;
    /// By what the driver notifies.
    pub const SET_VRING_KICK: u32 = 12;
    /// By what the device notifies.
    pub const SET_VRING_CALL: u32 = 13;
    /// What the protocol offers besides.
    pub const GET_PROTOCOL_FEATURES: u32 = 15;
    /// What is taken of that.
    pub const SET_PROTOCOL_FEATURES: u32 = 16;
    /// Starts a ring.
    pub const SET_VRING_ENABLE: u32 = 18;
    /// Reads the device's configuration.
    pub const GET_CONFIG: u32 = 24;
    /// Writes it.
    pub const SET_CONFIG: u32 = 25;
    /// Adds a region of memory.
    pub const ADD_MEM_REG: u32 = 37;
    /// Takes one away.
    pub const REM_MEM_REG: u32 = 38;
    /// One more than the last number that is given.
    pub const END: u32 = 45;
}

/// A message, which need not be well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The request's number.
    pub request: u32,
    /// Its flags, the version among them.
    pub flags: u32,
    /// The size that the header tells, in bytes.
    pub size: u32,
    /// What follows the header.
    pub payload: Vec<u8>,
}

impl Message {
    /// A well-formed message.
    #[must_use]
    pub fn new(request: u32, payload: Vec<u8>) -> Self {
        Self { request, flags: VERSION, size: payload.len() as u32, payload }
    }

    /// One whose payload is numbers of 64 bits.
    #[must_use]
    pub fn of_u64(request: u32, numbers: &[u64]) -> Self {
        Self::new(request, numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }

    /// One whose payload is numbers of 32 bits.
    #[must_use]
    pub fn of_u32(request: u32, numbers: &[u32]) -> Self {
        Self::new(request, numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }

    fn bytes(&self) -> Vec<u8> {
        let header = [self.request, self.flags, self.size];
        header.iter().flat_map(|number| number.to_le_bytes()).chain(self.payload.iter().copied()).collect()
    }
}

/// A connection to an exporter.
#[derive(Debug)]
pub struct Wire(UnixStream);

impl Wire {
    /// Connects to an exporter's socket. Nothing waits longer than `patience` for an answer.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(socket: &Path, patience: Duration) -> Result<Self> {
        let stream = UnixStream::connect(socket);
        let stream = stream.with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self(stream))
    }

    /// Sends a message, with at most [`MOST_DESCRIPTORS`] descriptors.
    ///
    /// # Errors
    /// The exporter has ended the connection, or takes nothing more.
    pub fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            beside.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let bytes = message.bytes();
        let sent = sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?;
        if sent < bytes.len() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    /// The payload of the next message. Descriptors that come with it are closed.
    ///
    /// # Errors
    /// The exporter has ended the connection, or says nothing.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut header = [0; 12];
        self.0.read_exact(&mut header)?;
        let [.., a, b, c, d] = header;
        let size = u32::from_le_bytes([a, b, c, d]);
        let mut payload = vec![0; size.min(1 << 16) as usize];
        self.0.read_exact(&mut payload)?;
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_header_and_its_payload() {
        let message = Message::of_u32(request::SET_VRING_NUM, &[0, 256]);
        assert_eq!(message.bytes(), [8, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
