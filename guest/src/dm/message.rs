//! What goes to the kernel and comes back: a header, and a payload behind it.

use std::ops::BitOr;

use zeroize::Zeroize as _;

use super::Name;
use crate::verity::DeviceNumber;

/// Bytes behind the header: enough for one table, and for the names of all targets there are.
const ROOM: usize = 16 << 10;

/// Size of `struct dm_target_spec`, which comes before each target's parameters.
const SPECIFICATION: usize = 40;
/// Size of the name in it.
const TARGET_NAME: usize = 16;

/// Nobody but us tells of our devices and looks into them: the `DM_UDEV_DISABLE_*` flags for udev's rules
/// of device-mapper, of subsystems, of disks and others, and for libdevmapper's fall-back. They travel in the
/// upper half of `event_nr`.
const NO_UDEV_RULES: u32 = 0x2f << 16;

/// Flags of a header, `DM_*_FLAG` in `linux/dm-ioctl.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u32);

impl Flags {
    /// None: with [`super::ioctl::Command::Suspend`], resume.
    pub(super) const NONE: Self = Self(0);
    /// The device takes no writes.
    pub(super) const READ_ONLY: Self = Self(1);
    /// Answer with the table and not with the status.
    pub(super) const TABLE: Self = Self(1 << 4);
    /// In an answer: there was more than fits.
    const BUFFER_FULL: Self = Self(1 << 8);
    /// Status as it is, without waiting for I/O in flight.
    pub(super) const NO_FLUSH: Self = Self(1 << 11);
    /// Wipe what the kernel copies of the message: a key is in it.
    pub(super) const SECURE: Self = Self(1 << 15);
    /// Remove when the last user closes the device.
    pub(super) const DEFERRED: Self = Self(1 << 17);

    const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// `struct dm_ioctl`.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    pub(super) flags: u32,
    event_nr: u32,
    padding: u32,
    pub(super) device: u64,
    pub(super) name: [u8; 128],
    pub(super) uuid: [u8; 129],
    data: [u8; 7],
}

/// A header and its payload. It is made where it stays and wiped at its end, since a table may have a key in it.
#[repr(C)]
pub(super) struct Message {
    header: Header,
    pub(super) payload: [u8; ROOM],
}

/// A version of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Changes with the interface.
    pub major: u32,
    /// Grows with what it can.
    pub minor: u32,
    /// Grows with what was mended.
    pub patch: u32,
}

/// The one target of a table, as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Length in sectors of 512 bytes.
    pub(super) sectors: u64,
    /// Which target.
    pub(super) kind: String,
    /// Its parameters, or its status.
    pub(super) text: String,
}

impl Drop for Message {
    fn drop(&mut self) {
        self.payload.zeroize();
    }
}

impl Default for Message {
    fn default() -> Self {
        let header = Header {
            version: [4, 0, 0],
            data_size: 0,
            data_start: 0,
            target_count: 0,
            open_count: 0,
            flags: 0,
            event_nr: NO_UDEV_RULES,
            padding: 0,
            device: 0,
            name: [0; 128],
            uuid: [0; 129],
            data: [0; 7],
        };
        Self { header, payload: [0; ROOM] }
    }
}

impl Message {
    /// A message about one device.
    pub(super) fn about(name: &Name, flags: Flags) -> Box<Self> {
        let mut message = Box::<Self>::default();
        message.header.flags = flags.0;
        // A name is at most 127 bytes, so that a NUL follows.
        for (to, from) in message.header.name.iter_mut().zip(name.as_str().bytes()) {
            *to = from;
        }
        message
    }

    /// The same with a table of one target of this kind, so many sectors of 512 bytes long, with these parameters.
    /// None if they are longer than any that fit.
    pub(super) fn with_target(
        mut self: Box<Self>,
        kind: &str,
        sectors: u64,
        text: &str,
    ) -> Option<Box<Self>> {
        let length = (SPECIFICATION + text.len() + 1).next_multiple_of(8);
        let (specification, parameters) = self.payload.get_mut(..length)?.split_at_mut(SPECIFICATION);
        let next = u32::try_from(length).ok()?;
        specification[8..16].copy_from_slice(&sectors.to_ne_bytes());
        specification[20..24].copy_from_slice(&next.to_ne_bytes());
        let (_, name) = specification.split_at_mut(SPECIFICATION - TARGET_NAME);
        name.get_mut(..kind.len())?.copy_from_slice(kind.as_bytes());
        // What is behind it is zero already.
        parameters.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        self.header.target_count = 1;
        Some(self)
    }

    /// Says how large the message is, which the kernel relies on.
    pub(super) const fn prepare(&mut self) {
        self.header.data_size = size_of::<Self>() as u32;
        self.header.data_start = size_of::<Header>() as u32;
    }

