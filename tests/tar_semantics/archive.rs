//! A tar writer that can write what no sane program would.

use nexuserofs::image::tree::{Metadata, Timestamp};

/// Size of a tar block.
pub(crate) const BLOCK: usize = 512;

/// The bytes in a header that say its format: magic, version and what they stand for.
pub(crate) const V7: &[u8; 8] = &[0; 8];
pub(crate) const USTAR: &[u8; 8] = b"ustar\x0000";
pub(crate) const GNU: &[u8; 8] = b"ustar  \0";

/// One member: a header, its body, and the PAX records before it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    block: [u8; BLOCK],
    body: Vec<u8>,
    records: Vec<u8>,
}

impl Entry {
    /// A member of any type, mode 0644, owner and time 0.
    pub(crate) fn new(type_flag: u8, path: impl AsRef<[u8]>) -> Self {
        let entry = Self { block: [0; BLOCK], body: Vec::new(), records: Vec::new() };
        entry
            .field(0, path)
            .field(100, "0000644")
            .field(108, "0000000")
            .field(116, "0000000")
            .size(0)
            .field(136, "00000000000")
            .field(156, [type_flag])
            .field(257, USTAR)
    }

    pub(crate) fn file(path: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Self {
        Self::new(b'0', path).body(body)
    }

    pub(crate) fn directory(path: impl AsRef<[u8]>) -> Self {
        Self::new(b'5', path).mode(0o755)
    }

    pub(crate) fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self::new(b'2', path).mode(0o777).link(target)
    }

    pub(crate) fn hard_link(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self::new(b'1', path).link(target)
    }

    pub(crate) fn device(type_flag: u8, path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        Self::new(type_flag, path).field(329, format!("{major:07o}")).field(337, format!("{minor:07o}"))
    }

    /// Overwrites header bytes from `offset` on.
    pub(crate) fn field(mut self, offset: usize, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.block[offset..offset + value.len()].copy_from_slice(value);
        self
    }

    pub(crate) fn format(self, magic: &[u8; 8]) -> Self {
        self.field(257, magic)
    }

    pub(crate) fn mode(self, mode: u16) -> Self {
        self.field(100, format!("{mode:07o}"))
    }

    pub(crate) fn owner(self, uid: u32, gid: u32) -> Self {
        self.field(108, format!("{uid:07o}")).field(116, format!("{gid:07o}"))
    }

    pub(crate) fn mtime(self, seconds: u64) -> Self {
        self.field(136, format!("{seconds:011o}"))
    }

    pub(crate) fn size(self, size: u64) -> Self {
        self.field(124, format!("{size:011o}"))
    }

    pub(crate) fn link(self, target: impl AsRef<[u8]>) -> Self {
        self.field(157, target)
    }

    /// Sets the body and the size.
    pub(crate) fn body(self, body: impl AsRef<[u8]>) -> Self {
        let size = body.as_ref().len() as u64;
        self.body_without_size(body).size(size)
    }

    pub(crate) fn body_without_size(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Adds a PAX record, written in an extended header before this member.
    pub(crate) fn pax(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.records.extend(record(key.as_ref(), value.as_ref()));
        self
    }

    pub(crate) fn xattr(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.pax([b"SCHILY.xattr.", name.as_ref()].concat(), value)
    }

    /// Sets mode, owner, time and attributes, all but the mode in PAX records.
    pub(crate) fn metadata(self, metadata: &Metadata) -> Self {
        let entry = self
            .mode(metadata.mode)
            .pax("uid", metadata.uid.to_string())
            .pax("gid", metadata.gid.to_string())
            .pax("mtime", decimal(metadata.mtime));
        metadata.xattrs.iter().fold(entry, |entry, (name, value)| entry.xattr(name, value))
    }

    /// The header with its checksum.
    fn header(&self) -> [u8; BLOCK] {
        let mut block = self.block;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    /// The member as bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = match self.records.as_slice() {
            [] => Vec::new(),
            records => extension(b'x', records),
        };
        bytes.extend(self.header());
        bytes.extend(&self.body);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }
}

/// A time as a PAX record has it: a fraction counts away from zero.
fn decimal(Timestamp { seconds, nanoseconds }: Timestamp) -> String {
    if seconds >= 0 || nanoseconds == 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
}

/// A PAX record. Its length counts its own digits.
pub(crate) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let content = [b" ", key, b"=", value, b"\n"].concat();
    let length =
        (1..20).map(|digits| content.len() + digits).find(|n| n.to_string().len() + content.len() == *n);
    [length.expect("a length that counts itself").to_string().as_bytes(), &content].concat()
}

/// A member that says something about the next: `x`, `g`, `L` or `K`.
pub(crate) fn extension(type_flag: u8, body: &[u8]) -> Vec<u8> {
    Entry::new(type_flag, "././@Extension").body(body).bytes()
}

/// Members and two blocks of zeros.
pub(crate) fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(Entry::bytes).collect();
    bytes.extend([0; 2 * BLOCK]);
    bytes
}

/// A number in GNU's base-256 for a field of `width` bytes.
pub(crate) fn base256(value: i64, width: usize) -> Vec<u8> {
    let mut field = vec![if value < 0 { 0xff } else { 0 }; width];
    let bytes = value.to_be_bytes();
    let take = bytes.len().min(width);
    field[width - take..].copy_from_slice(&bytes[bytes.len() - take..]);
    field[0] |= 0x80;
    field
}
