//! Digests of whole images. A tree that gives other bytes than it used to breaks every verity root
//! hash that was ever signed: that would be image layout v2, not a new digest here.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use nexuserofs::image::digest::Digest;
use nexuserofs::image::tree::{Metadata, Node, Timestamp, Tree};

use crate::everything::everything;
use crate::sample::{Sample, bytes, metadata};

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
fn the_example_in_the_documentation_is_real() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/image-layout-v1.md");
    let document = fs::read_to_string(path).unwrap();
    let dump = hex_dump(&tiny().image());
    assert!(document.contains(&dump), "docs/image-layout-v1.md has to contain:\n{dump}");
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
