//! The archive that a kernel unpacks before it starts the first process.
//!
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` in Linux, "newc" without compression.

use std::collections::BTreeSet;
use std::path::Path;

/// An archive in the making.
#[derive(Debug, Default)]
pub(super) struct Initramfs {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
/// Name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

impl Initramfs {
    /// Adds a file that may be executed, and the directories that lead to it. The path has no leading slash.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        let parents = Path::new(path).ancestors().skip(1).filter_map(Path::to_str);
        let mut parents: Vec<&str> = parents.filter(|parent| !parent.is_empty()).collect();
        parents.reverse();
        for parent in parents {
            if self.directories.insert(parent.to_owned()) {
                self.entry(parent, DIRECTORY, &[]);
            }
        }
        self.entry(path, PROGRAM, content);
    }

    /// The archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let (inode, links, size, name_size) = (self.entries, 1, content.len(), path.len() + 1);
        // Inode, mode, owner, group, links, time, size, device, special device, length of the name, checksum.
        let fields = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{links:08x}{0:08x}{size:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}",
            0
        );
        self.bytes.extend(fields.as_bytes());
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_files_and_the_directories_above_them_once() {
        let mut archive = Initramfs::default();
        archive.file("a/b/one", b"1");
        archive.file("a/b/two", b"22");
        let text = String::from_utf8(archive.finish()).unwrap();
        assert!(text.starts_with("070701000000010000"));
        let headers = text.match_indices("070701").count();
        assert_eq!(headers, 5, "two directories, two files, one trailer: {text}");
        // The header of 110 bytes, then the name with its NUL, padded to 4 bytes.
        let one = text.find("a/b/one\0").unwrap();
        assert_eq!(&text[one - 16..one - 8], "00000008", "length of the name");
        assert_eq!((one - 110) % 4, 0);
        assert_eq!(text.len() % 4, 0);
    }
}
