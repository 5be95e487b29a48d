//! Files whose data is compressed. Only the kernel reads their data; here it is seen to that their maps lie in
//! the image, so that the rest of a foreign image can be trusted as far as that of any other.
//!
//! The format is `struct z_erofs_map_header` and what follows it, in the kernel's `fs/erofs/erofs_fs.h`.

use super::error::{Damage, Error};
use super::geometry::Geometry;
use super::inode::Record;
use super::source::{Fields, ReadAt, Window};

/// How a compressed file's index is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IndexForm {
    /// 8 bytes for each cluster, behind 8 bytes that are not used.
    Full,
    /// 2 or 4 bytes for each cluster.
    Compact,
}

/// Size in bytes of the header of a map, and what it is aligned to.
const HEADER: u64 = 8;
/// `Z_EROFS_FRAGMENT_INODE_BIT`: the whole file is in the inode that has the ends of files, and no map follows.
const ALL_FRAGMENT: u64 = 1 << 63;
/// Algorithms that have a name: LZ4, LZMA, DEFLATE, Zstandard.
const ALGORITHMS: u8 = 4;
/// `Z_EROFS_LCLUSTER_MAX_ORDER`, less the size of a block: no cluster is larger than 1 MiB.
const CLUSTER_BITS_MAX: u8 = 8;

/// Checks the map of a compressed file.
pub(super) fn check<S: ReadAt>(
    window: &mut Window<'_, S>,
    geometry: &Geometry,
    record: &Record,
    form: IndexForm,
) -> Result<(), Error> {
    let damaged = || Error::damaged_at(record.offset, Damage::CompressionMap);
    let start = record.behind_xattrs().next_multiple_of(HEADER);
    let header: [u8; HEADER as usize] = window.array(start)?;
    if header.u64_at(0) & ALL_FRAGMENT != 0 {
        return Ok(());
    }
    let (algorithms, cluster_bits) = (header[6], header[7] & 0xf);
    if algorithms & 0xf >= ALGORITHMS || algorithms >> 4 >= ALGORITHMS || cluster_bits > CLUSTER_BITS_MAX {
        return Err(damaged());
    }
    if record.data > geometry.blocks {
        return Err(damaged());
    }
    let clusters = record.size.div_ceil(geometry.block_size << cluster_bits);
    let (index, entry) = match form {
        IndexForm::Full => (start + 2 * HEADER, 8),
        IndexForm::Compact => (start + HEADER, 2),
    };
    // A product that overflows is past the end of every image.
    window.check(index, clusters.saturating_mul(entry))
}
