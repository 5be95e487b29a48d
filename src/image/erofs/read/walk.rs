//! All inodes of an image, from the root on, level by level.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::data::{Mapping, Tail};
use super::directory::{self, Entry};
use super::error::{Damage, Error, Unsupported};
use super::geometry::Geometry;
use super::inode::{FileType, Record};
use super::limits::{Budget, ENTRY_COST, Limits};
use super::place::InodePlace;
use super::source::{ReadAt, Window};
use super::xattr;
use crate::image::tree::{Directory, FileData, Inode, InodeId, Metadata, Node, Tree};

/// Longest target of a symbolic link, in bytes: the kernel's PATH_MAX without the NUL.
const TARGET_MAX: u64 = 4095;

/// What the metadata of an image says.
pub(super) struct Walked {
    pub(super) tree: Tree,
    /// Ends of regular files that no extent covers.
    pub(super) tails: BTreeMap<InodeId, Tail>,
    /// Regular files whose data is compressed.
    pub(super) compressed: BTreeSet<InodeId>,
    /// By inode, where it is, if that was asked for.
    pub(super) places: Option<Vec<InodePlace>>,
    /// What of the limits was not used.
    pub(super) left: Limits,
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
        compressed: BTreeSet::new(),
        names: Vec::new(),
        places,
        unread: VecDeque::new(),
    };
    walk.add(geometry.root_nid, geometry.root_nid)?;
    let root = geometry.inode_offset(geometry.root_nid)?;
    if !matches!(walk.tree.first(), Some(Inode { node: Node::Directory(_), .. })) {
        return Err(Error::damaged_at(root, Damage::Root));
    }
    while let Some(directory) = walk.unread.pop_front() {
        walk.read_entries(&directory)?;
    }
    walk.names.iter().try_for_each(Names::check)?;
    if let Some(nid) = geometry.packed_nid {
        walk.check_packed(nid)?;
    }
    let Walk { tree, tails, compressed, places, budget, .. } = walk;
    Ok(Walked { tree: Tree { inodes: tree }, tails, compressed, places, left: budget.left() })
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
    compressed: BTreeSet<InodeId>,
    /// What is known of the names of each inode.
    names: Vec<Names>,
    places: Option<Vec<InodePlace>>,
    unread: VecDeque<Unread>,
}

/// The names of an inode.
struct Names {
    /// Where the inode is, for errors.
    offset: u64,
    kind: FileType,
    /// How many the inode says that it has.
    said: u32,
    found: u32,
}

impl Names {
    /// Refuses an inode that would be freed too early or never. Directories count what is in them, which
    /// nothing relies on.
    fn check(&self) -> Result<(), Error> {
        let &Self { said, found, .. } = self;
        let is_right = if self.kind == FileType::Directory { said > 0 } else { said == found };
        if is_right { Ok(()) } else { Err(Error::damaged_at(self.offset, Damage::Links { said, found })) }
    }
}

/// A directory whose entries are still to be read.
struct Unread {
    id: InodeId,
    /// Numbers of its inode and of that of the directory above.
    nid: u64,
    parent: u64,
    /// Where its inode is, for errors.
    offset: u64,
    size: u64,
    mapping: Mapping,
}

