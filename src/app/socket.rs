//! The daemon's socket: claimed, bound with mode 0600, and removed at the end.

use std::ffi::OsString;
use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

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
/// A socket that nobody listens at any more is replaced; a live one is not.
pub(super) async fn listen(path: &Path) -> Result<Socket, Error> {
    let lock = lock_beside(path)?;
    refuse_live(path).await?;
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
async fn refuse_live(path: &Path) -> Result<(), Error> {
    let holder = match UnixStream::connect(path).await {
        Ok(stream) => listener_of(&stream),
        // The queue of connections is full: somebody made it, but does not say who.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Holder::Unknown,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(());
        }
        Err(error) => return Err(Error::file("connect to", path)(error)),
    };
    Err(Error::AddressInUse { path: path.to_owned(), holder })
}

/// The process at the other end. The kernel says 0 for one in another PID namespace.
fn listener_of(stream: &UnixStream) -> Holder {
    match stream.peer_cred().ok().and_then(|peer| peer.pid()) {
        Some(pid) if pid > 0 => Holder::process(pid),
        _ => Holder::Unknown,
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
        let Socket { listener: _listener, file } = listen(&path).await.expect("free");
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
        match listen(&path).await {
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
        let _socket = listen(&path).await.expect("stale");
        StdStream::connect(&path).expect("live again");
    }

    #[tokio::test]
    async fn a_file_is_not_replaced() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("s.sock");
        std::fs::write(&path, "precious").expect("file");
        listen(&path).await.expect_err("not a socket");
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "precious");
    }

    #[tokio::test]
    async fn somebody_elses_socket_survives_our_end() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("s.sock");
        let Socket { listener: _listener, file } = listen(&path).await.expect("free");
        std::fs::rename(&path, directory.path().join("old")).expect("rename");
        let _other = StdListener::bind(&path).expect("free");
        drop(file);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn somebody_who_is_too_busy_to_answer_is_left_alone() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("s.sock");
        let busy = UnixSocket::new_stream().expect("socket");
        busy.bind(&path).expect("free");
        let _busy = busy.listen(0).expect("listening");
        let mut waiting = Vec::new();
        while let Ok(connection) = UnixStream::connect(&path).await {
            waiting.push(connection);
        }
        match listen(&path).await {
            Err(Error::AddressInUse { holder: Holder::Unknown, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}
