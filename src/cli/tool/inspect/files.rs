//! The files of an image, as `ls -l` would list them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::tool::names::shown;
use crate::image::erofs::read::{Image, ReadAt};
use crate::image::overlay;
use crate::image::tree::{self, DeviceNumber, Extent, Inode, InodeId, Node, Tree};

/// A name and what it stands for.
#[derive(Debug, Serialize)]
pub(super) struct FileLine {
    /// From `/` on. Bytes that are no text are shown as `\xNN`, a backslash as `\\`.
    pub(super) path: String,
    /// Number of the inode; names with the same one are hard links. Any number will do.
    pub(super) inode: u32,
    /// `directory`, `file`, `link`, `character_device`, `block_device`, `fifo` or `socket`.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// The low 12 bits of `st_mode`.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Size of a file in bytes; null for others.
    pub(super) size: Option<u64>,
    /// Time of last modification, in seconds since the epoch.
    pub(super) mtime: i64,
    /// Nanoseconds past that second.
    pub(super) mtime_nanoseconds: u32,
    /// Where a link leads; null for others.
    pub(super) target: Option<String>,
    /// Major and minor number; null for what is no device.
    pub(super) device: Option<[u32; 2]>,
    /// Whether a file's data is compressed. Where it is, is not told then.
    pub(super) compressed: bool,
    /// Whether the name says that the one of a layer below is gone.
    pub(super) whiteout: bool,
    /// Extended attributes, names and values shown as paths are.
    pub(super) xattrs: BTreeMap<String, String>,
    /// Where a file's data is in the image: first block, number of blocks.
    pub(super) blocks: Vec<[u32; 2]>,
    /// Where the end of a file is, if it is stored behind the inode: byte of the image, number of bytes.
    pub(super) inline: Option<[u64; 2]>,
}

/// The names in an image, in order, directories before what is in them.
pub(super) fn list<S: ReadAt>(image: &Image<S>) -> Vec<FileLine> {
    let tree = image.tree();
    let mut lines = vec![line(image, Tree::ROOT, "/".to_owned(), false)];
    // Directories that are being listed: their entries, and how much of `path` is theirs. A stack of our
    // own, since an image can be as deep as it likes.
    let mut open = vec![(entries(tree, Tree::ROOT), 0)];
    let mut path = String::new();
    while let Some((rest, length)) = open.last_mut() {
        let Some((name, child, whiteout)) = rest.next() else {
            open.pop();
            continue;
        };
        path.truncate(*length);
        path.push('/');
        path.push_str(&shown(name));
        lines.push(line(image, child, path.clone(), whiteout));
        if matches!(tree.inode(child).node, Node::Directory(_)) {
            open.push((entries(tree, child), path.len()));
        }
    }
    lines
}

type Entries<'t> = Box<dyn Iterator<Item = (&'t [u8], InodeId, bool)> + 't>;

/// Names and inodes in a directory, and whether each is a whiteout.
fn entries(tree: &Tree, directory: InodeId) -> Entries<'_> {
    let inode = tree.inode(directory);
    let by_xattr = overlay::has_xattr_whiteouts(&inode.metadata);
    match &inode.node {
        Node::Directory(directory) => Box::new(directory.entries.iter().map(move |(name, child)| {
            (name.as_slice(), *child, overlay::is_whiteout(tree.inode(*child), by_xattr))
        })),
        _ => Box::new(std::iter::empty()),
    }
}

fn line<S: ReadAt>(image: &Image<S>, id: InodeId, path: String, whiteout: bool) -> FileLine {
    let Inode { metadata, node } = image.tree().inode(id);
    let number = |DeviceNumber { major, minor }: &DeviceNumber| Some([*major, *minor]);
    let run = |extent: &Extent| [extent.image_block, extent.blocks];
    FileLine {
        path,
        inode: id.0,
        kind: kind(node),
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        size: if let Node::Regular(data) = node { Some(data.size) } else { None },
        mtime: metadata.mtime.seconds,
        mtime_nanoseconds: metadata.mtime.nanoseconds,
        target: if let Node::Symlink(target) = node { Some(shown(target)) } else { None },
        device: match node {
            Node::CharacterDevice(device) | Node::BlockDevice(device) => number(device),
            _ => None,
        },
        compressed: image.is_compressed_file(id),
        whiteout,
        xattrs: metadata.xattrs.iter().map(|(name, value)| (shown(name), shown(value))).collect(),
        blocks: if let Node::Regular(data) = node {
            data.extents.iter().map(run).collect()
        } else {
            Vec::new()
        },
        inline: image.tail(id).map(|tail| [tail.image_offset, tail.length]),
    }
}