    /// The number of the device in an answer.
    pub(super) fn device(&self) -> DeviceNumber {
        self.header.device.into()
    }

    /// Whether all that was asked for is in an answer.
    pub(super) fn is_whole(&self) -> bool {
        !Flags(self.header.flags).contains(Flags::BUFFER_FULL)
    }

    /// The one target of a table. None if there are others, or none.
    pub(super) fn target(&self) -> Option<Target> {
        if self.header.target_count != 1 {
            return None;
        }
        let answer = self.answer()?;
        Some(Target {
            sectors: u64::from_ne_bytes(read(answer, 8)?),
            kind: text(answer.get(SPECIFICATION - TARGET_NAME..SPECIFICATION)?)?,
            text: text(answer.get(SPECIFICATION..)?)?,
        })
    }

    /// The version of a target in a list of them (`struct dm_target_versions`).
    pub(super) fn version_of(&self, target: &str) -> Option<Version> {
        let mut rest = self.answer()?;
        loop {
            let next = u32::from_ne_bytes(read(rest, 0)?) as usize;
            let number = |at| Some(u32::from_ne_bytes(read(rest, at)?));
            if text(rest.get(16..)?)? == target {
                return Some(Version { major: number(4)?, minor: number(8)?, patch: number(12)? });
            }
            rest = if next == 0 { return None } else { rest.get(next..)? };
        }
    }

    /// The payload of an answer.
    fn answer(&self) -> Option<&[u8]> {
        self.payload.get((self.header.data_start as usize).checked_sub(size_of::<Header>())?..)
    }
}

fn read<const LENGTH: usize>(bytes: &[u8], at: usize) -> Option<[u8; LENGTH]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// The text up to the first NUL, or to the end.
fn text(bytes: &[u8]) -> Option<String> {
    let text = bytes.split(|byte| *byte == 0).next()?;
    Some(std::str::from_utf8(text).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        "device".parse().unwrap()
    }

    fn with_table() -> Box<Message> {
        Message::about(&name(), Flags::READ_ONLY).with_target("verity", 2352, "1 7:0 7:0").unwrap()
    }

    #[test]
    fn a_target_has_the_layout_of_the_kernels_header() {
        let message = with_table();
        let mut expected = Vec::new();
        expected.extend([0; 8]);
        expected.extend(2352_u64.to_ne_bytes());
        expected.extend([0; 4]);
        expected.extend(56_u32.to_ne_bytes());
        expected.extend(b"verity\0\0\0\0\0\0\0\0\0\0");
        expected.extend(b"1 7:0 7:0\0\0\0\0\0\0\0");
        assert_eq!(message.payload[..expected.len()], expected);
        assert_eq!(&message.header.name[..8], b"device\0\0");
        assert_eq!((message.header.target_count, message.header.flags), (1, 1));
    }

    #[test]
    fn a_target_is_read_as_it_is_written() {
        let mut message = with_table();
        message.prepare();
        let target = Target { sectors: 2352, kind: "verity".to_owned(), text: "1 7:0 7:0".to_owned() };
        assert_eq!(message.target(), Some(target));
        message.header.target_count = 2;
        assert_eq!(message.target(), None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let fits = |kind: usize, text: usize| {
            Box::<Message>::default().with_target(&"k".repeat(kind), 8, &"t".repeat(text)).is_some()
        };
        let room = ROOM - SPECIFICATION - 1;
        assert!(fits(16, room));
        assert!(!fits(16, room + 1));
        assert!(!fits(17, 1));
    }

    #[test]
    fn versions_are_found_in_their_list() {
        let mut message = Message::default();
        message.prepare();
        let mut bytes = Vec::new();
        for (next, version, name) in [(32_u32, [1_u32, 2, 3], "linear"), (0, [1, 10, 0], "verity")] {
            bytes.extend(next.to_ne_bytes());
            version.iter().for_each(|number| bytes.extend(number.to_ne_bytes()));
            bytes.extend(name.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(32), 0);
        }
        message.payload[..bytes.len()].copy_from_slice(&bytes);
        assert_eq!(message.version_of("verity"), Some(Version { major: 1, minor: 10, patch: 0 }));
        assert_eq!(message.version_of("linear"), Some(Version { major: 1, minor: 2, patch: 3 }));
        assert_eq!(message.version_of("crypt"), None);
    }

    #[test]
    fn an_answer_that_points_past_its_end_is_none() {
        let mut message = Message::default();
        message.header.target_count = 1;
        for start in [0, u32::MAX, 311, (size_of::<Message>() - 8) as u32] {
            message.header.data_start = start;
            assert_eq!((message.target(), message.version_of("verity")), (None, None), "{start}");
        }
    }
}
