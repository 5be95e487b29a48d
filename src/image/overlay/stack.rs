//! What a name means in layers over one another: overlayfs's lookup, on trees.

use std::borrow::Cow;

use super::{XATTR_METACOPY, XATTR_REDIRECT, has_xattr_whiteouts, is_opaque, is_whiteout};
use crate::image::tree::{Inode, InodeId, Node, Tree};

/// Layers over one another, the topmost first.
#[derive(Clone, Debug)]
pub(super) struct Stack<'t> {
    pub(super) trees: Vec<&'t Tree>,
    /// Whether an opaque root hides the layers below, as an image means it. Overlayfs pays no heed to that
    /// mark on a root.
    pub(super) heeds_opaque_roots: bool,
}

/// An inode of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Index of the layer, 0 being the topmost.
    pub layer: usize,
    /// The inode in the layer's tree.
    pub inode: InodeId,
}

/// What a name leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The inodes that make it up, the topmost first: several directories that are shown as one, or a
    /// file without data over the one that has them. Empty if there is nothing.
    pub(super) places: Vec<Place>,
    /// The layer below which nothing counts any more.
    pub(super) cut: Option<usize>,
    /// The topmost layer in which it is a directory that has another name further down.
    pub(super) redirected: Option<usize>,
}

/// Where the search goes on below an inode.
enum Next<'t> {
    /// Nowhere.
    End,
    /// Under the same name.
    Same,
    /// Under another name in the same directory.
    Sibling(&'t [u8]),
    /// Under another path from the root.
    Path(&'t [u8]),
}

impl<'t> Stack<'t> {
    pub(super) fn inode(&self, place: Place) -> &'t Inode {
        self.trees[place.layer].inode(place.inode)
    }

    /// The root directories of the layers from `first` on, as far down as they count.
    pub(super) fn roots(&self, first: usize) -> Found {
        let mut found = Found::default();
        for layer in first..self.trees.len() {
            let place = Place { layer, inode: Tree::ROOT };
            found.places.push(place);
            if self.heeds_opaque_roots && is_opaque(&self.inode(place).metadata) {
                found.cut = Some(layer);
                break;
            }
        }
        found
    }

    /// Looks a name up in a directory, of whose places those in `named` have it: by index, the topmost
    /// first. Places that lack the name are not looked at, which counts where there are many.
    pub(super) fn lookup_in(&self, directory: &[Place], named: &[(usize, InodeId)]) -> Found {
        let mut found = Found::default();
        for &(index, inode) in named {
            let Some(&parent) = directory.get(index) else { break };
            let place = Place { layer: parent.layer, inode };
            let below = directory.get(index + 1..).unwrap_or_default();
            match self.visit(&mut found, parent, place) {
                Next::Same => continue,
                Next::End => found.cut = Some(place.layer),
                Next::Sibling(other) => self.follow(&mut found, below, other),
                Next::Path(path) => {
                    let (parents, last) = self.parents(path, place.layer + 1);
                    self.follow(&mut found, &parents, &last);
                }
            }
            break;
        }
        found
    }

    /// Looks a name up in a directory.
    fn lookup(&self, directory: &[Place], name: &[u8]) -> Found {
        let mut found = Found::default();
        self.follow(&mut found, directory, name);
        found
    }

    /// Adds what a name in a directory leads to, to what was found above it.
    fn follow(&self, found: &mut Found, directory: &[Place], name: &[u8]) {
        let (mut places, mut name) = (Cow::Borrowed(directory), Cow::Borrowed(name));
        let mut next = 0;
        while let Some(&parent) = places.get(next) {
            next += 1;
            let Some(place) = self.child(parent, &name) else { continue };
            match self.visit(found, parent, place) {
                Next::End => {
                    found.cut = Some(place.layer);
                    break;
                }
                Next::Same => {}
                Next::Sibling(other) => name = Cow::Owned(other.to_vec()),
                Next::Path(path) => {
                    let (parents, last) = self.parents(path, place.layer + 1);
                    (places, name) = (Cow::Owned(parents), Cow::Owned(last));
                    next = 0;
                }
            }
        }
    }

    fn child(&self, directory: Place, name: &[u8]) -> Option<Place> {
        match &self.inode(directory).node {
            Node::Directory(entries) => {
                let inode = *entries.entries.get(name)?;
                Some(Place { layer: directory.layer, inode })
            }
            _ => None,
        }
    }

    /// Adds an inode to what was found above it, if it belongs to that.
    fn visit(&self, found: &mut Found, parent: Place, place: Place) -> Next<'t> {
        let inode = self.inode(place);
        let is_directory = |inode: &Inode| matches!(inode.node, Node::Directory(_));
        let top = found.places.first().map(|&top| self.inode(top));
        let differs = top.is_some_and(|top| is_directory(top) != is_directory(inode));
        if differs || is_whiteout(inode, has_xattr_whiteouts(&self.inode(parent).metadata)) {
            return Next::End;
        }
        found.places.push(place);
        let redirect = inode.metadata.xattrs.get(XATTR_REDIRECT).map(Vec::as_slice);
        if is_directory(inode) {
            if is_opaque(&inode.metadata) {
                return Next::End;
            }
            if redirect.is_some() {
                found.redirected.get_or_insert(place.layer);
            }
        } else if !is_metacopy(inode) {
            return Next::End;
        }
        match redirect {
            None => Next::Same,
            Some(path) if path.starts_with(b"/") => Next::Path(path),
            Some(name) => Next::Sibling(name),
        }
    }

    /// The directory of a path in the layers from `first` on, and its last name. Each redirect leads
    /// further down, so that this ends.
    fn parents(&self, path: &[u8], first: usize) -> (Vec<Place>, Vec<u8>) {
        let mut names: Vec<&[u8]> =
            path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        let last = names.pop().unwrap_or_default();
        let root = self.roots(first).places;
        let parents = names.into_iter().fold(root, |directory, name| self.lookup(&directory, name).places);
        (parents, last.to_vec())
    }
}

/// Whether a file's data is in a layer below.
pub(super) fn is_metacopy(inode: &Inode) -> bool {
    matches!(inode.node, Node::Regular(_)) && inode.metadata.xattrs.contains_key(XATTR_METACOPY)
}
