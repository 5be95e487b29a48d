//! The daemon, asked at its own socket.

use nexuserofs_proto::containerd::services::snapshots::v1::StatSnapshotRequest;
use nexuserofs_proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use tonic::{Code, Request};

use super::{Connection, Error};

/// A key that no client uses: containerd's begin with a namespace.
const NOBODYS_KEY: &str = "nexuserofs doctor";

impl Connection {
    /// Whether the daemon that listens serves the snapshotter `profile`.
    ///
    /// # Errors
    /// [`Error::Call`] from a server that serves no snapshots.
    pub fn serves(&self, profile: &str) -> Result<bool, Error> {
        let question = StatSnapshotRequest { snapshotter: profile.to_owned(), key: NOBODYS_KEY.to_owned() };
        let mut client = SnapshotsClient::new(self.channel());
        match self.wait("look for a snapshot", client.stat(Request::new(question))) {
            // That there is no such snapshot is said by whoever would know of one.
            Err(Error::Call { status, .. }) if status.code() == Code::NotFound => Ok(true),
            Err(Error::Call { status, .. }) if status.code() == Code::InvalidArgument => Ok(false),
            answer => answer.map(|_| true),
        }
    }
}
