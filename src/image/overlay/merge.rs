//! Several layers as one.

use std::collections::{BTreeMap, HashMap};
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
    let trees = layers.iter().map(|layer| layer.tree).collect();
    let (tree, origins) = Merge::new(trees, Scope::Upper { layers: changed.min(layers.len()) }).run()?;
    Ok(Merged { layers: layers.to_vec(), tree, origins })
}

/// Layers as one that nothing is below.
#[derive(Debug)]
pub struct Flat {
    /// What the layers show, without any of overlayfs's marks. Its files have no extents.
    pub tree: Tree,
    /// By inode: where the content of one that is no directory is.
    pub origins: Vec<Option<Place>>,
}

/// Makes one tree of `trees`, of which the topmost comes first: what overlayfs shows of them when there is
/// nothing else.
///
/// # Errors
/// [`Error`] if the layers do not belong together.
pub fn flatten(trees: &[&Tree]) -> Result<Flat, Error> {
    let (tree, origins) = Merge::new(trees.to_vec(), Scope::All).run()?;
    Ok(Flat { tree, origins })
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

/// What becomes part of the result.
#[derive(Clone, Copy)]
enum Scope {
    /// So many layers from the top. The rest is below the result.
    Upper { layers: usize },
    /// All, and nothing is below them.
    All,
}

/// Trees that are becoming one.
struct Merge<'l> {
    stack: Stack<'l>,
    scope: Scope,
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

impl<'l> Merge<'l> {
    fn new(trees: Vec<&'l Tree>, scope: Scope) -> Self {
        Self {
            stack: Stack { trees, heeds_opaque_roots: !matches!(scope, Scope::All) },
            scope,
            inodes: Vec::new(),
            origins: Vec::new(),
            files: HashMap::new(),
            unread: Vec::new(),
        }
    }

    fn run(mut self) -> Result<(Tree, Vec<Option<Place>>), Error> {
        let found = self.stack.roots(0);
        self.directory(found, matches!(self.scope, Scope::All))?;
        while let Some(directory) = self.unread.pop() {
            self.entries(&directory)?;
        }
        Ok((Tree { inodes: self.inodes }, self.origins))
    }

    /// Whether a layer becomes part of the result.
    const fn is_merged(&self, layer: usize) -> bool {
        match self.scope {
            Scope::Upper { layers } => layer < layers,
            Scope::All => true,
        }
    }

    fn entries(&mut self, directory: &Unread) -> Result<(), Error> {
        let mut entries = BTreeMap::new();
        for (name, named) in self.names(directory) {
            let found = self.stack.lookup_in(&directory.places, &named);
            let child = match found.places.first() {
                // Where all of the directory is here, there is nothing to hide.
                None if directory.whole => continue,
                None => self.push(whiteout(), None)?,
                Some(&top) => match self.stack.inode(top).node {
                    Node::Directory(_) => self.directory(found, directory.whole)?,
                    _ => self.file(name, &found)?,
                },
            };
            entries.insert(name.to_vec(), child);
        }
        if let Some(Inode { node: Node::Directory(made), .. }) = self.inodes.get_mut(directory.id.0 as usize)
        {
            made.entries = entries;
        }
        Ok(())
    }

    /// The names that are looked up in a directory, each with those of its places that have it.
    fn names(&self, directory: &Unread) -> BTreeMap<&'l [u8], Vec<(usize, InodeId)>> {
        let mut names: BTreeMap<&[u8], Vec<_>> = BTreeMap::new();
        let asked = |place: &Place| directory.whole || self.is_merged(place.layer);
        for (index, place) in directory.places.iter().enumerate() {
            let Node::Directory(listed) = &self.stack.inode(*place).node else { continue };
            for (name, &inode) in &listed.entries {
                // Places are in the order of layers, so that what is asked comes before what is not.
                if asked(place) {
                    names.entry(name).or_default().push((index, inode));
                } else if let Some(named) = names.get_mut(name.as_slice()) {
                    named.push((index, inode));
                }
            }
        }
        names
    }

    /// Adds a directory. `inside_whole` says that all of the one that it is in is here.
    fn directory(&mut self, found: Found, inside_whole: bool) -> Result<InodeId, Error> {
        let is_merged = |layer: Option<usize>| layer.is_some_and(|layer| self.is_merged(layer));
        let redirected = is_merged(found.redirected);
        let hides = !inside_whole && (redirected || is_merged(found.cut));
        let whole = inside_whole || redirected;
        let metadata = self.directory_metadata(&found.places, whole, hides);
        let id = self.push(Inode { metadata, node: Node::Directory(Directory::default()) }, None)?;
        self.unread.push(Unread { id, places: found.places, whole });
        Ok(id)
    }

    /// The metadata of the topmost directory that an entry named, with our own marks. Where nothing is below
    /// the result, that of the topmost one, which overlayfs shows.
    fn directory_metadata(&self, places: &[Place], whole: bool, hides: bool) -> Metadata {
        let layers = places.iter().filter(|place| whole || self.is_merged(place.layer));
        let all: Vec<&Metadata> = layers.map(|&place| &self.stack.inode(place).metadata).collect();
        if matches!(self.scope, Scope::All) {
            return all.first().map_or_else(Metadata::default, |metadata| without_marks(metadata));
        }
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
