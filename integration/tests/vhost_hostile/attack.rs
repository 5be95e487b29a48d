//! One connection of a hostile front-end.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nexuserofs_integration::random::Random;
use nexuserofs_integration::vhost::wire::{MOST_DESCRIPTORS, Message, NEED_REPLY, VERSION, Wire, request};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::rings::{self, AVAILABLE, BASE, ENTRIES, MEMORY, TABLE, USED};

/// How long an answer is waited for that ought to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was done, in all attacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Messages that were sent.
    pub(crate) messages: u64,
    /// Times that the device was told of requests.
    pub(crate) kicks: u64,
    /// Times that shared memory was taken away.
    pub(crate) vanished: u64,
}

/// Features of the device that are asked for: version 1, event indexes, indirect descriptors, the protocol's own.
const FEATURES: u64 = 1 << 32 | 1 << 29 | 1 << 28 | 1 << 30;
/// REPLY_ACK, CONFIG, CONFIGURE_MEM_SLOTS.
const PROTOCOL: u64 = 1 << 3 | 1 << 9 | 1 << 15;

struct Attack<'a> {
    random: &'a mut Random,
    tally: &'a mut Tally,
    wire: Wire,
    memory: File,
    kick: OwnedFd,
    call: OwnedFd,
    /// How many chains the device was told of.
    told: u16,
}

/// Connects and does what it likes, until the exporter has had enough.
///
/// # Errors
/// Nobody listens, or this machine has no memory left. What the exporter does is no error.
pub(crate) fn run(random: &mut Random, socket: &Path, tally: &mut Tally) -> Result<()> {
    let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let memory: File = memfd_create("hostile", MemfdFlags::CLOEXEC).context("make memory")?.into();
    memory.set_len(MEMORY)?;
    let wire = Wire::connect(socket, PATIENCE)?;
    let mut attack = Attack { random, tally, wire, memory, kick: event()?, call: event()?, told: 0 };
    // It ends where the exporter ends the connection.
    let _ = attack.run();
    Ok(())
}

