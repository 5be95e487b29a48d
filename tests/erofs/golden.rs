//! Digests of whole images. A tree that gives other bytes than it used to breaks every verity root
//! hash that was ever signed: that would be image layout v2, not a new digest here.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use nexuserofs::image::digest::Digest;
use nexuserofs::image::erofs::Superblock;
use nexuserofs::image::tree::{Metadata, Node, Timestamp, Tree};
use nexuserofs::image::verity::Leaves;
use tempfile::TempDir;

use crate::archive::{Entry, archive};
use crate::everything::everything;
use crate::layers::build;
use crate::sample::{Sample, bytes, metadata};
use crate::sparse_file::Sparse;

#[test]
fn images_are_those_of_layout_v1() {
    let corpus = [
        ("empty", Sample::new(), "245fd5b6e1518db8904c2d1b41a6abb8addc29daff0bb4d6c67d74f442d8bc4b"),
        ("tiny", tiny(), "f00d256cbd060906ecc2764e4b90ca70a37ed5de5d705361cd453a8ca912042a"),
        ("everything", everything(), "ae9e0b73c877722aff6d880988144a898081361f2268e78f1ce7010f4b92af62"),
        ("large", large(), "4e45e7acc802a71ce6dfdaa168799cef3b7e163743c70cd3da771867a5716796"),
        ("labelled", labelled(), "3b6812b525c60b2b76c013fcc31b92ed5731d8f6ed3b6655f774250910fa74d0"),
    ];
    for (name, sample, digest) in corpus {
        assert_eq!(Digest::of(&sample.image()).hex(), digest, "{name}");
    }
}

#[test]
fn root_hashes_are_those_of_layout_v1() {
    let corpus = [
        ("empty", Sample::new().image(), "c190c15a957485a98249ade6df69b6fc1147c679896ddaeadd3a1af6423eedb4"),
        ("tiny", tiny().image(), "cb24a71765da5f71c241dd1e149ea4a09e37591fafec02e485dd77391e752261"),
        (
            "everything",
            everything().image(),
            "293ed94b783f4be2be2b83c566c32829ed3e7341b877d4c6d11b6617a04a3a0c",
        ),
        ("large", large().image(), "1afd646f5dc4ffa927ecb2ebf2f196fbe85bf7c5e8ae0b4f69b5e71a43b67c6b"),
        ("labelled", labelled().image(), "0fd06ba1d5e238f076b1682a2f8514f607f1c993c9284abf1dad71117b02721f"),
        (
            "archive",
            image(&archive(&representative())),
            "4c03e47120c102ace6a64626ab51d80f5e146f6c50058fe7c8660516147dc7b8",
        ),
    ];
    for (name, image, root) in corpus {
        assert_eq!(self::root(&image), root, "{name}");
    }
}

#[test]
fn the_image_of_an_archive_is_that_of_layout_v1() {
    let image = image(&archive(&representative()));
    let expected = "d18a526314c8c3b67066d10764e6b7404850f49b3a4675048dae4f12740f0c4d";
    assert_eq!(Digest::of(&image).hex(), expected);
}

#[test]
fn data_is_in_the_order_of_the_archive_replaced_files_included() {
    let whiteout = Entry::file(".wh.gone", "passed over");
    let entries = [
        Entry::file("z", "first"),
        Entry::file("a", "second"),
        whiteout,
        Entry::file("z", "third"),
        Entry::file(".wh..wh.plnk/1", "passed over"),
        Entry::file("b", ""),
        Entry::file("m", "fourth"),
    ];
    let image = image(&archive(&entries));
    let superblock = Superblock::parse(&image).unwrap();
    let data = image[4096..superblock.meta_block as usize * 4096].chunks(4096);
    let texts = data.map(|block| block.split(|&byte| byte == 0).next().unwrap());
    assert!(texts.eq([b"first".as_slice(), b"second", b"third", b"fourth"]));
}

/// The root hash of an image.
fn root(image: &[u8]) -> String {
    let leaves = Leaves::of(&mut &*image).unwrap();
    leaves.into_tree(image.len() as u64 / 4096).unwrap().root().hex()
}

/// The image of the layer of an archive.
fn image(archive: &[u8]) -> Vec<u8> {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("layer.erofs");
    build(&mut &*archive, archive, &file);
    fs::read(file).unwrap()
}

