//! Why a layer was not accepted.

use std::fmt;
use std::io;

/// A layer that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream itself failed: decompression, the content store, the connection.
    #[error("cannot read the layer's tar stream at byte {offset}: {source}")]
    Read {
        /// Position in the uncompressed stream.
        offset: u64,
        /// What the reader reported.
        source: io::Error,
    },
    /// The image could not take the data of a file.
    #[error("cannot store the data of {entry}: {source}")]
    Store {
        /// The entry whose data it was.
        entry: EntryRef,
        /// What the sink reported.
        source: io::Error,
    },
    /// The stream ended where something had to follow.
    #[error(
        "the layer's tar stream ends at byte {offset}, inside {part} of {entry}: it is cut short, pull the image again"
    )]
    Cut {
        /// The entry that is incomplete.
        entry: EntryRef,
        /// Length of the uncompressed stream.
        offset: u64,
        /// What is incomplete.
        part: Part,
    },
    /// An entry was not accepted.
    #[error("{entry}: {fault}")]
    Entry {
        /// The entry.
        entry: EntryRef,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// The part of an archive member in which a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The 512-byte header.
    Header,
    /// PAX records, a GNU long name, or the step from these to the header that they belong to.
    ExtendedHeader,
    /// The map of a sparse file.
    SparseMap,
    /// The data.
    Data,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "the header",
            Self::ExtendedHeader => "the extended header",
            Self::SparseMap => "the sparse map",
            Self::Data => "the data",
        })
    }
}

