//! Loop devices: block devices whose content is a file.
//!
//! Format: `include/uapi/linux/loop.h` in the Linux source tree.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Requests of `/dev/loop-control` and of a device.
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4c05;

/// The device is read-only.
const LO_FLAGS_READ_ONLY: u32 = 1;
/// The device lets go of its file when it is closed for the last time.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// How often another process may take the device that the kernel offered before we give up.
const ATTEMPTS: usize = 64;

/// Whether a device can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It cannot. The file need only be open for reading.
    ReadOnly,
    /// It can. The file must be open for writing.
    ReadWrite,
}

/// A loop device that is open, so that it keeps its file.
#[derive(Debug)]
pub struct LoopDevice {
    _device: File,
    path: PathBuf,
}

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

impl LoopDevice {
    /// Makes a new device of `backing`. It goes when this value and all mounts of it are gone.
    ///
    /// # Errors
    /// What the kernel says: there is no `/dev/loop-control` without the module `loop`.
    pub fn attach(backing: &File, access: Access) -> io::Result<Self> {
        let control = open(Path::new("/dev/loop-control"), Access::ReadWrite)?;
        for _ in 0..ATTEMPTS {
            let number = request(&control, LOOP_CTL_GET_FREE, 0)?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = open(&path, access)?;
            match configure(&device, backing.as_raw_fd(), access) {
                Ok(()) => return Ok(Self { _device: device, path }),
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// The device that somebody made of `backing`, by whatever name, if there is one. It stays with its
    /// file as long as this value lives.
    ///
    /// # Errors
    /// If `/sys` or a device cannot be read.
    pub fn find(backing: &File) -> io::Result<Option<Self>> {
        let wanted = backing.metadata()?;
        for entry in fs::read_dir("/sys/block")? {
            let name = entry?.file_name();
            let attached = Path::new("/sys/block").join(&name).join("loop/backing_file");
            // Only a device with a file has this one.
            if !attached.exists() {
                continue;
            }
            let path = Path::new("/dev").join(name);
            let device = match open(&path, Access::ReadOnly) {
                // Gone, or its file is, since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) => continue,
                device => device?,
            };
            if backing_of(&device)? == Some((wanted.dev(), wanted.ino())) {
                return Ok(Some(Self { _device: device, path }));
            }
        }
        Ok(None)
    }

    /// The device's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn open(path: &Path, access: Access) -> io::Result<File> {
    let write = access == Access::ReadWrite;
    OpenOptions::new().read(true).write(write).custom_flags(libc::O_CLOEXEC).open(path)
}

fn configure(device: &File, backing: RawFd, access: Access) -> io::Result<()> {
    // SAFETY: both structures are plain numbers, for which zero is a value.
    let mut config: LoopConfig = unsafe { zeroed() };
    config.fd = u32::try_from(backing).map_err(|_| io::ErrorKind::InvalidInput)?;
    config.info.flags = match access {
        Access::ReadOnly => LO_FLAGS_AUTOCLEAR | LO_FLAGS_READ_ONLY,
        Access::ReadWrite => LO_FLAGS_AUTOCLEAR,
    };
    request(device, LOOP_CONFIGURE, (&raw const config) as usize).map(drop)
}

/// Device and inode number of a device's file; None if it has none.
fn backing_of(device: &File) -> io::Result<Option<(u64, u64)>> {
    // SAFETY: the structure is plain numbers, for which zero is a value.
    let mut info: LoopInfo = unsafe { zeroed() };
    match request(device, LOOP_GET_STATUS64, (&raw mut info) as usize) {
        Ok(_) => Ok(Some((info.device, info.inode))),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a request whose argument is a number, or the address of the structure that it takes.
fn request(file: &File, request: libc::Ioctl, argument: usize) -> io::Result<libc::c_int> {
    // SAFETY: each caller passes the structure that the request is defined with, alive and, where the
    // kernel fills it, mutable; `file` keeps the descriptor open.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skipped::skip;

    #[test]
    fn the_structures_are_as_large_as_the_kernel_s() {
        assert_eq!((size_of::<LoopInfo>(), size_of::<LoopConfig>()), (232, 304));
    }

    #[test]
    fn a_device_is_found_by_its_file_and_goes_with_its_last_user() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let device = match LoopDevice::attach(&file, Access::ReadOnly) {
            Ok(device) => device,
            Err(error) => {
                return skip(
                    "a_device_is_found_by_its_file_and_goes_with_its_last_user",
                    format!("no loop device can be made (needs root): {error}"),
                );
            }
        };
        let found = LoopDevice::find(&file).unwrap().unwrap();
        assert_eq!(found.path(), device.path());
        let other = tempfile::tempfile().unwrap();
        assert!(LoopDevice::find(&other).unwrap().is_none());
        drop((device, found));
        assert!(LoopDevice::find(&file).unwrap().is_none());
    }
}
