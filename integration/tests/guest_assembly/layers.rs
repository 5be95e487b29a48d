//! An image of three layers, and disks with them, whole and damaged.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nexuserofs::diff::offline;
use nexuserofs::layer::{HashTree, LayerRecord};
use nexuserofs::trust;
use nexuserofs::trust::key::{Claims, Signer};
use nexuserofs_guest::canonical::Canonical as _;
use nexuserofs_guest::manifest::{Manifest, Platform, SignatureBytes, SignedManifest, UnixTime};
use nexuserofs_integration::cargo;
use nexuserofs_integration::command::Run;
use nexuserofs_integration::guest::Workshop;
use nexuserofs_integration::guest::disk::{Disk, ext4};
use serde::{Deserialize, Serialize};

use crate::{disks, encrypted, filled_up, forged_table, linked, one_device};

/// RFC 8410, section 10.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";
/// The private key in it.
const SEED: [u8; 32] = [
    0xd4, 0xee, 0x72, 0xdb, 0xf9, 0x13, 0x58, 0x4a, 0xd5, 0xb6, 0xd8, 0xf1, 0xf7, 0x69, 0xf8, 0xad, 0x3a,
    0xfe, 0x7c, 0x28, 0xcb, 0xf1, 0xd4, 0xfb, 0xe0, 0x97, 0xa8, 0x8f, 0x44, 0x75, 0x58, 0x42,
];
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

/// In a layer's file, a place in the middle of its own file, in bytes.
pub(crate) const IN_OWN_FILE: u64 = 200_000;

/// Documents that the guest gets.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Documents {
    /// Signed by the key that policies know.
    pub(crate) signed: String,
    /// The same by a key that no policy knows.
    pub(crate) by_another: String,
    /// The same, ended in 1970.
    pub(crate) expired: String,
    /// The same with the key's signature of the text of the image hash, which is not what is signed.
    pub(crate) of_other_bytes: String,
    /// Without a signature, of one layer of more than 2 GiB.
    pub(crate) large: String,
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
    let (large, large_record) = disks::large(workshop.directory)?;
    let manifest = list(&records)?;
    let documents = Documents { large: unsigned(list(&[large_record])?), ..documents(&manifest)? };
    let documents = serde_json::to_vec(&documents)?;
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
    for (serial, at) in [("data", IN_OWN_FILE), ("tree", last), ("superblock", verity.image_size())] {
        disks.push(damaged(workshop.directory, middle, serial, at)?);
    }
    let short = copy(workshop.directory, middle, "short")?;
    File::options().write(true).open(&short)?.set_len(record.image_bytes - 4096)?;
    disks.push(Disk::raw("short", short));
    disks.push(Disk::raw("twin", middle));
    disks.push(Disk::raw("twin", middle));
    for serial in ["upper", "planted"] {
        disks.push(upper(workshop.directory, serial)?);
    }
    let zeros = copy(workshop.directory, middle, "zeros")?;
    disks::empty_tree(&zeros, verity.image_size(), record.image_bytes)?;
    disks.push(Disk::raw("zeros", zeros));
    disks.push(Disk::raw("large", large));
    disks.push(Disk::raw("scsi-l1", middle).scsi());
    disks.push(encrypted::disk(workshop.directory)?);
    disks.extend(one_device::disks(workshop.directory, workshop.payload, &layers, &list(&records)?)?);
    disks.push(linked::disk(workshop.directory)?);
    disks.extend(filled_up::disks(workshop.directory, workshop.payload, middle)?);
    let files: Vec<PathBuf> = layers.into_iter().map(|(path, _)| path).collect();
    disks.push(Disk::raw("gpt", disks::partitioned(workshop.directory, "gpt", &files)?));
    let forged = disks::partitioned(workshop.directory, "forged", &files)?;
    forged_table::forge(&forged)?;
    disks.push(Disk::raw("forged", forged));
    Ok(disks)
}

fn list(records: &[LayerRecord]) -> Result<Manifest> {
    let platform = Platform { os: "linux".parse()?, architecture: "amd64".parse()?, variant: None };
    Ok(trust::list(records, None, platform)?)
}

fn unsigned(manifest: Manifest) -> String {
    SignedManifest::from(manifest).to_canonical()
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
        of_other_bytes: of_other_bytes(manifest)?,
        large: String::new(),
        key: signer.public().to_string(),
    })
}

fn of_other_bytes(manifest: &Manifest) -> Result<String> {
    use ed25519_dalek::Signer as _;
    let signer = Signer::read(KEY)?;
    let mut signature = signer.sign(manifest, Claims { version: VERSION, name: None, expires: None });
    let key = ed25519_dalek::SigningKey::from_bytes(&SEED);
    signature.signature = SignatureBytes(key.sign(manifest.image_hash().to_string().as_bytes()).to_bytes());
    Ok(SignedManifest { manifest: manifest.clone(), signatures: vec![signature] }.to_canonical())
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
    convert(directory, &format!("layer-{index}"), &mut tar.as_slice())
}

/// A layer's file in a directory of its own, whose name becomes a part of its partition's.
pub(crate) fn convert(
    directory: &Path,
    name: &str,
    tar: &mut (dyn Read + Send),
) -> Result<(PathBuf, LayerRecord)> {
    let home = directory.join(name);
    fs::create_dir(&home)?;
    let path = home.join("layer.erofs");
    let record = offline::convert(tar, &path, HashTree::With)?.record;
    Ok((path, record))
}

fn copy(directory: &Path, layer: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(format!("{name}.erofs"));
    fs::copy(layer, &path)?;
    Ok(path)
}

/// A copy of a layer with one bit changed.
pub(crate) fn damaged(directory: &Path, layer: &Path, serial: &str, at: u64) -> Result<Disk> {
    let path = copy(directory, layer, serial)?;
    let file = File::options().read(true).write(true).open(&path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 1], at)?;
    Ok(Disk::raw(serial, path))
}

/// An ext4 of the host's in which a file hides one of the image's.
fn upper(directory: &Path, serial: &str) -> Result<Disk> {
    let content = directory.join(format!("{serial}-content"));
    fs::create_dir_all(content.join("upper"))?;
    fs::write(content.join("upper/newest"), "planted")?;
    let file = directory.join(format!("{serial}.ext4"));
    ext4(&file, 16 << 20, "^has_journal", Some(&content))?;
    Ok(Disk::raw(serial, file).writable())
}
