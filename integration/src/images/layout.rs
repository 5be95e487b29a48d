//! An OCI image layout, written from directories and tar files.
//!
//! Format: OCI image specification 1.1, `image-layout.md`, `manifest.md` and `config.md`.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Image, Layer};
use crate::digest::{Hashed, hex};

/// Where a layer's files come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A directory. Names that begin with `.wh.` become whiteouts.
    Directory(&'a Path),
    /// A tar file.
    Tar(&'a Path),
}

/// How a layer is stored. All are allowed by the image specification or by what registries hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// gzip at its usual level.
    Gzip,
    /// gzip in members of a few MiB each, as parallel compressors write it.
    GzipMembers,
    /// zstd.
    Zstd,
    /// zstd in frames of a few MiB each, as seekable formats write it.
    ZstdFrames,
    /// No compression.
    Plain,
}

/// Bytes of tar in one member or frame.
const PART: u64 = 2 << 20;

impl Encoding {
    fn media_type(self) -> &'static str {
        match self {
            Self::Gzip | Self::GzipMembers => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd | Self::ZstdFrames => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
        }
    }

    /// Encodes a whole stream.
    fn encode(self, mut from: impl Read, mut to: impl Write) -> io::Result<()> {
        match self {
            Self::Gzip => gzip(from, to),
            Self::Zstd => zstd::stream::copy_encode(from, to, 3),
            Self::Plain => io::copy(&mut from, &mut to).map(drop),
            Self::GzipMembers => parts(from, |part| gzip(part, &mut to)),
            Self::ZstdFrames => parts(from, |part| zstd::stream::copy_encode(part, &mut to, 3)),
        }
    }
}

fn gzip(mut from: impl Read, to: impl Write) -> io::Result<()> {
    let mut encoder = GzEncoder::new(to, Compression::new(6));
    io::copy(&mut from, &mut encoder)?;
    encoder.finish().map(drop)
}

/// Gives `encode` a stream in parts of [`PART`] bytes, the last of which may be empty.
fn parts(mut from: impl Read, mut encode: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    loop {
        let mut part = Vec::new();
        let read = (&mut from).take(PART).read_to_end(&mut part)?;
        encode(&part)?;
        if (read as u64) < PART {
            return Ok(());
        }
    }
}

/// A layout that is being written. An image without [`Layout::finish`] is not readable.
#[derive(Debug)]
pub struct Layout {
    dir: PathBuf,
    layers: Vec<Value>,
    diff_ids: Vec<String>,
    /// What a container of the image does by default: `config` of the image configuration.
    config: Value,
}

