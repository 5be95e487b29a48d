//! A layout in the making: filled under a name that nobody looks for, synced, then renamed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::layout::{INDEX, MARKER, blob};
use super::{Descriptor, Layout};
use crate::cli::tool::error::Error;
use crate::image::digest::Digest;
use crate::store::unique::Unique;
use crate::store::{self, tree};

const DIRECTORY_MODE: u32 = 0o755;
const BUFFER: usize = 1 << 20;

/// A layout that is written. It is deleted on drop unless it was published.
#[derive(Debug)]
pub(in super::super) struct LayoutWriter {
    staging: PathBuf,
    place: PathBuf,
    /// Whether what is at `place` is replaced.
    replace: bool,
}

impl LayoutWriter {
    /// Begins the layout that is to lie at `place`.
    pub(in super::super) fn create(place: &Path, replace: bool) -> Result<Self, Error> {
        if !replace && place.symlink_metadata().is_ok() {
            return Err(Error::Exists { path: place.to_owned() });
        }
        let unique = Unique::new().map_err(store::Error::io("name a directory beside", place))?;
        let mut name = place.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{unique}.tmp"));
        let staging = place.with_file_name(name);
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(staging.join("blobs/sha256"))
            .map_err(store::Error::io("create", &staging))?;
        Ok(Self { staging, place: place.to_owned(), replace })
    }

    /// Where to write a blob whose digest is not known yet. Nothing is there.
    pub(in super::super) fn draft(&self) -> Result<PathBuf, Error> {
        let unique = Unique::new().map_err(store::Error::io("name a file in", &self.staging))?;
        Ok(self.staging.join(unique.to_string()))
    }

    /// Takes a file that was written to a [draft](Self::draft), whose digest is known.
    pub(in super::super) fn add_file(&self, draft: &Path, digest: &Digest) -> Result<(), Error> {
        let place = self.staging.join(blob(digest));
        File::open(draft).and_then(|file| file.sync_all()).map_err(store::Error::io("sync", draft))?;
        Ok(fs::rename(draft, &place).map_err(store::Error::io("rename to", &place))?)
    }

    /// Takes a blob that is read from `from`, and tells its digest and its size in bytes.
    pub(in super::super) fn add_stream(&self, from: &mut dyn Read) -> Result<(Digest, u64), Error> {
        let draft = self.draft()?;
        let failed = |source| store::Error::Io { operation: "write", path: draft.clone(), source };
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut file = File::create_new(&draft).map_err(failed)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let part = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => buffer.get(..read).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error).into()),
            };
            hash.update(part);
            size += part.len() as u64;
            file.write_all(part).map_err(failed)?;
        }
        let digest = Digest::from_bytes(hash.finalize().into());
        self.add_file(&draft, &digest)?;
        Ok((digest, size))
    }

    /// Takes a document, and tells how it is found. The same value gives the same bytes.
    pub(in super::super) fn add_document(
        &self,
        media_type: &str,
        value: &Value,
    ) -> Result<Descriptor, Error> {
        let text = value.to_string();
        let (digest, size) = self.add_stream(&mut text.as_bytes())?;
        Ok(Descriptor::new(media_type, digest, size))
    }

    /// What was written so far, without an index.
    pub(in super::super) fn blobs(&self) -> Layout {
        Layout::in_directory(&self.staging)
    }

    /// Writes the index and gives the layout its place. It is on disk when this returns.
    pub(in super::super) fn publish(self, manifests: &[Descriptor]) -> Result<(), Error> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": super::INDEX_TYPE,
            "manifests": manifests,
        });
        self.write(INDEX, &index)?;
        self.write(MARKER, &json!({ "imageLayoutVersion": "1.0.0" }))?;
        for directory in ["blobs/sha256", "blobs", ""] {
            store::sync_directory(&self.staging.join(directory))?;
        }
        match renameat_with(CWD, &self.staging, CWD, &self.place, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) if self.replace => self.exchange()?,
            Err(Errno::EXIST) => return Err(Error::Exists { path: self.place.clone() }),
            renamed => renamed.map_err(store::Error::io("rename to", &self.place))?,
        }
        let above = self.place.parent().filter(|above| !above.as_os_str().is_empty());
        Ok(store::sync_directory(above.unwrap_or(Path::new(".")))?)
    }

    /// Puts the layout in place of what is there, which the drop that follows deletes.
    fn exchange(&self) -> Result<(), Error> {
        let exchanged = renameat_with(CWD, &self.staging, CWD, &self.place, RenameFlags::EXCHANGE);
        Ok(exchanged.map_err(store::Error::io("exchange a new directory with", &self.place))?)
    }

    fn write(&self, name: &str, value: &Value) -> Result<(), Error> {
        let path = self.staging.join(name);
        let written = File::create_new(&path).and_then(|mut file| {
            file.write_all(value.to_string().as_bytes())?;
            file.sync_all()
        });
        Ok(written.map_err(store::Error::io("write", &path))?)
    }
}

impl Drop for LayoutWriter {
    fn drop(&mut self) {
        if let Err(error) = tree::remove(&self.staging, &AtomicBool::new(false)) {
            eprintln!("nexuserofs: {error}");
        }
    }
}
