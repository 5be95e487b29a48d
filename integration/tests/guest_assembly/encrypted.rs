//! What is written to a disk of the host's behind a key of the guest's.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nexuserofs_guest::descriptor::{UpperSource, from_storages};
use nexuserofs_guest::devices::Sysfs;
use nexuserofs_guest::dm::{DeviceMapper, Name};
use nexuserofs_guest::policy::UpperKind;
use nexuserofs_integration::guest::disk::Disk;
use nexuserofs_integration::stage::Place;

use crate::case::{Case, serial};
use crate::named::{of_the_large_layer, storages};

const REFUSED: i32 = 3;
const VERITY: i32 = 5;
const MOUNT: i32 = 6;

/// Size of the disk in bytes: more than one group of ext4.
const BYTES: u64 = 136 << 20;
const BLOCK: usize = 4096;

/// What a guest writes, and a host looks for.
const SECRET: &[u8] = b"a secret that stands nowhere else";

/// The disk `vault`, full of what looks like an earlier upper.
pub(crate) fn disk(directory: &Path) -> Result<Disk> {
    let path = directory.join("vault");
    fs::copy(directory.join("upper.ext4"), &path).context("the disk of an upper has to be made first")?;
    File::options().write(true).open(&path)?.set_len(BYTES)?;
    Ok(Disk::raw("vault", path).writable())
}

fn case(place: &Place) -> Result<Case> {
    on(Case::good(place)?, "vault")
}

/// The writes go to this disk, encrypted, and the policy says so.
fn on(mut case: Case, disk: &str) -> Result<Case> {
    case.descriptor.assembly.upper = UpperSource::Encrypted(serial(disk)?);
    if let Some(policy) = &mut case.policy {
        policy.uppers.insert(UpperKind::Encrypted);
    }
    Ok(case)
}

/// The host's view of the disk.
fn host() -> Result<PathBuf> {
    let devices = Sysfs::default().block_devices()?;
    Ok(devices.find(&serial("vault")?)?.path().into())
}

/// Calls `each` with the blocks of the disk that are not zero, and where they are.
fn blocks(mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let mut disk = File::open(host()?)?;
    let (zeros, mut piece, mut at) = ([0; BLOCK], vec![0; 1 << 20], 0);
    while at < BYTES {
        disk.read_exact(&mut piece)?;
        for block in piece.chunks(BLOCK) {
            if block != zeros {
                each(at, block)?;
            }
            at += BLOCK as u64;
        }
    }
    Ok(())
}

fn has(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|found| found == text)
}

/// Whether a block that the host sees has this text.
fn is_seen(text: &[u8]) -> Result<bool> {
    let mut seen = false;
    blocks(|_, block| {
        seen |= has(block, text);
        Ok(())
    })?;
    Ok(seen)
}

/// A word again and again, so that whole blocks of it reach the disk.
fn content(word: &[u8]) -> Vec<u8> {
    word.repeat(1 << 13)
}

pub(crate) fn an_encrypted_upper_keeps_what_is_written_from_the_host(place: &Place) -> Result<()> {
    case(place)?.works(|root| {
        crate::whole(root)?;
        fs::write(root.join("secret"), content(SECRET))?;
        fs::write(root.join("newest"), "written")?;
        fs::remove_file(root.join("own-0"))?;
        rustix::fs::sync();
        // Not from memory: everything is read through dm-crypt again.
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        ensure!(fs::read(root.join("secret"))? == content(SECRET) && !root.join("own-0").exists());
        ensure!(fs::read_to_string(root.join("newest"))? == "written");
        Ok(())
    })?;
    ensure!(!is_seen(SECRET)?, "the host reads what was written");
    // The name of a file is in the metadata, which is encrypted too.
    ensure!(!is_seen(b"lost+found")?, "the host reads the file system");
    ensure!(is_seen_if_written()?, "what is not encrypted is not found either: the search is wrong");
    Ok(())
}

/// The search finds what is there: the same text, written as the host would.
fn is_seen_if_written() -> Result<bool> {
    let disk = File::options().write(true).open(host()?)?;
    disk.write_all_at(SECRET, BYTES / 2 + 100)?;
    disk.sync_all()?;
    let seen = is_seen(SECRET)?;
    disk.write_all_at(&[0; SECRET.len()], BYTES / 2 + 100)?;
    Ok(seen)
}

