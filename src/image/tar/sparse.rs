//! Maps of sparse files: the old GNU format and the PAX versions 0.0, 0.1 and 1.0, as the GNU tar
//! manual, "Storing Sparse Files", defines them.

use std::io::BufRead;

use super::error::{Fault, Malformed, Part, Quantity};
use super::header::{BLOCK, OldSparse, number};
use super::limits::Limits;
use super::pax::{SparseRecords, decimal, integer};
use super::problem::Problem;
use super::stream::{BlockRead, Stop, Stream};

/// A stretch of data in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// First byte, from the start of the file.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) length: u64,
}

/// Where the data of a sparse file lies. Runs are in order, do not overlap, are not empty and end
/// within the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map {
    /// Size of the file in bytes, holes included.
    pub(super) size: u64,
    /// The runs whose data the archive has.
    pub(super) runs: Vec<Run>,
}

/// Length in bytes of a descriptor in the old format: two numeric fields of twelve.
const DESCRIPTOR: usize = 24;

/// Length in bytes of a numeric field of a descriptor.
const FIELD: usize = 12;

/// Descriptors in a block that continues an old map; a flag follows them.
const DESCRIPTORS_PER_BLOCK: usize = 21;

/// Reads the old map: four descriptors in the header, more in the blocks after it.
pub(super) fn read_old<R: BufRead>(
    header: &OldSparse<'_>,
    stream: &mut Stream<'_, R>,
    limits: &Limits,
) -> Result<Map, Problem> {
    let mut runs = Runs::new(limits);
    runs.take_descriptors(header.descriptors)?;
    let mut extended = header.extended;
    while extended {
        let mut block = [0; BLOCK];
        if stream.block(&mut block).map_err(Part::SparseMap.stopped())? == BlockRead::Nothing {
            return Err(Problem::Stopped(Part::SparseMap, Stop::End));
        }
        let (descriptors, rest) = block.split_at(DESCRIPTORS_PER_BLOCK * DESCRIPTOR);
        runs.take_descriptors(descriptors)?;
        extended = rest.first().is_some_and(|&flag| flag != 0);
    }
    Ok(runs.into_map(number("realsize", header.size)?)?)
}

/// The map of a PAX sparse file of version 0.0 or 0.1, `None` if the records speak of none.
/// `stored` is the size of the data in the archive.
pub(super) fn read_records(
    records: &SparseRecords<'_>,
    stored: u64,
    limits: &Limits,
) -> Result<Option<Map>, Fault> {
    if !is_declared(records) {
        return Ok(None);
    }
    let values: Vec<&[u8]> = match (records.pairs.as_slice(), records.map) {
        ([], b"") => Vec::new(),
        ([], map) => map.split(|&byte| byte == b',').collect(),
        (pairs, _) => pairs.to_vec(),
    };
    let count = integer("GNU.sparse.numblocks", records.run_count)?;
    if i64::try_from(values.len() / 2) != Ok(count) || !values.len().is_multiple_of(2) {
        return Err(Malformed::SparseMap("not as long as it says").into());
    }
    let mut runs = Runs::new(limits);
    for pair in values.chunks_exact(2) {
        let &[offset, length] = pair else { continue };
        runs.push(map_number(offset)?, map_number(length)?)?;
    }
    runs.into_map(declared_size(records, stored)?).map(Some)
}

/// Whether the records tell of a sparse file. Only later versions say which they are.
pub(super) fn is_declared(records: &SparseRecords<'_>) -> bool {
    match (records.major, records.minor) {
        (b"0", b"0" | b"1") | (b"1", b"0") => true,
        (b"", b"") => !records.map.is_empty() || !records.pairs.is_empty(),
        _ => false,
    }
}

/// Whether the map is of version 1.0, at the start of the data.
pub(super) fn is_in_data(records: &SparseRecords<'_>) -> bool {
    records.major == b"1" && records.minor == b"0"
}

/// Reads the map of version 1.0 from the start of the data, of which there are `stored` bytes.
/// Lines of decimal numbers: how many runs, then offset and length of each; zeros to the end of the
/// block. Gives the map and its length in the archive.
pub(super) fn read_data<R: BufRead>(
    records: &SparseRecords<'_>,
    stored: u64,
    stream: &mut Stream<'_, R>,
    limits: &Limits,
) -> Result<(Map, u64), Problem> {
    let mut numbers = Numbers::new(stream, stored, limits);
    let count = numbers.next()?;
    Quantity::SparseRuns.check(count.cast_unsigned(), limits.max_sparse_runs as u64)?;
    let mut runs = Runs::new(limits);
    for _ in 0..count {
        let offset = numbers.next()?;
        runs.push(offset, numbers.next()?)?;
    }
    let length = numbers.taken;
    Ok((runs.into_map(declared_size(records, stored)?)?, length))
}

