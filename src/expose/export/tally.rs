//! What a process did, in a file beside its sockets.
//!
//! The process writes it when it changed, at most once in a second: whoever looks at the numbers asks nothing of a process
//! that maps a guest's memory, and finds them also when it has ended. The file has one block of [`SIZE`] bytes, which is
//! written and read at once: the checksum of the text in hexadecimal digits (CRC-32C), a blank, the text (JSON), and blanks. A
//! reader that meets a writer sees it by the checksum, and reads again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Place;
use crate::expose::vhost_user::{Counters, Counts};
use crate::store;

/// Size of the file in bytes. The text of two disks with 20-digit numbers in all places has two thirds of it.
pub const SIZE: usize = 32 << 10;

/// Digits of the checksum, and a blank.
const HEAD: usize = 9;

/// How often a block is read that does not fit its checksum.
const ATTEMPTS: usize = 100;

/// What a process did since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The disks.
    pub disks: Vec<DiskTally>,
}

/// What was done of one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskTally {
    /// Its serial.
    pub serial: String,
    /// Its numbers.
    #[serde(flatten)]
    pub counts: Counts,
}

impl DiskTally {
    /// Whether a monitor was connected when it was written.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.counts.connections > self.counts.disconnections
    }
}

/// The last tally of the process in this place. Empty before it wrote one.
///
/// # Errors
/// If there is no such file, or it cannot be read.
pub fn read(place: &Place) -> Result<Tally, store::Error> {
    let path = place.tally();
    let file = File::open(&path).map_err(store::Error::io("open", &path))?;
    read_file(&file).map_err(store::Error::io("read", &path))
}

fn read_file(file: &File) -> io::Result<Tally> {
    for _ in 0..ATTEMPTS {
        let mut block = vec![0; SIZE];
        match file.read_exact_at(&mut block, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Tally::default()),
            read => read?,
        }
        if let Some(tally) = parse(&block) {
            return Ok(tally);
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it is no tally, or its writer never rests"))
}

fn parse(block: &[u8]) -> Option<Tally> {
    let (head, text) = block.split_at_checked(HEAD)?;
    let text = text.trim_ascii_end();
    let sum = u32::from_str_radix(str::from_utf8(head).ok()?.trim_end(), 16).ok()?;
    (sum == crc32c::crc32c(text)).then(|| serde_json::from_slice(text).ok()).flatten()
}

/// The file of this process, and what is counted.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    counters: Vec<(String, Arc<Counters>)>,
    last: Option<Tally>,
}

impl Writer {
    pub(super) const fn new(file: File, counters: Vec<(String, Arc<Counters>)>) -> Self {
        Self { file, counters, last: None }
    }

    /// Writes the numbers, if they are others than the last time.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let disk = |(serial, counters): &(String, Arc<Counters>)| DiskTally {
            serial: serial.clone(),
            counts: counters.counts(),
        };
        let now = Tally { disks: self.counters.iter().map(disk).collect() };
        if self.last.as_ref() == Some(&now) {
            return Ok(());
        }
        self.file.write_all_at(&block(&now)?, 0)?;
        self.last = Some(now);
        Ok(())
    }
}

fn block(tally: &Tally) -> io::Result<Vec<u8>> {
    let text = serde_json::to_string(tally)?;
    let mut block = format!("{:08x} {text}", crc32c::crc32c(text.as_bytes())).into_bytes();
    if block.len() > SIZE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    block.resize(SIZE, b' ');
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expose::vhost_user::OperationCounts;

    fn full() -> Tally {
        let latencies = vec![u64::MAX; 40];
        let operations = OperationCounts { requests: u64::MAX, bytes: u64::MAX, errors: u64::MAX, latencies };
        let counts = Counts {
            reads: operations.clone(),
            writes: operations.clone(),
            flushes: operations.clone(),
            discards: operations.clone(),
            others: operations,
            malformed: u64::MAX,
            damaged: u64::MAX,
            connections: u64::MAX,
            disconnections: u64::MAX,
        };
        let disk = |serial: &str| DiskTally { serial: serial.to_owned(), counts: counts.clone() };
        Tally { disks: vec![disk("image"), disk("writable")] }
    }

    #[test]
    fn the_largest_numbers_fit_and_come_back() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(read_file(&file).unwrap(), Tally::default(), "before the first is written");
        file.write_all_at(&block(&full()).unwrap(), 0).unwrap();
        assert_eq!(read_file(&file).unwrap(), full());
    }

    #[test]
    fn half_a_block_of_another_time_is_not_taken() {
        let mut mixed = block(&full()).unwrap();
        let empty = block(&Tally::default()).unwrap();
        mixed[..HEAD].copy_from_slice(&empty[..HEAD]);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&mixed, 0).unwrap();
        assert_eq!(read_file(&file).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_did_not_change_is_not_written_again() {
        let file = tempfile::tempfile().unwrap();
        let counters = Arc::new(Counters::default());
        let mut writer = Writer::new(file.try_clone().unwrap(), vec![("image".to_owned(), counters)]);
        writer.write().unwrap();
        assert_eq!(read_file(&file).unwrap().disks.len(), 1);
        file.set_len(0).unwrap();
        writer.write().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
    }
}
