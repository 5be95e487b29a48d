//! The file tree of one layer.
//!
//! A tree holds metadata only: file data went to the image while it streamed by, and a regular
//! file knows the blocks that it got ([`Extent`]). Inodes are addressed by [`InodeId`]; a hard
//! link is a second directory entry with the same id.

use std::collections::BTreeMap;

/// Size in bytes of a block of the image, the unit of [`Extent`].
pub const BLOCK_SIZE: u64 = 4096;

/// Index of an inode in its [`Tree`]. The root is [`Tree::ROOT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(pub u32);

/// A point in time: seconds since the epoch, negative before 1970, and 0 to 999 999 999
/// nanoseconds after that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds past `seconds`, below 1 000 000 000.
    pub nanoseconds: u32,
}

/// Owner, mode, time and extended attributes of an inode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: the low 12 bits of `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Extended attributes by full name (`user.x`, `security.capability`), in byte order.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A run of blocks of a regular file's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First block of the run, counted from the start of the file.
    pub file_block: u64,
    /// Its block in the image.
    pub image_block: u32,
    /// Length of the run in blocks.
    pub blocks: u32,
}

/// Content of a regular file. What no extent covers reads as zeros. In the last block of a run
/// the bytes past the end of the file are zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileData {
    /// Size of the file in bytes.
    pub size: u64,
    /// Data runs, by ascending `file_block`, not overlapping.
    pub extents: Vec<Extent>,
}

/// Entries of a directory by name. `.` and `..` are not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Child inodes by name, in byte order.
    pub entries: BTreeMap<Vec<u8>, InodeId>,
}

/// Major and minor number of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceNumber {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// What an inode is, with what only that type has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory(Directory),
    /// A regular file.
    Regular(FileData),
    /// A symbolic link and its target, not empty, at most 4095 bytes.
    Symlink(Vec<u8>),
    /// A character device. 0:0 is an overlay whiteout.
    CharacterDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// One inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Owner, mode, time and extended attributes.
    pub metadata: Metadata,
    /// Type and content.
    pub node: Node,
}

/// The file tree of one layer. Inodes that no entry names any more stay in `inodes`; writers
/// visit only what is reachable from the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// All inodes; [`Tree::ROOT`] is a directory.
    pub inodes: Vec<Inode>,
}

impl Tree {
    /// The root directory.
    pub const ROOT: InodeId = InodeId(0);

    /// The inode with this id.
    ///
    /// # Panics
    /// If `id` is not of this tree: ids are made by the tree's builder only, never from input.
    #[must_use]
    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0 as usize]
    }
}

/// Gives the content of a tree's regular files back: from an image, or from a directory.
pub trait Contents {
    /// Opens the data of the regular file `inode`, from its first byte to its size; holes read as zeros.
    ///
    /// # Errors
    /// What opening it failed with; [`std::io::ErrorKind::InvalidInput`] if it is no regular file.
    fn open(&self, inode: InodeId) -> std::io::Result<Box<dyn std::io::Read + '_>>;
}

/// Where file data goes while a layer is read: an append-only area of whole blocks.
///
/// One file after the other: the reader notes [`BlockSink::next_block`], appends the file's bytes
/// and aligns. What was noted is the `image_block` of the file's [`Extent`]. Once a method
/// failed, the area is of no use any more.
pub trait BlockSink {
    /// The image block that the next appended byte falls into when the area is block-aligned.
    fn next_block(&self) -> u32;

    /// Appends bytes of the current file.
    ///
    /// # Errors
    /// What the write to the image failed with; [`std::io::ErrorKind::FileTooLarge`] if the image
    /// would need more blocks than a 32-bit block address can name.
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()>;

    /// Fills the current block with zeros, so that the next byte starts a block. Does nothing
    /// when the area is aligned already.
    ///
    /// # Errors
    /// As for [`BlockSink::append`].
    fn align(&mut self) -> std::io::Result<()>;
}
