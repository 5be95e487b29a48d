//! Everything that can be seen of a tree, by whichever reader.

use std::collections::BTreeMap;

use nexuserofs::image::tree::{Directory, Inode, InodeId, Node, Tree};

/// What a reader sees of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Type and permissions as in `st_mode`.
    pub(crate) mode: u32,
    pub(crate) links: u64,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, u32),
    pub(crate) device: Option<(u32, u32)>,
    /// Size of a file, or of a link's target; no reader need agree on that of a directory.
    pub(crate) size: Option<u64>,
    pub(crate) target: Option<Vec<u8>>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path, in byte order, that names the same inode.
    pub(crate) same_as: Vec<u8>,
}

/// Facts by path, the root's being empty.
pub(crate) type Listing = BTreeMap<Vec<u8>, Facts>;

/// Part of a file that is worth reading.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) path: Vec<u8>,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A path below a directory's.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    [directory, b"/", name].concat()
}

/// Notes the first of the paths that have the same inode.
pub(crate) fn resolve_links<K: Ord>(inodes: BTreeMap<Vec<u8>, K>, listing: &mut Listing) {
    let mut first: BTreeMap<K, Vec<u8>> = BTreeMap::new();
    for (path, inode) in inodes {
        let same_as = first.entry(inode).or_insert_with(|| path.clone()).clone();
        if let Some(facts) = listing.get_mut(&path) {
            facts.same_as = same_as;
        }
    }
}

/// What every reader must see of a tree.
pub(crate) fn expected(tree: &Tree) -> Listing {
    let mut listing = Listing::new();
    let mut inodes = BTreeMap::new();
    let mut names: BTreeMap<InodeId, u64> = BTreeMap::new();
    visit(tree, &mut |path, id, inode| {
        *names.entry(id).or_default() += 1;
        listing.insert(path.clone(), facts(inode));
        inodes.insert(path, id);
    });
    for (path, id) in &inodes {
        if let Some(facts) = listing.get_mut(path) {
            facts.links = match &tree.inode(*id).node {
                Node::Directory(directory) => 2 + subdirectories(tree, directory),
                _ => names[id],
            };
        }
    }
    resolve_links(inodes, &mut listing);
    listing
}

fn subdirectories(tree: &Tree, directory: &Directory) -> u64 {
    let is_directory = |id: &&InodeId| matches!(tree.inode(**id).node, Node::Directory(_));
    directory.entries.values().filter(is_directory).count() as u64
}

/// Fails unless a reader saw what it must.
pub(crate) fn assert_same(found: &Listing, expected: &Listing) {
    for (path, facts) in expected {
        assert_eq!(found.get(path), Some(facts), "{}", path.escape_ascii());
    }
    assert_eq!(found.len(), expected.len());
}

/// Shows each path of a tree with its inode, those of a directory before the directory's own.
pub(crate) fn visit<'t>(tree: &'t Tree, see: &mut impl FnMut(Vec<u8>, InodeId, &'t Inode)) {
    visit_below(tree, Tree::ROOT, Vec::new(), see);
}

fn visit_below<'t>(
    tree: &'t Tree,
    id: InodeId,
    path: Vec<u8>,
    see: &mut impl FnMut(Vec<u8>, InodeId, &'t Inode),
) {
    let inode = tree.inode(id);
    if let Node::Directory(directory) = &inode.node {
        for (name, &child) in &directory.entries {
            visit_below(tree, child, join(&path, name), see);
        }
    }
    see(path, id, inode);
}

/// Facts that the inode alone tells: not its links.
fn facts(inode: &Inode) -> Facts {
    let metadata = &inode.metadata;
    let (kind, device, size, target) = match &inode.node {
        Node::Fifo => (0o010_000, None, Some(0), None),
        Node::CharacterDevice(number) => (0o020_000, Some((number.major, number.minor)), Some(0), None),
        Node::Directory(_) => (0o040_000, None, None, None),
        Node::BlockDevice(number) => (0o060_000, Some((number.major, number.minor)), Some(0), None),
        Node::Regular(data) => (0o100_000, None, Some(data.size), None),
        Node::Symlink(target) => (0o120_000, None, Some(target.len() as u64), Some(target.clone())),
        Node::Socket => (0o140_000, None, Some(0), None),
    };
    Facts {
        mode: kind | u32::from(metadata.mode),
        links: 0,
        owner: (metadata.uid, metadata.gid),
        mtime: (metadata.mtime.seconds, metadata.mtime.nanoseconds),
        device,
        size,
        target,
        xattrs: metadata.xattrs.clone(),
        same_as: Vec::new(),
    }
}