impl Layout {
    /// Begins a layout in `dir`, which exists.
    ///
    /// # Errors
    /// The blob directory cannot be made.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir.join("blobs/sha256"))
            .with_context(|| format!("make blobs in {}", dir.display()))?;
        let config = json!({ "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] });
        Ok(Self { dir: dir.to_owned(), layers: Vec::new(), diff_ids: Vec::new(), config })
    }

    /// Begins a layout with the layers of another image.
    ///
    /// # Errors
    /// A blob cannot be copied, or the other image cannot be read.
    pub fn on(base: &Image, dir: &Path) -> Result<Self> {
        let mut layout = Self::create(dir)?;
        for Layer { blob, diff_id } in base.layers()? {
            let digest = blob.digest.trim_start_matches("sha256:");
            let from = base.layout.join("blobs/sha256").join(digest);
            fs::copy(&from, layout.blob(digest)).with_context(|| format!("copy {}", from.display()))?;
            layout.layers.push(descriptor(&blob.media_type, digest, blob.size));
            layout.diff_ids.push(diff_id);
        }
        Ok(layout)
    }

    /// Sets what a container of the image does by default, a key of `config` in the image configuration.
    pub fn set(&mut self, key: &str, value: Value) {
        self.config[key] = value;
    }

    /// Adds the layers of another image, as they are stored there.
    ///
    /// # Errors
    /// The image cannot be read, or copied.
    pub fn add_image(&mut self, image: &Image) -> Result<()> {
        for Layer { blob, diff_id } in image.layers()? {
            let digest = blob.digest.trim_start_matches("sha256:");
            fs::copy(image.layout.join("blobs/sha256").join(digest), self.blob(digest))
                .with_context(|| format!("copy blob {digest} of {}", image.name))?;
            self.layers.push(descriptor(&blob.media_type, digest, blob.size));
            self.diff_ids.push(diff_id);
        }
        Ok(())
    }

    /// Adds a layer on top.
    ///
    /// # Errors
    /// tar fails, or a file cannot be read or written.
    pub fn add(&mut self, source: Source<'_>, encoding: Encoding) -> Result<()> {
        match source {
            Source::Tar(path) => {
                let tar = File::open(path).with_context(|| format!("open {}", path.display()))?;
                self.add_tar(BufReader::with_capacity(1 << 20, tar), encoding)
            }
            Source::Directory(dir) => {
                let mut tar = tar_of(dir)
                    .stdout(Stdio::piped())
                    .spawn()
                    .with_context(|| format!("start tar on {}", dir.display()))?;
                let stream = tar.stdout.take().context("tar has no output")?;
                self.add_tar(stream, encoding)?;
                let status = tar.wait()?;
                ensure!(status.success(), "tar of {} ended with {status}", dir.display());
                Ok(())
            }
        }
    }

    /// Adds a file on top as a layer of this type, which is not compressed, whatever it holds.
    ///
    /// # Errors
    /// The file cannot be read, or copied.
    pub fn add_file(&mut self, file: &Path, media_type: &str) -> Result<()> {
        let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        let digest = hex(&Sha256::digest(&bytes));
        fs::write(self.blob(&digest), &bytes).with_context(|| format!("write blob {digest}"))?;
        self.layers.push(descriptor(media_type, &digest, bytes.len() as u64));
        self.diff_ids.push(format!("sha256:{digest}"));
        Ok(())
    }

    fn add_tar(&mut self, tar: impl Read, encoding: Encoding) -> Result<()> {
        let unfinished = self.dir.join("layer");
        let blob = File::create(&unfinished).with_context(|| format!("create {}", unfinished.display()))?;
        let (mut tar, mut blob) = (Hashed::new(tar), Hashed::new(blob));
        encoding.encode(&mut tar, &mut blob).with_context(|| format!("write {}", unfinished.display()))?;
        let (digest, size) = (hex(&blob.digest()), blob.length());
        fs::rename(&unfinished, self.blob(&digest))?;
        self.layers.push(descriptor(encoding.media_type(), &digest, size));
        self.diff_ids.push(format!("sha256:{}", hex(&tar.digest())));
        Ok(())
    }

    /// Writes configuration, manifest and index.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(self) -> Result<()> {
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": self.diff_ids },
        });
        let config = self.add_json("application/vnd.oci.image.config.v1+json", &config)?;
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": self.layers,
        });
        let mut manifest = self.add_json(media_type, &manifest)?;
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest],
        });
        fs::write(self.dir.join("index.json"), index.to_string())?;
        fs::write(self.dir.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
        Ok(())
    }

    fn add_json(&self, media_type: &str, value: &Value) -> Result<Value> {
        let text = value.to_string();
        let digest = hex(&Sha256::digest(&text));
        fs::write(self.blob(&digest), &text)?;
        Ok(descriptor(media_type, &digest, text.len() as u64))
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest)
    }
}

/// GNU tar of a directory's contents: sorted, with numeric owners, full times and every xattr.
fn tar_of(dir: &Path) -> Command {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=posix", "--sort=name", "--numeric-owner"])
        .args(["--xattrs", "--xattrs-include=*"])
        // Without these two times the same tree gives the same bytes.
        .arg("--pax-option=delete=atime,delete=ctime")
        .arg("--directory")
        .arg(dir)
        .arg(".");
    tar
}

fn descriptor(media_type: &str, digest: &str, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_same_stream_of_several_members() {
        let data = vec![5_u8; PART as usize * 2 + 1];
        let mut blob = Vec::new();
        Encoding::GzipMembers.encode(data.as_slice(), &mut blob).unwrap();
        let mut read = Vec::new();
        flate2::read::MultiGzDecoder::new(blob.as_slice()).read_to_end(&mut read).unwrap();
        assert_eq!(read, data);
        let mut first = Vec::new();
        flate2::read::GzDecoder::new(blob.as_slice()).read_to_end(&mut first).unwrap();
        assert_eq!(first.len() as u64, PART, "the first member holds one part");

        let mut blob = Vec::new();
        Encoding::ZstdFrames.encode(data.as_slice(), &mut blob).unwrap();
        assert_eq!(zstd::stream::decode_all(blob.as_slice()).unwrap(), data);
    }

    #[test]
    fn digests_name_the_blobs_that_they_are_of() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), "hello").unwrap();
        let out = dir.path().join("layout");
        fs::create_dir(&out).unwrap();
        let mut layout = Layout::create(&out).unwrap();
        layout.add(Source::Directory(&tree), Encoding::Gzip).unwrap();
        let diff_id = layout.diff_ids[0].clone();
        let layer = layout.layers[0].clone();
        layout.finish().unwrap();

        let name = layer["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        let blob = fs::read(out.join("blobs/sha256").join(&name)).unwrap();
        assert_eq!(hex(&Sha256::digest(&blob)), name);
        assert_eq!(layer["size"], blob.len());
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(blob.as_slice()).read_to_end(&mut tar).unwrap();
        assert_eq!(format!("sha256:{}", hex(&Sha256::digest(&tar))), diff_id);
    }
}
