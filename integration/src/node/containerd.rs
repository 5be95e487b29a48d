//! A private containerd and its clients.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::configuration::{Configuration, Cri, Plugin};
use super::connection::Connection;
use super::release::Release;
use super::service::Service;
use crate::command::Run;
use crate::stage::Place;
use crate::tree::{self, Tree};

/// How containerd's own erofs differ is tuned, which we measure against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Peer {
    /// containerd's defaults, and no igzip: what a machine has that nobody tuned.
    #[default]
    Default,
    /// The options of its documentation, with igzip.
    Tuned,
}

impl Peer {
    pub(super) fn mkfs_options(self) -> &'static str {
        match self {
            Self::Default => "[]",
            Self::Tuned => r#"["-T0", "--mkfs-time", "--sort=none"]"#,
        }
    }

    /// containerd looks for igzip, then for pigz, unless these are set.
    fn environment(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Default => &[("CONTAINERD_DISABLE_IGZIP", "1"), ("CONTAINERD_DISABLE_PIGZ", "1")],
            Self::Tuned => &[],
        }
    }
}

/// Which of containerd's two ways a pull takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// The transfer service: containerd fetches and unpacks, several layers at a time.
    Transfer,
    /// The classic client, which unpacks through the diff service.
    Local,
}

/// What a containerd is started with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start<'a> {
    pub release: Release,
    /// Our daemon.
    pub plugin: Option<Plugin<'a>>,
    pub peer: Peer,
    pub peer_verity: bool,
    pub cri: Option<Cri<'a>>,
}

/// Containers that this process has run, over all nodes.
static CONTAINERS: AtomicU32 = AtomicU32::new(0);

/// A running containerd.
#[derive(Debug)]
pub struct Containerd {
    service: Service,
    /// containerd's own programs.
    programs: PathBuf,
    /// Our clients.
    tools: PathBuf,
    root: PathBuf,
    state: PathBuf,
    socket: PathBuf,
}

/// The gRPC socket of the containerd whose state is in `dir`.
pub(super) fn socket(dir: &Path) -> PathBuf {
    dir.join("containerd.sock")
}

impl Containerd {
    /// Starts containerd with its state in `dir`, which is made.
    ///
    /// # Errors
    /// It does not come up.
    pub(super) fn start(dir: &Path, place: &Place, start: Start<'_>) -> Result<Self> {
        fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
        let (root, state, socket) = (dir.join("root"), dir.join("state"), socket(dir));
        let Start { release, plugin, peer, peer_verity, cri } = start;
        let configuration = Configuration {
            release,
            root: &root,
            state: &state,
            socket: &socket,
            plugin,
            peer,
            peer_verity,
            cri,
        };
        let file = dir.join("config.toml");
        fs::write(&file, configuration.text())?;
        let programs = release.programs(place)?;
        let mut command = Command::new(programs.join("containerd"));
        command.arg("--config").arg(&file).envs(peer.environment().iter().copied());
        command.env("PATH", search_path(&programs)?);
        let service = Service::start("containerd", command, &dir.join("log"))?;
        let mut containerd = Self { service, programs, tools: place.tools.clone(), root, state, socket };
        let version = containerd.version_command();
        containerd.service.wait_until(|| version().succeeds())?;
        Ok(containerd)
    }

    /// Asks for the server's version, by a closure that borrows nothing of this value.
    fn version_command(&self) -> impl Fn() -> Run + use<> {
        let (ctr, socket) = (self.programs.join("ctr"), self.socket.clone());
        move || Run::new(&ctr).arg("--address").arg(&socket).arg("version")
    }

    /// The version that the server says it is.
    ///
    /// # Errors
    /// ctr fails.
    pub fn server_version(&self) -> Result<String> {
        let versions = self.version_command()().output()?;
        // The client's version comes first, the server's after it.
        let version = versions.lines().rev().find_map(|line| line.trim().strip_prefix("Version:"));
        Ok(version.context("ctr told no version")?.trim().trim_start_matches('v').to_owned())
    }

