//! What a containerd is, and what it consists of.

use std::collections::BTreeMap;

use nexuserofs_proto::containerd::services::introspection::v1::introspection_client::IntrospectionClient;
use nexuserofs_proto::containerd::services::introspection::v1::{Plugin as Wire, PluginsRequest};
use nexuserofs_proto::containerd::services::version::v1::version_client::VersionClient;

use super::{Connection, Error};

/// A plugin of containerd, its own or a proxy to a program beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plugin {
    /// Its type, such as `io.containerd.snapshotter.v1`.
    pub kind: String,
    /// Its name among those of its type.
    pub id: String,
    /// What it tells others, such as `root`, its directory.
    pub exports: BTreeMap<String, String>,
    /// What it can do, such as `rebase`.
    pub capabilities: Vec<String>,
    /// Why it did not load, if it did not.
    pub fault: Option<String>,
}

impl Connection {
    /// The version of the containerd that listens, as it calls itself (`v2.3.4`).
    ///
    /// # Errors
    /// [`Error::Call`] from a server that is no containerd.
    pub fn version(&self) -> Result<String, Error> {
        let mut client = VersionClient::new(self.channel());
        Ok(self.wait("tell its version", client.version(()))?.version)
    }

    /// Its plugins.
    ///
    /// # Errors
    /// [`Error::Call`] from a server that is no containerd.
    pub fn plugins(&self) -> Result<Vec<Plugin>, Error> {
        let mut client = IntrospectionClient::new(self.channel());
        let answer = self.wait("list its plugins", client.plugins(PluginsRequest::default()))?;
        Ok(answer.plugins.into_iter().map(Plugin::from).collect())
    }
}

impl From<Wire> for Plugin {
    fn from(plugin: Wire) -> Self {
        let Wire { r#type: kind, id, exports, capabilities, init_err, .. } = plugin;
        Self { kind, id, exports, capabilities, fault: init_err.map(|status| status.message) }
    }
}
