//! One sample of everything that an image can hold.

use nexuserofs::image::tree::{DeviceNumber, Metadata, Node, Timestamp, Tree};

use crate::sample::{Run, Sample, bytes, metadata};

/// One of everything that a kernel lets through as it is. Its image has a golden digest, so that it
/// stays as it is.
pub(crate) fn everything() -> Sample {
    let mut sample = Sample::new();
    let root = Tree::ROOT;
    sample.tree.inodes[0].metadata =
        Metadata { mtime: Timestamp { seconds: 1_700_000_000, nanoseconds: 1 }, ..metadata(0o1777) };
    types(&mut sample);
    sparse_files(&mut sample);
    xattrs(&mut sample);
    let many = sample.directory(root, b"many", metadata(0o755));
    for i in 0..700 {
        sample.add(many, format!("{i:0255}").as_bytes(), metadata(0o644), Node::Fifo);
    }
    // 27 bytes of dots, 15 entries of 267 bytes and one of 64 fill a block.
    let full = sample.directory(root, b"full block", metadata(0o755));
    for i in 0..15 {
        sample.add(full, format!("{i:0255}").as_bytes(), metadata(0o644), Node::Fifo);
    }
    sample.add(full, &[b'x'; 52], metadata(0o644), Node::Fifo);
    let empty = sample.directory(root, b"-empty", metadata(0o000));
    sample.directory(empty, b"\xff\xfe\x01", metadata(0o755));
    sample
}

fn types(sample: &mut Sample) {
    let root = Tree::ROOT;
    let owner = Metadata {
        uid: 4_000_000_000,
        gid: 70_000,
        mtime: Timestamp { seconds: -86_400, nanoseconds: 999_999_999 },
        ..metadata(0o4755)
    };
    let hello = sample.file(root, b"hello", owner.clone(), b"hello, world\n");
    sample.file(root, b"nothing", metadata(0o000), b"");
    sample.file(root, b"block", metadata(0o644), &bytes(1, 4096));
    sample.file(root, b"blocks", metadata(0o644), &bytes(2, 3 * 4096 + 1));
    let directory = sample.directory(root, b"directory", metadata(0o2750));
    sample.link(directory, b"hello again", hello);
    sample.link(root, b"hello too", hello);
    sample.add(root, b"link", owner.clone(), Node::Symlink(b"directory/../hello".to_vec()));
    sample.add(directory, b"long link", metadata(0o777), Node::Symlink(vec![b'l'; 4095]));
    // With its inode, just a block, and one byte too much.
    for length in [4032, 4033] {
        let node = Node::Symlink(vec![b'm'; length]);
        sample.add(directory, length.to_string().as_bytes(), metadata(0o777), node);
    }
    sample.add(root, b"fifo", owner.clone(), Node::Fifo);
    sample.add(root, b"socket", owner, Node::Socket);
    sample.device(b"null", 1, 3);
    sample.device(b"whiteout", 0, 0);
    let large = DeviceNumber { major: 0xfff, minor: 0xf_ffff };
    sample.add(root, b"disk", metadata(0o660), Node::BlockDevice(large));
}

fn sparse_files(sample: &mut Sample) {
    let root = Tree::ROOT;
    let directory = sample.directory(root, b"sparse", metadata(0o755));
    let run = |file_block, size| Run { file_block, bytes: bytes(file_block as usize, size) };
    sample.sparse(directory, b"hole", metadata(0o644), 3 << 20, vec![]);
    sample.sparse(directory, b"front", metadata(0o644), 1_000_000, vec![run(0, 4096)]);
    sample.sparse(directory, b"back", metadata(0o644), 100 * 4096 + 17, vec![run(100, 17)]);
    sample.sparse(directory, b"holes", metadata(0o644), 64 * 4096, vec![run(8, 4 * 4096), run(32, 8 * 4096)]);
    sample.sparse(directory, b"tebibyte", metadata(0o644), 1 << 40, vec![run(1 << 20, 1 << 20)]);
}

fn xattrs(sample: &mut Sample) {
    let root = Tree::ROOT;
    let directory = sample.directory(root, b"xattrs", metadata(0o755));
    for i in 0..3 {
        let id = sample.file(directory, format!("shared{i}").as_bytes(), metadata(0o644), b"x");
        sample.set_xattr(id, "security.selinux", b"system_u:object_r:etc_t:s0\0");
        sample.set_xattr(id, "user.own", format!("value {i}").as_bytes());
        sample.set_xattr(id, "user.e", b"");
    }
    let id = sample.file(directory, b"capability", metadata(0o755), b"x");
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    sample.set_xattr(id, "security.capability", &capability);
    let id = sample.directory(directory, b"acl", metadata(0o775));
    sample.set_xattr(id, "system.posix_acl_access", &ACL);
    sample.set_xattr(id, "system.posix_acl_default", &ACL);
    let id = sample.file(directory, b"large", metadata(0o644), b"x");
    sample.set_xattr(id, "user.60k", &bytes(5, 60 << 10));
    sample.set_xattr(id, "trusted.64k", &bytes(6, 65535));
    sample.set_xattr(id, &format!("user.{}", "n".repeat(250)), b"long name");
    let id = sample.directory(directory, b"inline", metadata(0o755));
    for i in 0..12 {
        sample.set_xattr(id, &format!("trusted.inline{i}"), &bytes(i, 900));
    }
    let id = sample.directory(directory, b"opaque", metadata(0o755));
    sample.set_xattr(id, "trusted.overlay.opaque", b"y");
}

/// `user::rwx user:1000:rwx group::r-x mask::rwx other::r-x` as `system.posix_acl_*` has it.
const ACL: [u8; 44] = [
    2, 0, 0, 0, //
    1, 0, 7, 0, 255, 255, 255, 255, //
    2, 0, 7, 0, 232, 3, 0, 0, //
    4, 0, 5, 0, 255, 255, 255, 255, //
    16, 0, 7, 0, 255, 255, 255, 255, //
    32, 0, 5, 0, 255, 255, 255, 255,
];
