//! All inodes of an image, from the root on, level by level.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::data::{Mapping, Tail};
use super::directory;
use super::error::{Damage, Error};
use super::geometry::Geometry;
use super::inode::{FileType, Record};
use super::limits::{Budget, ENTRY_COST, Limits};
use super::place::InodePlace;
use super::source::{ReadAt, Window};
use super::xattr;
use crate::image::tree::{BLOCK_SIZE, Directory, FileData, Inode, InodeId, Metadata, Node, Tree};

/// Longest target of a symbolic link, in bytes: the kernel's PATH_MAX without the NUL.
const TARGET_MAX: u64 = 4095;

/// What the metadata of an image says.
pub(super) struct Walked {
    pub(super) tree: Tree,
    /// Ends of regular files that no extent covers.
    pub(super) tails: BTreeMap<InodeId, Tail>,
    /// By inode, where it is, if that was asked for.
    pub(super) places: Option<Vec<InodePlace>>,
}

/// Reads everything that the root leads to. `places` gets where each inode is.
pub(super) fn walk<S: ReadAt>(
    source: &S,
    geometry: &Geometry,
    limits: &Limits,
    places: Option<Vec<InodePlace>>,
) -> Result<Walked, Error> {
    let window = || Window::new(source, geometry.end());
    let mut walk = Walk {
        geometry,
        budget: Budget::new(*limits),
        inodes: window(),
        shared: window(),
        content: window(),
        ids: HashMap::new(),
        tree: Vec::new(),
        tails: BTreeMap::new(),
        places,
        unread: VecDeque::new(),
    };
    walk.add(geometry.root_nid)?;
    let root = geometry.inode_offset(geometry.root_nid)?;
    if !matches!(walk.tree.first(), Some(Inode { node: Node::Directory(_), .. })) {
        return Err(Error::damaged_at(root, Damage::Root));
    }
    while let Some(directory) = walk.unread.pop_front() {
        walk.read_entries(&directory)?;
    }
    Ok(Walked { tree: Tree { inodes: walk.tree }, tails: walk.tails, places: walk.places })
}

struct Walk<'s, S> {
    geometry: &'s Geometry,
    budget: Budget,
    /// Windows for what lies apart: inodes with what follows them, shared attributes, and the content of
    /// directories and links.
    inodes: Window<'s, S>,
    shared: Window<'s, S>,
    content: Window<'s, S>,
    /// Inodes by number.
    ids: HashMap<u64, InodeId>,
    tree: Vec<Inode>,
    tails: BTreeMap<InodeId, Tail>,
    places: Option<Vec<InodePlace>>,
    unread: VecDeque<Unread>,
}

/// A directory whose entries are still to be read.
struct Unread {
    id: InodeId,
    /// Where its inode is, for errors.
    offset: u64,
    size: u64,
    mapping: Mapping,
}

impl<S: ReadAt> Walk<'_, S> {
    fn read_entries(&mut self, directory: &Unread) -> Result<(), Error> {
        let damaged = |damage| Error::damaged_at(directory.offset, damage);
        let mut position = 0;
        while position < directory.size {
            let length = (directory.size - position).min(BLOCK_SIZE);
            // Counted though nothing of it may be kept: many directories can name the same blocks.
            self.budget.bytes(ENTRY_COST)?;
            let place = directory.mapping.place(position).ok_or(damaged(Damage::DirectoryHole))?;
            let block = self.content.bytes(place, length as usize)?;
            for entry in directory::entries(&block) {
                let entry = entry.map_err(damaged)?;
                self.budget.bytes(ENTRY_COST + entry.name.len() as u64)?;
                let child = self.link(entry.nid, directory.offset)?;
                if self.enter(directory.id, entry.name, child).is_some() {
                    return Err(damaged(Damage::DuplicateName));
                }
            }
            position += length;
        }
        Ok(())
    }

    /// The inode that an entry names. Only a directory cannot be named twice, which also rules out
    /// circles.
    fn link(&mut self, nid: u64, directory_offset: u64) -> Result<InodeId, Error> {
        match self.ids.get(&nid) {
            None => self.add(nid),
            Some(&id) if matches!(self.tree[id.0 as usize].node, Node::Directory(_)) => {
                Err(Error::damaged_at(directory_offset, Damage::LinkedDirectory))
            }
            Some(&id) => Ok(id),
        }
    }

    fn enter(&mut self, directory: InodeId, name: &[u8], child: InodeId) -> Option<InodeId> {
        match &mut self.tree[directory.0 as usize].node {
            Node::Directory(directory) => directory.entries.insert(name.to_vec(), child),
            _ => None,
        }
    }

    /// Reads an inode that was not met before.
    fn add(&mut self, nid: u64) -> Result<InodeId, Error> {
        self.budget.inode()?;
        let too_many = Error::TooMuch { what: "inodes", limit: u64::from(u32::MAX) };
        let id = InodeId(u32::try_from(self.tree.len()).map_err(|_| too_many)?);
        let record = Record::read(&mut self.inodes, self.geometry, nid)?;
        let xattrs =
            xattr::read(&mut self.inodes, &mut self.shared, self.geometry, &record, &mut self.budget)?;
        if let Some(places) = &mut self.places {
            places.push(InodePlace::of(&mut self.inodes, self.geometry, &record, &mut self.budget)?);
        }
        let Record { mode, uid, gid, mtime, .. } = record;
        let node = self.node(id, &record)?;
        self.tree.push(Inode { metadata: Metadata { mode, uid, gid, mtime, xattrs }, node });
        self.ids.insert(nid, id);
        Ok(id)
    }

    fn node(&mut self, id: InodeId, record: &Record) -> Result<Node, Error> {
        Ok(match record.kind {
            FileType::Directory => {
                let mapping = self.mapping(record)?;
                self.unread.push_back(Unread { id, offset: record.offset, size: record.size, mapping });
                Node::Directory(Directory::default())
            }
            FileType::Regular => {
                let Mapping { extents, tail } = self.mapping(record)?;
                self.tails.extend(tail.map(|tail| (id, tail)));
                Node::Regular(FileData { size: record.size, extents })
            }
            FileType::Symlink => Node::Symlink(self.target(record)?),
            FileType::CharacterDevice => Node::CharacterDevice(record.device()),
            FileType::BlockDevice => Node::BlockDevice(record.device()),
            FileType::Fifo => Node::Fifo,
            FileType::Socket => Node::Socket,
        })
    }

    fn mapping(&mut self, record: &Record) -> Result<Mapping, Error> {
        Mapping::read(&mut self.inodes, self.geometry, record, &mut self.budget)
    }

    fn target(&mut self, record: &Record) -> Result<Vec<u8>, Error> {
        let damaged = || Error::damaged_at(record.offset, Damage::Symlink(record.size));
        if !(1..=TARGET_MAX).contains(&record.size) {
            return Err(damaged());
        }
        self.budget.bytes(record.size)?;
        // Less than a block, so it is in one place.
        let place = self.mapping(record)?.place(0).ok_or_else(damaged)?;
        let target = self.content.bytes(place, record.size as usize)?;
        if target.contains(&0) { Err(damaged()) } else { Ok(target) }
    }
}
