//! fs-verity: a file system that checks each block of a file against the file's digest, and lets nobody
//! write to it any more.
//!
//! Interfaces: `FS_IOC_ENABLE_VERITY` and `FS_IOC_MEASURE_VERITY` (`Documentation/filesystems/fsverity.rst`).

use std::fs::File;
use std::io;

use linux_raw_sys::ioctl::{FS_IOC_ENABLE_VERITY, FS_IOC_MEASURE_VERITY};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl};

/// `FS_VERITY_HASH_ALG_SHA256`.
const SHA256: u16 = 1;

/// Size in bytes of a block of the tree, which no file system takes larger than its own blocks.
const BLOCK_SIZE: u32 = 4096;

/// `struct fsverity_enable_arg` of `linux/fsverity.h`.
#[repr(C)]
struct EnableArgument {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved: u32,
    signature: u64,
    reserved_too: [u64; 11],
}

const _: () = assert!(size_of::<EnableArgument>() == 128);

/// `struct fsverity_digest` of `linux/fsverity.h`, with room for one of SHA-256.
#[repr(C)]
struct MeasuredDigest {
    algorithm: u16,
    size: u16,
    digest: [u8; 32],
}

const _: () = assert!(size_of::<MeasuredDigest>() == 36);

/// Has the file system guard the content of `file`, which is open for reading, and which nobody has open
/// for writing. The hash is SHA-256 without salt. Whoever wants this to outlast a power cut syncs the file.
///
/// # Errors
/// `EOPNOTSUPP` or `ENOTTY` if the file system or the kernel has no fs-verity, `ETXTBSY` if somebody has
/// the file open for writing; what the file system reports. One that is guarded already is no error.
pub fn enable(file: &File) -> io::Result<()> {
    let argument = EnableArgument {
        version: 1,
        hash_algorithm: SHA256.into(),
        block_size: BLOCK_SIZE,
        salt_size: 0,
        salt: 0,
        signature_size: 0,
        reserved: 0,
        signature: 0,
        reserved_too: [0; 11],
    };
    // SAFETY: the command reads one `fsverity_enable_arg`, which has the size and layout of the kernel's
    // and holds no pointers, because salt and signature are empty.
    let enabled = unsafe { ioctl(file, Setter::<{ FS_IOC_ENABLE_VERITY as Opcode }, _>::new(argument)) };
    match enabled {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The digest that the file system guards `file` by: SHA-256 of fs-verity's descriptor, in which the root
/// of the tree is. None if the file is not guarded, or the file system cannot do that.
///
/// # Errors
/// What the file system reports.
pub fn measure(file: &File) -> io::Result<Option<[u8; 32]>> {
    let mut measured = MeasuredDigest { algorithm: 0, size: 32, digest: [0; 32] };
    // SAFETY: the command reads `size`, writes the other fields, and of `digest` no more than `size` bytes.
    let result =
        unsafe { ioctl(file, Updater::<{ FS_IOC_MEASURE_VERITY as Opcode }, _>::new(&mut measured)) };
    match result {
        Ok(()) if (measured.algorithm, measured.size) == (SHA256, 32) => Ok(Some(measured.digest)),
        // Another algorithm, or one with longer digests: not by us.
        Ok(()) | Err(Errno::OVERFLOW | Errno::NODATA | Errno::OPNOTSUPP | Errno::NOTTY) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether an error of [`enable`] says that there is no fs-verity here.
#[must_use]
pub fn is_unsupported(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::OPNOTSUPP | Errno::NOTTY))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::skipped::skip;

    #[test]
    fn a_file_is_guarded_by_the_digest_of_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, [7; 10_000]).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(measure(&file).unwrap(), None);
        if let Err(error) = enable(&file) {
            assert!(is_unsupported(&error), "{error}");
            assert_eq!(measure(&file).unwrap(), None);
            skip("a_file_is_guarded_by_the_digest_of_its_content", format!("no fs-verity: {error}"));
            return;
        }
        let digest = measure(&file).unwrap().unwrap();
        enable(&file).unwrap();
        assert!(File::options().write(true).open(&path).is_err(), "it can be written to");
        let other = directory.path().join("other");
        fs::write(&other, [8; 10_000]).unwrap();
        let other = File::open(&other).unwrap();
        enable(&other).unwrap();
        assert_ne!(measure(&other).unwrap().unwrap(), digest);
    }

    #[test]
    fn a_file_that_somebody_writes_to_is_not_guarded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let writer = File::create_new(&path).unwrap();
        writer.write_all_at(&[1; 4096], 0).unwrap();
        let file = File::open(&path).unwrap();
        enable(&file).unwrap_err();
        assert_eq!(measure(&file).unwrap(), None);
    }
}
