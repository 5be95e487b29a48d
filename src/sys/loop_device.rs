//! Loop devices: block devices that are files.
//!
//! Interface: `loop(4)` and `include/uapi/linux/loop.h`. `LOOP_CONFIGURE` (Linux 5.8) sets a device
//! up in one step, so that nobody ever sees one that is half set up.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use linux_raw_sys::loop_device::{
    LO_FLAGS_AUTOCLEAR, LO_FLAGS_READ_ONLY, LOOP_CONFIGURE, LOOP_CTL_GET_FREE, LOOP_GET_STATUS64,
    loop_config, loop_info64,
};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, Updater, ioctl};

/// Other processes may take the device that was free a moment ago, as often as this.
const ATTEMPTS: usize = 64;

/// Whether a device can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It cannot. The file need only be open for reading.
    ReadOnly,
    /// It can. The file must be open for writing.
    ReadWrite,
}

/// A loop device. The kernel detaches the file from it when this is dropped and nothing is mounted
/// from it any more.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    /// Keeps the device attached.
    device: File,
}

impl LoopDevice {
    /// Attaches `backing` to a free device.
    ///
    /// # Errors
    /// If there are no loop devices here, none is free, or the file is not open as `access` demands.
    pub fn attach(backing: &File, access: Access) -> io::Result<Self> {
        let writable = access == Access::ReadWrite;
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        let mut attempt = 1;
        loop {
            let path = PathBuf::from(format!("/dev/loop{}", free_number(&control)?));
            let device = OpenOptions::new().read(true).write(writable).open(&path)?;
            match configure(&device, backing, access) {
                Ok(()) => return Ok(Self { path, device }),
                Err(Errno::BUSY) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The device that somebody attached `backing` to, by whatever name, if there is one. It stays
    /// attached as long as this value lives.
    ///
    /// # Errors
    /// If `/sys` or a device cannot be read.
    pub fn find(backing: &File) -> io::Result<Option<Self>> {
        let wanted = backing.metadata()?;
        for entry in fs::read_dir("/sys/block")? {
            let name = entry?.file_name();
            // Only a device with a file has this one.
            if !Path::new("/sys/block").join(&name).join("loop/backing_file").exists() {
                continue;
            }
            let path = Path::new("/dev").join(name);
            let device = match File::open(&path) {
                // Gone, or its file is, since the directory was read.
                Err(error) if is_gone(&error) => continue,
                device => device?,
            };
            if backing_of(&device)? == Some((wanted.dev(), wanted.ino())) {
                return Ok(Some(Self { path, device }));
            }
        }
        Ok(None)
    }

    /// The device, such as `/dev/loop0`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its number as the kernel has it, major and minor in one (`dev_t`).
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn number(&self) -> io::Result<u64> {
        Ok(self.device.metadata()?.rdev())
    }
}

fn free_number(control: &File) -> Result<u32, Errno> {
    // SAFETY: `GetFree` describes the call as the kernel has it: no argument, a number as result.
    unsafe { ioctl(control, GetFree) }
}

fn configure(device: &File, file: &File, access: Access) -> Result<(), Errno> {
    let read_only = match access {
        Access::ReadOnly => LO_FLAGS_READ_ONLY as u32,
        Access::ReadWrite => 0,
    };
    let info = loop_info64 { lo_flags: LO_FLAGS_AUTOCLEAR as u32 | read_only, ..EMPTY_INFO };
    let fd = u32::try_from(file.as_raw_fd()).map_err(|_| Errno::BADF)?;
    // A block size of 0 is the device's default, 512 bytes.
    let config = loop_config { fd, block_size: 0, info, __reserved: [0; 8] };
    // SAFETY: LOOP_CONFIGURE reads one `loop_config`, whose layout comes from the kernel's header.
    // `file` keeps the descriptor in it open until the call returns.
    unsafe { ioctl(device, Setter::<{ LOOP_CONFIGURE as Opcode }, _>::new(config)) }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NXIO))
}

/// Device and inode number of a device's file; None if it has none.
fn backing_of(device: &File) -> Result<Option<(u64, u64)>, Errno> {
    let mut info = EMPTY_INFO;
    // SAFETY: LOOP_GET_STATUS64 fills one `loop_info64`, whose layout comes from the kernel's header.
    match unsafe { ioctl(device, Updater::<{ LOOP_GET_STATUS64 as Opcode }, _>::new(&mut info)) } {
        Ok(()) => Ok(Some((info.lo_device, info.lo_inode))),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

const EMPTY_INFO: loop_info64 = loop_info64 {
    lo_device: 0,
    lo_inode: 0,
    lo_rdevice: 0,
    lo_offset: 0,
    lo_sizelimit: 0,
    lo_number: 0,
    lo_encrypt_type: 0,
    lo_encrypt_key_size: 0,
    lo_flags: 0,
    lo_file_name: [0; 64],
    lo_crypt_name: [0; 64],
    lo_encrypt_key: [0; 32],
    lo_init: [0; 2],
};

/// `LOOP_CTL_GET_FREE`, which answers with the number of a device.
struct GetFree;

// SAFETY: the opcode takes no argument, so a null pointer is passed, and nothing is written to it. Its
// result is the number of a device.
unsafe impl Ioctl for GetFree {
    type Output = u32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE as Opcode
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        output: IoctlOutput,
        _argument: *mut rustix::ffi::c_void,
    ) -> rustix::io::Result<u32> {
        u32::try_from(output).map_err(|_| Errno::INVAL)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::skipped::skip;

    fn image() -> tempfile::NamedTempFile {
        let mut image = tempfile::NamedTempFile::new().unwrap();
        image.write_all(&[7; 8192]).unwrap();
        image
    }

    fn attach(test: &str, image: &Path, access: Access) -> Option<LoopDevice> {
        let refused = |error: &io::Error| {
            matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::ENOENT))
        };
        let file = OpenOptions::new().read(true).write(access == Access::ReadWrite).open(image).unwrap();
        match LoopDevice::attach(&file, access) {
            Err(error) if refused(&error) => {
                skip(test, format!("loop devices need root and the kernel's loop driver: {error}"));
                None
            }
            device => Some(device.unwrap()),
        }
    }

    #[test]
    fn a_read_only_device_shows_the_file_and_takes_no_write() {
        let image = image();
        let test = "a_read_only_device_shows_the_file_and_takes_no_write";
        let Some(device) = attach(test, image.path(), Access::ReadOnly) else { return };
        let mut content = Vec::new();
        File::open(device.path()).unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(content, [7; 8192]);
        let written = OpenOptions::new().write(true).open(device.path()).and_then(|mut file| {
            file.write_all(&[8; 512])?;
            file.sync_all()
        });
        assert!(written.is_err());
    }

    #[test]
    fn what_is_written_to_a_device_is_in_the_file() {
        let image = image();
        let test = "what_is_written_to_a_device_is_in_the_file";
        let Some(device) = attach(test, image.path(), Access::ReadWrite) else { return };
        let mut block = OpenOptions::new().write(true).open(device.path()).unwrap();
        block.write_all(&[9; 512]).unwrap();
        block.sync_all().unwrap();
        let content = std::fs::read(image.path()).unwrap();
        assert_eq!((content[..512].to_vec(), content[512]), (vec![9; 512], 7));
    }

    #[test]
    fn a_dropped_device_lets_go_of_its_file() {
        let image = image();
        let test = "a_dropped_device_lets_go_of_its_file";
        let Some(device) = attach(test, image.path(), Access::ReadOnly) else { return };
        let name = device.path().file_name().unwrap().to_owned();
        let backing = Path::new("/sys/block").join(name).join("loop/backing_file");
        let ours = || {
            std::fs::read_to_string(&backing).is_ok_and(|path| path.trim() == image.path().to_str().unwrap())
        };
        assert!(ours());
        drop(device);
        assert!(!ours());
    }

    #[test]
    fn a_device_is_found_by_its_file() {
        let (image, other) = (image(), image());
        let Some(device) = attach("a_device_is_found_by_its_file", image.path(), Access::ReadOnly) else {
            return;
        };
        let find = |image: &tempfile::NamedTempFile| LoopDevice::find(image.as_file()).unwrap();
        let found = find(&image).unwrap();
        assert_eq!(found.path(), device.path());
        assert!(find(&other).is_none());
        drop((device, found));
        assert!(find(&image).is_none());
    }
}
