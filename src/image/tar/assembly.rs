//! Puts the members of an archive into a tree, one after the other; the last one to name a path
//! wins. The rules are those of `docs/tar-semantics.md`.

use std::collections::BTreeMap;
use std::mem;

use super::acl;
use super::error::{Breach, Fault, Name, Quantity, Refusal};
use super::limits::{
    ATTRIBUTE_COST, DIRECTORY_COST, INODE_COST, Limits, MAX_NAME, MAX_PATH, MAX_SYMLINK, MAX_XATTRS,
    WHITEOUT_COST,
};
use super::member::{Kind, Member};
use super::names::{Target, split_last, without_trailing_slashes};
use super::resolve::{self, child, is_whiteout};
use super::whiteouts::Whiteouts;
use super::xattr;
use super::{Layer, XATTR_IMPLICIT, XATTR_OPAQUE};
use crate::image::tree::{
    DeviceNumber, Directory, Extent, FileData, Inode, InodeId, Metadata, Node, Timestamp, Tree,
};

/// A tree that grows.
#[derive(Debug)]
pub(super) struct Assembly<'l> {
    limits: &'l Limits,
    tree: Tree,
    root_is_named: bool,
    entries: u64,
    metadata_bytes: u64,
    whiteouts: Whiteouts,
    last_directory: Option<KnownDirectory>,
}

/// A directory whose path was resolved, kept because the next entry is mostly in it too.
#[derive(Debug)]
struct KnownDirectory {
    /// The path in normal form, as members write it.
    path: Vec<u8>,
    place: Located,
}

/// A directory and how long its path is.
#[derive(Clone, Copy, Debug)]
struct Located {
    id: InodeId,
    /// Bytes of its path from the root, a slash before each name.
    length: usize,
}

