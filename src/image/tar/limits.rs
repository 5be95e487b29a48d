//! How much of a layer is accepted: the caller's budgets and the bounds that Linux and EROFS set.

/// Budgets for one layer. What exceeds one is refused with an error that names it.
///
/// They bound memory: a stream can be longer than any of them, but what is kept of it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Members of the archive.
    pub max_entries: u64,
    /// Bytes of metadata kept in memory: names, link targets, attributes, data runs, and what the
    /// structures take that hold them ([`INODE_COST`], [`DIRECTORY_COST`], [`ATTRIBUTE_COST`], [`WHITEOUT_COST`]).
    pub max_metadata_bytes: u64,
    /// Bytes of one extended header: PAX records, a GNU long name or a sparse map. Go's
    /// `archive/tar`, and so containerd, takes 1 MiB.
    pub max_extended_header_bytes: u64,
    /// Data runs of one sparse file.
    pub max_sparse_runs: usize,
    /// Size in bytes of one file, holes included. At most [`MAX_FILE_SIZE`] whatever is set.
    pub max_file_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_entries: 5_000_000,
            max_metadata_bytes: 1 << 30,
            max_extended_header_bytes: 1 << 20,
            max_sparse_runs: 65_536,
            max_file_size: MAX_FILE_SIZE,
        }
    }
}

/// What an inode counts against [`Limits::max_metadata_bytes`] besides the bytes of its name and link
/// target, in bytes. This and the next three are what was measured to be taken, rounded up.
pub const INODE_COST: u64 = 320;

/// What a directory counts more than other inodes, in bytes.
pub const DIRECTORY_COST: u64 = 384;

/// What an extended attribute counts besides the bytes of its name and value, in bytes.
pub const ATTRIBUTE_COST: u64 = 640;

/// What a whiteout counts besides the bytes of its name, in bytes: each is remembered beside its inode.
pub const WHITEOUT_COST: u64 = 384;

/// Largest file in bytes: as many blocks of 4096 bytes as a 32-bit count holds.
pub const MAX_FILE_SIZE: u64 = u32::MAX as u64 * 4096;

/// Longest name of a directory entry in bytes, Linux's `NAME_MAX`.
pub const MAX_NAME: usize = 255;

/// Longest path below the root in bytes: Linux's `PATH_MAX` without its closing zero byte.
pub const MAX_PATH: usize = 4095;

/// Longest symlink target in bytes: Linux's `PATH_MAX` without its closing zero byte.
pub const MAX_SYMLINK: usize = 4095;

/// Longest name of an extended attribute in bytes, Linux's `XATTR_NAME_MAX`.
pub const MAX_XATTR_NAME: usize = 255;

/// Longest value of an extended attribute in bytes: EROFS keeps its length in 16 bits
/// (`erofs_xattr_entry.e_value_size`).
pub const MAX_XATTR_VALUE: usize = u16::MAX as usize;

/// Bytes of extended attributes that one inode can carry: EROFS counts its area in 16 bits, in
/// units of four bytes after a header of twelve (`erofs_inode.i_xattr_icount`). 128 bytes are left
/// for the marks that the reader sets itself.
pub const MAX_XATTRS: usize = (u16::MAX as usize - 1) * 4 - 128;

/// Symbolic links followed in one look-up of a parent directory, the number that containerd takes.
pub const MAX_SYMLINKS_FOLLOWED: usize = 255;

/// Names looked up to find one parent directory, those of the links on the way included. More
/// than any path can have, and it bounds the work of one entry.
pub const MAX_LOOKUPS: usize = 4096;

/// Largest owner or group. The value after it, -1, means "leave as it is" to Linux.
pub const MAX_ID: i64 = u32::MAX as i64 - 1;

/// Largest major device number of Linux, 12 bits.
pub const MAX_MAJOR: i64 = 0xfff;

/// Largest minor device number of Linux, 20 bits.
pub const MAX_MINOR: i64 = 0xf_ffff;
