//! The gate that a tree passes before anything of it is written: every reachable inode gets its
//! place in the image's order, and whatever EROFS cannot express is refused by its path.

use std::collections::BTreeMap;

use super::error::{Error, Problem, TreePath};
use super::xattr;
use crate::image::tree::{Directory, Inode, InodeId, Metadata, Node, Tree};

/// Longest name of a directory entry, in bytes.
const NAME_MAX: usize = 255;
/// Longest target of a symbolic link, in bytes: the kernel's PATH_MAX without the NUL.
const TARGET_MAX: usize = 4095;

/// A reachable inode.
#[derive(Debug)]
pub(super) struct Visit<'t> {
    pub(super) id: InodeId,
    pub(super) inode: &'t Inode,
    /// Ordinal of the directory that names it first; the root's is its own.
    pub(super) parent: u32,
    /// Its `st_nlink`.
    pub(super) links: u32,
}

/// The reachable inodes of a tree in the order in which the image has them: the root, then level
/// by level the entries of each directory, by name. A position in this order is an ordinal.
#[derive(Debug)]
pub(super) struct Walk<'t> {
    pub(super) visits: Vec<Visit<'t>>,
    /// By inode id; `None` for what is not reachable.
    ordinals: Vec<Option<u32>>,
}

impl<'t> Walk<'t> {
    /// Walks `tree` and checks all but what its data and xattrs take, which [`plan`](super::plan)
    /// finds out.
    pub(super) fn new(tree: &'t Tree) -> Result<Self, Error> {
        let walk = Self::reach(tree)?;
        for (ordinal, visit) in (0..).zip(&walk.visits) {
            check_inode(visit.inode).map_err(|problem| walk.refuse(ordinal, None, problem))?;
        }
        Ok(walk)
    }

    /// Ordinal of a reachable inode.
    pub(super) fn ordinal(&self, id: InodeId) -> Option<u32> {
        self.ordinals.get(id.0 as usize).copied().flatten()
    }

    /// The error that `problem` is for the inode, or for `entry` in it.
    pub(super) fn refuse(&self, ordinal: u32, entry: Option<&[u8]>, problem: Problem) -> Error {
        let mut names: Vec<&[u8]> = entry.into_iter().collect();
        let mut child = ordinal;
        while child != 0 {
            let parent = self.visits[child as usize].parent;
            names.push(self.name_in(parent, child));
            child = parent;
        }
        names.reverse();
        Error::Unrepresentable { path: TreePath::of(&names), problem }
    }

    /// The name under which directory `parent` lists `child` first.
    fn name_in(&self, parent: u32, child: u32) -> &'t [u8] {
        entries(self.visits[parent as usize].inode)
            .into_iter()
            .flatten()
            .find(|&(_, &id)| self.ordinal(id) == Some(child))
            .map_or(b"?".as_slice(), |(name, _)| name)
    }

    fn reach(tree: &'t Tree) -> Result<Self, Error> {
        let mut walk = Self { visits: Vec::new(), ordinals: vec![None; tree.inodes.len()] };
        match tree.inodes.first() {
            Some(root) if entries(root).is_some() => walk.visit(Tree::ROOT, root, 0),
            _ => {
                let path = TreePath::of(&[]);
                return Err(Error::Unrepresentable { path, problem: Problem::RootNotDirectory });
            }
        }
        let mut next = 0;
        while let Some(visit) = walk.visits.get(next as usize) {
            if let Some(entries) = entries(visit.inode) {
                for (name, &id) in entries {
                    walk.enter(tree, next, name, id)
                        .map_err(|problem| walk.refuse(next, Some(name), problem))?;
                }
            }
            next += 1;
        }
        Ok(walk)
    }

    /// Follows one entry of directory `parent`.
    fn enter(&mut self, tree: &'t Tree, parent: u32, name: &[u8], id: InodeId) -> Result<(), Problem> {
        check_name(name)?;
        let index = id.0 as usize;
        let inode =
            tree.inodes.get(index).ok_or(Problem::NoSuchInode { id: id.0, inodes: tree.inodes.len() })?;
        let is_directory = entries(inode).is_some();
        match self.ordinals[index] {
            Some(_) if is_directory => return Err(Problem::LinkedDirectory),
            Some(ordinal) => add_link(&mut self.visits[ordinal as usize])?,
            None => self.visit(id, inode, parent),
        }
        if is_directory {
            // Its ".." entry.
            add_link(&mut self.visits[parent as usize])?;
        }
        Ok(())
    }

    fn visit(&mut self, id: InodeId, inode: &'t Inode, parent: u32) {
        // A directory has the entry in its parent and its own "."; the root's ".." stands in.
        let links = if entries(inode).is_some() { 2 } else { 1 };
        // Inodes are fewer than their 32-bit ids.
        self.ordinals[id.0 as usize] = Some(self.visits.len() as u32);
        self.visits.push(Visit { id, inode, parent, links });
    }
}