impl<'l> Assembly<'l> {
    /// Starts with a root that no entry named.
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self {
            limits,
            tree: Tree { inodes: vec![implicit_directory()] },
            root_is_named: false,
            entries: 0,
            metadata_bytes: 0,
            whiteouts: Whiteouts::default(),
            last_directory: None,
        }
    }

    /// Counts one more member.
    pub(super) fn count_entry(&mut self) -> Result<(), Fault> {
        self.entries += 1;
        Ok(Quantity::Entries.check(self.entries, self.limits.max_entries)?)
    }

    /// The finished layer.
    pub(super) fn into_layer(self) -> Layer {
        let root = self.root_is_named.then(|| self.tree.inode(Tree::ROOT).metadata.clone());
        Layer { tree: self.tree, root, entries: self.entries }
    }

    /// Puts a member where its path leads. `data` is what became of its data, empty unless it is a file.
    pub(super) fn add(
        &mut self,
        target: Target<'_>,
        member: &mut Member,
        data: FileData,
    ) -> Result<(), Fault> {
        match target {
            Target::Aufs => Ok(()),
            Target::Root => self.name_root(member),
            Target::Opaque { directory } => self.make_opaque(directory),
            Target::Whiteout { directory, name } => self.white_out(directory, name, member),
            Target::Entry { directory, name } => self.place(directory, name, member, data),
        }
    }

    /// Only a directory can be the root; other types are passed over, as containerd does.
    fn name_root(&mut self, member: &mut Member) -> Result<(), Fault> {
        if !matches!(member.kind, Kind::Directory) {
            return Ok(());
        }
        self.root_is_named = true;
        self.take_over(Tree::ROOT, member)
    }

    fn make_opaque(&mut self, directory: &[u8]) -> Result<(), Fault> {
        let directory = self.directory(directory)?;
        self.mark_opaque(directory.id)
    }

    /// A whiteout hides what the layers below have. What this layer has under the name stays; if
    /// that is or becomes a directory, only its own entries are seen.
    fn white_out(&mut self, directory: &[u8], name: &[u8], member: &Member) -> Result<(), Fault> {
        let directory = self.directory(directory)?;
        if let Some(existing) = child(&self.tree, directory.id, name) {
            if matches!(self.tree.inode(existing).node, Node::Directory(_)) {
                self.mark_opaque(existing)?;
            }
            return self.remember_whiteout(directory.id, name);
        }
        let metadata = Metadata {
            mode: 0,
            uid: member.uid,
            gid: member.gid,
            mtime: member.mtime,
            xattrs: BTreeMap::new(),
        };
        let node = Node::CharacterDevice(DeviceNumber::default());
        self.insert_new(directory, name, Inode { metadata, node })?;
        Ok(())
    }

    fn place(&mut self, path: &[u8], name: &[u8], member: &mut Member, data: FileData) -> Result<(), Fault> {
        let directory = self.directory(path)?;
        let existing = child(&self.tree, directory.id, name);
        if let (Kind::Directory, Some(id)) = (&member.kind, existing)
            && matches!(self.tree.inode(id).node, Node::Directory(_))
        {
            return self.take_over(id, member);
        }
        if existing.is_some() {
            self.remove(directory.id, name);
        }
        let Some(node) = new_node(member, data)? else {
            return self.place_link(directory, name, member);
        };
        let id = self.insert_new(directory, name, Inode { metadata: Metadata::default(), node })?;
        self.take_over(id, member)?;
        if matches!(member.kind, Kind::Directory) {
            self.hide_what_is_below(directory.id, name, id)?;
            self.expect_entries_of(id, path, directory, name);
        }
        Ok(())
    }

    /// A further name for a file. As in containerd, the link's own metadata becomes the file's.
    fn place_link(&mut self, directory: Located, name: &[u8], member: &mut Member) -> Result<(), Fault> {
        let target = self.link_target(&member.link_target)?;
        check_name(directory, name)?;
        self.charge(INODE_COST + name.len() as u64)?;
        self.enter(directory.id, name, target)?;
        // Linux takes capabilities away when the owner is set, and containerd sets it here.
        self.inode_mut(target).metadata.xattrs.remove(xattr::CAPABILITY);
        self.take_over(target, member)
    }

    fn link_target(&self, path: &[u8]) -> Result<InodeId, Fault> {
        let missing = || Refusal::HardLinkTarget(Name::new(path));
        let plain = without_trailing_slashes(path);
        let (directory, name) = split_last(plain);
        let place = resolve::directory(&self.tree, directory)?;
        if !place.missing.is_empty() {
            return Err(missing().into());
        }
        let id = child(&self.tree, place.existing, name).ok_or_else(missing)?;
        match self.tree.inode(id).node {
            Node::Directory(_) => Err(Refusal::HardLinkToDirectory(Name::new(path)).into()),
            // The slash asks for what the link leads to, and that has a name of its own.
            Node::Symlink(_) if plain.len() < path.len() => Err(missing().into()),
            _ => Ok(id),
        }
    }

    /// Gives an inode the metadata of a member. Attributes that the member does not have stay.
    fn take_over(&mut self, id: InodeId, member: &mut Member) -> Result<(), Fault> {
        let mut kept = BTreeMap::new();
        let mut bytes = 0;
        for (name, value) in mem::take(&mut member.xattrs) {
            if xattr::is_kept(&name, &value, &self.tree.inode(id).node)? {
                bytes += attribute_bytes(&name, &value);
                kept.insert(name, value);
            }
        }
        self.charge(bytes)?;
        let grows = !kept.is_empty();
        let inode = self.inode_mut(id);
        let metadata = &mut inode.metadata;
        metadata.mode = if matches!(inode.node, Node::Symlink(_)) { SYMLINK_MODE } else { member.mode };
        metadata.uid = member.uid;
        metadata.gid = member.gid;
        metadata.mtime = member.mtime;
        metadata.xattrs.remove(XATTR_IMPLICIT);
        metadata.xattrs.append(&mut kept);
        acl::settle(metadata)?;
        if grows {
            let stored = metadata.xattrs.iter().map(|(name, value)| stored_length(name, value));
            Quantity::XattrBytes.check(stored.sum(), MAX_XATTRS as u64)?;
        }
        Ok(())
    }

    /// The directory with this path in normal form; what is missing of it is made.
    fn directory(&mut self, path: &[u8]) -> Result<Located, Fault> {
        if let Some(known) = self.last_directory.as_ref().filter(|known| known.path == path) {
            return Ok(known.place);
        }
        let place = resolve::directory(&self.tree, path)?;
        let mut here = Located { id: place.existing, length: place.length };
        let missing: Vec<Vec<u8>> = place.missing.into_iter().map(<[u8]>::to_vec).collect();
        for name in missing {
            here = self.make_implicit(here, &name)?;
        }
        self.last_directory = Some(KnownDirectory { path: path.to_vec(), place: here });
        Ok(here)
    }

    /// Makes a directory that no entry named so far.
    fn make_implicit(&mut self, directory: Located, name: &[u8]) -> Result<Located, Fault> {
        let id = self.insert_new(directory, name, implicit_directory())?;
        self.hide_what_is_below(directory.id, name, id)?;
        Ok(Located { id, length: directory.length + 1 + name.len() })
    }

    /// Remembers a new directory: archives go on with its entries.
    fn expect_entries_of(&mut self, id: InodeId, path: &[u8], directory: Located, name: &[u8]) {
        let mut own_path = Vec::with_capacity(path.len() + 1 + name.len());
        if !path.is_empty() {
            own_path.extend_from_slice(path);
            own_path.push(b'/');
        }
        own_path.extend_from_slice(name);
        let place = Located { id, length: directory.length + 1 + name.len() };
        self.last_directory = Some(KnownDirectory { path: own_path, place });
    }

    fn insert_new(&mut self, directory: Located, name: &[u8], inode: Inode) -> Result<InodeId, Fault> {
        check_name(directory, name)?;
        self.charge(name.len() as u64 + inode_bytes(&inode))?;
        let index = u32::try_from(self.tree.inodes.len()).map_err(|_| Breach {
            what: Quantity::Entries,
            value: self.tree.inodes.len() as u64,
            limit: u64::from(u32::MAX),
        })?;
        self.tree.inodes.push(inode);
        self.enter(directory.id, name, InodeId(index))?;
        Ok(InodeId(index))
    }

    fn enter(&mut self, directory: InodeId, name: &[u8], id: InodeId) -> Result<(), Fault> {
        if is_whiteout(&self.tree.inode(id).node) {
            self.remember_whiteout(directory, name)?;
        }
        if let Node::Directory(directory) = &mut self.inode_mut(directory).node {
            directory.entries.insert(name.to_vec(), id);
        }
        Ok(())
    }

    fn remember_whiteout(&mut self, directory: InodeId, name: &[u8]) -> Result<(), Fault> {
        match self.whiteouts.insert(directory, name) {
            true => self.charge(WHITEOUT_COST + name.len() as u64),
            false => Ok(()),
        }
    }

    /// Makes the new directory `id` opaque if its name had a whiteout. Without that the entries of
    /// a lower layer's directory would be seen in it again.
    fn hide_what_is_below(&mut self, directory: InodeId, name: &[u8], id: InodeId) -> Result<(), Fault> {
        match self.whiteouts.contains(directory, name) {
            true => self.mark_opaque(id),
            false => Ok(()),
        }
    }

    fn remove(&mut self, directory: InodeId, name: &[u8]) {
        if let Node::Directory(directory) = &mut self.inode_mut(directory).node {
            directory.entries.remove(name);
        }
        self.last_directory = None;
    }

    fn mark_opaque(&mut self, id: InodeId) -> Result<(), Fault> {
        let (name, value) = (XATTR_OPAQUE.to_vec(), b"y".to_vec());
        let bytes = attribute_bytes(&name, &value);
        match self.inode_mut(id).metadata.xattrs.insert(name, value) {
            None => self.charge(bytes),
            Some(_) => Ok(()),
        }
    }

    fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.tree.inodes[id.0 as usize]
    }

    fn charge(&mut self, bytes: u64) -> Result<(), Fault> {
        self.metadata_bytes += bytes;
        Ok(Quantity::MetadataBytes.check(self.metadata_bytes, self.limits.max_metadata_bytes)?)
    }
}

