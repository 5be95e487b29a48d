//! The daemon, asked at its own socket.

use nexuserofs_proto::containerd::services::snapshots::v1::ViewSnapshotRequest;
use nexuserofs_proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use tonic::{Code, Request};

use super::{Connection, Error};

/// A key and a name that no client uses: containerd's begin with a namespace.
const NOBODYS: &str = "nexuserofs doctor";

impl Connection {
    /// Whether the daemon that listens serves the snapshotter `profile`.
    ///
    /// # Errors
    /// [`Error::Call`] from a server that serves no snapshots.
    pub fn serves(&self, profile: &str) -> Result<bool, Error> {
        // Only who asks for something new is told that there is no such profile. Nothing comes of this: there is no
        // such parent either.
        let question = ViewSnapshotRequest {
            snapshotter: profile.to_owned(),
            key: NOBODYS.to_owned(),
            parent: NOBODYS.to_owned(),
            ..ViewSnapshotRequest::default()
        };
        let mut client = SnapshotsClient::new(self.channel());
        match self.wait("look for a snapshot", client.view(Request::new(question))) {
            Err(Error::Call { status, .. }) if status.code() == Code::NotFound => Ok(true),
            Err(Error::Call { status, .. }) if status.code() == Code::InvalidArgument => Ok(false),
            answer => answer.map(|_| true),
        }
    }
}
