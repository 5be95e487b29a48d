//! A tree as a sequence of members.

use std::collections::{BTreeMap, btree_map};
use std::io::{self, Read, Write};

use super::error::Error;
use super::header::{BLOCK, Kind, Member, Xattr};
use super::{Options, Summary};
use crate::image::overlay;
use crate::image::tar::XATTR_IMPLICIT;
use crate::image::tar::error::Name;
use crate::image::tree::{Contents, DeviceNumber, Directory, Inode, InodeId, Metadata, Node, Tree};

/// Prefix of a whiteout's name (OCI image specification, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// Name of the member that makes its directory opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Largest device numbers of Linux.
const DEVICE_MAX: DeviceNumber = DeviceNumber { major: 0xfff, minor: 0xf_ffff };

/// Size in bytes of the pieces that files are read in.
const BUFFER: usize = 128 * 1024;

/// An archive that is being written.
pub(super) struct Archive<'a, W> {
    out: &'a mut W,
    tree: &'a Tree,
    contents: &'a dyn Contents,
    options: &'a Options,
    /// How many entries name an inode.
    names: Vec<u32>,
    /// Paths of files with several names, once written.
    written: BTreeMap<InodeId, Vec<u8>>,
    /// Header blocks of the member that is next.
    headers: Vec<u8>,
    /// What files are copied through.
    buffer: Vec<u8>,
    summary: Summary,
}

/// A directory whose entries are being written.
struct Open<'t> {
    entries: btree_map::Iter<'t, Vec<u8>, InodeId>,
    /// Length of its path, with the slash behind it.
    path_length: usize,
    /// Whether its whiteouts are marked by attributes.
    has_xattr_whiteouts: bool,
}

impl<'a, W: Write> Archive<'a, W> {
    pub(super) fn new(
        out: &'a mut W,
        tree: &'a Tree,
        contents: &'a dyn Contents,
        options: &'a Options,
    ) -> Self {
        Self {
            out,
            tree,
            contents,
            options,
            names: count_names(tree),
            written: BTreeMap::new(),
            headers: Vec::new(),
            buffer: vec![0; BUFFER],
            summary: Summary::default(),
        }
    }

    pub(super) fn write(mut self) -> Result<Summary, Error> {
        let mut path = Vec::new();
        // Not recursive: a tree can be deeper than the stack.
        let mut open: Vec<Open<'a>> = self.directory(&mut path, Tree::ROOT)?.into_iter().collect();
        while let Some(directory) = open.last_mut() {
            path.truncate(directory.path_length);
            let Some((name, &id)) = directory.entries.next() else {
                open.pop();
                continue;
            };
            let marked = directory.has_xattr_whiteouts;
            if overlay::is_whiteout(self.tree.inode(id), marked) {
                self.whiteout(&path, name)?;
                continue;
            }
            path.extend_from_slice(name);
            if name.starts_with(WHITEOUT) {
                return Err(Error::ReservedName { path: Name::new(&path) });
            }
            match self.tree.inode(id).node {
                Node::Directory(_) => open.extend(self.directory(&mut path, id)?),
                _ => self.file(&path, id)?,
            }
        }
        self.put(&[0; 2 * BLOCK as usize])?;
        Ok(self.summary)
    }

