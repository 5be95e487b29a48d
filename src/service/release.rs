//! Which release of containerd asks: releases differ in what they make of an answer.

use std::num::NonZeroI32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nexuserofs_proto::containerd::services::version::v1::version_client::VersionClient;
use tonic::Extensions;
use tonic::transport::server::UdsConnectInfo;
use tonic::transport::{Channel, Endpoint};

/// How long containerd may take to tell its version. It waits for us meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);

/// A release, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release {
    major: u32,
    minor: u32,
}

/// An address that cannot be dialled.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {address} as containerd's address", address = address.display())]
pub struct UnusableAddress {
    address: PathBuf,
    source: tonic::transport::Error,
}

/// The release of the containerd that we serve. It is asked once for each of its processes, and each time where these
/// cannot be told apart.
#[derive(Clone, Debug)]
pub(super) struct Releases {
    channel: Channel,
    /// The last answer, and the process that it is of.
    known: Arc<Mutex<Option<(NonZeroI32, Release)>>>,
}

impl Release {
    /// The first release that takes a read-only plan for a layer that needs no unpacking.
    pub(super) const STAGED: Self = Self { major: 2, minor: 4 };

    /// Reads `v2.4.0-rc.1` and the like. None for a build that has no version.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim_start_matches('v').split('.').map(|part| part.parse().ok());
        Some(Self { major: parts.next()??, minor: parts.next()?? })
    }
}

impl Releases {
    /// Asks the containerd at `address`, which need not be there yet.
    pub(super) fn new(address: &Path) -> Result<Self, UnusableAddress> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", address.display()))
            .map_err(|source| UnusableAddress { address: address.to_owned(), source })?;
        let channel = endpoint.timeout(PATIENCE).connect_timeout(PATIENCE).connect_lazy();
        Ok(Self { channel, known: Arc::default() })
    }

    /// The release of the process that made a call with these extensions. None if it does not say.
    pub(super) async fn of(&self, call: &Extensions) -> Option<Release> {
        // The kernel says 0 for every process in another PID namespace.
        let process = NonZeroI32::new(call.get::<UdsConnectInfo>()?.peer_cred?.pid()?);
        if let Some((_, release)) = self.known().filter(|(known, _)| Some(*known) == process) {
            return Some(release);
        }
        match VersionClient::new(self.channel.clone()).version(()).await {
            Ok(answer) => {
                let version = answer.into_inner().version;
                let release = Release::parse(&version);
                tracing::info!(version, ?release, "asked containerd for its version");
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                *known = process.zip(release);
                release
            }
            Err(status) => {
                tracing::warn!(%status, "cannot ask containerd for its version: layers are unpacked as usual");
                None
            }
        }
    }

    fn known(&self) -> Option<(NonZeroI32, Release)> {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let release = |text| Release::parse(text).unwrap();
        assert!(release("v2.4.0") >= Release::STAGED);
        assert!(release("2.10.0-beta.1") >= Release::STAGED);
        assert!(release("v2.3.4") < Release::STAGED);
        assert!(release("1.7.24~ds1") < Release::STAGED);
        assert!(release("v3.0.0") > Release::STAGED);
        assert_eq!(Release::parse("unknown"), None);
        assert_eq!(Release::parse(""), None);
    }
}
