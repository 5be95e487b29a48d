//! What lies where on a virtual block device: every byte of it is in a file, given, or zero.
//!
//! One map is the source of all forms of a device: the lines of a VMDK descriptor, a copy in one file, and
//! reads that are served.
//!
//! * `map`: the map, which has no gap and no overlap because it only grows at its end.
//! * `read`: bytes of the device, from sources that the caller opened.
//!
//! Who serves reads without a copy of his own asks [`ExtentMap::pieces`] and reads each piece from its file
//! straight to where it is wanted.

mod map;
#[cfg(test)]
mod model;
mod read;

pub use map::{Data, Error, Extent, ExtentMap, Piece, PieceData, Pieces, SECTOR};
pub use read::ReadError;
