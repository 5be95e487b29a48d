//! A connection to one server on this node.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

/// How long a server may take to be reached.
const CONNECTING: Duration = Duration::from_secs(2);
/// How long it may take to answer: to begin with it, for a stream.
const ANSWERING: Duration = Duration::from_secs(60);

/// A server that listened when this was made.
#[derive(Debug)]
pub struct Connection {
    address: PathBuf,
    process: Option<u32>,
    runtime: Runtime,
    channel: Channel,
}

/// Why a server did not say what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there, or we may not connect.
    #[error("cannot connect to {}: {source}", address.display())]
    Connect {
        /// The socket.
        address: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The address cannot be dialled.
    #[error("cannot use {} as an address: write an absolute path without blanks", address.display())]
    Address {
        /// The socket.
        address: PathBuf,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
    /// This process can start no threads.
    #[error("cannot start a runtime for the connection to {}: {source}", address.display())]
    Runtime {
        /// The socket.
        address: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A namespace or a lease that cannot be sent.
    #[error("{0:?} has characters that a request cannot carry: name another namespace")]
    Header(String),
    /// What was to be sent cannot be read.
    #[error("cannot read what is to be sent: {0}")]
    Read(#[source] io::Error),
    /// The server refused, or did not answer in time.
    #[error("the server at {} does not {operation}: {}", address.display(), status.message())]
    Call {
        /// What it was asked to do.
        operation: &'static str,
        /// The socket.
        address: PathBuf,
        /// Its answer.
        status: Box<Status>,
    },
}

impl Connection {
    /// Connects to the server that listens at `address`.
    ///
    /// # Errors
    /// [`Error::Connect`] if nobody does.
    pub fn open(address: &Path) -> Result<Self, Error> {
        let owned = || address.to_owned();
        let endpoint = Endpoint::from_shared(format!("unix://{}", address.display()))
            .map_err(|source| Error::Address { address: owned(), source })?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|source| Error::Runtime { address: owned(), source })?;
        let process = runtime.block_on(peer(address));
        let process = process.map_err(|source| Error::Connect { address: owned(), source })?;
        let endpoint = endpoint.connect_timeout(CONNECTING).timeout(ANSWERING);
        let channel = {
            // The channel's own task is started here.
            let _entered = runtime.enter();
            endpoint.connect_lazy()
        };
        Ok(Self { address: owned(), process, runtime, channel })
    }

    /// The process that listens, unless it lives where this one cannot see it.
    #[must_use]
    pub const fn process(&self) -> Option<u32> {
        self.process
    }

    /// The channel, for a service's own client.
    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Waits for the answer to a call. `operation` says what was asked, as in "the server does not …".
    pub(super) fn wait<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        self.block_on(call).map(Response::into_inner).map_err(|status| self.refused(operation, status))
    }

    /// Waits for a part of a stream.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The error for a call that was refused.
    pub(super) fn refused(&self, operation: &'static str, status: Status) -> Error {
        Error::Call { operation, address: self.address.clone(), status: Box::new(status) }
    }
}

/// The process that listens at `address`. The kernel says 0 for one in another PID namespace, which the type that rustix has
/// for processes cannot hold.
async fn peer(address: &Path) -> io::Result<Option<u32>> {
    let pid = UnixStream::connect(address).await?.peer_cred()?.pid();
    Ok(pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn who_listens_is_known_and_silence_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let address = directory.path().join("s.sock");
        let error = Connection::open(&address).unwrap_err();
        assert!(matches!(&error, Error::Connect { source, .. } if source.kind() == io::ErrorKind::NotFound));
        let listener = UnixListener::bind(&address).unwrap();
        assert_eq!(Connection::open(&address).unwrap().process(), Some(std::process::id()));
        drop(listener);
        assert!(Connection::open(&address).unwrap_err().to_string().contains("s.sock"));
    }
}
