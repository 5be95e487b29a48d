//! The map.

use std::ops::Range;

/// The unit of a block device in bytes: lengths, and offsets in files, are multiples of it.
pub const SECTOR: u64 = 512;

/// Largest size of a device or a file in bytes: what a signed 64-bit offset can name, in whole sectors.
const LARGEST: u64 = i64::MAX as u64 / SECTOR * SECTOR;

/// What lies where on a device, from its first byte to its last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtentMap {
    /// In the order of their offsets, each beginning where the one before it ends.
    extents: Vec<Extent>,
}

/// A run of a device's bytes that come from one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    offset: u64,
    length: u64,
    data: Data,
}

/// Where the bytes of an extent come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A file, from an offset on.
    File {
        /// Which of the files that whoever made the map has in mind.
        file: usize,
        /// Offset in the file in bytes.
        offset: u64,
    },
    /// These bytes.
    Bytes(Box<[u8]>),
    /// Zeros.
    Zeros,
}

/// A part of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'m> {
    /// Offset on the device in bytes.
    pub offset: u64,
    /// Length in bytes, not 0.
    pub length: u64,
    /// Where its bytes are.
    pub data: PieceData<'m>,
}

/// Where the bytes of a piece are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceData<'m> {
    /// In a file, from an offset on.
    File {
        /// As in [`Data::File`].
        file: usize,
        /// Offset of the piece in the file in bytes.
        offset: u64,
    },
    /// Here.
    Bytes(&'m [u8]),
    /// Nowhere: they are zero.
    Zeros,
}

/// Why something cannot be added to a map.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A length or offset that is not in whole sectors.
    #[error("{value} bytes is not a whole number of sectors of {SECTOR} bytes")]
    Unaligned {
        /// The length or offset in bytes.
        value: u64,
    },
    /// A file or bytes without any.
    #[error("nothing has no place on a block device")]
    Empty,
    /// A range past the largest offset.
    #[error("a block device or a file has at most {LARGEST} bytes")]
    TooLarge,
}

impl ExtentMap {
    /// A device without bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self { extents: Vec::new() }
    }

    /// Adds `length` bytes of a file, from `offset` in it on, at the end of the device.
    ///
    /// # Errors
    /// If offset or length is not in whole sectors, the length is 0, or device or file become too large.
    pub fn push_file(&mut self, file: usize, offset: u64, length: u64) -> Result<(), Error> {
        if length == 0 {
            return Err(Error::Empty);
        }
        aligned(offset)?;
        checked_end(offset, length)?;
        self.push(length, Data::File { file, offset })
    }

    /// Adds these bytes at the end of the device.
    ///
    /// # Errors
    /// As [`ExtentMap::push_file`].
    pub fn push_bytes(&mut self, bytes: impl Into<Box<[u8]>>) -> Result<(), Error> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Err(Error::Empty);
        }
        self.push(bytes.len() as u64, Data::Bytes(bytes))
    }

    /// Adds zeros at the end of the device; 0 bytes of them change nothing.
    ///
    /// # Errors
    /// As [`ExtentMap::push_file`].
    pub fn push_zeros(&mut self, length: u64) -> Result<(), Error> {
        if length == 0 {
            return Ok(());
        }
        self.push(length, Data::Zeros)
    }

    /// Adds zeros up to the next multiple of `alignment` bytes, which is not 0.
    ///
    /// # Errors
    /// As [`ExtentMap::push_file`].
    pub fn pad_to(&mut self, alignment: u64) -> Result<(), Error> {
        let end = self.length().checked_next_multiple_of(alignment).ok_or(Error::TooLarge)?;
        self.push_zeros(end - self.length())
    }

    fn push(&mut self, length: u64, data: Data) -> Result<(), Error> {
        aligned(length)?;
        let offset = self.length();
        checked_end(offset, length)?;
        self.extents.push(Extent { offset, length, data });
        Ok(())
    }

    /// Size of the device in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.extents.last().map_or(0, Extent::end)
    }

    /// All extents, in the order of their offsets.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// What lies at `offset`, up to the end of its extent; None past the end of the device.
    #[must_use]
    pub fn lookup(&self, offset: u64) -> Option<Piece<'_>> {
        self.pieces(offset..u64::MAX).next()
    }

    /// What lies in `range`, in order: as many pieces as there are extents in it. What is past the end of the
    /// device has none.
    #[must_use]
    pub fn pieces(&self, range: Range<u64>) -> Pieces<'_> {
        let first = self.extents.partition_point(|extent| extent.end() <= range.start);
        Pieces { extents: self.extents.get(first..).unwrap_or_default().iter(), range }
    }
}

