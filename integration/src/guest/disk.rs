//! Disks of a guest.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::Run;

/// A disk, as QEMU is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The serial number by which the guest finds it: at most 20 ASCII letters and digits.
    pub serial: String,
    /// Its file.
    pub file: PathBuf,
    /// QEMU's name for the file's format, such as `raw` or `vmdk`.
    pub format: &'static str,
    /// Whether the guest may write to it.
    pub writable: bool,
    /// How it is attached.
    pub bus: Bus,
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bus {
    /// As a virtio-blk device of its own: the serial is in `/sys/block/*/serial`.
    #[default]
    Virtio,
    /// To the one virtio-scsi controller: the serial is in page 0x80.
    Scsi,
}

impl Disk {
    /// A read-only disk with the content of a file.
    #[must_use]
    pub fn raw(serial: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        Self::of("raw", serial, file)
    }

    /// A read-only disk in any format that QEMU reads.
    #[must_use]
    pub fn of(format: &'static str, serial: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        Self { serial: serial.into(), file: file.into(), format, writable: false, bus: Bus::default() }
    }

    /// The same, and the guest writes into the file.
    #[must_use]
    pub fn writable(self) -> Self {
        Self { writable: true, ..self }
    }

    /// The same on the SCSI controller.
    #[must_use]
    pub fn scsi(self) -> Self {
        Self { bus: Bus::Scsi, ..self }
    }

    /// QEMU's arguments for the disk with this number.
    pub(super) fn arguments(&self, number: usize) -> Result<Vec<String>> {
        let file = self.file.to_str().context("a disk's path is not UTF-8")?;
        // A comma separates options; doubled it stands for itself.
        let file = file.replace(',', ",,");
        let Self { serial, format, .. } = self;
        let device = match self.bus {
            Bus::Virtio => "virtio-blk-pci",
            Bus::Scsi => "scsi-hd",
        };
        let read_only = if self.writable { "off" } else { "on" };
        Ok(vec![
            "-drive".to_owned(),
            format!("if=none,id=disk{number},file={file},format={format},readonly={read_only}"),
            "-device".to_owned(),
            format!("{device},drive=disk{number},serial={serial}"),
        ])
    }
}

/// Makes a file of `size` bytes with an ext4 that has the content of a directory, if one is given.
///
/// # Errors
/// mkfs.ext4 fails, because the content does not fit among other things.
pub fn ext4(file: &Path, size: u64, features: &str, content: Option<&Path>) -> Result<()> {
    let made = File::create(file).and_then(|made| made.set_len(size));
    made.with_context(|| format!("make {}", file.display()))?;
    let mkfs = Run::new("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=1,nodiscard"]);
    let mkfs = mkfs.args(["-O", features]);
    let mkfs = match content {
        Some(content) => mkfs.arg("-d").arg(content),
        None => mkfs,
    };
    mkfs.arg(file).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_says_what_it_is() {
        let disk = Disk::of("vmdk", "one", "/a,b/disk.vmdk");
        let expected = [
            "-drive",
            "if=none,id=disk3,file=/a,,b/disk.vmdk,format=vmdk,readonly=on",
            "-device",
            "virtio-blk-pci,drive=disk3,serial=one",
        ];
        assert_eq!(disk.arguments(3).unwrap(), expected);
        assert!(disk.clone().writable().arguments(0).unwrap()[1].ends_with("readonly=off"));
        assert_eq!(disk.scsi().arguments(0).unwrap()[3], "scsi-hd,drive=disk0,serial=one");
    }
}
