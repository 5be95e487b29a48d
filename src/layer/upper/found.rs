//! What a walk has found so far: a tree that grows.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::Error;
use super::contents::{Place, Regular};
use super::entry::Identity;
use crate::image::tar::{ATTRIBUTE_COST, DIRECTORY_COST, INODE_COST, Limits};
use crate::image::tree::{Extent, Inode, InodeId, Node, Tree};

/// A tree that grows. Its first inode is the root.
#[derive(Debug, Default)]
pub(super) struct Found {
    limits: Limits,
    /// What all that is kept takes in memory, counted as for the entries of a tar.
    metadata_bytes: u64,
    inodes: Vec<Inode>,
    /// By inode id.
    places: Vec<Place>,
    /// Inodes with several links that were met.
    linked: HashMap<Identity, InodeId>,
}

impl Found {
    pub(super) fn into_parts(self) -> (Tree, Vec<Place>) {
        (Tree { inodes: self.inodes }, self.places)
    }

    /// Gives an inode its number, and its first name in the directory `parent`. The root, which comes
    /// first, is its own parent and has no name.
    pub(super) fn add(
        &mut self,
        parent: InodeId,
        name: &CStr,
        inode: Inode,
        file: Option<Regular>,
    ) -> Result<InodeId, Error> {
        self.charge(cost(name, &inode))?;
        let limit = self.limits.max_entries;
        let index = u32::try_from(self.inodes.len()).ok().filter(|index| u64::from(*index) < limit);
        let id = InodeId(index.ok_or(Error::TooMuch { what: "entries", limit })?);
        self.inodes.push(inode);
        self.places.push(Place { parent, name: name.to_owned(), file });
        if id != Tree::ROOT {
            self.enter(parent, name, id);
        }
        Ok(id)
    }

    /// Remembers an inode that has further names.
    pub(super) fn expect_links(&mut self, identity: Identity, id: InodeId) {
        self.linked.insert(identity, id);
    }

    /// Gives a further name to an inode that was met before. False if it was not.
    pub(super) fn link(&mut self, parent: InodeId, name: &CStr, identity: Identity) -> Result<bool, Error> {
        let Some(&id) = self.linked.get(&identity) else { return Ok(false) };
        self.charge(INODE_COST + name.count_bytes() as u64)?;
        self.enter(parent, name, id);
        Ok(true)
    }

    /// The path of an inode by its first names, from the top.
    pub(super) fn path_of(&self, mut id: InodeId) -> PathBuf {
        let mut names = Vec::new();
        while let Some(place) = self.places.get(id.0 as usize).filter(|_| id != Tree::ROOT) {
            names.push(OsStr::from_bytes(place.name.to_bytes()));
            id = place.parent;
        }
        let mut path = PathBuf::from("/");
        path.extend(names.into_iter().rev());
        path
    }

    fn enter(&mut self, parent: InodeId, name: &CStr, id: InodeId) {
        if let Some(Inode { node: Node::Directory(directory), .. }) = self.inodes.get_mut(parent.0 as usize) {
            directory.entries.insert(name.to_bytes().to_vec(), id);
        }
    }

    fn charge(&mut self, bytes: u64) -> Result<(), Error> {
        self.metadata_bytes = self.metadata_bytes.saturating_add(bytes);
        let limit = self.limits.max_metadata_bytes;
        match self.metadata_bytes <= limit {
            true => Ok(()),
            false => Err(Error::TooMuch { what: "bytes of metadata", limit }),
        }
    }
}

/// What an inode and its name take in memory, in bytes.
fn cost(name: &CStr, inode: &Inode) -> u64 {
    let own = match &inode.node {
        Node::Directory(_) => DIRECTORY_COST,
        Node::Symlink(target) => target.len() as u64,
        Node::Regular(data) => (data.extents.len() * size_of::<Extent>()) as u64,
        _ => 0,
    };
    let attributes = inode.metadata.xattrs.iter();
    let attributes = attributes.map(|(name, value)| ATTRIBUTE_COST + (name.len() + value.len()) as u64);
    INODE_COST + name.count_bytes() as u64 + own + attributes.sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::{Directory, Metadata};

    #[test]
    fn what_is_kept_in_memory_is_bounded() {
        let limits = Limits { max_entries: 3, ..Limits::default() };
        let mut found = Found { limits, ..Found::default() };
        let root = Inode { metadata: Metadata::default(), node: Node::Directory(Directory::default()) };
        let fifo = || Inode { metadata: Metadata::default(), node: Node::Fifo };
        found.add(Tree::ROOT, c"", root.clone(), None).unwrap();
        found.add(Tree::ROOT, c"a", fifo(), None).unwrap();
        let id = found.add(Tree::ROOT, c"b", fifo(), None).unwrap();
        assert_eq!(found.path_of(id), PathBuf::from("/b"));
        let error = found.add(Tree::ROOT, c"c", fifo(), None).unwrap_err();
        assert!(matches!(error, Error::TooMuch { what: "entries", limit: 3 }), "{error}");

        let limits = Limits { max_metadata_bytes: 10_000, ..Limits::default() };
        let mut found = Found { limits, ..Found::default() };
        found.add(Tree::ROOT, c"", root, None).unwrap();
        let mut heavy = fifo();
        heavy.metadata.xattrs.insert(b"user.x".to_vec(), vec![1; 10_000]);
        let error = found.add(Tree::ROOT, c"a", heavy, None).unwrap_err();
        assert!(matches!(error, Error::TooMuch { limit: 10_000, .. }), "{error}");
    }
}
