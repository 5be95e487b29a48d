//! From the path of a directory to the directory, inside the layer's own tree.
//!
//! Symbolic links on the way are followed as containerd follows them (`continuity/fs.RootPath`): within
//! the root, an absolute target counted from it. What does not exist counts as a directory yet to be made.

use super::error::{Fault, Name, Quantity, Refusal};
use super::limits::{MAX_LOOKUPS, MAX_SYMLINKS_FOLLOWED};
use super::names::split_first;
use crate::image::tree::{DeviceNumber, InodeId, Node, Tree};

/// Where a path leads.
#[derive(Debug)]
pub(super) struct Place<'t> {
    /// The last directory on the way that exists.
    pub(super) existing: InodeId,
    /// Length in bytes of its path from the root, a slash before each name.
    pub(super) length: usize,
    /// The directories below it that do not exist.
    pub(super) missing: Vec<&'t [u8]>,
}

/// Follows `path`, which starts at the root.
pub(super) fn directory<'t>(tree: &'t Tree, path: &'t [u8]) -> Result<Place<'t>, Fault> {
    let mut walk = Walk { tree, below_root: Vec::new(), missing: Vec::new(), ahead: vec![path], links: 0 };
    let mut lookups = 0;
    while let Some(text) = walk.ahead.pop() {
        if text.is_empty() {
            continue;
        }
        let (name, rest) = split_first(text);
        walk.ahead.push(rest);
        lookups += 1;
        Quantity::Lookups.check(lookups, MAX_LOOKUPS as u64)?;
        walk.step(name)?;
    }
    let length = walk.below_root.iter().map(|(_, length)| length + 1).sum();
    Ok(Place { existing: walk.here(), length, missing: walk.missing })
}

/// The entry `name` of the directory `id`, if it exists.
pub(super) fn child(tree: &Tree, id: InodeId, name: &[u8]) -> Option<InodeId> {
    match &tree.inode(id).node {
        Node::Directory(directory) => directory.entries.get(name).copied(),
        _ => None,
    }
}

/// Whether overlayfs takes this for a whiteout.
pub(super) fn is_whiteout(node: &Node) -> bool {
    matches!(node, Node::CharacterDevice(DeviceNumber { major: 0, minor: 0 }))
}

struct Walk<'t> {
    tree: &'t Tree,
    /// The directories gone through, with the lengths of their names.
    below_root: Vec<(InodeId, usize)>,
    missing: Vec<&'t [u8]>,
    /// Paths still to go; the last is the next. Empty ones are done.
    ahead: Vec<&'t [u8]>,
    links: usize,
}

impl<'t> Walk<'t> {
    fn here(&self) -> InodeId {
        self.below_root.last().map_or(Tree::ROOT, |&(id, _)| id)
    }

    fn step(&mut self, name: &'t [u8]) -> Result<(), Fault> {
        match name {
            b"" | b"." => {}
            b".." if self.missing.is_empty() => drop(self.below_root.pop()),
            b".." => drop(self.missing.pop()),
            name if !self.missing.is_empty() => self.missing.push(name),
            name => self.enter(name)?,
        }
        Ok(())
    }

    fn enter(&mut self, name: &'t [u8]) -> Result<(), Fault> {
        let Some(id) = child(self.tree, self.here(), name) else {
            self.missing.push(name);
            return Ok(());
        };
        match &self.tree.inode(id).node {
            Node::Directory(_) => self.below_root.push((id, name.len())),
            Node::Symlink(target) => self.follow(name, target)?,
            node if is_whiteout(node) => self.missing.push(name),
            _ => return Err(Refusal::NotADirectory(Name::new(name)).into()),
        }
        Ok(())
    }

    fn follow(&mut self, name: &[u8], target: &'t [u8]) -> Result<(), Fault> {
        // Linux goes up from where the link leads; containerd does so in the root directory, and
        // goes up from where the link is in others.
        if self.ahead.last().is_some_and(|rest| first_name(rest) == b"..") {
            return Err(Refusal::ParentOfLink(Name::new(name)).into());
        }
        self.links += 1;
        if self.links > MAX_SYMLINKS_FOLLOWED {
            return Err(Refusal::TooManyLinks.into());
        }
        if target.starts_with(b"/") {
            self.below_root.clear();
        }
        self.ahead.push(target);
        Ok(())
    }
}

fn first_name(path: &[u8]) -> &[u8] {
    let mut names = path.split(|&byte| byte == b'/');
    names.find(|name| !matches!(*name, b"" | b".")).unwrap_or_default()
}
