//! A file system of the host's whose directories are links that lead out of it, into the guest's own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nexuserofs_guest::descriptor::UpperSource;
use nexuserofs_guest::devices::Query;
use nexuserofs_guest::policy::UpperKind;
use nexuserofs_integration::guest::disk::{Disk, ext4};
use nexuserofs_integration::stage::Place;

use crate::case::Case;

const MOUNT: i32 = 6;

/// The disk.
const LINKED: &str = "linked";

/// What are directories on every other.
const LINKS: [&str; 2] = ["upper", "work"];

/// Where the links lead: to memory of the guest's, on which overlayfs could keep what is written.
fn own(name: &str) -> PathBuf {
    Path::new("/run/own").join(name)
}

pub(crate) fn disk(directory: &Path) -> Result<Disk> {
    let content = directory.join("linked-content");
    fs::create_dir(&content)?;
    LINKS.iter().try_for_each(|link| symlink(own(link), content.join(link)))?;
    let file = directory.join("linked.ext4");
    ext4(&file, 16 << 20, "^has_journal", Some(&content))?;
    Ok(Disk::raw(LINKED, file).writable().scsi())
}

/// A policy that takes what a host put on its disk does not give it what else the guest has.
pub(crate) fn an_upper_that_leads_out_of_its_disk_is_refused(place: &Place) -> Result<()> {
    LINKS.iter().try_for_each(|link| fs::create_dir_all(own(link)))?;
    let mut case = Case::good(place)?;
    case.descriptor.assembly.upper = UpperSource::Device(Query::ScsiSerial(LINKED.parse()?));
    case.policy.as_mut().context("a good case has a policy")?.uppers.insert(UpperKind::Device);
    case.fails(MOUNT, "mount_failed")?;
    for link in LINKS {
        ensure!(fs::read_dir(own(link))?.next().is_none(), "something was written beside the disk");
    }
    Ok(fs::remove_dir_all("/run/own")?)
}
