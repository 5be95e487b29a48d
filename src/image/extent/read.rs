//! Reads of a device.

use std::io;

use super::map::{ExtentMap, Piece, PieceData};
use crate::image::erofs::read::ReadAt;

/// Why bytes of a device cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The range is not inside the device.
    #[error("{length} bytes from byte {offset} on are not all on a device of {size} bytes")]
    OutOfRange {
        /// Where the range begins, in bytes.
        offset: u64,
        /// Its length in bytes.
        length: u64,
        /// Size of the device in bytes.
        size: u64,
    },
    /// The map names a file that the caller did not give.
    #[error("the device has a file with the number {file}, which was not opened")]
    NoSuchFile {
        /// The number in the map.
        file: usize,
    },
    /// A file cannot be read.
    #[error("cannot read byte {offset} of file {file} of the device")]
    File {
        /// The number in the map.
        file: usize,
        /// Offset in the file in bytes.
        offset: u64,
        /// The reason.
        source: io::Error,
    },
}

impl ExtentMap {
    /// Fills `buffer` with the bytes of the device from `offset` on. `files` are those that the map names, in
    /// the order of their numbers.
    ///
    /// # Errors
    /// If the range is not inside the device, or a file is missing or shorter than the map says.
    pub fn read_at<S: ReadAt>(&self, files: &[S], offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let length = buffer.len() as u64;
        let out_of_range = || ReadError::OutOfRange { offset, length, size: self.length() };
        let end = offset.checked_add(length).filter(|end| *end <= self.length()).ok_or_else(out_of_range)?;
        let mut rest = buffer;
        for piece in self.pieces(offset..end) {
            let here = usize::try_from(piece.length).map_err(|_| out_of_range())?;
            let (now, later) = rest.split_at_mut_checked(here).ok_or_else(out_of_range)?;
            read_piece(files, piece, now)?;
            rest = later;
        }
        Ok(())
    }
}

fn read_piece<S: ReadAt>(files: &[S], piece: Piece<'_>, buffer: &mut [u8]) -> Result<(), ReadError> {
    match piece.data {
        PieceData::File { file, offset } => {
            let source = files.get(file).ok_or(ReadError::NoSuchFile { file })?;
            let read = source.read_exact_at(offset, buffer);
            read.map_err(|source| ReadError::File { file, offset, source })
        }
        PieceData::Bytes(bytes) => {
            buffer.copy_from_slice(bytes);
            Ok(())
        }
        PieceData::Zeros => {
            buffer.fill(0);
            Ok(())
        }
    }
}
