//! Reads an archive and shows the tree as text, one line for each path:
//! `PATH TYPEMODE [UID:GID] [@MTIME] [CONTENT] [XATTR=VALUE]…`, zeros left out.

use std::collections::BTreeMap;
use std::io;

use nexuserofs::image::tar::{Error, Fault, Layer, Limits, XATTR_IMPLICIT, XATTR_OPAQUE, read_layer};
use nexuserofs::image::tree::{BLOCK_SIZE, BlockSink, FileData, Inode, InodeId, Node, Tree};

/// Keeps what is written, in blocks that start at [`FIRST_BLOCK`].
#[derive(Default)]
pub(crate) struct Blocks(Vec<u8>);

const FIRST_BLOCK: u32 = 7;

impl BlockSink for Blocks {
    fn next_block(&self) -> u32 {
        FIRST_BLOCK + u32::try_from(self.0.len() / BLOCK_SIZE as usize).unwrap()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn align(&mut self) -> io::Result<()> {
        self.0.resize(self.0.len().next_multiple_of(BLOCK_SIZE as usize), 0);
        Ok(())
    }
}

/// A layer with the data of its files.
pub(crate) struct Image {
    pub(crate) layer: Layer,
    blocks: Blocks,
}

/// Reads an archive with the default limits.
pub(crate) fn read(archive: &[u8]) -> Result<Image, Error> {
    read_within(archive, &Limits::default())
}

/// Reads an archive with these limits.
pub(crate) fn read_within(mut archive: &[u8], limits: &Limits) -> Result<Image, Error> {
    let mut blocks = Blocks::default();
    let layer = read_layer(&mut archive, &mut blocks, limits)?;
    Ok(Image { layer, blocks })
}

/// The listing of an archive that is accepted.
pub(crate) fn list(archive: &[u8]) -> Vec<String> {
    read(archive).unwrap_or_else(|error| panic!("{error}: {:?}", error)).list()
}

/// What is wrong with an archive that is refused because of an entry.
pub(crate) fn fault(archive: &[u8]) -> Fault {
    match read(archive) {
        Err(Error::Entry { fault, .. }) => fault,
        Err(other) => panic!("another error: {other}"),
        Ok(image) => panic!("accepted: {:#?}", image.list()),
    }
}

impl Image {
    /// One line for each path, in byte order of the paths.
    pub(crate) fn list(&self) -> Vec<String> {
        let mut seen = BTreeMap::new();
        self.paths().into_iter().map(|(path, id)| self.line(&path, id, &mut seen)).collect()
    }

    /// All paths with their inodes, in byte order.
    pub(crate) fn paths(&self) -> BTreeMap<Vec<u8>, InodeId> {
        let mut paths = BTreeMap::new();
        let mut todo = vec![(b"/".to_vec(), Tree::ROOT)];
        while let Some((path, id)) = todo.pop() {
            if let Node::Directory(directory) = &self.inode(id).node {
                let base = if path == b"/" { b"" } else { path.as_slice() };
                let children = directory.entries.iter();
                todo.extend(children.map(|(name, &id)| ([base, b"/", name].concat(), id)));
            }
            paths.insert(path, id);
        }
        paths
    }

    /// The inode with this path.
    pub(crate) fn at(&self, path: &str) -> &Inode {
        let id = self.paths().get(path.as_bytes()).copied().unwrap_or_else(|| panic!("no {path}"));
        self.inode(id)
    }

    pub(crate) fn inode(&self, id: InodeId) -> &Inode {
        self.layer.tree.inode(id)
    }

    /// The file's content, holes included.
    pub(crate) fn content(&self, data: &FileData) -> Vec<u8> {
        let size = usize::try_from(data.size).unwrap();
        let block_size = BLOCK_SIZE as usize;
        let mut content = vec![0; size.next_multiple_of(block_size)];
        for extent in &data.extents {
            let from = (extent.image_block - FIRST_BLOCK) as usize * block_size;
            let to = usize::try_from(extent.file_block).unwrap() * block_size;
            let length = extent.blocks as usize * block_size;
            content[to..to + length].copy_from_slice(&self.blocks.0[from..from + length]);
        }
        assert!(content[size..].iter().all(|&byte| byte == 0), "bytes past the end are not zero");
        content.truncate(size);
        content
    }

    fn line(&self, path: &[u8], id: InodeId, seen: &mut BTreeMap<InodeId, String>) -> String {
        let path = path.escape_ascii().to_string();
        if let Some(first) = seen.get(&id) {
            return format!("{path} = {first}");
        }
        seen.insert(id, path.clone());
        format!("{path} {}", self.describe(self.inode(id)))
    }

    fn describe(&self, inode: &Inode) -> String {
        let metadata = &inode.metadata;
        let (kind, content) = match &inode.node {
            Node::Directory(_) => ('d', String::new()),
            Node::Regular(data) => ('f', format!(" \"{}\"", shown(&self.content(data)))),
            Node::Symlink(target) => ('l', format!(" -> {}", target.escape_ascii())),
            Node::CharacterDevice(number) => ('c', format!(" {}:{}", number.major, number.minor)),
            Node::BlockDevice(number) => ('b', format!(" {}:{}", number.major, number.minor)),
            Node::Fifo => ('p', String::new()),
            Node::Socket => ('s', String::new()),
        };
        let mut line = format!("{kind}{:04o}", metadata.mode);
        if (metadata.uid, metadata.gid) != (0, 0) {
            line += &format!(" {}:{}", metadata.uid, metadata.gid);
        }
        if metadata.mtime != Default::default() {
            line += &format!(" @{}.{:09}", metadata.mtime.seconds, metadata.mtime.nanoseconds);
        }
        line += &content;
        for (name, value) in &metadata.xattrs {
            line += &match (name.as_slice(), value.as_slice()) {
                (XATTR_IMPLICIT, b"y") => " implicit".to_owned(),
                (XATTR_OPAQUE, b"y") => " opaque".to_owned(),
                (name, value) => format!(" {}={}", name.escape_ascii(), shown(value)),
            };
        }
        line
    }
}

/// The bytes escaped, or how many there are if they are many.
fn shown(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=64 => bytes.escape_ascii().to_string(),
        length => format!("{length} bytes"),
    }
}
