//! The `erofs-rs` crate, an independent reader.

use std::collections::BTreeMap;

use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use erofs_rs::types::Inode;

use crate::listing::{self, Facts, Listing, Probe, join};

/// Fails unless the reader sees these facts and these bytes in the image.
pub(crate) fn assert_shows(image: &[u8], expected: &Listing, probes: &[Probe]) {
    let fs = EroFS::new(SliceImage::new(image)).unwrap();
    let (listing, inodes) = list(&fs);
    listing::assert_same(&listing, expected);
    for probe in probes {
        let file = fs.open_inode_file(inodes[&probe.path]).unwrap();
        let mut bytes = Vec::new();
        while bytes.len() < probe.bytes.len() {
            let mut part = vec![0; probe.bytes.len() - bytes.len()];
            let read = file.read_at(&mut part, probe.offset + bytes.len() as u64).unwrap();
            assert_ne!(read, 0, "{} ends early", probe.path.escape_ascii());
            bytes.extend_from_slice(&part[..read]);
        }
        assert!(bytes == probe.bytes, "{} at {}", probe.path.escape_ascii(), probe.offset);
    }
}

type Reader<'i> = EroFS<SliceImage<'i>>;

fn list(fs: &Reader<'_>) -> (Listing, BTreeMap<Vec<u8>, Inode>) {
    let root = fs.get_inode(fs.super_block().root_inode_id()).unwrap();
    let mut inodes = BTreeMap::from([(Vec::new(), root)]);
    for entry in fs.walk_dir("/").unwrap() {
        let entry = entry.unwrap();
        let directory = entry.dir_entry.path();
        let path = directory.as_bytes().strip_prefix(b"/").unwrap();
        inodes.insert(join(b"", path), entry.inode);
    }
    let mut listing: Listing = inodes.iter().map(|(path, inode)| (path.clone(), facts(fs, *inode))).collect();
    let nids = inodes.iter().map(|(path, inode)| (path.clone(), inode.id())).collect();
    listing::resolve_links(nids, &mut listing);
    (listing, inodes)
}

fn facts(fs: &Reader<'_>, inode: Inode) -> Facts {
    use std::os::unix::fs::PermissionsExt;
    let target = inode.is_symlink().then(|| fs.read_link_inode(inode).unwrap().into_vec());
    Facts {
        mode: inode.file_type().as_raw_mode() | inode.permissions().mode(),
        links: u64::from(inode.nlink()),
        owner: (inode.uid(), inode.gid()),
        mtime: inode.modified_unix(),
        device: inode.device(),
        size: (!inode.is_dir()).then(|| inode.data_size()),
        target,
        xattrs: fs.xattrs_inode(inode).unwrap(),
        same_as: Vec::new(),
    }
}
