//! Well-formed members of every kind, with paths that meet each other often.

#![no_main]

#[path = "../../tests/tar_semantics/archive.rs"]
#[allow(dead_code)]
mod archive;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use nexuserofs_fuzz::check;

use archive::{Entry, archive, extension};

/// Names that are short, special, or too long.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Name {
    A,
    B,
    C,
    Empty,
    Dot,
    DotDot,
    Whiteout,
    Opaque,
    Aufs,
    Long,
}

impl Name {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::A => b"a".to_vec(),
            Self::B => b"b".to_vec(),
            Self::C => b"c".to_vec(),
            Self::Empty => Vec::new(),
            Self::Dot => b".".to_vec(),
            Self::DotDot => b"..".to_vec(),
            Self::Whiteout => b".wh.a".to_vec(),
            Self::Opaque => b".wh..wh..opq".to_vec(),
            Self::Aufs => b".wh..wh.plnk".to_vec(),
            Self::Long => vec![b'n'; 256],
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Record<'a> {
    Xattr(&'a [u8], &'a [u8]),
    OverlayXattr(&'a [u8]),
    Capability(&'a [u8]),
    AccessList(&'a [u8]),
    DefaultList(&'a [u8]),
    Mtime(&'a str),
    Owner(u32),
    Any(&'a str, &'a [u8]),
    Sparse(u8, Vec<(u16, u8)>),
}

#[derive(Arbitrary, Debug)]
struct Member<'a> {
    type_flag: u8,
    path: Vec<Name>,
    target: Vec<Name>,
    absolute: bool,
    long: bool,
    mode: u16,
    body: &'a [u8],
    records: Vec<Record<'a>>,
}

impl Member<'_> {
    fn bytes(&self) -> Vec<u8> {
        let (path, target) = (self.join(&self.path), self.join(&self.target));
        // Half of all types are the usual ones.
        let type_flag = match self.type_flag {
            flag @ 128.. => b'0' + flag % 8,
            flag => flag,
        };
        let entry = Entry::new(type_flag, "").mode(self.mode & 0o7777).body(self.body);
        let entry = self.records.iter().fold(entry, with_record);
        if self.long {
            let names = [extension(b'L', &path), extension(b'K', &target)].concat();
            return [names, entry.bytes()].concat();
        }
        entry.pax("path", path).pax("linkpath", target).bytes()
    }

    fn join(&self, names: &[Name]) -> Vec<u8> {
        let path = names.iter().take(20).map(|name| name.bytes()).collect::<Vec<_>>().join(&b'/');
        [if self.absolute { b"/".to_vec() } else { Vec::new() }, path].concat()
    }
}

fn with_record(entry: Entry, record: &Record<'_>) -> Entry {
    match record {
        Record::Xattr(name, value) => entry.xattr([b"user.", *name].concat(), value),
        Record::OverlayXattr(name) => entry.xattr([b"trusted.overlay.", *name].concat(), "y"),
        Record::Capability(value) => entry.xattr("security.capability", value),
        Record::AccessList(value) => entry.xattr("system.posix_acl_access", value),
        Record::DefaultList(value) => entry.xattr("system.posix_acl_default", value),
        Record::Mtime(value) => entry.pax("mtime", value),
        Record::Owner(owner) => entry.pax("uid", owner.to_string()).pax("gid", owner.to_string()),
        Record::Any(key, value) => entry.pax(key, value),
        Record::Sparse(minor, runs) => with_sparse_map(entry, *minor, runs),
    }
}

fn with_sparse_map(entry: Entry, minor: u8, runs: &[(u16, u8)]) -> Entry {
    let mut end = 0;
    let mut map = Vec::new();
    for (gap, length) in runs {
        let offset = end + u64::from(*gap);
        map.extend([offset.to_string(), length.to_string()]);
        end = offset + u64::from(*length);
    }
    let entry = entry
        .pax("GNU.sparse.major", "0")
        .pax("GNU.sparse.minor", (minor % 3).to_string())
        .pax("GNU.sparse.numblocks", runs.len().to_string())
        .pax("GNU.sparse.size", (end + u64::from(minor)).to_string())
        .pax("GNU.sparse.map", map.join(","));
    let stored: usize = runs.iter().map(|(_, length)| usize::from(*length)).sum();
    entry.body(vec![b'd'; stored])
}

fuzz_target!(|data: &[u8]| {
    let mut source = Unstructured::new(data);
    let mut bytes = Vec::new();
    while !source.is_empty() {
        let Ok(member) = Member::arbitrary(&mut source) else { break };
        bytes.extend(member.bytes());
    }
    bytes.extend(archive(&[]));
    check(&bytes);
});
