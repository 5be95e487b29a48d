//! Where an assembly keeps what it is made of.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::dm;

/// What tells one assembly from another: 1 to 32 of `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssemblyId(String);

/// A text that is no such id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no id of an assembly: expected 1 to 32 of a-z, 0-9 and -")]
pub struct InvalidId {
    text: String,
}

/// The directory of an assembly.
#[derive(Clone, Debug)]
pub struct Workplace {
    path: PathBuf,
    id: AssemblyId,
}

/// What there is to undo.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// How many of the layers, from the oldest on, may have a device and a mount. A merged image is one.
    pub(super) layers: usize,
    /// Whether what takes the writes may have a device of its own.
    pub(super) upper_device: bool,
    /// Where the root file system is mounted, as soon as it is.
    pub(super) target: Option<PathBuf>,
}

/// Nobody but root looks into it.
const MODE: u32 = 0o700;

impl Workplace {
    /// The directory of the assembly of this id below `run`, usually `/run/nexuserofs`.
    #[must_use]
    pub fn new(run: &Path, id: AssemblyId) -> Self {
        Self { path: run.join(id.as_str()), id }
    }

    /// Makes it, with places for so many layers.
    pub(super) fn make(&self, layers: usize) -> Result<(), Error> {
        if let Some(run) = self.path.parent() {
            create(run).or_else(unless_there).map_err(Error::file("make", run))?;
        }
        match create(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Taken { path: self.path.clone() });
            }
            made => made.map_err(Error::file("make", &self.path))?,
        }
        self.write(&State::default())?;
        let places = (0..layers).map(|index| self.layer(index));
        let layers = self.path.join("layers");
        for path in [layers, self.upper()].into_iter().chain(places) {
            create(&path).map_err(Error::file("make", path))?;
        }
        Ok(())
    }

    /// Where a layer is mounted.
    pub(super) fn layer(&self, index: usize) -> PathBuf {
        self.path.join("layers").join(index.to_string())
    }

    /// Where what takes the writes is mounted.
    pub(super) fn upper(&self) -> PathBuf {
        self.path.join("upper")
    }

    /// What a layer's verity device is called.
    pub(super) fn device(&self, index: usize) -> Result<dm::Name, Error> {
        self.named(&index.to_string())
    }

    /// What the device is called that encrypts what is written.
    pub(super) fn upper_device(&self) -> Result<dm::Name, Error> {
        self.named("upper")
    }

    fn named(&self, what: &str) -> Result<dm::Name, Error> {
        let name = format!("nexuserofs-{}-{what}", self.id.as_str());
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        name.parse().map_err(invalid).map_err(Error::file("name the device of", &self.path))
    }

    /// What there is to undo. None if there is nothing.
    pub(super) fn read(&self) -> Result<Option<State>, Error> {
        let path = self.state();
        match fs::read(&path) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(state) => Ok(Some(state)),
                Err(source) => Err(Error::State { path, source }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", path)(error)),
        }
    }

    /// Writes what there is to undo, whole or not at all.
    pub(super) fn write(&self, state: &State) -> Result<(), Error> {
        let (path, new) = (self.state(), self.path.join("state.json.new"));
        let text = serde_json::to_vec(state).map_err(|source| Error::State { path: path.clone(), source })?;
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
        file.and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(Error::file("write", path))
    }

    /// Removes it, when nothing is mounted in it any more: only empty directories are removed.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let layers = self.path.join("layers");
        let places = match fs::read_dir(&layers) {
            Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>(),
            Err(error) => unless_gone(error).map(|()| Vec::new()),
        };
        let places: Vec<PathBuf> = places.map_err(Error::file("read", &layers))?;
        for path in places.into_iter().chain([layers, self.upper()]) {
            fs::remove_dir(&path).or_else(unless_gone).map_err(Error::file("remove", path))?;
        }
        for path in [self.path.join("state.json.new"), self.state()] {
            fs::remove_file(&path).or_else(unless_gone).map_err(Error::file("remove", path))?;
        }
        fs::remove_dir(&self.path).or_else(unless_gone).map_err(Error::file("remove", &self.path))
    }

    fn state(&self) -> PathBuf {
        self.path.join("state.json")
    }
}

fn create(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(MODE).create(path)
}

fn unless_there(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
}

fn unless_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

impl AssemblyId {
    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for AssemblyId {
    /// `root`, for guests with one root file system.
    fn default() -> Self {
        Self("root".to_owned())
    }
}

impl fmt::Display for AssemblyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AssemblyId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_valid = (1..=32).contains(&text.len()) && text.bytes().all(is_plain);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidId { text: text.to_owned() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_lead_elsewhere_are_refused() {
        for id in ["root", "pod-1", &"a".repeat(32)] {
            assert_eq!(id.parse::<AssemblyId>().unwrap().as_str(), id);
        }
        for id in ["", "..", "a/b", "A", "a b", &"a".repeat(33)] {
            assert!(id.parse::<AssemblyId>().is_err(), "{id}");
        }
    }

    #[test]
    fn a_workplace_is_made_once_and_removed_however_often() {
        let run = tempfile::tempdir().unwrap();
        let workplace = Workplace::new(&run.path().join("run"), "root".parse().unwrap());
        assert_eq!(workplace.read().unwrap(), None);
        workplace.make(3).unwrap();
        assert_eq!(workplace.read().unwrap(), Some(State::default()));
        assert!(matches!(workplace.make(3), Err(Error::Taken { .. })));
        workplace.remove().unwrap();
        workplace.remove().unwrap();
        assert_eq!(workplace.read().unwrap(), None);
        workplace.make(1).unwrap();
    }
}