fn declared_size(records: &SparseRecords<'_>, stored: u64) -> Result<i64, Malformed> {
    match (records.size, records.real_size) {
        (b"", b"") => i64::try_from(stored).map_err(|_| Malformed::SparseMap("past 2^63")),
        (b"", size) => integer("GNU.sparse.realsize", size),
        (size, _) => integer("GNU.sparse.size", size),
    }
}

fn map_number(text: &[u8]) -> Result<i64, Malformed> {
    decimal(text).ok_or(Malformed::SparseMap("not a number"))
}

/// A map being built.
struct Runs {
    runs: Vec<Run>,
    limit: usize,
    end: i64,
}

impl Runs {
    fn new(limits: &Limits) -> Self {
        Self { runs: Vec::new(), limit: limits.max_sparse_runs, end: 0 }
    }

    /// Takes descriptors up to the first that is empty.
    fn take_descriptors(&mut self, descriptors: &[u8]) -> Result<(), Fault> {
        for descriptor in descriptors.chunks_exact(DESCRIPTOR) {
            let (offset, length) = descriptor.split_at(FIELD);
            if offset.starts_with(&[0]) {
                break;
            }
            self.push(number("sparse offset", offset)?, number("sparse length", length)?)?;
        }
        Ok(())
    }

    fn push(&mut self, offset: i64, length: i64) -> Result<(), Fault> {
        if length < 0 || offset < self.end {
            return Err(Malformed::SparseMap("runs overlap or are not in order").into());
        }
        self.end = offset.checked_add(length).ok_or(Malformed::SparseMap("runs past 2^63"))?;
        Quantity::SparseRuns.check(self.runs.len() as u64 + 1, self.limit as u64)?;
        if length > 0 {
            self.runs.push(Run { offset: offset.cast_unsigned(), length: length.cast_unsigned() });
        }
        Ok(())
    }

    fn into_map(self, size: i64) -> Result<Map, Fault> {
        if self.end > size {
            return Err(Malformed::SparseMap("runs past the end of the file").into());
        }
        Ok(Map { size: size.cast_unsigned(), runs: self.runs })
    }
}

/// The lines of a version 1.0 map.
struct Numbers<'s, 'r, R> {
    stream: &'s mut Stream<'r, R>,
    block: [u8; BLOCK],
    /// Next byte of `block`.
    next: usize,
    /// Bytes read of the file's data.
    taken: u64,
    /// Bytes that may be read.
    available: u64,
    limit: u64,
}

impl<'s, 'r, R: BufRead> Numbers<'s, 'r, R> {
    fn new(stream: &'s mut Stream<'r, R>, stored: u64, limits: &Limits) -> Self {
        Self {
            stream,
            block: [0; BLOCK],
            next: BLOCK,
            taken: 0,
            available: stored,
            limit: limits.max_extended_header_bytes,
        }
    }

    fn next(&mut self) -> Result<i64, Problem> {
        let mut value = None;
        loop {
            match (self.byte()?, value) {
                (b'\n', Some(number)) => return Ok(number),
                (digit @ b'0'..=b'9', so_far) => {
                    let digit = i64::from(digit - b'0');
                    let shifted = so_far.unwrap_or(0).checked_mul(10);
                    let number = shifted.and_then(|shifted: i64| shifted.checked_add(digit));
                    value = Some(number.ok_or(Malformed::SparseMap("not a number"))?);
                }
                _ => return Err(Malformed::SparseMap("not a number").into()),
            }
        }
    }

    fn byte(&mut self) -> Result<u8, Problem> {
        if self.next == BLOCK {
            self.refill()?;
        }
        let byte = self.block.get(self.next).copied().unwrap_or_default();
        self.next += 1;
        Ok(byte)
    }

    fn refill(&mut self) -> Result<(), Problem> {
        self.taken += BLOCK as u64;
        if self.taken > self.available {
            return Err(Malformed::SparseMap("longer than the data").into());
        }
        Quantity::ExtendedHeaderBytes.check(self.taken, self.limit)?;
        match self.stream.block(&mut self.block).map_err(Part::SparseMap.stopped())? {
            BlockRead::Nothing => Err(Problem::Stopped(Part::SparseMap, Stop::End)),
            BlockRead::Whole => {
                self.next = 0;
                Ok(())
            }
        }
    }
}
