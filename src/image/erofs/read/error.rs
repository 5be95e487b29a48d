//! Why an image was not read.

use std::io;

use crate::image::erofs::InvalidSuperblock;

/// Why an image was not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no whole superblock.
    #[error(transparent)]
    Superblock(#[from] InvalidSuperblock),
    /// The image may be sound, but uses more of the format than this reader knows.
    #[error(
        "the EROFS image has {0}, which is not supported here: make it with mkfs.erofs without options, or build it from the tar layer"
    )]
    Unsupported(Unsupported),
    /// The image contradicts itself.
    #[error("the EROFS image is damaged at byte {offset}: {damage}. Remove it and have it built again")]
    Damaged {
        /// Where, in bytes from the start of the image.
        offset: u64,
        /// What is wrong there.
        damage: Damage,
    },
    /// The image is larger than the caller takes.
    #[error("the EROFS image has more than {limit} {what}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much is accepted.
        limit: u64,
    },
    /// The bytes could not be read.
    #[error("cannot read the EROFS image at byte {offset}: {source}")]
    Read {
        /// Where, in bytes from the start of the image.
        offset: u64,
        /// What the source reported.
        source: io::Error,
    },
}

/// Parts of the format that are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// `feature_incompat` bits of the superblock, such as those of merged or deduplicated images.
    #[error("the incompatible features {0:#x}")]
    Features(u32),
    /// Data on other devices.
    #[error("{0} extra devices")]
    ExtraDevices(u16),
    /// Directory blocks of another size than data blocks.
    #[error("directory blocks of another size")]
    DirectoryBlocks,
    /// An inode whose `i_format` has bits that no one gave a meaning yet.
    #[error("an inode of format {0:#x}")]
    InodeFormat(u16),
    /// A file whose data is compressed.
    #[error("compressed data")]
    Compression,
    /// A directory or a symbolic link whose content is compressed, which no tool makes.
    #[error("a compressed directory or symbolic link")]
    CompressedMetadata,
    /// Compression algorithms without a name.
    #[error("the compression algorithms {0:#x}")]
    Algorithms(u16),
    /// A chunk index of an unknown form.
    #[error("a chunk index of format {0:#x}")]
    ChunkFormat(u32),
    /// A chunk that is stored elsewhere.
    #[error("data on device {0}")]
    Device(u16),
    /// An attribute in a name space without a name.
    #[error("an extended attribute of name space {0}")]
    XattrNamespace(u8),
}

/// Contradictions in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Something lies outside the image.
    #[error("{bytes} bytes from here on are not inside the image")]
    OutOfImage {
        /// How many bytes there should be.
        bytes: u64,
    },
    /// The file ends before the image does.
    #[error("the file ends here, the image has {image_bytes} bytes")]
    CutShort {
        /// Size of the image in bytes.
        image_bytes: u64,
    },
    /// A device that is not behind the image.
    #[error("a device that starts at block {start} is not behind the image")]
    Device {
        /// The first block.
        start: u32,
    },
    /// A compressed file that contradicts itself.
    #[error("a compressed file whose map contradicts its size, or has an unknown algorithm")]
    CompressionMap,
    /// The inode with the ends of files is something else.
    #[error("the inode that has the ends of files is no regular file")]
    PackedInode,
    /// A number of names that is not that of the names there are.
    #[error("an inode says that it has {said} names, and has {found}")]
    Links {
        /// What the inode says.
        said: u32,
        /// The entries that name it.
        found: u32,
    },
    /// Entries among which the kernel would not find all.
    #[error("the entries of a directory are not in the order of their names")]
    EntryOrder,
    /// An entry with another type than its inode.
    #[error("an entry says that it is of type {0}, and its inode is not")]
    EntryType(u8),
    /// An entry that should lead to the directory itself or the one above.
    #[error("'.' or '..' of a directory leads elsewhere")]
    Dots,
    /// An inode number that no offset has.
    #[error("inode number {0} is too large")]
    InodeNumber(u64),
    /// A mode without a file type.
    #[error("mode {0:o} has no file type")]
    Mode(u16),
    /// A file larger than any.
    #[error("{0} bytes are more than a file can have")]
    Size(u64),
    /// A time past the range of 64 bits, or with a second or more of nanoseconds.
    #[error("a time that is out of range")]
    Time,
    /// Data blocks outside the image.
    #[error("{blocks} data blocks from block {block} on are not inside the image")]
    Blocks {
        /// The first block.
        block: u32,
        /// How many.
        blocks: u64,
    },
    /// A tail that the kernel would not read.
    #[error("the end of a file, behind its inode, does not lie in one block")]
    Tail,
    /// A symbolic link that the kernel would not follow.
    #[error("a symbolic link with a target of {0} bytes, or a NUL or a hole in it")]
    Symlink(u64),
    /// The root is something else.
    #[error("the root is no directory")]
    Root,
    /// A directory with a hole in it.
    #[error("a directory with a hole")]
    DirectoryHole,
    /// Entries whose names do not lie where they should.
    #[error("the entries of a directory contradict each other")]
    Entries,
    /// A name that no directory can have.
    #[error("an entry with a name of {0} bytes, or with NUL or '/' in it")]
    Name(usize),
    /// The same name twice.
    #[error("a directory has two entries of one name")]
    DuplicateName,
    /// A directory that is its own ancestor, or in two directories.
    #[error("a directory has two names")]
    LinkedDirectory,
    /// Attributes that do not fit where they are, or have no proper name.
    #[error("extended attributes that contradict their size, or a name of no attribute")]
    Xattrs,
    /// The same attribute twice.
    #[error("an inode has two extended attributes of one name")]
    DuplicateXattr,
    /// A table of name prefixes that does not add up.
    #[error("the table of attribute name prefixes is malformed")]
    XattrPrefixes,
}

impl Error {
    pub(super) const fn damaged_at(offset: u64, damage: Damage) -> Self {
        Self::Damaged { offset, damage }
    }
}

impl From<Unsupported> for Error {
    fn from(what: Unsupported) -> Self {
        Self::Unsupported(what)
    }
}