    /// Writes a directory and its opaque mark. `path` is its own and gets the slash of what is in it.
    fn directory(&mut self, path: &mut Vec<u8>, id: InodeId) -> Result<Option<Open<'a>>, Error> {
        let Inode { metadata, node } = self.tree.inode(id);
        let Node::Directory(Directory { entries }) = node else { return Ok(None) };
        self.refuse_unresolved(path, metadata, overlay::XATTR_REDIRECT)?;
        let is_root = id == Tree::ROOT;
        if !is_root {
            path.push(b'/');
        }
        if !metadata.xattrs.contains_key(XATTR_IMPLICIT) {
            let shown: &[u8] = if is_root { b"./" } else { path };
            self.member(shown, Kind::Directory, metadata)?;
        }
        if overlay::is_opaque(metadata) {
            self.mark(&[path.as_slice(), OPAQUE].concat())?;
        }
        let has_xattr_whiteouts = overlay::has_xattr_whiteouts(metadata);
        Ok(Some(Open { entries: entries.iter(), path_length: path.len(), has_xattr_whiteouts }))
    }

    fn file(&mut self, path: &[u8], id: InodeId) -> Result<(), Error> {
        let Inode { metadata, node } = self.tree.inode(id);
        for xattr in [overlay::XATTR_REDIRECT, overlay::XATTR_METACOPY] {
            self.refuse_unresolved(path, metadata, xattr)?;
        }
        if matches!(node, Node::Socket) {
            self.summary.sockets += 1;
            return Ok(());
        }
        if let Some(first) = self.written.get(&id).cloned() {
            return self.member(path, Kind::HardLink(&first), metadata);
        }
        let kind = match node {
            Node::Regular(data) => Kind::Regular(data.size),
            Node::Symlink(target) => Kind::Symlink(target),
            Node::CharacterDevice(number) => Kind::CharacterDevice(checked(path, *number)?),
            Node::BlockDevice(number) => Kind::BlockDevice(checked(path, *number)?),
            Node::Fifo => Kind::Fifo,
            Node::Directory(_) | Node::Socket => return Ok(()),
        };
        self.member(path, kind, metadata)?;
        if let Kind::Regular(size) = kind {
            self.data(path, id, size)?;
        }
        if self.names.get(id.0 as usize).is_some_and(|&names| names > 1) {
            self.written.insert(id, path.to_vec());
        }
        Ok(())
    }

    /// Deletes `name` of the layers below. Owner and time of a whiteout mean nothing, and are the same
    /// for all, so that two hosts which delete the same file make the same layer.
    fn whiteout(&mut self, directory: &[u8], name: &[u8]) -> Result<(), Error> {
        self.mark(&[directory, WHITEOUT, name].concat())
    }

    /// Writes an empty file whose name says it all.
    fn mark(&mut self, path: &[u8]) -> Result<(), Error> {
        let mtime = self.options.source_date_epoch.unwrap_or_default();
        let kind = Kind::Regular(0);
        self.headers(&Member { path, kind, mode: 0, uid: 0, gid: 0, mtime, xattrs: &[] })
    }

    fn member(&mut self, path: &[u8], kind: Kind<'_>, metadata: &Metadata) -> Result<(), Error> {
        let mtime = self.options.source_date_epoch.map_or(metadata.mtime, |epoch| epoch.min(metadata.mtime));
        let kept = metadata.xattrs.iter().filter(|(name, _)| !overlay::is_private(name));
        let xattrs: Vec<Xattr<'_>> = kept.map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        if let Some((name, _)) = xattrs.iter().find(|(name, _)| name.iter().any(|byte| b"=\0".contains(byte)))
        {
            return Err(Error::XattrName { path: Name::new(path), xattr: Name::new(name) });
        }
        let &Metadata { mode, uid, gid, .. } = metadata;
        self.headers(&Member { path, kind, mode, uid, gid, mtime, xattrs: &xattrs })
    }

    fn headers(&mut self, member: &Member<'_>) -> Result<(), Error> {
        self.summary.entries += 1;
        self.headers.clear();
        member.encode(&mut self.headers);
        self.out.write_all(&self.headers).map_err(Error::Write)
    }

    /// Writes exactly `size` bytes of a file, and zeros up to the next block.
    fn data(&mut self, path: &[u8], id: InodeId, size: u64) -> Result<(), Error> {
        let failed = |source| Error::Read { path: Name::new(path), source };
        let mut reader = self.contents.open(id).map_err(failed)?.take(size);
        let mut left = size;
        while left > 0 {
            match reader.read(&mut self.buffer) {
                Ok(0) => return Err(Error::Shrunk { path: Name::new(path), size }),
                Ok(read) => {
                    self.out.write_all(&self.buffer[..read]).map_err(Error::Write)?;
                    left -= read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let padding = size.next_multiple_of(BLOCK) - size;
        self.put(&[0; BLOCK as usize][..padding as usize])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(Error::Write)
    }

    fn refuse_unresolved(&self, path: &[u8], metadata: &Metadata, xattr: &[u8]) -> Result<(), Error> {
        match metadata.xattrs.contains_key(xattr) {
            true => Err(Error::Unresolved { path: Name::new(path), xattr: Name::new(xattr) }),
            false => Ok(()),
        }
    }
}

/// How many entries name each inode.
fn count_names(tree: &Tree) -> Vec<u32> {
    let mut names = vec![0_u32; tree.inodes.len()];
    for inode in &tree.inodes {
        let Node::Directory(directory) = &inode.node else { continue };
        for id in directory.entries.values() {
            if let Some(count) = names.get_mut(id.0 as usize) {
                *count = count.saturating_add(1);
            }
        }
    }
    names
}

/// Refuses a device that no header has room for, or that Linux would take for another.
fn checked(path: &[u8], number: DeviceNumber) -> Result<DeviceNumber, Error> {
    let DeviceNumber { major, minor } = number;
    match major <= DEVICE_MAX.major && minor <= DEVICE_MAX.minor {
        true => Ok(number),
        false => Err(Error::Device { path: Name::new(path), major, minor }),
    }
}