    /// The gRPC socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The directory with content store and metadata.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the shim mounts a container's root file system.
    #[must_use]
    pub fn rootfs_of(&self, namespace: &str, container: &str) -> PathBuf {
        self.state.join("io.containerd.runtime.v2.task").join(namespace).join(container).join("rootfs")
    }

    /// A program of ours that is a client of containerd.
    #[must_use]
    pub(super) fn tool(&self, name: &str) -> PathBuf {
        self.tools.join(name)
    }

    /// containerd's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// Everything that containerd logged so far.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.service.log()
    }

    /// A gRPC connection, in a namespace.
    ///
    /// # Errors
    /// The socket does not answer.
    pub fn connect(&self, namespace: &str) -> Result<Connection> {
        Connection::open(&self.socket, namespace)
    }

    /// containerd's command-line client, in a namespace.
    #[must_use]
    pub fn ctr(&self, namespace: &str) -> Run {
        Run::new(self.programs.join("ctr"))
            .arg("--address")
            .arg(&self.socket)
            .args(["--namespace", namespace])
    }

    /// Pulls an image and unpacks it for a snapshotter.
    ///
    /// # Errors
    /// ctr fails.
    pub fn pull(&self, namespace: &str, snapshotter: &str, how: Pull, reference: &str) -> Result<()> {
        let pull = self.ctr(namespace).args(["images", "pull", "--plain-http", "--snapshotter", snapshotter]);
        let pull = match how {
            Pull::Transfer => pull,
            Pull::Local => pull.arg("--local"),
        };
        pull.arg(reference).run()
    }

    /// Fetches an image's content without unpacking it.
    ///
    /// # Errors
    /// ctr fails.
    pub fn fetch(&self, namespace: &str, reference: &str) -> Result<()> {
        self.ctr(namespace).args(["content", "fetch", "--plain-http", reference]).run()
    }

    /// `ctr run`, up to where its options, the image, the container's name and its command follow.
    #[must_use]
    pub fn run_container(&self, namespace: &str, snapshotter: &str) -> Run {
        // Other nodes run at the same time, with containers of the same name: they would share runc's usual directory, and
        // a control group, in which runc makes no container while there is a process.
        let number = CONTAINERS.fetch_add(1, Ordering::Relaxed);
        let group = format!("/{namespace}/{}-{number}", process::id());
        self.ctr(namespace)
            .args(["run", "--snapshotter", snapshotter, "--cgroup", &group, "--runc-root"])
            .arg(self.state.join("runc"))
    }

    /// Runs a command in a new container under runc, removes the container and returns what it printed.
    ///
    /// # Errors
    /// The container cannot be made, or its command fails.
    pub fn run(
        &self,
        namespace: &str,
        snapshotter: &str,
        reference: &str,
        container: &str,
        command: &[&str],
    ) -> Result<String> {
        let container = [&["--rm", reference, container], command].concat();
        self.run_and_print(namespace, snapshotter, &container)
    }

    /// Runs a container that `arguments` describe to `ctr run`, and returns what it printed, on both streams.
    ///
    /// It prints into a file: containerd's client closes its pipes once the container has ended, also if it has not read
    /// all (`copyIO` in `pkg/cio/io_unix.go` of 2.3.4).
    ///
    /// # Errors
    /// As [`Containerd::run`]; the error has what was printed.
    pub fn run_and_print(&self, namespace: &str, snapshotter: &str, arguments: &[&str]) -> Result<String> {
        let printed = tempfile::Builder::new().prefix("printed").tempfile_in(&self.state)?;
        let file = format!("file://{}", printed.path().display());
        let run = self.run_container(namespace, snapshotter).args(["--log-uri", &file]).args(arguments).run();
        let printed = fs::read_to_string(printed.path()).context("read what a container printed")?;
        run.with_context(|| format!("the container printed {printed:?}"))?;
        Ok(printed)
    }

    /// Removes an image and waits for garbage collection.
    ///
    /// # Errors
    /// ctr fails.
    pub fn remove_image(&self, namespace: &str, reference: &str) -> Result<()> {
        self.ctr(namespace).args(["images", "rm", "--sync", reference]).run()
    }

    /// Keys of a snapshotter's snapshots in a namespace.
    ///
    /// # Errors
    /// ctr fails.
    pub fn snapshots(&self, namespace: &str, snapshotter: &str) -> Result<Vec<String>> {
        let list = self.ctr(namespace).args(["snapshots", "--snapshotter", snapshotter, "list"]).output()?;
        Ok(list
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect())
    }

    /// Mounts an unpacked image's root file system on `target`, which is made, through the mount manager.
    ///
    /// # Errors
    /// The snapshot, the activation or a mount fails.
    pub fn mount(&self, image: ImageMount<'_>) -> Result<Mounted<'_>> {
        fs::create_dir_all(image.target).with_context(|| format!("make {}", image.target.display()))?;
        let key = format!("mounted {}", image.target.display());
        let mut run = self.image_mount(image.namespace, image.snapshotter, &key);
        if image.writable {
            run = run.arg("-writable");
        }
        let plan = run.arg(image.reference).arg(image.target).output()?;
        Ok(Mounted {
            containerd: self,
            namespace: image.namespace.to_owned(),
            snapshotter: image.snapshotter.to_owned(),
            key,
            target: image.target.to_owned(),
            plan: serde_json::from_str(&plan).context("mount list of image-mount")?,
            undone: false,
        })
    }

    /// Reads an unpacked image's tree, mounted on the target meanwhile.
    ///
    /// # Errors
    /// The mount fails, or something in it cannot be read.
    pub fn read_image(&self, image: ImageMount<'_>) -> Result<Tree> {
        let mounted = self.mount(image)?;
        let tree = tree::read_image(mounted.path()).with_context(|| format!("plan: {:?}", mounted.plan))?;
        mounted.undo()?;
        Ok(tree)
    }

    fn image_mount(&self, namespace: &str, snapshotter: &str, key: &str) -> Run {
        Run::new(self.tools.join("image-mount")).arg("-address").arg(&self.socket).args([
            "-namespace",
            namespace,
            "-snapshotter",
            snapshotter,
            "-key",
            key,
        ])
    }
}

