//! Paths that the operator gives: what they may look like, and whether the daemon can work there.

use std::fmt;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{Access, AtFlags, CWD};

/// Longest path of a Unix socket in bytes: `sun_path` of unix(7) without its terminating zero.
const LONGEST_SOCKET_PATH: usize = 107;

/// A path that cannot serve its purpose.
#[derive(Debug, thiserror::Error)]
pub enum UnusablePath {
    /// Relative, with `..` in it, or nothing but `/`.
    #[error("{0:?} is not an absolute path below / without `..`; write it in full, from /")]
    NotAbsolute(String),
    /// Has characters that mean something else in a mount option.
    #[error(
        "{0:?} has a character that mount options cannot carry; use a path without blanks, control characters, and , : \\ {{ }} or quotes"
    )]
    Characters(String),
    /// Too long for a socket.
    #[error("{path:?} has {length} bytes, a Unix socket has at most 107; use a shorter path")]
    SocketTooLong {
        /// The path.
        path: String,
        /// Its length in bytes.
        length: usize,
    },
    /// Something that cannot be a directory stands in the way.
    #[error("{path} is not a directory; name another place or move it away", path = .0.display())]
    NotADirectory(PathBuf),
    /// Nothing is there, or it cannot be looked at.
    #[error("cannot use {path}: {source}; make the directory, or leave it out", path = path.display())]
    Missing {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No right to write there.
    #[error("cannot write to {path}: {source}; run as root, or name a directory on a writable file system", path = path.display())]
    NotWritable {
        /// The directory itself, or the nearest one above it that exists.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket's path is taken by something that is no socket.
    #[error("{path} exists and is not a socket; remove it or name another path", path = .0.display())]
    NotASocket(PathBuf),
}

/// Path of the directory of the daemon's data, existing or not. It is absolute and can stand in
/// mount options and in the templates of containerd's mount manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootPath(String);

impl RootPath {
    /// The path as text, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RootPath {
    type Err = UnusablePath;

    /// # Errors
    /// [`UnusablePath::NotAbsolute`] and [`UnusablePath::Characters`].
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = absolute(text)?;
        // `overlayfs` parses commas, colons and backslashes, the mount manager braces.
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || ",:\\{}\"'".contains(c)) {
            return Err(UnusablePath::Characters(text.to_owned()));
        }
        Ok(Self(path.to_string_lossy().into_owned()))
    }
}

/// A directory in which the daemon can keep its data.
pub(super) fn root(text: &str) -> Result<RootPath, UnusablePath> {
    let root: RootPath = text.parse()?;
    writable_directory(root.as_path())?;
    Ok(root)
}

/// A path at which the daemon can listen.
pub(super) fn listening_socket(text: &str) -> Result<PathBuf, UnusablePath> {
    let path = socket(text)?;
    match path.symlink_metadata() {
        Ok(found) if !found.file_type().is_socket() => return Err(UnusablePath::NotASocket(path)),
        _ => {}
    }
    writable_directory(path.parent().unwrap_or(Path::new("/")))?;
    Ok(path)
}

/// A directory that exists and need not be writable.
pub(super) fn directory(text: &str) -> Result<PathBuf, UnusablePath> {
    let path = absolute(text)?;
    match path.metadata() {
        Ok(found) if found.is_dir() => Ok(path),
        Ok(_) => Err(UnusablePath::NotADirectory(path)),
        Err(source) => Err(UnusablePath::Missing { path, source }),
    }
}

/// A path of somebody's socket, which need not exist yet.
pub(super) fn socket(text: &str) -> Result<PathBuf, UnusablePath> {
    let path = absolute(text)?;
    if text.len() > LONGEST_SOCKET_PATH {
        return Err(UnusablePath::SocketTooLong { path: text.to_owned(), length: text.len() });
    }
    Ok(path)
}

fn absolute(text: &str) -> Result<PathBuf, UnusablePath> {
    let path = Path::new(text);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if path.is_absolute() && !climbs && path.file_name().is_some() {
        Ok(path.components().collect())
    } else {
        Err(UnusablePath::NotAbsolute(text.to_owned()))
    }
}

/// Refuses a directory that is none, or that could not be made or written. Changes nothing.
fn writable_directory(path: &Path) -> Result<(), UnusablePath> {
    for candidate in path.ancestors() {
        match candidate.metadata() {
            Ok(found) if found.is_dir() => return writable(candidate),
            Ok(_) => return Err(UnusablePath::NotADirectory(candidate.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(source) => return Err(UnusablePath::NotWritable { path: candidate.to_owned(), source }),
        }
    }
    Ok(())
}

fn writable(directory: &Path) -> Result<(), UnusablePath> {
    rustix::fs::accessat(CWD, directory, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
        .map_err(|errno| UnusablePath::NotWritable { path: directory.to_owned(), source: errno.into() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn paths_that_break_a_plan_are_refused() {
        for text in ["", "data", "./data", "/", "/var/../data"] {
            assert!(matches!(root(text), Err(UnusablePath::NotAbsolute(_))), "{text}");
        }
        for text in ["/a,b", "/a:b", "/a b", "/a\\b", "/{{a}}", "/a\nb", "/a\"b"] {
            assert!(matches!(root(text), Err(UnusablePath::Characters(_))), "{text}");
        }
    }

    #[test]
    fn a_root_is_written_in_one_way() {
        for text in ["/a/b", "/a/b//", "/a/./b/", "//a/b"] {
            assert_eq!(text.parse::<RootPath>().expect("usable").as_str(), "/a/b", "{text}");
        }
    }

    #[test]
    fn what_could_be_made_is_usable_and_is_not_made() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let deep = directory.path().join("a/b/c");
        assert_eq!(root(deep.to_str().expect("UTF-8")).expect("usable").as_path(), deep);
        assert!(!directory.path().join("a").exists());
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("file");
        std::fs::write(&file, "").expect("file");
        for text in [file.clone(), file.join("below")] {
            let error = root(text.to_str().expect("UTF-8")).expect_err("unusable").to_string();
            assert!(error.starts_with(&format!("{} is not a directory", file.display())), "{error}");
        }
    }

    #[test]
    fn a_directory_that_is_only_read_must_exist() {
        let parent = tempfile::tempdir().expect("temporary directory");
        let check = |path: &Path| directory(path.to_str().expect("UTF-8"));
        assert_eq!(check(parent.path()).expect("usable"), parent.path());
        assert!(matches!(check(&parent.path().join("missing")), Err(UnusablePath::Missing { .. })));
        let file = parent.path().join("file");
        std::fs::write(&file, "").expect("file");
        assert!(matches!(check(&file), Err(UnusablePath::NotADirectory(_))));
        assert!(matches!(directory("relative"), Err(UnusablePath::NotAbsolute(_))));
    }

    #[test]
    fn only_a_socket_may_be_replaced() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("s");
        let text = path.to_str().expect("UTF-8");
        listening_socket(text).expect("nothing there yet");
        let _listener = UnixListener::bind(&path).expect("socket");
        listening_socket(text).expect("a socket");
        std::fs::remove_file(&path).expect("remove");
        std::fs::write(&path, "").expect("file");
        assert!(matches!(listening_socket(text), Err(UnusablePath::NotASocket(_))));
    }

    #[test]
    fn socket_paths_have_a_longest() {
        let fits = format!("/{}", "a".repeat(106));
        assert!(socket(&fits).is_ok());
        assert!(matches!(socket(&format!("{fits}a")), Err(UnusablePath::SocketTooLong { length: 108, .. })));
    }
}
