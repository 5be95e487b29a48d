//! An OCI layer's uncompressed tar stream into a [`Tree`], in one pass.
//!
//! [`read_layer`] is the whole of it. What an archive means is written down case by case, each with
//! its source and its test, in `docs/tar-semantics.md`. Inside:
//!
//! * `stream`: bytes with a position; `header`, `pax` and `sparse`: the formats;
//! * `extensions`, `body` and `member`: headers put together;
//! * `names`, `resolve`: what a path names and where it leads; `xattr`, `acl`: attributes;
//! * `content`: data into blocks; `assembly`: members into the tree; `whiteouts`: what they hide;
//! * `limits`, `error`: what is accepted, and what is said when it is not; `problem`: errors on
//!   their way up.
//!
//! [`write`](mod@write) goes the other way.

mod acl;
mod assembly;
mod body;
mod content;
mod error;
mod extensions;
mod header;
mod limits;
mod member;
mod names;
mod pax;
mod problem;
mod resolve;
mod sparse;
mod stream;
mod whiteouts;
pub mod write;
mod xattr;

use std::io::BufRead;

pub use error::{Breach, EntryRef, Error, Fault, Malformed, Name, Part, Quantity, Refusal};
pub use limits::{
    ATTRIBUTE_COST, DIRECTORY_COST, INODE_COST, Limits, MAX_FILE_SIZE, MAX_ID, MAX_LOOKUPS, MAX_MAJOR,
    MAX_MINOR, MAX_NAME, MAX_PATH, MAX_SYMLINK, MAX_SYMLINKS_FOLLOWED, MAX_XATTR_NAME, MAX_XATTR_VALUE,
    MAX_XATTRS, WHITEOUT_COST,
};

use crate::image::tree::{BlockSink, FileData, Metadata, Tree};
use assembly::Assembly;
use member::{Kind, Member, MemberReader};
use names::Target;
use problem::Problem;
use stream::Stream;

/// The attribute of a directory that hides what the layers below have in it; its value is `y`
/// (Linux, `Documentation/filesystems/overlayfs.rst`).
pub const XATTR_OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// The attribute of a directory that the layer has only because entries lie in it; its value is
/// `y`. Its metadata is made up, and a merge of layers must not let it hide that of a directory below.
/// overlayfs shows no attribute of this family.
pub const XATTR_IMPLICIT: &[u8] = b"trusted.overlay.nexuserofs.implicit";

/// What a tar stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The file tree. Its file data is in the sink.
    pub tree: Tree,
    /// Metadata of the root directory, `None` if no entry names it.
    pub root: Option<Metadata>,
    /// Members of the archive, extended headers not counted.
    pub entries: u64,
}

/// Reads a layer up to the end of its archive: two blocks of zeros, or the end of the stream after a
/// whole member. What follows the blocks of zeros is left in `reader`.
///
/// File data goes to `sink` in the order of the archive, each file in blocks of its own, straight
/// from the buffer of `reader`. The same stream gives the same tree and the same data, always.
///
/// # Errors
/// [`Error`] says which entry is at fault, where it is in the stream and why. Data of entries up to
/// there may be in the sink.
pub fn read_layer<R: BufRead, S: BlockSink>(
    reader: &mut R,
    sink: &mut S,
    limits: &Limits,
) -> Result<Layer, Error> {
    let mut stream = Stream::new(reader);
    let mut members = MemberReader::new(limits);
    let mut assembly = Assembly::new(limits);
    let mut member = Member::default();
    let mut path = Vec::new();
    while members.read(&mut stream, &mut member)? {
        names::normalise(&member.path, &mut path);
        add(&path, &mut member, &mut stream, sink, &mut assembly)
            .map_err(|problem| problem.at(member.entry(), stream.position()))?;
    }
    Ok(assembly.into_layer())
}

fn add<R: BufRead, S: BlockSink>(
    path: &[u8],
    member: &mut Member,
    stream: &mut Stream<'_, R>,
    sink: &mut S,
    assembly: &mut Assembly<'_>,
) -> Result<(), Problem> {
    assembly.count_entry()?;
    let target = names::classify(path)?;
    let data = match (&member.kind, target) {
        (Kind::Regular(body), Target::Entry { .. }) => content::store(body, stream, sink)?,
        (Kind::Regular(body), _) => {
            content::skip(body, stream)?;
            FileData::default()
        }
        _ => FileData::default(),
    };
    Ok(assembly.add(target, member, data)?)
}