/// Which image is mounted where, and how.
#[derive(Clone, Copy, Debug)]
pub struct ImageMount<'a> {
    /// containerd namespace.
    pub namespace: &'a str,
    /// Snapshotter for which the image is unpacked.
    pub snapshotter: &'a str,
    /// The image.
    pub reference: &'a str,
    /// Where its root file system appears.
    pub target: &'a Path,
    /// An active snapshot instead of a view.
    pub writable: bool,
}

/// An entry of a mount list, with the field names of containerd's Go type `mount.Mount`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PlanEntry {
    /// File system type, with the transforms of the mount manager in front.
    pub r#type: String,
    /// What is mounted.
    pub source: String,
    /// How.
    pub options: Option<Vec<String>>,
}

impl fmt::Display for PlanEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.options.as_deref().unwrap_or_default();
        write!(f, "{} {} {}", self.r#type, self.source, options.join(","))
    }
}

/// A mounted root file system. Dropping it unmounts.
#[derive(Debug)]
pub struct Mounted<'a> {
    containerd: &'a Containerd,
    namespace: String,
    snapshotter: String,
    key: String,
    target: PathBuf,
    /// The snapshotter's mount list.
    pub plan: Vec<PlanEntry>,
    undone: bool,
}

impl Mounted<'_> {
    /// Where the root file system is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// Unmounts and removes the snapshot.
    ///
    /// # Errors
    /// One of the two fails.
    pub fn undo(mut self) -> Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.undone, true) {
            return Ok(());
        }
        self.containerd
            .image_mount(&self.namespace, &self.snapshotter, &self.key)
            .arg("-undo")
            .arg(&self.target)
            .run()
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            eprintln!("test bed: {error:#}");
        }
    }
}

/// The search path of a containerd, with its own shim before those of other releases.
fn search_path(programs: &Path) -> Result<OsString> {
    let usual = env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(programs.to_owned()).chain(env::split_paths(&usual));
    env::join_paths(paths).context("search path of containerd")
}
