//! What a process is told to serve.
//!
//! It goes over a socket as JSON, and the open files behind it. A [`Slot`] is the number of such a file. Paths are for
//! messages only: the process opens nothing.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::config::LogSettings;
use crate::image::extent::{self, ExtentMap};
use crate::layer::verity::Verity;

/// Version of what is here. Daemon and process have to have the same.
pub const VERSION: u32 = 2;

/// Number of an open file that comes with a specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot(pub(super) usize);

/// What a process is told to serve.
#[derive(Debug, Serialize, Deserialize)]
pub struct Specification {
    /// [`VERSION`] of who wrote it.
    pub version: u32,
    /// Number of open files that follow.
    pub files: usize,
    /// Locked as long as the process lives.
    pub lock: Slot,
    /// Where the process writes what it did.
    pub tally: Slot,
    /// Whom the process becomes, if it is root.
    pub identity: Identity,
    /// What is logged, on standard error.
    pub log: LogSettings,
    /// The disks.
    pub disks: Vec<Disk>,
}

/// Whom a process becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group, the only one.
    pub gid: u32,
}

impl Identity {
    /// The kernel's overflow user, who owns nothing.
    pub const NOBODY: Self = Self { uid: 65534, gid: 65534 };
}

/// A disk.
#[derive(Debug, Serialize, Deserialize)]
pub struct Disk {
    /// What the guest is told as its serial.
    pub serial: String,
    /// Number of its queues.
    pub queues: u16,
    /// Where monitors connect.
    pub listener: Slot,
    /// Locked for reading while a monitor is connected.
    pub connected: Slot,
    /// What is on it.
    pub contents: Contents,
}

/// What is on a disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contents {
    /// Runs of files, bytes and zeros, which nobody writes to.
    Image {
        /// What lies where, without gaps.
        extents: Vec<Extent>,
        /// The files that the extents name, by number.
        files: Vec<File>,
    },
    /// A file that the guest writes to.
    Block(File),
}

/// A run of bytes on a disk.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// From a file.
    File {
        /// Number of the file on this disk.
        file: usize,
        /// Where in the file it starts, in bytes.
        offset: u64,
        /// In bytes.
        length: u64,
    },
    /// These, as base64.
    Bytes(String),
    /// So many zeros.
    Zeros(u64),
}

/// An open file.
#[derive(Debug, Serialize, Deserialize)]
pub struct File {
    /// The file.
    pub slot: Slot,
    /// Its name, for messages.
    pub path: PathBuf,
    /// The tree that each block is checked against when the guest reads it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Tree>,
}

/// The hash tree of an open file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tree {
    /// What it is over, and its root hash.
    pub verity: Verity,
    /// The file that it is in, if not behind what it covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<Apart>,
}

/// A hash tree in an open file of its own.
#[derive(Debug, Serialize, Deserialize)]
pub struct Apart {
    /// The file.
    pub slot: Slot,
    /// Its name, for messages.
    pub path: PathBuf,
}

/// Open files that go with a specification.
#[derive(Debug, Default)]
pub struct Files(Vec<Option<OwnedFd>>);

impl Files {
    /// Adds one.
    pub(super) fn add(&mut self, file: impl Into<OwnedFd>) -> Slot {
        self.0.push(Some(file.into()));
        Slot(self.0.len() - 1)
    }

    /// Takes one, which is there once.
    pub(super) fn take(&mut self, slot: Slot) -> Result<OwnedFd, Error> {
        let taken = self.0.get_mut(slot.0).and_then(Option::take);
        taken.ok_or_else(|| Error::Specification { reason: format!("file {} did not come with it", slot.0) })
    }

    /// Those that were not taken.
    pub(super) fn remaining(&self) -> Vec<&OwnedFd> {
        self.0.iter().flatten().collect()
    }

    pub(super) fn of(files: Vec<OwnedFd>) -> Self {
        Self(files.into_iter().map(Some).collect())
    }
}

/// What a map says, as it is handed over.
#[must_use]
pub fn extents(map: &ExtentMap) -> Vec<Extent> {
    let extent = |extent: &extent::Extent| match extent.data() {
        extent::Data::File { file, offset } => {
            Extent::File { file: *file, offset: *offset, length: extent.length() }
        }
        extent::Data::Bytes(bytes) => Extent::Bytes(BASE64.encode(bytes)),
        extent::Data::Zeros => Extent::Zeros(extent.length()),
    };
    map.extents().iter().map(extent).collect()
}

/// The map that was handed over.
///
/// # Errors
/// If it is none.
pub fn map(extents: &[Extent]) -> Result<ExtentMap, Error> {
    let mut map = ExtentMap::new();
    for extent in extents {
        let pushed = match extent {
            Extent::File { file, offset, length } => map.push_file(*file, *offset, *length),
            Extent::Zeros(length) => map.push_zeros(*length),
            Extent::Bytes(text) => {
                let bytes = BASE64.decode(text).map_err(|error| invalid(&error))?;
                map.push_bytes(bytes)
            }
        };
        pushed.map_err(|error| invalid(&error))?;
    }
    Ok(map)
}

pub(super) fn invalid(error: &dyn std::fmt::Display) -> Error {
    Error::Specification { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_comes_out_as_it_went_in() {
        let mut before = ExtentMap::new();
        before.push_bytes(vec![7; 512]).unwrap();
        before.push_zeros(1024).unwrap();
        before.push_file(1, 4096, 8192).unwrap();
        let text = serde_json::to_string(&extents(&before)).unwrap();
        let after = map(&serde_json::from_str::<Vec<Extent>>(&text).unwrap()).unwrap();
        assert_eq!(after.extents(), before.extents());
        assert!(map(&[Extent::Bytes("!".to_owned())]).is_err());
    }

    #[test]
    fn a_file_is_there_once() {
        let mut files = Files::default();
        let slot = files.add(std::fs::File::open("/dev/null").unwrap());
        files.take(slot).unwrap();
        files.take(slot).unwrap_err();
        files.take(Slot(9)).unwrap_err();
    }
}
