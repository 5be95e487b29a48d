//! The blobs of a layout: in a directory, or in a tar of one, as `ctr images export` and
//! `skopeo copy … oci-archive:` write it. An image in containerd is read as a layout of one image.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use super::Descriptor;
use super::containerd::Stored;
use crate::cli::tool::error::Error;
use crate::client::Namespace;
use crate::image::digest::Digest;

/// File that every layout has.
pub(super) const MARKER: &str = "oci-layout";
/// File that names the images of a layout.
pub(super) const INDEX: &str = "index.json";
/// Largest document that is read, in bytes: what registries take is 4 MiB.
const DOCUMENT_MAX: u64 = 16 << 20;

/// A layout that is read.
#[derive(Debug)]
pub(in super::super) struct Layout {
    path: PathBuf,
    files: Files,
}

#[derive(Debug)]
enum Files {
    Directory,
    /// Where each file of the tar is.
    Archive(BTreeMap<PathBuf, Place>),
    Containerd(Stored),
}

/// Where a file is in a tar, in bytes.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    length: u64,
}

/// A file of a layout that is being read.
pub(in super::super) struct Opened {
    pub(in super::super) bytes: Box<dyn Read + Send>,
    /// How many there are.
    pub(in super::super) length: u64,
}

impl Layout {
    /// Opens the layout at `path`; `None` if the file there is no tar of a layout.
    ///
    /// A directory is always taken for a layout.
    pub(in super::super) fn find(path: &Path) -> Result<Option<Self>, Error> {
        let failed = |source| Error::Source { path: path.to_owned(), source };
        let found = path.metadata().map_err(failed)?;
        if found.is_dir() {
            return Ok(Some(Self::in_directory(path)));
        }
        let files = files_of(path).map_err(failed)?;
        let files = files.filter(|files| files.contains_key(Path::new(MARKER)));
        Ok(files.map(|files| Self { path: path.to_owned(), files: Files::Archive(files) }))
    }

    /// Opens the layout at `path`.
    pub(in super::super) fn open(path: &Path) -> Result<Self, Error> {
        Self::find(path)?.ok_or_else(|| Error::NoLayout { path: path.to_owned() })
    }

    /// The image called `name` in a namespace of containerd.
    pub(in super::super) fn in_containerd(namespace: &Namespace, name: &str) -> Result<Self, Error> {
        Ok(Self { path: name.into(), files: Files::Containerd(Stored::find(namespace, name)?) })
    }

    /// The layout in the directory `path`.
    pub(super) fn in_directory(path: &Path) -> Self {
        Self { path: path.to_owned(), files: Files::Directory }
    }

    /// The layout's own name, for messages.
    pub(in super::super) fn path(&self) -> &Path {
        &self.path
    }

    /// What names the images.
    pub(in super::super) fn index<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let name = Path::new(INDEX);
        let text = match &self.files {
            Files::Containerd(stored) => stored.index.clone(),
            _ => self.read_document(name, self.open_file(name)?)?,
        };
        serde_json::from_slice(&text).map_err(|source| Error::Layout { path: self.name_of(name), source })
    }

    /// A blob that is JSON, as it is stored. Its digest is checked.
    pub(in super::super) fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let name = blob(&descriptor.digest);
        let text = self.read_document(&name, self.open_blob(&descriptor.digest)?)?;
        let found = Digest::of(&text);
        if found == descriptor.digest {
            return Ok(text);
        }
        let expected = descriptor.digest;
        Err(Error::Mismatch { path: self.name_of(&name), what: "digest", found, expected })
    }

    /// Opens a blob, whose digest is the caller's to check.
    pub(in super::super) fn open_blob(&self, digest: &Digest) -> Result<Opened, Error> {
        match &self.files {
            Files::Containerd(stored) => {
                stored.open(digest).map_err(|source| Error::Read { path: self.blob_name(digest), source })
            }
            _ => self.open_file(&blob(digest)),
        }
    }

    /// The blob's name, for messages.
    pub(in super::super) fn blob_name(&self, digest: &Digest) -> PathBuf {
        self.name_of(&blob(digest))
    }

    fn read_document(&self, name: &Path, opened: Opened) -> Result<Vec<u8>, Error> {
        let Opened { bytes, length } = opened;
        let mut text = Vec::new();
        let read = match length {
            0..=DOCUMENT_MAX => bytes.take(DOCUMENT_MAX).read_to_end(&mut text),
            _ => Err(io::Error::other(format!("{length} bytes are more than a document of an image has"))),
        };
        read.map_err(|source| Error::Read { path: self.name_of(name), source })?;
        Ok(text)
    }

    fn open_file(&self, name: &Path) -> Result<Opened, Error> {
        let opened = match &self.files {
            Files::Directory => open(&self.path.join(name)),
            Files::Archive(files) => match files.get(name) {
                Some(place) => open_part(&self.path, *place),
                None => Err(io::ErrorKind::NotFound.into()),
            },
            // It has blobs only.
            Files::Containerd(_) => Err(io::ErrorKind::NotFound.into()),
        };
        opened.map_err(|source| Error::Read { path: self.name_of(name), source })
    }

    fn name_of(&self, name: &Path) -> PathBuf {
        self.path.join(name)
    }
}

/// Where a layout has the blob with this digest.
pub(super) fn blob(digest: &Digest) -> PathBuf {
    Path::new("blobs/sha256").join(digest.hex())
}

fn open(path: &Path) -> io::Result<Opened> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok(Opened { bytes: Box::new(file), length })
}

fn open_part(archive: &Path, place: Place) -> io::Result<Opened> {
    let mut file = File::open(archive)?;
    file.seek(SeekFrom::Start(place.offset))?;
    Ok(Opened { bytes: Box::new(file.take(place.length)), length: place.length })
}

/// Where the regular files of an uncompressed tar are; `None` if the file is none.
fn files_of(path: &Path) -> io::Result<Option<BTreeMap<PathBuf, Place>>> {
    let mut archive = tar::Archive::new(File::open(path)?);
    let mut files = BTreeMap::new();
    for entry in archive.entries_with_seek()? {
        // What begins as a tar and goes on as something else is for the reader of layers to explain.
        let Ok(entry) = entry else { return Ok(None) };
        if entry.header().entry_type().is_file() {
            let place = Place { offset: entry.raw_file_position(), length: entry.size() };
            files.insert(normal(&entry.path()?), place);
        }
    }
    Ok(Some(files))
}

/// A name in a tar without what leads nowhere, such as the `./` that `tar --create .` writes.
fn normal(name: &Path) -> PathBuf {
    let parts = name.components().filter_map(|component| match component {
        Component::Normal(part) => Some(part),
        Component::ParentDir => Some(OsStr::new("..")),
        _ => None,
    });
    parts.collect()
}