/// Mode of every symbolic link on Linux.
const SYMLINK_MODE: u16 = 0o777;

fn implicit_directory() -> Inode {
    let xattrs = BTreeMap::from([(XATTR_IMPLICIT.to_vec(), b"y".to_vec())]);
    let metadata = Metadata { mode: 0o755, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs };
    Inode { metadata, node: Node::Directory(Directory::default()) }
}

/// What a member makes, `None` for a further name of something that is there.
fn new_node(member: &Member, data: FileData) -> Result<Option<Node>, Fault> {
    Ok(Some(match member.kind {
        Kind::HardLink => return Ok(None),
        Kind::Regular(_) => Node::Regular(data),
        Kind::Symlink => Node::Symlink(symlink_target(member)?),
        Kind::CharacterDevice(number) => Node::CharacterDevice(number),
        Kind::BlockDevice(number) => Node::BlockDevice(number),
        Kind::Directory => Node::Directory(Directory::default()),
        Kind::Fifo => Node::Fifo,
    }))
}

fn symlink_target(member: &Member) -> Result<Vec<u8>, Fault> {
    if member.link_target.is_empty() {
        return Err(Refusal::EmptySymlink.into());
    }
    Quantity::SymlinkBytes.check(member.link_target.len() as u64, MAX_SYMLINK as u64)?;
    Ok(member.link_target.clone())
}

fn check_name(directory: Located, name: &[u8]) -> Result<(), Breach> {
    Quantity::NameBytes.check(name.len() as u64, MAX_NAME as u64)?;
    Quantity::PathBytes.check((directory.length + name.len()) as u64, MAX_PATH as u64)
}

/// What an inode keeps in memory, in bytes.
fn inode_bytes(inode: &Inode) -> u64 {
    let content = match &inode.node {
        Node::Regular(data) => (data.extents.len() * size_of::<Extent>()) as u64,
        Node::Symlink(target) => target.len() as u64,
        Node::Directory(_) => DIRECTORY_COST,
        _ => 0,
    };
    let attributes = inode.metadata.xattrs.iter().map(|(name, value)| attribute_bytes(name, value));
    INODE_COST + content + attributes.sum::<u64>()
}

/// What an attribute keeps in memory, in bytes.
fn attribute_bytes(name: &[u8], value: &[u8]) -> u64 {
    ATTRIBUTE_COST + (name.len() + value.len()) as u64
}

/// Bytes that an attribute takes in an EROFS inode at most: an entry of four bytes, name and value,
/// filled up to a multiple of four.
fn stored_length(name: &[u8], value: &[u8]) -> u64 {
    (4 + name.len() as u64 + value.len() as u64).next_multiple_of(4)
}