impl Extent {
    /// Its place on the device, in bytes.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Its length in bytes, not 0.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Where it ends on the device, in bytes.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// Where its bytes come from.
    #[must_use]
    pub const fn data(&self) -> &Data {
        &self.data
    }

    /// The part of it that lies in `range`.
    fn clip(&self, range: &Range<u64>) -> Option<Piece<'_>> {
        let (start, end) = (self.offset.max(range.start), self.end().min(range.end));
        let length = end.checked_sub(start).filter(|length| *length > 0)?;
        let skipped = start - self.offset;
        let data = match &self.data {
            Data::File { file, offset } => PieceData::File { file: *file, offset: offset + skipped },
            Data::Bytes(bytes) => PieceData::Bytes(part(bytes, skipped, length)?),
            Data::Zeros => PieceData::Zeros,
        };
        Some(Piece { offset: start, length, data })
    }
}

/// Walks what lies in a range of a device.
#[derive(Clone, Debug)]
pub struct Pieces<'m> {
    extents: std::slice::Iter<'m, Extent>,
    range: Range<u64>,
}

impl<'m> Iterator for Pieces<'m> {
    type Item = Piece<'m>;

    fn next(&mut self) -> Option<Self::Item> {
        self.extents.next()?.clip(&self.range)
    }
}

fn part(bytes: &[u8], start: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(start).ok()?;
    bytes.get(start..)?.get(..usize::try_from(length).ok()?)
}

fn aligned(value: u64) -> Result<(), Error> {
    if value.is_multiple_of(SECTOR) { Ok(()) } else { Err(Error::Unaligned { value }) }
}

fn checked_end(start: u64, length: u64) -> Result<(), Error> {
    let end = start.checked_add(length).filter(|end| *end <= LARGEST);
    end.map(drop).ok_or(Error::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_no_device_has_are_refused_and_change_nothing() {
        let mut map = ExtentMap::new();
        map.push_zeros(SECTOR).unwrap();
        assert_eq!(map.push_file(0, 0, 0), Err(Error::Empty));
        assert_eq!(map.push_bytes([]), Err(Error::Empty));
        assert_eq!(map.push_bytes([1; 3]), Err(Error::Unaligned { value: 3 }));
        assert_eq!(map.push_file(0, 1, SECTOR), Err(Error::Unaligned { value: 1 }));
        assert_eq!(map.push_file(0, 0, 513), Err(Error::Unaligned { value: 513 }));
        assert_eq!(map.push_file(0, LARGEST, SECTOR), Err(Error::TooLarge));
        assert_eq!(map.push_file(0, u64::MAX - 511, SECTOR), Err(Error::TooLarge));
        assert_eq!(map.push_zeros(LARGEST), Err(Error::TooLarge));
        assert_eq!(map.length(), SECTOR);
    }

    #[test]
    fn the_largest_device_can_be_looked_up_to_its_last_byte() {
        let mut map = ExtentMap::new();
        map.push_file(7, 0, LARGEST).unwrap();
        let data = PieceData::File { file: 7, offset: LARGEST - 1 };
        assert_eq!(map.lookup(LARGEST - 1), Some(Piece { offset: LARGEST - 1, length: 1, data }));
        assert_eq!(map.lookup(LARGEST), None);
        assert_eq!(map.pad_to(1 << 20), Err(Error::TooLarge));
    }

    #[test]
    fn padding_ends_at_the_alignment() {
        let mut map = ExtentMap::new();
        map.push_bytes([1; 512]).unwrap();
        map.pad_to(4096).unwrap();
        map.pad_to(4096).unwrap();
        assert_eq!(map.length(), 4096);
        assert_eq!(map.extents().len(), 2);
    }
}
