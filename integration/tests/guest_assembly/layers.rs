//! An image of three layers, and disks with them, whole and damaged.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nexuserofs::diff::offline;
use nexuserofs::layer::{HashTree, LayerRecord};
use nexuserofs::trust;
use nexuserofs::trust::key::{Claims, Signer};
use nexuserofs_guest::canonical::Canonical as _;
use nexuserofs_guest::manifest::{Manifest, Platform, SignedManifest, UnixTime};
use nexuserofs_integration::cargo;
use nexuserofs_integration::command::Run;
use nexuserofs_integration::guest::Workshop;
use nexuserofs_integration::guest::disk::{Disk, ext4};
use serde::{Deserialize, Serialize};

/// RFC 8410, section 10.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";
/// Another key.
const OTHER_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n\
    -----END PRIVATE KEY-----\n";

/// What the signer calls the image.
pub(crate) const NAME: &str = "registry.example/app";
/// Its version.
pub(crate) const VERSION: u64 = 7;

/// Size of the file that each layer has of its own, in bytes: many blocks of the tree's lowest level.
pub(crate) const OWN_BYTES: usize = 300_000;

/// Documents that the guest gets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Documents {
    /// Signed by the key that policies know.
    pub(crate) signed: String,
    /// The same by a key that no policy knows.
    pub(crate) by_another: String,
    /// The same, ended in 1970.
    pub(crate) expired: String,
    /// Base64url.
    pub(crate) key: String,
}

/// The file of layer `index`, alike in length and different in every block.
pub(crate) fn own(index: usize) -> Vec<u8> {
    (0..OWN_BYTES).map(|at| (at / 7 + index * 31 + at % 251) as u8).collect()
}

/// Makes the disks `l0`, `l1`, `l2` and their damaged copies, and puts documents and the program into the payload.
pub(crate) fn prepare(workshop: &Workshop<'_>) -> Result<Vec<Disk>> {
    let layers: Vec<(PathBuf, LayerRecord)> =
        (0..3).map(|index| layer(workshop.directory, index)).collect::<Result<_>>()?;
    let records: Vec<LayerRecord> = layers.iter().map(|(_, record)| record.clone()).collect();
    let platform = Platform { os: "linux".parse()?, architecture: "amd64".parse()?, variant: None };
    let manifest = trust::list(&records, None, platform)?;
    let documents = serde_json::to_vec(&documents(&manifest)?)?;
    fs::write(workshop.payload.join("documents.json"), documents)?;
    let program = workshop.steps.run("nexuserofs-guest", cargo::guest_program)?;
    fs::copy(&program, workshop.payload.join("nexuserofs-guest"))
        .with_context(|| format!("copy {}", program.display()))?;

    let mut disks: Vec<Disk> =
        layers.iter().enumerate().map(|(index, (path, _))| Disk::raw(format!("l{index}"), path)).collect();
    let (middle, record) = &layers[1];
    let verity = record.verity.context("a layer without a tree")?;
    // In the middle of the layer's own file; in the lowest level of the tree, which is its last block; and in the
    // first bytes of the superblock.
    let last = record.image_bytes - 4096 + 64;
    for (serial, at) in [("data", 200_000), ("tree", last), ("superblock", verity.image_size())] {
        disks.push(damaged(workshop.directory, middle, serial, at)?);
    }
    let short = copy(workshop.directory, middle, "short")?;
    File::options().write(true).open(&short)?.set_len(record.image_bytes - 4096)?;
    disks.push(Disk::raw("short", short));
    disks.push(Disk::raw("twin", middle));
    disks.push(Disk::raw("twin", middle));
    disks.push(upper(workshop.directory)?);
    Ok(disks)
}

fn documents(manifest: &Manifest) -> Result<Documents> {
    let signer = Signer::read(KEY)?;
    let signed = |signer: &Signer, expires: Option<UnixTime>| -> Result<String> {
        let claims = Claims { version: VERSION, name: Some(NAME.parse()?), expires };
        let signatures = vec![signer.sign(manifest, claims)];
        Ok(SignedManifest { manifest: manifest.clone(), signatures }.to_canonical())
    };
    Ok(Documents {
        signed: signed(&signer, None)?,
        by_another: signed(&Signer::read(OTHER_KEY)?, None)?,
        expired: signed(&signer, Some(UnixTime(1)))?,
        key: signer.public().to_string(),
    })
}

/// A layer with a file of its own, and one that every layer replaces.
fn layer(directory: &Path, index: usize) -> Result<(PathBuf, LayerRecord)> {
    let tree = directory.join(format!("tree-{index}"));
    fs::create_dir(&tree)?;
    fs::write(tree.join(format!("own-{index}")), own(index))?;
    fs::write(tree.join("newest"), index.to_string())?;
    let tar = Run::new("tar")
        .args(["--create", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"])
        .arg("--directory")
        .arg(&tree)
        .arg(".")
        .bytes()?;
    let path = directory.join(format!("layer-{index}.erofs"));
    let converted = offline::convert(&mut tar.as_slice(), &path, HashTree::With)?;
    Ok((path, converted.record))
}

fn copy(directory: &Path, layer: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(format!("{name}.erofs"));
    fs::copy(layer, &path)?;
    Ok(path)
}

/// A copy of a layer with one bit changed.
fn damaged(directory: &Path, layer: &Path, serial: &str, at: u64) -> Result<Disk> {
    let path = copy(directory, layer, serial)?;
    let file = File::options().read(true).write(true).open(&path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 1], at)?;
    Ok(Disk::raw(serial, path))
}

/// An ext4 of the host's in which a file hides one of the image's.
fn upper(directory: &Path) -> Result<Disk> {
    let content = directory.join("upper-content");
    fs::create_dir_all(content.join("upper"))?;
    fs::write(content.join("upper/newest"), "planted")?;
    let file = directory.join("upper.ext4");
    ext4(&file, 16 << 20, "^has_journal", Some(&content))?;
    Ok(Disk::raw("upper", file).writable())
}
