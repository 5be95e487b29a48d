//! Which mkfs.erofs is there.

use std::fmt;
use std::io;
use std::process::{Command, Stdio};
use std::str::FromStr;

use super::child::PROGRAM;
use crate::layer::{MkfsBuild, Recipe};

/// The oldest release that makes the same bytes each time and keeps the times of the tar's entries.
const OLDEST: (u32, u32) = (1, 8);

/// The mkfs.erofs that the daemon found when it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    version: Version,
}

/// A release of erofs-utils: what it calls itself, and the two numbers that count.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    text: String,
    major: u32,
    minor: u32,
}

/// A mkfs.erofs that cannot be the builder.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// There is none.
    #[error(
        "mkfs_options and builder need mkfs.erofs, which does not start: {0}; install erofs-utils 1.8 or newer where \
         the daemon's PATH finds it, or remove both settings"
    )]
    Missing(#[source] io::Error),
    /// It does not say which release it is.
    #[error("mkfs.erofs --version says {0:?}, which is no release; install erofs-utils 1.8 or newer")]
    Unclear(String),
    /// It is too old.
    #[error(
        "mkfs.erofs is of release {0}, and layers need 1.8 or newer; install that, or remove mkfs_options and builder"
    )]
    TooOld(String),
}

impl Program {
    /// Asks the mkfs.erofs in `PATH` for its release.
    ///
    /// # Errors
    /// [`Unusable`] says why it cannot be the builder.
    pub fn find() -> Result<Self, Unusable> {
        let output = Command::new(PROGRAM).arg("--version").stdin(Stdio::null()).output();
        let said = String::from_utf8_lossy(&output.map_err(Unusable::Missing)?.stdout).into_owned();
        Self::of(&said)
    }

    fn of(said: &str) -> Result<Self, Unusable> {
        let first = said.lines().next().unwrap_or_default();
        let version: Version = first.parse().map_err(|NotAVersion| Unusable::Unclear(first.to_owned()))?;
        if (version.major, version.minor) < OLDEST {
            return Err(Unusable::TooOld(version.text));
        }
        Ok(Self { version })
    }

    /// The recipe for layers that this program makes of tars with these options.
    #[must_use]
    pub fn recipe(&self, options: &[String]) -> Recipe {
        Recipe::Mkfs(self.build(options))
    }

    /// The recipe for layers that are tars with an index that this program makes with these options.
    #[must_use]
    pub fn index_recipe(&self, options: &[String]) -> Recipe {
        Recipe::TarIndex(self.build(options))
    }

    fn build(&self, options: &[String]) -> MkfsBuild {
        MkfsBuild { version: self.version.text.clone(), options: options.to_vec() }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PROGRAM} {}", self.version.text)
    }
}

struct NotAVersion;

impl FromStr for Version {
    type Err = NotAVersion;

    /// Takes `mkfs.erofs (erofs-utils) 1.9.4`, and `mkfs.erofs 1.7.1` of older releases.
    fn from_str(line: &str) -> Result<Self, NotAVersion> {
        let text = line.strip_prefix(PROGRAM).and_then(|rest| rest.split_whitespace().next_back());
        let text = text.ok_or(NotAVersion)?;
        let mut numbers = text.split(['.', '-']).map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self { text: text.to_owned(), major, minor }),
            _ => Err(NotAVersion),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_from_1_8_on_are_taken() {
        for (said, version) in [
            ("mkfs.erofs (erofs-utils) 1.9.4\navailable compressors: lz4", "1.9.4"),
            ("mkfs.erofs (erofs-utils) 1.8", "1.8"),
            ("mkfs.erofs (erofs-utils) 1.8-g12ab34", "1.8-g12ab34"),
            ("mkfs.erofs (erofs-utils) 2.0.1", "2.0.1"),
        ] {
            assert_eq!(Program::of(said).unwrap().version.text, version);
        }
    }

    #[test]
    fn others_are_refused_with_their_release() {
        assert!(matches!(Program::of("mkfs.erofs 1.7.1"), Err(Unusable::TooOld(text)) if text == "1.7.1"));
        for said in ["", "mkfs.erofs", "mkfs.erofs unknown", "mkfs.ext4 1.9.4"] {
            assert!(matches!(Program::of(said), Err(Unusable::Unclear(_))), "{said}");
        }
    }
}
