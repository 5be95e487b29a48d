//! Several layers as one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io;

use super::stack::{Found, Place, Stack, is_metacopy};
use super::{XATTR_METACOPY, XATTR_REDIRECT, is_private};
use crate::image::tar::{XATTR_IMPLICIT, XATTR_OPAQUE};
use crate::image::tree::{Contents, DeviceNumber, Directory, FileData, Inode, InodeId, Metadata, Node, Tree};

/// A layer: its tree, and where the data of its files is.
#[derive(Clone, Copy)]
pub struct Layer<'l> {
    /// The tree, with the marks that overlayfs knows.
    pub tree: &'l Tree,
    /// The data of its files.
    pub contents: &'l dyn Contents,
}

/// Layers as one. It gives the contents of its own tree, whose files have no extents.
pub struct Merged<'l> {
    layers: Vec<Layer<'l>>,
    tree: Tree,
    /// Where the data of each inode is.
    origins: Vec<Option<Place>>,
}

/// Why layers are not one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file has metadata only, and no layer below has its data.
    #[error(
        "the data of file \"{name}\" is in no layer below it: the snapshot's parents are not those that it was written on"
    )]
    NoData {
        /// Name of the file, escaped.
        name: String,
    },
    /// More inodes than a tree can have.
    #[error("the layers have more than 4294967295 inodes together")]
    TooManyInodes,
}

/// Makes one layer of the first `changed` of `layers`, of which the topmost comes first. The others are
/// what these stand on: not part of the result, but asked where an entry of the changed ones takes its
/// content from a layer below.
///
/// Put on those others, the result shows what all of `layers` show. Its only marks are whiteouts, devices
/// 0:0 without metadata, directories with [`XATTR_OPAQUE`] = `y`, and those with [`XATTR_IMPLICIT`], which
/// no changed layer names.
///
/// # Errors
/// [`Error`] if the layers do not belong together.
pub fn merge<'l>(layers: &[Layer<'l>], changed: usize) -> Result<Merged<'l>, Error> {
    let stack = Stack { trees: layers.iter().map(|layer| layer.tree).collect() };
    let mut merge = Merge {
        stack,
        changed: changed.min(layers.len()),
        inodes: Vec::new(),
        origins: Vec::new(),
        files: HashMap::new(),
        unread: Vec::new(),
    };
    merge.root()?;
    while let Some(directory) = merge.unread.pop() {
        merge.entries(&directory)?;
    }
    let (tree, origins) = (Tree { inodes: merge.inodes }, merge.origins);
    Ok(Merged { layers: layers.to_vec(), tree, origins })
}

impl<'l> Merged<'l> {
    /// The tree.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The tree, to change metadata in.
    #[must_use]
    pub const fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }
}

impl Layer<'_> {
    /// Whether the layer has entries that take their content from the layers below it, so that these have
    /// to be among those that are merged.
    #[must_use]
    pub fn needs_layers_below(&self) -> bool {
        let is_marked = |inode: &Inode| {
            [XATTR_REDIRECT, XATTR_METACOPY].iter().any(|mark| inode.metadata.xattrs.contains_key(*mark))
        };
        self.tree.inodes.iter().any(is_marked)
    }
}

impl Contents for Merged<'_> {
    fn open(&self, inode: InodeId) -> io::Result<Box<dyn io::Read + '_>> {
        let origin = self.origins.get(inode.0 as usize).copied().flatten();
        let layer = origin.and_then(|place| Some((self.layers.get(place.layer)?, place.inode)));
        let (layer, inode) = layer.ok_or(io::ErrorKind::InvalidInput)?;
        layer.contents.open(inode)
    }
}

impl fmt::Debug for Layer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("inodes", &self.tree.inodes.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Merged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merged")
            .field("layers", &self.layers)
            .field("inodes", &self.tree.inodes.len())
            .finish()
    }
}

/// Trees that are becoming one.
struct Merge<'l> {
    stack: Stack<'l>,
    /// How many layers are merged; the rest is below them.
    changed: usize,
    inodes: Vec<Inode>,
    origins: Vec<Option<Place>>,
    /// What became of inodes that are no directories, for those with several names.
    files: HashMap<Place, InodeId>,
    unread: Vec<Unread>,
}

/// A directory whose entries are still to be merged.
struct Unread {
    id: InodeId,
    places: Vec<Place>,
    /// Whether nothing of it is under this name in the layers below, so that all of it is wanted.
    whole: bool,
}

