//! JSON files beside the data: a copy of each record in the directory that it describes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;
use super::unique::Unique;

/// Largest sidecar that is read, in bytes. A record with 128 layers and containerd's largest labels
/// stays far below.
const SIZE_LIMIT: u64 = 16 << 20;

/// Whether a sidecar must survive a power cut from the moment that the call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Written back by the kernel when it likes.
    Relaxed,
    /// The file's data is on disk. The caller syncs the directory.
    Synced,
}

/// Writes `value` to the new file `path`, in a directory that nobody reads before it is whole. Where a
/// directory is to be filled and then renamed, this saves a name and a rename for each file. Its data is on disk then; the caller syncs the directory.
///
/// # Errors
/// If `path` exists, `value` has no JSON form, or the directory cannot be written. A part of the file may be there.
pub fn create<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    write_new(path, &encoded(path, value)?, Durability::Synced)
}

/// Makes the file `path` with nothing in it, which [`fill`] writes to later: to make a file takes longer than to write to one.
///
/// # Errors
/// If `path` exists, or the directory cannot be written.
pub fn reserve(path: &Path) -> Result<(), Error> {
    File::create_new(path).map(drop).map_err(Error::io("create", path))
}

/// Writes `value` to a file that [`reserve`] made, in a directory that nobody reads before it is whole. Nothing is synchronised.
///
/// # Errors
/// If `path` does not exist, `value` has no JSON form, or it cannot be written. A part of it may be there.
pub fn fill<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let text = encoded(path, value)?;
    let file = File::options().write(true).open(path).map_err(Error::io("open", path))?;
    (&file).write_all(&text).map_err(Error::io("write", path))
}

/// Writes `value` to `path` so that a reader sees the old file or the new one, never a part.
///
/// # Errors
/// If `value` has no JSON form or the directory cannot be written.
pub fn write<T: Serialize>(path: &Path, value: &T, durability: Durability) -> Result<(), Error> {
    let text = encoded(path, value)?;
    let temporary = temporary_name(path)?;
    let written = write_new(&temporary, &text, durability)
        .and_then(|()| fs::rename(&temporary, path).map_err(Error::io("rename to", path)));
    if written.is_err() {
        // The write's own error says more than one about the clean-up would.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Reads what [`write()`] wrote.
///
/// # Errors
/// If the file does not exist, is too large to be a sidecar, or is not a `T` in JSON.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let size = fs::symlink_metadata(path).map_err(Error::io("look at", path))?.len();
    if size > SIZE_LIMIT {
        let source = serde::de::Error::custom(format_args!("{size} bytes are more than a record takes"));
        return Err(Error::Json { path: path.to_owned(), source });
    }
    let text = fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.to_owned(), source })
}

fn encoded<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|source| Error::Json { path: path.to_owned(), source })
}

fn temporary_name(path: &Path) -> Result<PathBuf, Error> {
    let unique = Unique::new().map_err(Error::io("name a file beside", path))?;
    Ok(path.with_extension(format!("{unique}.tmp")))
}

fn write_new(path: &Path, text: &[u8], durability: Durability) -> Result<(), Error> {
    let mut file = File::create_new(path).map_err(Error::io("create", path))?;
    file.write_all(text).map_err(Error::io("write", path))?;
    match durability {
        Durability::Relaxed => Ok(()),
        Durability::Synced => file.sync_data().map_err(Error::io("sync", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_created_is_read_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new.json");
        create(&path, &vec![1, 2]).unwrap();
        assert_eq!(read::<Vec<u8>>(&path).unwrap(), [1, 2]);
        assert!(create(&path, &vec![3]).is_err());
        assert_eq!(read::<Vec<u8>>(&path).unwrap(), [1, 2]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_reserved_is_filled_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reserved.json");
        assert!(fill(&path, &1).is_err());
        reserve(&path).unwrap();
        assert!(reserve(&path).is_err());
        fill(&path, &vec![1, 2]).unwrap();
        assert_eq!(read::<Vec<u8>>(&path).unwrap(), [1, 2]);
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layer.json");
        write(&path, &vec![1, 2], Durability::Synced).unwrap();
        write(&path, &vec![3], Durability::Relaxed).unwrap();
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), [3]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_directory_is_an_error_and_is_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let gone = directory.path().join("gone");
        let error = write(&gone.join("a.json"), &1, Durability::Relaxed).unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert!(!gone.exists());
    }

    #[test]
    fn text_that_is_not_the_record_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot.json");
        fs::write(&path, b"").unwrap();
        assert!(matches!(read::<u32>(&path), Err(Error::Json { .. })));
        File::create(&path).unwrap().set_len(SIZE_LIMIT + 1).unwrap();
        assert!(matches!(read::<u32>(&path), Err(Error::Json { .. })));
    }
}