/// All that a tar decides about an image: order of data, rounding of sparse files, directories that no
/// entry names, whiteouts, opaque directories, links and attributes.
fn representative() -> Vec<Entry> {
    let owner = Metadata {
        mode: 0o4711,
        uid: 70_000,
        gid: 5,
        mtime: Timestamp { seconds: -2, nanoseconds: 999_999_999 },
        xattrs: [(b"user.lang".to_vec(), b"en".to_vec())].into(),
    };
    let runs = vec![(5_000, vec![b's'; 10_000]), (900_000, vec![b't'; 5])];
    let sparse = Sparse { path: b"var/sparse".to_vec(), size: 1_000_000, runs };
    let block = 123_456_789 * 4096;
    let vast = Sparse { path: b"var/vast".to_vec(), size: 1 << 40, runs: vec![(block, vec![b'v'; 4096])] };
    vec![
        Entry::file("usr/bin/tool", bytes(1, 10_000)).metadata(&owner),
        Entry::hard_link("usr/bin/alias", "usr/bin/tool").metadata(&owner),
        Entry::symlink("bin", "usr/bin"),
        Entry::file("bin/through-a-link", "x"),
        Entry::file("replaced", "old data"),
        sparse.pax_1_0(),
        vast.pax_0_1(),
        Entry::symlink("replaced", "var"),
        Entry::directory("etc").mode(0o1750).mtime(1_700_000_000),
        Entry::file("etc/.wh.gone", "").owner(3, 4).mtime(5),
        Entry::file("opt/.wh..wh..opq", ""),
        Entry::file(".wh.srv", ""),
        Entry::file("srv", ""),
        Entry::directory("srv"),
        Entry::device(b'4', "dev/disk", 8, 300),
    ]
}

#[test]
fn the_example_in_the_documentation_is_real() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/image-layout-v1.md");
    let document = fs::read_to_string(path).unwrap();
    let dump = hex_dump(&tiny().image());
    assert!(document.contains(&dump), "docs/image-layout-v1.md has to contain:\n{dump}");
    let root = root(&tiny().image());
    assert!(document.contains(&root), "docs/image-layout-v1.md has to contain:\n{root}");
}

/// The example of the documentation.
fn tiny() -> Sample {
    let mut sample = Sample::new();
    let owner = Metadata {
        uid: 1000,
        gid: 100,
        mtime: Timestamp { seconds: 1_700_000_000, nanoseconds: 500_000_000 },
        ..metadata(0o644)
    };
    let hello = sample.file(Tree::ROOT, b"hello", owner, b"hello, world\n");
    sample.set_xattr(hello, "user.lang", b"en");
    sample.add(Tree::ROOT, b"link", metadata(0o777), Node::Symlink(b"hello".to_vec()));
    sample
}

/// Data beyond what is buffered.
fn large() -> Sample {
    let mut sample = Sample::new();
    for (name, size) in [(b"a", 3 << 20), (b"b", (2 << 20) - 1), (b"c", 5_000_000), (b"d", 1)] {
        sample.file(Tree::ROOT, name, metadata(0o644), &bytes(size, size));
    }
    sample
}

/// Several levels, every inode with a label, some with more attributes than can be shared.
fn labelled() -> Sample {
    let mut sample = Sample::new();
    let mut parent = Tree::ROOT;
    for level in 0..5 {
        parent = sample.directory(parent, format!("level {level}").as_bytes(), metadata(0o755));
        sample.set_xattr(parent, "security.selinux", b"system_u:object_r:usr_t:s0");
        for i in 0..20 {
            let file =
                sample.file(parent, format!("file {i}").as_bytes(), metadata(0o644), &bytes(i, i * 1000));
            sample.set_xattr(file, "security.selinux", b"system_u:object_r:etc_t:s0");
            sample.set_xattr(file, "user.number", i.to_string().as_bytes());
        }
    }
    for name in [b"x", b"y"] {
        let id = sample.add(parent, name, metadata(0o644), Node::Fifo);
        for i in 0..300 {
            sample.set_xattr(id, &format!("trusted.{i:03}"), b"in common");
        }
    }
    sample
}

/// Lines of 16 bytes as `hexdump -C` prints them; `*` stands for lines of zeros.
fn hex_dump(image: &[u8]) -> String {
    let mut dump = String::new();
    let mut skipping = false;
    for (offset, line) in (0..).step_by(16).zip(image.chunks(16)) {
        if line.iter().all(|&byte| byte == 0) {
            if !skipping {
                dump.push_str("*\n");
            }
            skipping = true;
            continue;
        }
        skipping = false;
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = line
            .iter()
            .map(|&byte| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' })
            .collect();
        writeln!(dump, "{offset:08x}  {}  {}  |{text}|", hex[..8].join(" "), hex[8..].join(" ")).unwrap();
    }
    dump
}