/// What is wrong with an entry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The archive is not well-formed.
    #[error("malformed tar archive, rebuild the image: {0}")]
    Malformed(#[from] Malformed),
    /// The entry is well-formed, but a layer cannot have it.
    #[error("refused, rebuild the image without it: {0}")]
    Refused(#[from] Refusal),
    /// A limit is exceeded.
    #[error("exceeds a limit, rebuild the image with less: {0}")]
    Exceeded(#[from] Breach),
}

/// A violation of the tar formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The checksum of a header does not match: not a tar archive, or a damaged one.
    #[error("wrong header checksum, this is no tar header")]
    Checksum,
    /// One block of zeros followed by something else.
    #[error("a single zero block in the middle of the archive")]
    LoneZeroBlock,
    /// A numeric header field that is neither octal nor base-256, or does not fit 64 bits.
    #[error("the {0} field of the header is not a number")]
    Number(&'static str),
    /// A PAX record that is not `LENGTH KEY=VALUE\n`, or has a NUL where POSIX allows none.
    #[error("malformed PAX record")]
    PaxRecord,
    /// The value of a PAX record is not the number that its key asks for.
    #[error("the PAX record {0} is not a number")]
    PaxNumber(&'static str),
    /// A size below zero.
    #[error("negative size")]
    NegativeSize,
    /// A sparse map that cannot be read, is not in order, or does not fit the file.
    #[error("sparse map: {0}")]
    SparseMap(&'static str),
}

/// Something that a layer cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An entry type other than those of POSIX and GNU sparse files. There is none for sockets.
    #[error("unsupported entry type {0:#04x}")]
    Type(u8),
    /// A name of the path is neither a directory nor a link to one.
    #[error("{0} is not a directory")]
    NotADirectory(Name),
    /// Too many symbolic links, or links in a circle, on the way to the parent directory.
    #[error("too many symbolic links in the path of its parent directory")]
    TooManyLinks,
    /// `..` after a symbolic link, whose meaning depends on who resolves it.
    #[error("\"..\" after the symbolic link {0} is ambiguous")]
    ParentOfLink(Name),
    /// The target of a hard link is not in this layer, or only later.
    #[error("the hard link's target {0} is not among the entries before it in this layer")]
    HardLinkTarget(Name),
    /// The target of a hard link is a directory.
    #[error("the hard link's target {0} is a directory")]
    HardLinkToDirectory(Name),
    /// `.wh.` followed by nothing, `.` or `..`.
    #[error("a whiteout that names nothing")]
    WhiteoutName,
    /// A directory in the path has the prefix `.wh.`, which the OCI specification reserves.
    #[error("{0} in the middle of a path: the prefix .wh. is reserved for whiteouts")]
    ReservedName(Name),
    /// Data so scattered that the index of its holes would be too large.
    #[error("its {runs} runs of data are too scattered, build the image without sparse files")]
    ScatteredData {
        /// How many runs the map has.
        runs: usize,
    },
    /// A symbolic link without a target.
    #[error("symbolic link without a target")]
    EmptySymlink,
    /// A name of an extended attribute that no file can have.
    #[error("{0} cannot be the name of an extended attribute")]
    XattrName(Name),
    /// Capabilities that Linux does not take.
    #[error("the attribute security.capability is not valid")]
    Capability,
    /// An access control list that Linux does not take.
    #[error("{0} is not a valid access control list")]
    AccessControlList(Name),
    /// A default access control list on something that is no directory.
    #[error("a default access control list on something that is no directory")]
    DefaultAclOnFile,
}

/// A value beyond its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value} is more than {limit}")]
pub struct Breach {
    /// What is limited.
    pub what: Quantity,
    /// The value that was met, or the least that it would be.
    pub value: u64,
    /// The limit.
    pub limit: u64,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Members of the archive.
    Entries,
    /// Bytes of metadata kept in memory.
    MetadataBytes,
    /// Bytes of one extended header.
    ExtendedHeaderBytes,
    /// Data runs of a sparse file.
    SparseRuns,
    /// Size of a file in bytes.
    FileSize,
    /// Bytes of one name.
    NameBytes,
    /// Bytes of a path.
    PathBytes,
    /// Names looked up on the way to the parent directory.
    Lookups,
    /// Bytes of a symlink's target.
    SymlinkBytes,
    /// Bytes of an attribute's name.
    XattrNameBytes,
    /// Bytes of an attribute's value.
    XattrValueBytes,
    /// Bytes of all attributes of an inode.
    XattrBytes,
    /// Owner as an unsigned 32-bit number, -1 excluded.
    Owner,
    /// Group as an unsigned 32-bit number, -1 excluded.
    Group,
    /// Major device number.
    Major,
    /// Minor device number.
    Minor,
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entries => "number of entries",
            Self::MetadataBytes => "bytes of metadata of the layer",
            Self::ExtendedHeaderBytes => "length of the extended header",
            Self::SparseRuns => "number of data runs of the sparse file",
            Self::FileSize => "file size",
            Self::NameBytes => "length of a name",
            Self::PathBytes => "length of the path",
            Self::Lookups => "number of names looked up for the parent directory",
            Self::SymlinkBytes => "length of the link target",
            Self::XattrNameBytes => "length of an attribute's name",
            Self::XattrValueBytes => "length of an attribute's value",
            Self::XattrBytes => "length of all attributes",
            Self::Owner => "owner",
            Self::Group => "group",
            Self::Major => "major device number",
            Self::Minor => "minor device number",
        })
    }
}

impl Quantity {
    /// Refuses `value` above `limit`.
    pub(super) fn check(self, value: u64, limit: u64) -> Result<(), Breach> {
        if value > limit { Err(Breach { what: self, value, limit }) } else { Ok(()) }
    }
}

/// The entry that an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRef {
    /// Its path as far as it was known.
    pub path: Name,
    /// Position of its first header in the uncompressed stream.
    pub offset: u64,
}

impl EntryRef {
    pub(super) fn new(path: &[u8], offset: u64) -> Self {
        Self { path: Name::new(path), offset }
    }
}

impl fmt::Display for EntryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tar entry {} at byte {}", self.path, self.offset)
    }
}

/// A name from the archive, made fit for a message: quoted, escaped and shortened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Box<str>);

/// Bytes of a name that a message shows; of a longer one the end, which tells more.
const SHOWN: usize = 120;

impl Name {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let (mark, shown) = match bytes.len().checked_sub(SHOWN) {
            Some(cut @ 1..) => ("…", bytes.get(cut..).unwrap_or_default()),
            _ => ("", bytes),
        };
        Self(format!("\"{mark}{}\"", shown.escape_ascii()).into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
