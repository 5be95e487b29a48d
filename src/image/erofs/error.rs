//! Why a tree cannot become an image.

use std::fmt;
use std::io;

/// Why [`Writer::finish`](super::Writer::finish) gave no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// EROFS, or the layout, cannot express something in the tree. Nothing of it was written.
    #[error("cannot store {path} in an EROFS image: {problem}. Rebuild the layer without that")]
    Unrepresentable {
        /// What cannot be stored.
        path: TreePath,
        /// Why.
        problem: Problem,
    },
    /// The metadata does not fit behind the data.
    #[error(
        "the layer needs {blocks} blocks of 4096 bytes, an EROFS image has at most 4294967295: \
         split it into several layers"
    )]
    TooLarge {
        /// Blocks that data and metadata need.
        blocks: u64,
    },
    /// More devices than a chunk index can tell apart.
    #[error("the file data is on {devices} devices, an EROFS image has at most 65535: use fewer layers")]
    TooManyDevices {
        /// How many there are.
        devices: usize,
    },
    /// The image and its devices do not fit on one.
    #[error(
        "the image and its devices have {blocks} blocks of 4096 bytes together, at most 4294967295 fit on one device"
    )]
    DevicesTooLarge {
        /// Blocks of image and devices, as far as they were counted.
        blocks: u64,
    },
    /// The image could not be written.
    #[error("writing the EROFS image failed: {0}")]
    Write(#[from] io::Error),
}

/// What is wrong with one inode or directory entry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The first inode is missing or is not a directory.
    #[error("the tree's first inode is no directory")]
    RootNotDirectory,
    /// A name that no directory can have.
    #[error("a name is 1 to 255 bytes without NUL and '/', and not \".\" or \"..\"")]
    Name,
    /// An entry names an inode that the tree does not have.
    #[error("it names inode {id}, the tree has {inodes}")]
    NoSuchInode {
        /// The inode that is named.
        id: u32,
        /// How many inodes there are.
        inodes: usize,
    },
    /// A directory has a second name, perhaps inside itself.
    #[error("it is a second name of a directory")]
    LinkedDirectory,
    /// More links than EROFS counts.
    #[error("it has more than 4294967295 links")]
    TooManyLinks,
    /// Mode bits beyond the permissions.
    #[error("mode {0:o} has bits beyond 7777")]
    Mode(u16),
    /// A time stamp with a second or more of nanoseconds.
    #[error("its time has {0} nanoseconds, a second has 1000000000")]
    Nanoseconds(u32),
    /// A symbolic link that the kernel would not follow.
    #[error("a link target is 1 to 4095 bytes without NUL, this one has {0} bytes")]
    SymlinkTarget(usize),
    /// A device number beyond the kernel's encoding.
    #[error("device {major}:{minor} is beyond 4095:1048575, the largest that Linux file systems store")]
    Device {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A file beyond the largest offset.
    #[error("{0} bytes are more than a file can have")]
    FileSize(u64),
    /// Extents out of order, overlapping, empty or past the end of file or data.
    #[error("its data run at file block {file_block} is not in order, or not within file and image")]
    Extent {
        /// First block of the run in the file.
        file_block: u64,
    },
    /// A sparse file with too many chunks.
    #[error("its holes lie so that {chunks} chunks would have to be indexed, at most {limit} are")]
    SparseMap {
        /// Chunks that the file would have.
        chunks: u64,
        /// The most that one file may have.
        limit: u64,
    },
    /// An extended attribute of a name space that EROFS does not know, or without a name in it.
    #[error("EROFS has no place for the extended attribute {0:?}")]
    XattrName(String),
    /// A value beyond the kernel's limit.
    #[error("the extended attribute {name:?} has {size} bytes, at most 65535 fit")]
    XattrValue {
        /// Full name of the attribute.
        name: String,
        /// Its size in bytes.
        size: usize,
    },
    /// More attributes than an inode can have.
    #[error("its extended attributes take {0} bytes, at most 262148 fit")]
    Xattrs(u64),
}

/// Path of something in a tree, from the root, for messages. Bytes that are not UTF-8 and
/// control characters are shown as escapes.
#[derive(Clone, PartialEq, Eq)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// The path whose components are `names`, from the root downward.
    pub(super) fn of(names: &[&[u8]]) -> Self {
        let mut path = vec![b'/'];
        path.extend_from_slice(&names.join(&b'/'));
        Self(path)
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            write!(f, "{}", chunk.valid().escape_debug())?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_printable() {
        assert_eq!(TreePath::of(&[]).to_string(), "/");
        assert_eq!(TreePath::of(&[b"usr", b"\xc3\xa9\xff\n"]).to_string(), "/usr/é\\xff\\n");
    }
}