pub(crate) fn nothing_of_an_earlier_upper_is_read(place: &Place) -> Result<()> {
    // The host planted an ext4 that hides a file of the image, and an earlier guest wrote there.
    case(place)?.works(|root| {
        crate::whole(root)?;
        fs::write(root.join("earlier"), "there")?;
        Ok(())
    })?;
    case(place)?.works(|root| {
        ensure!(!root.join("earlier").exists(), "the key of an earlier guest is known");
        crate::whole(root)
    })
}

pub(crate) fn an_encrypted_upper_holds_many_files(place: &Place) -> Result<()> {
    const FILES: usize = 500;
    case(place)?.works(|root| {
        for index in 0..FILES {
            let directory = root.join(format!("d{}", index % 40));
            fs::create_dir_all(&directory)?;
            fs::write(directory.join(index.to_string()), format!("{index}\n").repeat(index % 900))?;
        }
        let large: Vec<u8> = (0..16 << 8).flat_map(|block: u32| [(block % 253) as u8; BLOCK]).collect();
        fs::write(root.join("large"), &large)?;
        rustix::fs::sync();
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        for index in 0..FILES {
            let path = root.join(format!("d{}/{index}", index % 40));
            ensure!(fs::read_to_string(path)? == format!("{index}\n").repeat(index % 900), "file {index}");
        }
        ensure!(fs::read(root.join("large"))? == large);
        Ok(())
    })
}

/// A host can change what it cannot read, and what comes of it is not what it chose. `docs/threat-model.md` says what that
/// is worth.
pub(crate) fn a_changed_block_of_an_encrypted_upper_is_noise(place: &Place) -> Result<()> {
    let chosen = [7; BLOCK];
    case(place)?.works(|root| {
        fs::write(root.join("secret"), content(SECRET))?;
        rustix::fs::sync();
        let disk = File::options().write(true).open(host()?)?;
        blocks(|at, _| Ok(disk.write_all_at(&chosen, at)?))?;
        disk.sync_all()?;
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        if let Ok(found) = fs::read(root.join("secret")) {
            ensure!(!has(&found, SECRET), "what was overwritten is still there");
            ensure!(!has(&found, &chosen[..16]), "the host chose what is read");
        }
        Ok(())
    })
}

pub(crate) fn an_encrypted_upper_has_to_be_allowed(place: &Place) -> Result<()> {
    let mut case = case(place)?;
    if let Some(policy) = &mut case.policy {
        policy.uppers.remove(&UpperKind::Encrypted);
    }
    case.fails(REFUSED, "upper_not_allowed")
}

/// What would be written to it would be the layer's end.
pub(crate) fn an_encrypted_disk_that_is_a_layers_is_refused(place: &Place) -> Result<()> {
    on(of_the_large_layer(place)?, "large")?.fails(REFUSED, "device_twice")
}

/// The layers are in partitions of it, and would be overwritten while they are read.
pub(crate) fn an_encrypted_disk_around_layers_is_refused(place: &Place) -> Result<()> {
    let case = Case::good(place)?;
    let storages = storages(&case, "gpt")?;
    let assembly = from_storages(&serde_json::to_vec(&storages)?)?;
    let mut case = on(case, "gpt")?;
    case.descriptor.assembly.image = assembly.image;
    case.fails(REFUSED, "device_twice")
}

pub(crate) fn an_encrypted_disk_that_is_too_small_is_refused(place: &Place) -> Result<()> {
    on(Case::good(place)?, "short")?.fails(REFUSED, "upper_too_small")
}

/// A disk that takes no writes, and a name that somebody took: both are errors, and leave nothing.
pub(crate) fn an_encrypted_upper_that_cannot_be_made_is_an_error(place: &Place) -> Result<()> {
    let mut read_only = case(place)?;
    read_only.descriptor.assembly.upper = UpperSource::Encrypted(serial("large")?);
    read_only.fails(MOUNT, "mount_failed")?;

    let case = case(place)?;
    let verity = &case.descriptor.signed.manifest.layers()[1].fields().verity;
    let over = Sysfs::default().block_devices()?.find(&serial("data")?)?.number;
    let (mapper, name): (_, Name) = (DeviceMapper::open()?, "nexuserofs-root-upper".parse()?);
    mapper.create_verity(&name, verity, over)?;
    let failed = case.fails_keeping(VERITY, "device_name_taken", &name);
    mapper.remove(&name)?;
    failed
}
