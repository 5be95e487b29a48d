//! Layers of a few entries, made in memory: for tests that need many of them.

use std::io::Write;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use super::{Descriptor, Layer};
use crate::digest::hex;

/// A layer with its content, a tar with gzip.
#[derive(Clone, Debug)]
pub struct TinyLayer {
    /// How manifest and configuration of an image would name it.
    pub layer: Layer,
    /// The blob.
    pub blob: Vec<u8>,
}

/// A tar in the making.
#[derive(Debug, Default)]
pub struct TinyTar(Vec<u8>);

impl TinyTar {
    /// An empty tar.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory with this mode.
    ///
    /// # Errors
    /// The mode does not fit into a header.
    pub fn directory(self, path: &str, mode: u32) -> Result<Self> {
        self.entry(path, EntryType::Directory, mode, b"")
    }

    /// Adds a regular file.
    ///
    /// # Errors
    /// The content is too long for a header.
    pub fn file(self, path: &str, content: &[u8]) -> Result<Self> {
        self.entry(path, EntryType::Regular, 0o644, content)
    }

    fn entry(mut self, path: &str, kind: EntryType, mode: u32, content: &[u8]) -> Result<Self> {
        let mut entry = EntryBuilder::new_gnu();
        entry.path(path).entry_type(kind);
        entry.mode(mode)?.uid(0)?.gid(0)?.mtime(0)?.size(content.len() as u64)?;
        self.0.extend(entry.finish_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        Ok(self)
    }

    /// The layer.
    ///
    /// # Errors
    /// It cannot be compressed.
    pub fn finish(mut self) -> Result<TinyLayer> {
        // Two blocks of zeros end a tar.
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.0).and_then(|()| encoder.flush()).context("compress a tar")?;
        let blob = encoder.finish()?;
        let descriptor = Descriptor {
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
            digest: digest(&blob),
            size: blob.len() as u64,
        };
        Ok(TinyLayer { layer: Layer { blob: descriptor, diff_id: digest(&self.0) }, blob })
    }
}

/// Size of a tar block, in bytes.
const BLOCK: usize = 512;

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Run;

    #[test]
    fn tar_reads_what_was_added() {
        let tar = TinyTar::new().directory("a/", 0o755).unwrap().file("a/file", b"content").unwrap();
        let layer = tar.finish().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layer.tar.gz");
        std::fs::write(&path, &layer.blob).unwrap();
        let list = Run::new("tar").args(["--list", "--gzip", "--file"]).arg(&path).output().unwrap();
        assert_eq!(list, "a/\na/file\n");
        let extract = Run::new("tar").args(["--extract", "--to-stdout", "--gzip", "--file"]).arg(&path);
        assert_eq!(extract.arg("a/file").output().unwrap(), "content");
    }
}