fn entries(inode: &Inode) -> Option<&BTreeMap<Vec<u8>, InodeId>> {
    match &inode.node {
        Node::Directory(Directory { entries }) => Some(entries),
        _ => None,
    }
}

fn add_link(visit: &mut Visit<'_>) -> Result<(), Problem> {
    visit.links = visit.links.checked_add(1).ok_or(Problem::TooManyLinks)?;
    Ok(())
}

fn check_name(name: &[u8]) -> Result<(), Problem> {
    let fits = (1..=NAME_MAX).contains(&name.len());
    let special = matches!(name, b"." | b"..") || name.iter().any(|&byte| byte == 0 || byte == b'/');
    if fits && !special { Ok(()) } else { Err(Problem::Name) }
}

fn check_inode(inode: &Inode) -> Result<(), Problem> {
    check_metadata(&inode.metadata)?;
    match &inode.node {
        Node::Symlink(target) => check_target(target),
        Node::CharacterDevice(number) | Node::BlockDevice(number) => {
            let (major, minor) = (number.major, number.minor);
            if major < 1 << 12 && minor < 1 << 20 { Ok(()) } else { Err(Problem::Device { major, minor }) }
        }
        Node::Directory(_) | Node::Regular(_) | Node::Fifo | Node::Socket => Ok(()),
    }
}

fn check_metadata(metadata: &Metadata) -> Result<(), Problem> {
    if metadata.mode > 0o7777 {
        return Err(Problem::Mode(metadata.mode));
    }
    if metadata.mtime.nanoseconds >= 1_000_000_000 {
        return Err(Problem::Nanoseconds(metadata.mtime.nanoseconds));
    }
    metadata.xattrs.iter().try_for_each(|(name, value)| xattr::check(name, value))
}

