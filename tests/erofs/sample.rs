//! Trees with their data, from which images are made.

use std::collections::BTreeMap;

use nexuserofs::image::digest::Digest;
use nexuserofs::image::erofs::{self, Writer};
use nexuserofs::image::tree::{
    BLOCK_SIZE, BlockSink, DeviceNumber, Directory, Extent, FileData, Inode, InodeId, Metadata, Node, Tree,
};

use crate::listing::{Probe, visit};

/// Data of a file from a block of it on.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) file_block: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A tree and the data of its files.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Without extents: those depend on the image.
    pub(crate) tree: Tree,
    pub(crate) data: BTreeMap<InodeId, Vec<Run>>,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let root = Inode { metadata: metadata(0o755), node: Node::Directory(Directory::default()) };
        Self { tree: Tree { inodes: vec![root] }, data: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, parent: InodeId, name: &[u8], metadata: Metadata, node: Node) -> InodeId {
        let id = InodeId(self.tree.inodes.len() as u32);
        self.tree.inodes.push(Inode { metadata, node });
        self.link(parent, name, id);
        id
    }

    pub(crate) fn link(&mut self, parent: InodeId, name: &[u8], id: InodeId) {
        let Node::Directory(directory) = &mut self.tree.inodes[parent.0 as usize].node else {
            panic!("{parent:?} is no directory");
        };
        directory.entries.insert(name.to_vec(), id);
    }

    pub(crate) fn directory(&mut self, parent: InodeId, name: &[u8], metadata: Metadata) -> InodeId {
        self.add(parent, name, metadata, Node::Directory(Directory::default()))
    }

    pub(crate) fn file(&mut self, parent: InodeId, name: &[u8], metadata: Metadata, bytes: &[u8]) -> InodeId {
        let run = Run { file_block: 0, bytes: bytes.to_vec() };
        self.sparse(parent, name, metadata, bytes.len() as u64, vec![run])
    }

    pub(crate) fn sparse(
        &mut self,
        parent: InodeId,
        name: &[u8],
        metadata: Metadata,
        size: u64,
        mut runs: Vec<Run>,
    ) -> InodeId {
        runs.retain(|run| !run.bytes.is_empty());
        let id = self.add(parent, name, metadata, Node::Regular(FileData { size, extents: Vec::new() }));
        self.data.insert(id, runs);
        id
    }

    pub(crate) fn device(&mut self, name: &[u8], major: u32, minor: u32) -> InodeId {
        let node = Node::CharacterDevice(DeviceNumber { major, minor });
        self.add(Tree::ROOT, name, metadata(0o600), node)
    }

    pub(crate) fn set_xattr(&mut self, id: InodeId, name: &str, value: &[u8]) {
        self.tree.inodes[id.0 as usize].metadata.xattrs.insert(name.into(), value.into());
    }

    /// The image of the tree, data in the order of inode ids.
    pub(crate) fn image(&self) -> Vec<u8> {
        let mut image = Vec::new();
        let mut writer = Writer::new(&mut image);
        let mut tree = self.tree.clone();
        for (id, runs) in &self.data {
            let Node::Regular(data) = &mut tree.inodes[id.0 as usize].node else {
                panic!("{id:?} is no file");
            };
            for run in runs {
                let image_block = writer.next_block();
                writer.append(&run.bytes).unwrap();
                writer.align().unwrap();
                let blocks = (run.bytes.len() as u64).div_ceil(BLOCK_SIZE) as u32;
                data.extents.push(Extent { file_block: run.file_block, image_block, blocks });
            }
        }
        let summary = writer.finish(&tree, erofs::uuid(&Digest::of(b"sample"))).unwrap();
        assert_eq!(u64::from(summary.blocks) * BLOCK_SIZE, image.len() as u64);
        image
    }

    /// What reading `length` bytes at `offset` of a file gives.
    pub(crate) fn expected(&self, id: InodeId, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for run in &self.data[&id] {
            let start = run.file_block * BLOCK_SIZE;
            for (position, byte) in (start..).zip(&run.bytes) {
                if let Some(place) = position.checked_sub(offset).filter(|&place| place < length as u64) {
                    bytes[place as usize] = *byte;
                }
            }
        }
        bytes
    }

    /// What reading the files must give: all of small files, of large ones the runs with a block
    /// before and behind, and the end.
    pub(crate) fn probes(&self) -> Vec<Probe> {
        const WHOLE: u64 = 8 << 20;
        let mut probes = Vec::new();
        visit(&self.tree, &mut |path, id, inode| {
            let Node::Regular(data) = &inode.node else { return };
            let mut probe = |start: u64, end: u64| {
                let (offset, end) = (start.min(data.size), end.min(data.size));
                let bytes = self.expected(id, offset, (end - offset) as usize);
                probes.push(Probe { path: path.clone(), offset, bytes });
            };
            if data.size <= WHOLE {
                probe(0, data.size);
                return;
            }
            for run in &self.data[&id] {
                let start = run.file_block * BLOCK_SIZE;
                probe(start.saturating_sub(BLOCK_SIZE), start + run.bytes.len() as u64 + 2 * BLOCK_SIZE);
            }
            probe(data.size - BLOCK_SIZE, data.size);
        });
        probes
    }
}

/// Metadata with this mode and otherwise zeros.
pub(crate) fn metadata(mode: u16) -> Metadata {
    Metadata { mode, ..Metadata::default() }
}

/// `size` bytes that do not repeat with the block.
pub(crate) fn bytes(seed: usize, size: usize) -> Vec<u8> {
    (0..size).map(|i| ((seed + i) % 251) as u8).collect()
}