impl Attack<'_> {
    fn run(&mut self) -> io::Result<()> {
        if !self.random.one_in(4) {
            self.introduce()?;
        }
        for _ in 0..self.random.below(60) {
            match self.random.below(12) {
                0 => self.any_message()?,
                1..=3 => self.known_message()?,
                4 => rings::scribble(self.random, &self.memory)?,
                5 if self.random.one_in(10) => self.take_memory_away()?,
                6..=11 => {
                    rings::put_chains(self.random, &self.memory, &mut self.told)?;
                    self.kick();
                }
                _ => self.kick(),
            }
        }
        Ok(())
    }

    /// As an honest front-end does it.
    fn introduce(&mut self) -> io::Result<()> {
        self.send(Message::of_u64(request::SET_OWNER, &[]), &[])?;
        self.send(Message::of_u64(request::GET_FEATURES, &[]), &[])?;
        self.wire.receive()?;
        self.send(Message::of_u64(request::SET_FEATURES, &[FEATURES]), &[])?;
        self.send(Message::of_u64(request::GET_PROTOCOL_FEATURES, &[]), &[])?;
        self.wire.receive()?;
        self.send(Message::of_u64(request::SET_PROTOCOL_FEATURES, &[PROTOCOL]), &[])?;
        self.share(BASE, MEMORY, 0)?;
        let parts = [TABLE, USED, AVAILABLE].map(|part| BASE + part);
        let [table, used, available] = parts;
        self.send(Message::of_u32(request::SET_VRING_NUM, &[0, ENTRIES.into()]), &[])?;
        self.send(Message::of_u64(request::SET_VRING_ADDR, &[0, table, used, available, 0]), &[])?;
        self.send(Message::of_u32(request::SET_VRING_BASE, &[0, 0]), &[])?;
        self.send_event(request::SET_VRING_KICK, 0)?;
        self.send_event(request::SET_VRING_CALL, 0)?;
        self.send(Message::of_u32(request::SET_VRING_ENABLE, &[0, 1]), &[])
    }

    fn send(&mut self, message: Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.tally.messages += 1;
        self.wire.send(&message, descriptors)
    }

    fn share(&mut self, address: u64, length: u64, offset: u64) -> io::Result<()> {
        let memory = self.memory.try_clone()?;
        let message = Message::of_u64(request::ADD_MEM_REG, &[0, address, length, address, offset]);
        self.send(message, &[memory.as_fd()])
    }

    fn send_event(&mut self, number: u32, ring: u64) -> io::Result<()> {
        let event = if number == request::SET_VRING_CALL { &self.call } else { &self.kick };
        let event = event.try_clone()?;
        self.send(Message::of_u64(number, &[ring]), &[event.as_fd()])
    }

    fn kick(&mut self) {
        self.tally.kicks += 1;
        // A full counter wakes the device too.
        let _ = rustix::io::write(&self.kick, &1_u64.to_ne_bytes());
    }

    /// The device still has it mapped, and finds nothing there.
    fn take_memory_away(&mut self) -> io::Result<()> {
        self.tally.vanished += 1;
        self.memory.set_len(self.random.below(MEMORY as usize) as u64)?;
        self.kick();
        if self.random.one_in(2) {
            self.memory.set_len(MEMORY)?;
        }
        Ok(())
    }

    /// Any number, size and content, with any descriptors.
    fn any_message(&mut self) -> io::Result<()> {
        let payload: Vec<u8> = (0..self.random.below(300)).map(|_| self.random.bits() as u8).collect();
        let number = self.random.below(request::END as usize + 2) as u32;
        let mut message = Message::new(number, payload);
        if self.random.one_in(4) {
            message.flags = self.random.bits() as u32;
        }
        if self.random.one_in(4) {
            message.size = self.random.bits() as u32 >> self.random.below(32);
        }
        let (memory, kick) = (self.memory.try_clone()?, self.kick.try_clone()?);
        let held: Vec<BorrowedFd<'_>> = (0..self.random.below(MOST_DESCRIPTORS + 1))
            .map(|_| if self.random.one_in(2) { memory.as_fd() } else { kick.as_fd() })
            .collect();
        self.tally.messages += 1;
        self.wire.send(&message, &held)
    }

    /// A message of the right shape, with numbers that may be wrong.
    fn known_message(&mut self) -> io::Result<()> {
        let ring =
            if self.random.one_in(4) { self.random.bits() as u32 } else { self.random.below(3) as u32 };
        let number = self.number();
        match self.random.below(12) {
            0 => self.send(Message::of_u32(request::SET_VRING_NUM, &[ring, number as u32]), &[]),
            1 => {
                let places =
                    [self.number(), self.number(), self.number()].map(|place| BASE.wrapping_add(place));
                let numbers = [ring.into(), places[0], places[1], places[2], 0];
                self.send(Message::of_u64(request::SET_VRING_ADDR, &numbers), &[])
            }
            2 => self.send(Message::of_u32(request::SET_VRING_BASE, &[ring, number as u32]), &[]),
            3 => self.send(Message::of_u32(request::SET_VRING_ENABLE, &[ring, number as u32 & 1]), &[]),
            4 => self.send(Message::of_u32(request::GET_VRING_BASE, &[ring, 0]), &[]),
            5 => self.send_event(request::SET_VRING_KICK, ring.into()),
            6 => self.send_event(request::SET_VRING_CALL, ring.into()),
            7 => {
                let (address, length, offset) = (self.number(), self.number(), self.number());
                self.share(BASE.wrapping_add(address), length, offset)
            }
            8 => self.send(Message::of_u64(request::REM_MEM_REG, &[0, BASE, MEMORY, BASE, 0]), &[]),
            9 => self.send(Message::of_u64(request::SET_FEATURES, &[FEATURES ^ number]), &[]),
            10 => self.configuration(request::SET_CONFIG),
            _ => self.configuration(request::GET_CONFIG),
        }
    }

    /// Offset, size, flags and bytes of the configuration.
    fn configuration(&mut self, number: u32) -> io::Result<()> {
        let size = self.random.below(260);
        let told = if self.random.one_in(3) { self.random.bits() as u32 } else { size as u32 };
        let offset =
            if self.random.one_in(3) { self.random.bits() as u32 } else { self.random.below(64) as u32 };
        let head = [offset, told, 0].into_iter().flat_map(u32::to_le_bytes);
        let payload = head.chain(std::iter::repeat_n(0xff, size)).collect();
        let mut message = Message::new(number, payload);
        message.flags = VERSION | NEED_REPLY;
        self.send(message, &[])
    }

    /// A number that may be small, near a limit, or anything.
    fn number(&mut self) -> u64 {
        match self.random.below(4) {
            0 => self.random.bits(),
            1 => u64::MAX - self.random.below(16) as u64,
            2 => self.random.below(MEMORY as usize) as u64,
            _ => 4096 * self.random.below(64) as u64,
        }
    }
}