fn check_target(target: &[u8]) -> Result<(), Problem> {
    if (1..=TARGET_MAX).contains(&target.len()) && !target.contains(&0) {
        Ok(())
    } else {
        Err(Problem::SymlinkTarget(target.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::{DeviceNumber, Timestamp};

    fn inode(node: Node) -> Inode {
        Inode { metadata: Metadata::default(), node }
    }

    fn directory(entries: &[(&[u8], u32)]) -> Inode {
        let entries = entries.iter().map(|&(name, id)| (name.to_vec(), InodeId(id))).collect();
        inode(Node::Directory(Directory { entries }))
    }

    fn refusal(inodes: Vec<Inode>) -> (String, Problem) {
        match Walk::new(&Tree { inodes }).map(drop) {
            Err(Error::Unrepresentable { path, problem }) => (path.to_string(), problem),
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn inodes_come_level_by_level_and_links_are_counted() {
        let tree = Tree {
            inodes: vec![
                directory(&[(b"z", 1), (b"a", 3)]),
                directory(&[(b"deep", 2), (b"hard", 4)]),
                directory(&[(b"again", 4)]),
                inode(Node::Fifo),
                inode(Node::Socket),
                // Not reachable.
                inode(Node::Fifo),
                directory(&[(b"x", 4)]),
            ],
        };
        let walk = Walk::new(&tree).unwrap();
        let ordinals: Vec<_> = (0..8).map(|id| walk.ordinal(InodeId(id))).collect();
        assert_eq!(ordinals, [Some(0), Some(2), Some(3), Some(1), Some(4), None, None, None]);
        let links: Vec<_> = walk.visits.iter().map(|visit| visit.links).collect();
        assert_eq!(links, [3, 1, 3, 2, 2]);
        let parents: Vec<_> = walk.visits.iter().map(|visit| visit.parent).collect();
        assert_eq!(parents, [0, 0, 0, 2, 2]);
    }

    #[test]
    fn a_tree_has_a_root() {
        assert_eq!(refusal(vec![]), ("/".into(), Problem::RootNotDirectory));
        assert_eq!(refusal(vec![inode(Node::Fifo)]), ("/".into(), Problem::RootNotDirectory));
    }

    #[test]
    fn directories_have_one_name() {
        let (path, problem) = refusal(vec![directory(&[(b"self", 0)])]);
        assert_eq!((path.as_str(), problem), ("/self", Problem::LinkedDirectory));
        let twice = vec![directory(&[(b"a", 1), (b"b", 1)]), directory(&[])];
        assert_eq!(refusal(twice), ("/b".into(), Problem::LinkedDirectory));
        let cycle = vec![directory(&[(b"a", 1)]), directory(&[(b"b", 2)]), directory(&[(b"c", 1)])];
        assert_eq!(refusal(cycle), ("/a/b/c".into(), Problem::LinkedDirectory));
    }

    #[test]
    fn entries_have_names_and_inodes() {
        let long = [b'n'; 256];
        for name in [b"".as_slice(), b".", b"..", b"a/b", b"a\0b", &long] {
            assert_eq!(refusal(vec![directory(&[(name, 1)]), inode(Node::Fifo)]).1, Problem::Name);
        }
        let dangling = vec![directory(&[(b"d", 1)]), directory(&[(b"gone", 2)])];
        assert_eq!(refusal(dangling), ("/d/gone".into(), Problem::NoSuchInode { id: 2, inodes: 2 }));
    }

    #[test]
    fn inodes_are_checked() {
        let target = |target: &[u8]| inode(Node::Symlink(target.to_vec()));
        let device = |major, minor| inode(Node::BlockDevice(DeviceNumber { major, minor }));
        let with = |metadata| Inode { metadata, node: Node::Fifo };
        let xattr = |name: &str, size| {
            with(Metadata { xattrs: [(name.into(), vec![0; size])].into(), ..Metadata::default() })
        };
        let late = Timestamp { seconds: 0, nanoseconds: 1_000_000_000 };
        let cases = [
            (target(b""), Problem::SymlinkTarget(0)),
            (target(b"a\0"), Problem::SymlinkTarget(2)),
            (target(&[b'a'; 4096]), Problem::SymlinkTarget(4096)),
            (device(4096, 0), Problem::Device { major: 4096, minor: 0 }),
            (device(0, 1 << 20), Problem::Device { major: 0, minor: 1 << 20 }),
            (with(Metadata { mode: 0o10000, ..Metadata::default() }), Problem::Mode(0o10000)),
            (with(Metadata { mtime: late, ..Metadata::default() }), Problem::Nanoseconds(1_000_000_000)),
            (xattr("system.nfs4_acl", 1), Problem::XattrName("system.nfs4_acl".into())),
            (xattr("user.", 1), Problem::XattrName("user.".into())),
            (xattr("user.a\0", 1), Problem::XattrName("user.a\0".into())),
            (xattr("user.a", 65536), Problem::XattrValue { name: "user.a".into(), size: 65536 }),
        ];
        for (inode, problem) in cases {
            let tree = vec![directory(&[(b"d", 1)]), directory(&[(b"x", 2)]), inode];
            assert_eq!(refusal(tree), ("/d/x".into(), problem));
        }
    }
}
