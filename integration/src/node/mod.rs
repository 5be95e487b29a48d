//! One node: registry, containerd and our daemon, with all their state in one directory.
//!
//! Works inside the test host ([`crate::stage`]). Several nodes can run beside each other.

mod configuration;
pub mod connection;
pub mod containerd;
pub mod cri;
pub mod daemon;
pub mod log;
pub mod registry;
pub mod release;
pub mod service;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

pub use containerd::{Containerd, Pull};
pub use cri::Cri;
pub use daemon::{Daemon, DaemonOptions, LogLevel};
pub use registry::Registry;
pub use release::Release;

use crate::harness::eventually;
use crate::images::Image;
use crate::leaks;
use crate::stage::Place;

/// Our snapshotter's plugin name.
pub const SNAPSHOTTER: &str = "nexuserofs";
/// The plugin name of our snapshotter whose plans need no mount manager.
pub const HOST_SNAPSHOTTER: &str = "nexuserofs-host";
/// Our differ's plugin name.
pub const DIFFER: &str = "nexuserofs-diff";
/// containerd's built-in snapshotter that unpacks into directories.
pub const OVERLAYFS: &str = "overlayfs";
/// containerd's built-in snapshotter that runs mkfs.erofs.
pub const BUILTIN_EROFS: &str = "erofs";

/// What of a node is to be started, and how.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Our daemon's options; without them no daemon is started.
    pub daemon: Option<DaemonOptions>,
    /// How the built-in erofs differ is tuned.
    pub peer: containerd::Peer,
    /// Whether it makes dm-verity trees. containerd refuses that where the kernel has no dm-verity.
    pub peer_verity: bool,
    /// Which containerd.
    pub release: Release,
    /// Kubernetes' interface, if the node is to serve it.
    pub cri: Option<CriOptions>,
}

/// How a node serves Kubernetes' interface.
#[derive(Clone, Debug)]
pub struct CriOptions {
    /// The snapshotter of all images.
    pub snapshotter: &'static str,
    /// The image that holds a pod's namespaces open. It is pushed into the registry.
    pub sandbox: Image,
}

/// A running node. Dropping it ends its processes.
#[derive(Debug)]
pub struct Node {
    // Fields are dropped in this order: clients before what they use.
    /// Our daemon, if the node has one.
    pub daemon: Option<Daemon>,
    /// containerd and its client.
    pub containerd: Containerd,
    /// The registry.
    pub registry: Registry,
    dir: PathBuf,
}

impl Node {
    /// Starts a node in a new directory of the scratch directory.
    ///
    /// # Errors
    /// A part does not come up; the error has the end of its log.
    pub fn start(place: &Place, name: &str, options: &NodeOptions) -> Result<Self> {
        let dir = place.scratch.join(name);
        fs::create_dir(&dir).with_context(|| format!("make the node's directory {}", dir.display()))?;
        let registry = Registry::start(&dir.join("registry"))?;
        let sandbox = options.cri.as_ref().map(|cri| registry.push(&cri.sandbox)).transpose()?;
        let networks = dir.join("networks");
        let cri = options.cri.as_ref().zip(sandbox.as_deref());
        let cri = cri.map(|(cri, sandbox)| configuration::Cri {
            snapshotter: cri.snapshotter,
            sandbox,
            networks: &networks,
        });
        let (socket, root) = (daemon::socket(&dir), daemon::root(&dir));
        let plugin = configuration::Plugin { socket: &socket, root: &root };
        let start = containerd::Start {
            release: options.release,
            plugin: options.daemon.is_some().then_some(plugin),
            peer: options.peer,
            peer_verity: options.peer_verity,
            cri,
        };
        // As our unit has it: a containerd that asks a socket where nobody listens yet keeps that error, and answers
        // calls with it until it asks again, which may be seconds later.
        let containerd_dir = dir.join("containerd");
        let daemon = match &options.daemon {
            Some(options) => Some(Daemon::start(&dir, place, &containerd::socket(&containerd_dir), options)?),
            None => None,
        };
        let containerd = Containerd::start(&containerd_dir, place, start)?;
        Ok(Self { daemon, containerd, registry, dir })
    }

    /// The directory with everything that the node wrote.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The running daemon.
    ///
    /// # Errors
    /// The node was started without one.
    pub fn daemon(&mut self) -> Result<&mut Daemon> {
        self.daemon.as_mut().context("this node was started without our daemon")
    }

    /// Pushes an image into the node's registry and returns its reference there.
    ///
    /// # Errors
    /// skopeo fails.
    pub fn push(&self, image: &Image) -> Result<String> {
        self.registry.push(image)
    }

    /// Waits until the daemon has removed everything that it stored, and refuses mounts and loop devices that
    /// still point below the node's directory.
    ///
    /// # Errors
    /// Something was left; the error lists it.
    pub fn assert_nothing_left(&self) -> Result<()> {
        if let Some(daemon) = &self.daemon {
            eventually(|| {
                let mut left = Vec::new();
                for directory in ["layers", "chains", "snapshots", "staging"] {
                    left.extend(daemon.entries(directory)?);
                }
                Ok((!left.is_empty()).then(|| format!("left below the daemon's root: {left:?}")))
            })?;
        }
        self.assert_nothing_mounted()
    }

    /// Refuses mounts and loop devices that still point below the node's directory.
    ///
    /// # Errors
    /// Something was left; the error lists it.
    pub fn assert_nothing_mounted(&self) -> Result<()> {
        let mounts = leaks::mounts_below(&self.dir)?;
        ensure!(mounts.is_empty(), "mounts were left behind:\n{}", mounts.join("\n"));
        let loops = leaks::loops_below(&self.dir)?;
        ensure!(loops.is_empty(), "loop devices were left behind: {loops:?}");
        Ok(())
    }
}
