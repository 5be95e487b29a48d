//! A disk behind a vhost-user socket, served by the library alone: no daemon, no profile, no confinement.
//!
//! ```text
//! vhost_export SOCKET SERIAL image FILE...       one file, or merged metadata and layers, the oldest first
//! vhost_export SOCKET SERIAL partitions FILE...  a partition for each layer, given the oldest first
//! vhost_export SOCKET SERIAL block FILE          a file that the guest writes to
//! ```
//!
//! With `VERIFY=1` what a guest reads is checked against the trees of those layers that have a `.dmverity` file beside them.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::num::NonZeroU64;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nexuserofs::expose::vhost_user::{Disk, Export, Part, Stop};
use nexuserofs::image::extent::ExtentMap;
use nexuserofs::image::gpt::{self, Style};
use nexuserofs_guest::verity::{BlockSize, Fields, Parameters, RootDigest, Salt};
use serde::Deserialize;

/// Queues of the disk: as many as a guest has processors is best.
const QUEUES: u16 = 2;

/// Block size of a tree in bytes.
const BLOCK: u64 = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [socket, serial, kind, files @ ..] = arguments.as_slice() else {
        return Err("usage: vhost_export SOCKET SERIAL image|partitions|block FILE...".into());
    };
    let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    let disk = match kind.as_str() {
        "image" => image(&files)?,
        "partitions" => partitions(&files)?,
        "block" => block(files.first().ok_or("block needs a file")?)?,
        other => return Err(format!("{other} is no kind of disk").into()),
    };
    let export = Export::new(disk, serial.parse()?, QUEUES)?;
    if Path::new(socket).exists() {
        fs::remove_file(socket)?;
    }
    Ok(export.serve(UnixListener::bind(socket)?, &Stop::new()?)?)
}

fn image(files: &[PathBuf]) -> Result<Disk, Box<dyn Error>> {
    let mut map = ExtentMap::new();
    for (number, file) in files.iter().enumerate() {
        map.push_file(number, 0, fs::metadata(file)?.len())?;
    }
    disk(map, files)
}

fn partitions(files: &[PathBuf]) -> Result<Disk, Box<dyn Error>> {
    // The newest layer is the first partition.
    let newest_first: Vec<PathBuf> = files.iter().rev().cloned().collect();
    let layer = |(number, file): (usize, &PathBuf)| -> Result<_, Box<dyn Error>> {
        Ok(gpt::Layer { identity: number.to_string(), bytes: fs::metadata(file)?.len() })
    };
    let layers = newest_first.iter().enumerate().map(layer).collect::<Result<Vec<_>, _>>()?;
    disk(gpt::Disk::new(Style::Kata, &layers)?.extents()?, &newest_first)
}

fn disk(map: ExtentMap, files: &[PathBuf]) -> Result<Disk, Box<dyn Error>> {
    let is_checked = env::var_os("VERIFY").is_some();
    let part = |path: &PathBuf| -> Result<Part, Box<dyn Error>> {
        let tree = if is_checked { tree(path)? } else { None };
        Ok(Part { file: File::open(path)?, path: path.clone(), tree })
    };
    let parts = files.iter().map(part).collect::<Result<Vec<_>, _>>()?;
    Ok(Disk::image(map, parts, |damage| eprintln!("{damage:?}"))?)
}

fn block(path: &Path) -> Result<Disk, Box<dyn Error>> {
    let file = File::options().read(true).write(true).open(path)?;
    Ok(Disk::block(file, path.to_owned())?)
}

/// What lies beside a layer with a tree.
#[derive(Deserialize)]
struct Sidecar {
    roothash: String,
    hashoffset: u64,
}

fn tree(path: &Path) -> Result<Option<Parameters>, Box<dyn Error>> {
    let mut beside = path.to_owned().into_os_string();
    beside.push(".dmverity");
    if !Path::new(&beside).exists() {
        return Ok(None);
    }
    let told: Sidecar = serde_json::from_slice(&fs::read(beside)?)?;
    let mut root = [0; 32];
    for (byte, digits) in root.iter_mut().zip(told.roothash.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits)?, 16)?;
    }
    let data_blocks = NonZeroU64::new(told.hashoffset / BLOCK).ok_or("a tree of nothing")?;
    let fields = Fields {
        root_digest: RootDigest::Sha256(root),
        salt: Salt::zeros(),
        data_block_size: BlockSize::PAGE,
        hash_block_size: BlockSize::PAGE,
        data_blocks,
        // Behind the superblock.
        hash_start_block: data_blocks.get() + 1,
    };
    Ok(Some(Parameters::new(fields)?))
}