fn kind(node: &Node) -> &'static str {
    match node {
        Node::Directory(_) => "directory",
        Node::Regular(_) => "file",
        Node::Symlink(_) => "link",
        Node::CharacterDevice(_) => "character_device",
        Node::BlockDevice(_) => "block_device",
        Node::Fifo => "fifo",
        Node::Socket => "socket",
    }
}

impl FileLine {
    /// As `ls -l` shows it, with blocks and attributes behind.
    pub(super) fn text(&self) -> String {
        let size = match (self.size, self.device) {
            (_, Some([major, minor])) => format!("{major},{minor}"),
            (size, None) => size.unwrap_or(0).to_string(),
        };
        let owner = format!("{}:{}", self.uid, self.gid);
        let mut text = format!("{} {owner:<9} {size:>10} {} {}", self.permissions(), self.time(), self.path);
        let mut add = |part: String| text.push_str(&part);
        self.target.iter().for_each(|target| add(format!(" -> {target}")));
        if self.compressed {
            add(" (compressed)".to_owned());
        }
        if self.whiteout {
            add(" (whiteout)".to_owned());
        }
        for [first, count] in &self.blocks {
            add(format!(" [{first}-{}]", u64::from(*first) + u64::from(*count) - 1));
        }
        self.inline
            .iter()
            .for_each(|[offset, length]| add(format!(" [bytes {offset}-{}]", offset + length - 1)));
        self.xattrs.iter().for_each(|(name, value)| add(format!(" {name}={value:?}")));
        text
    }

    fn permissions(&self) -> String {
        let kind = match self.kind {
            "directory" => 'd',
            "link" => 'l',
            "character_device" => 'c',
            "block_device" => 'b',
            "fifo" => 'p',
            "socket" => 's',
            _ => '-',
        };
        let bit = |shift: u32| self.mode >> shift & 1 == 1;
        let execute = |shift: u32, special: u32, letter: char| match (bit(shift), bit(special)) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        };
        let mut text = String::from(kind);
        for (shift, special, letter) in [(6, 11, 's'), (3, 10, 's'), (0, 9, 't')] {
            text.push(if bit(shift + 2) { 'r' } else { '-' });
            text.push(if bit(shift + 1) { 'w' } else { '-' });
            text.push(execute(shift, special, letter));
        }
        text
    }

    /// RFC 3339, or the number of seconds where that has no such form.
    fn time(&self) -> String {
        let time = tree::Timestamp { seconds: self.mtime, nanoseconds: self.mtime_nanoseconds };
        match Timestamp::from_second(time.seconds) {
            Ok(time) => time.to_string(),
            Err(_) => format!("@{}", time.seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_and_times_are_those_of_ls() {
        let mut line = FileLine {
            path: "/a".to_owned(),
            inode: 1,
            kind: "file",
            mode: 0o4755,
            uid: 0,
            gid: 70_000,
            size: Some(5),
            mtime: -1,
            mtime_nanoseconds: 0,
            target: None,
            device: None,
            compressed: false,
            whiteout: false,
            xattrs: BTreeMap::from([("user.a".to_owned(), "b".to_owned())]),
            blocks: vec![[7, 2]],
            inline: None,
        };
        assert_eq!(line.text(), "-rwsr-xr-x 0:70000            5 1969-12-31T23:59:59Z /a [7-8] user.a=\"b\"");
        line.mtime = i64::MAX;
        assert_eq!(line.time(), format!("@{}", i64::MAX));
        (line.kind, line.mode) = ("directory", 0o1640);
        assert_eq!(line.permissions(), "drw-r----T");
    }
}