impl Merge<'_> {
    fn root(&mut self) -> Result<(), Error> {
        let found = self.stack.roots(0);
        self.directory(found, false).map(drop)
    }

    fn entries(&mut self, directory: &Unread) -> Result<(), Error> {
        for name in self.names(directory) {
            let found = self.stack.lookup(&directory.places, &name);
            let child = match found.places.first() {
                // Where all of the directory is here, there is nothing to hide.
                None if directory.whole => continue,
                None => self.push(whiteout(), None)?,
                Some(&top) => match self.stack.inode(top).node {
                    Node::Directory(_) => self.directory(found, directory.whole)?,
                    _ => self.file(&name, &found)?,
                },
            };
            if let Some(Inode { node: Node::Directory(directory), .. }) =
                self.inodes.get_mut(directory.id.0 as usize)
            {
                directory.entries.insert(name, child);
            }
        }
        Ok(())
    }

    /// The names that are looked up in a directory.
    fn names(&self, directory: &Unread) -> BTreeSet<Vec<u8>> {
        let is_asked = |place: &&Place| directory.whole || place.layer < self.changed;
        let mut names = BTreeSet::new();
        for place in directory.places.iter().filter(is_asked) {
            if let Node::Directory(entries) = &self.stack.inode(*place).node {
                names.extend(entries.entries.keys().cloned());
            }
        }
        names
    }

    /// Adds a directory. `inside_whole` says that all of the one that it is in is here.
    fn directory(&mut self, found: Found, inside_whole: bool) -> Result<InodeId, Error> {
        let is_changed = |layer: Option<usize>| layer.is_some_and(|layer| layer < self.changed);
        let redirected = is_changed(found.redirected);
        let hides = !inside_whole && (redirected || is_changed(found.cut));
        let whole = inside_whole || redirected;
        let metadata = self.directory_metadata(&found.places, whole, hides);
        let id = self.push(Inode { metadata, node: Node::Directory(Directory::default()) }, None)?;
        self.unread.push(Unread { id, places: found.places, whole });
        Ok(id)
    }

    /// The metadata of the topmost directory that an entry named, with our own marks.
    fn directory_metadata(&self, places: &[Place], whole: bool, hides: bool) -> Metadata {
        let layers = places.iter().filter(|place| whole || place.layer < self.changed);
        let all: Vec<&Metadata> = layers.map(|&place| &self.stack.inode(place).metadata).collect();
        let named = all.iter().find(|metadata| !metadata.xattrs.contains_key(XATTR_IMPLICIT));
        let mut metadata =
            named.or(all.first()).map_or_else(Metadata::default, |metadata| without_marks(metadata));
        if named.is_none() {
            metadata.xattrs.insert(XATTR_IMPLICIT.to_vec(), b"y".to_vec());
        }
        if hides {
            metadata.xattrs.insert(XATTR_OPAQUE.to_vec(), b"y".to_vec());
        }
        metadata
    }

    fn file(&mut self, name: &[u8], found: &Found) -> Result<InodeId, Error> {
        let (Some(&top), Some(&bottom)) = (found.places.first(), found.places.last()) else {
            return self.push(whiteout(), None);
        };
        if let Some(&known) = self.files.get(&top) {
            return Ok(known);
        }
        let (shown, holder) = (self.stack.inode(top), self.stack.inode(bottom));
        let node = match &holder.node {
            Node::Regular(_) if is_metacopy(holder) => {
                return Err(Error::NoData { name: name.escape_ascii().to_string() });
            }
            Node::Regular(data) => Node::Regular(FileData { size: data.size, extents: Vec::new() }),
            other => other.clone(),
        };
        let id = self.push(Inode { metadata: without_marks(&shown.metadata), node }, Some(bottom))?;
        self.files.insert(top, id);
        Ok(id)
    }

    fn push(&mut self, inode: Inode, origin: Option<Place>) -> Result<InodeId, Error> {
        let id = u32::try_from(self.inodes.len()).map_err(|_| Error::TooManyInodes)?;
        self.inodes.push(inode);
        self.origins.push(origin);
        Ok(InodeId(id))
    }
}

fn without_marks(metadata: &Metadata) -> Metadata {
    let kept = metadata.xattrs.iter().filter(|(name, _)| !is_private(name));
    let xattrs: BTreeMap<_, _> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    let &Metadata { mode, uid, gid, mtime, .. } = metadata;
    Metadata { mode, uid, gid, mtime, xattrs }
}

fn whiteout() -> Inode {
    Inode { metadata: Metadata::default(), node: Node::CharacterDevice(DeviceNumber::default()) }
}