impl<S: ReadAt> Walk<'_, S> {
    fn read_entries(&mut self, directory: &Unread) -> Result<(), Error> {
        let damaged = |damage| Error::damaged_at(directory.offset, damage);
        let mut position = 0;
        let mut last = Vec::new();
        while position < directory.size {
            let length = (directory.size - position).min(self.geometry.block_size);
            // Counted though nothing of it may be kept: many directories can name the same blocks.
            self.budget.bytes(ENTRY_COST)?;
            let place = directory.mapping.place(position).ok_or(damaged(Damage::DirectoryHole))?;
            let block = self.content.bytes(place, length as usize)?;
            for entry in directory::entries(&block) {
                let entry = entry.map_err(damaged)?;
                self.budget.bytes(ENTRY_COST + entry.name.len() as u64)?;
                match entry.name.cmp(&last) {
                    Ordering::Greater => entry.name.clone_into(&mut last),
                    Ordering::Equal => return Err(damaged(Damage::DuplicateName)),
                    Ordering::Less => return Err(damaged(Damage::EntryOrder)),
                }
                self.read_entry(directory, &entry)?;
            }
            position += length;
        }
        Ok(())
    }

    fn read_entry(&mut self, directory: &Unread, entry: &Entry<'_>) -> Result<(), Error> {
        let damaged = |damage| Err(Error::damaged_at(directory.offset, damage));
        match entry.name {
            b"." if entry.nid == directory.nid => return Ok(()),
            b".." if entry.nid == directory.parent => return Ok(()),
            b"." | b".." => return damaged(Damage::Dots),
            _ => {}
        }
        let child = self.link(entry.nid, directory)?;
        let names = &mut self.names[child.0 as usize];
        names.found = names.found.saturating_add(1);
        // overlayfs looks for whiteouts only where an entry says that there is a device.
        if names.kind.of_entry() != entry.kind {
            return damaged(Damage::EntryType(entry.kind));
        }
        match self.enter(directory.id, entry.name, child) {
            None => Ok(()),
            Some(_) => damaged(Damage::DuplicateName),
        }
    }

    /// The inode that an entry names. Only a directory cannot be named twice, which also rules out
    /// circles.
    fn link(&mut self, nid: u64, directory: &Unread) -> Result<InodeId, Error> {
        match self.ids.get(&nid) {
            None => self.add(nid, directory.nid),
            Some(&id) if matches!(self.tree[id.0 as usize].node, Node::Directory(_)) => {
                Err(Error::damaged_at(directory.offset, Damage::LinkedDirectory))
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

    /// Reads an inode that was not met before, and that is in the directory `parent`.
    fn add(&mut self, nid: u64, parent: u64) -> Result<InodeId, Error> {
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
        let node = self.node(id, (nid, parent), &record)?;
        self.tree.push(Inode { metadata: Metadata { mode, uid, gid, mtime, xattrs }, node });
        self.names.push(Names { offset: record.offset, kind: record.kind, said: record.links, found: 0 });
        self.ids.insert(nid, id);
        Ok(id)
    }

    fn node(&mut self, id: InodeId, (nid, parent): (u64, u64), record: &Record) -> Result<Node, Error> {
        Ok(match record.kind {
            FileType::Directory => {
                let mapping = self.plain_mapping(record)?;
                let (offset, size) = (record.offset, record.size);
                self.unread.push_back(Unread { id, nid, parent, offset, size, mapping });
                Node::Directory(Directory::default())
            }
            FileType::Regular => {
                let Mapping { extents, tail, compressed, .. } = self.mapping(record)?;
                self.compressed.extend(compressed.then_some(id));
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

    /// Checks the inode that ends of files are in, which no entry names.
    fn check_packed(&mut self, nid: u64) -> Result<(), Error> {
        let record = Record::read(&mut self.inodes, self.geometry, nid)?;
        match record.kind {
            FileType::Regular => self.mapping(&record).map(drop),
            _ => Err(Error::damaged_at(record.offset, Damage::PackedInode)),
        }
    }

    /// Where the content of a directory or a symbolic link is.
    fn plain_mapping(&mut self, record: &Record) -> Result<Mapping, Error> {
        match self.mapping(record)? {
            mapping if mapping.compressed => Err(Unsupported::CompressedMetadata.into()),
            mapping => Ok(mapping),
        }
    }

    fn target(&mut self, record: &Record) -> Result<Vec<u8>, Error> {
        let damaged = || Error::damaged_at(record.offset, Damage::Symlink(record.size));
        if !(1..=TARGET_MAX).contains(&record.size) {
            return Err(damaged());
        }
        self.budget.bytes(record.size)?;
        let mapping = self.plain_mapping(record)?;
        let mut target = Vec::new();
        for position in (0..record.size).step_by(self.geometry.block_size as usize) {
            let place = mapping.place(position).ok_or_else(damaged)?;
            let length = (record.size - position).min(self.geometry.block_size);
            target.extend(self.content.bytes(place, length as usize)?);
        }
        if target.contains(&0) { Err(damaged()) } else { Ok(target) }
    }
}
