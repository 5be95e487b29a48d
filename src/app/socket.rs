//! The daemon's socket: claimed, bound with mode 0600, and removed at the end.

use std::ffi::OsString;
use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixSocket};

use super::directory;
use super::error::Error;
use super::holder::Holder;
use super::lock::{Lock, LockError};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 1024;

/// The daemon's socket, listening.
#[derive(Debug)]
pub(super) struct Socket {
    /// Where clients come in.
    pub(super) listener: UnixListener,
    /// Kept until the last call is over.
    pub(super) file: SocketFile,
}

/// The right to the socket's path. Dropping it removes the socket.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: Inode,
    /// Beside the socket: it decides between two daemons that start at the same moment, who
    /// would both find nobody listening.
    _lock: Lock,
}

/// Device and inode number.
#[derive(Debug, PartialEq, Eq)]
struct Inode(u64, u64);

impl Inode {
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

impl Drop for SocketFile {
    /// Removes the socket, unless somebody put another one in its place.
    fn drop(&mut self) {
        let ours = self.path.symlink_metadata().is_ok_and(|found| Inode::of(&found) == self.inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket; the next start will");
        }
    }
}

/// Makes `path` this daemon's and listens there: only the owner can connect.
///
/// A socket that nobody listens at any more is replaced; a live one is not. Must be called in a
/// tokio runtime.
pub(super) fn listen(path: &Path) -> Result<Socket, Error> {
    let lock = lock_beside(path)?;
    refuse_live(path)?;
    remove_stale(path)?;
    let socket = UnixSocket::new_stream().map_err(Error::file("create a socket for", path))?;
    socket.bind(path).map_err(Error::file("bind", path))?;
    // Between bind and listen every connect is refused, so the mode is right before anybody can
    // use the socket. The umask, which belongs to all threads, need not be touched.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .map_err(Error::file("set the mode of", path))?;
    let metadata = path.symlink_metadata().map_err(Error::file("look at", path))?;
    let file = SocketFile { path: path.to_owned(), inode: Inode::of(&metadata), _lock: lock };
    let listener = socket.listen(BACKLOG).map_err(Error::file("listen at", path))?;
    Ok(Socket { listener, file })
}

fn lock_beside(path: &Path) -> Result<Lock, Error> {
    if let Some(directory) = path.parent() {
        directory::make(directory)?;
    }
    let mut name = OsString::from(path);
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    Lock::take(&lock_path).map_err(|error| match error {
        LockError::Held(holder) => Error::AddressInUse { path: path.to_owned(), holder },
        LockError::Io(source) => Error::file("lock", &lock_path)(source),
    })
}

/// Fails when somebody answers at `path`, who need not be one of us and so may hold no lock.
fn refuse_live(path: &Path) -> Result<(), Error> {
    match connect(path) {
        Ok(holder) => Err(Error::AddressInUse { path: path.to_owned(), holder }),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(()),
        Err(errno) => Err(Error::file("connect to", path)(errno)),
    }
}

/// Who listens at `path`.
fn connect(path: &Path) -> rustix::io::Result<Holder> {
    let address = SocketAddrUnix::new(path)?;
    // Not blocking: a stopped process whose queue is full would let us wait forever.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {
            let pid = rustix::net::sockopt::socket_peercred(&socket)?.pid;
            Ok(Holder::process(pid.as_raw_nonzero().get()))
        }
        // A full queue: somebody made it, but does not say who.
        Err(Errno::AGAIN) => Ok(Holder::Unknown),
        Err(errno) => Err(errno),
    }
}

fn remove_stale(path: &Path) -> Result<(), Error> {
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => {
            std::fs::remove_file(path).map_err(Error::file("remove the stale socket", path))
        }
        Ok(_) => Err(Error::NotASocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::file("look at", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};

    use super::*;

    #[tokio::test]
    async fn only_the_owner_can_connect_and_the_end_leaves_no_socket() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("run/s.sock");
        let Socket { listener: _listener, file } = listen(&path).expect("free");
        let metadata = path.symlink_metadata().expect("socket");
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
        assert!(metadata.file_type().is_socket());
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stranger_that_listens_is_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("s.sock");
        let _stranger = StdListener::bind(&path).expect("free");
        match listen(&path) {
            Err(Error::AddressInUse { holder: Holder::Process { pid, command }, .. }) => {
                assert_eq!(pid.unsigned_abs(), std::process::id());
                assert!(!command.is_empty());
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_nobody_listens_at_is_replaced() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("s.sock");
        drop(StdListener::bind(&path).expect("free"));
        let _socket = listen(&path).expect("stale");
        StdStream::connect(&path).expect("live again");
    }

    #[tokio::test]
    async fn a_file_is_not_replaced() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("s.sock");
        std::fs::write(&path, "precious").expect("file");
        listen(&path).expect_err("not a socket");
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "precious");
    }

    #[tokio::test]
    async fn somebody_elses_socket_survives_our_end() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("s.sock");
        let Socket { listener: _listener, file } = listen(&path).expect("free");
        std::fs::rename(&path, directory.path().join("old")).expect("rename");
        let _other = StdListener::bind(&path).expect("free");
        drop(file);
        assert!(path.exists());
    }
}
