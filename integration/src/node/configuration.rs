//! The configuration file of a node's containerd: everything private, our plugins first in line, the built-in
//! peers beside them.

use std::path::Path;

use super::containerd::Peer;
use super::release::Release;
use super::{BUILTIN_EROFS, DIFFER, HOST_SNAPSHOTTER, OVERLAYFS, SNAPSHOTTER};

/// The platform of what needs nothing special.
const PLATFORM: &str = "linux/amd64";

/// What a configuration is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Configuration<'a> {
    /// The release that reads it.
    pub release: Release,
    /// containerd's directories and socket.
    pub root: &'a Path,
    pub state: &'a Path,
    pub socket: &'a Path,
    /// Our daemon. Without it our plugins are not configured: with our differ first in line and no
    /// daemon, every unpacking through the diff service would fail.
    pub plugin: Option<Plugin<'a>>,
    /// How the built-in erofs differ is tuned.
    pub peer: Peer,
    /// Whether it makes dm-verity trees.
    pub peer_verity: bool,
    /// Kubernetes' interface, if the node serves it.
    pub cri: Option<Cri<'a>>,
}

/// Where our daemon is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plugin<'a> {
    /// Its socket.
    pub socket: &'a Path,
    /// The directory with its data, which containerd tells Kubernetes of.
    pub root: &'a Path,
}

/// What containerd is told for Kubernetes' interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cri<'a> {
    /// The snapshotter of all images.
    pub snapshotter: &'a str,
    /// Reference of the image that holds a pod's namespaces open.
    pub sandbox: &'a str,
    /// Where configurations of networks are looked for.
    pub networks: &'a Path,
}

impl Configuration<'_> {
    /// The file's text.
    pub(super) fn text(&self) -> String {
        let version = self.release.configuration();
        let (root, state, socket) = (self.root.display(), self.state.display(), self.socket.display());
        let mut disabled = self.release.unwanted_plugins().to_vec();
        if self.cri.is_none() {
            disabled.extend(self.release.cri_plugins());
        }
        let mut text = format!(
            r#"version = {version}
root = "{root}"
state = "{state}"
disabled_plugins = {disabled:?}

[grpc]
  address = "{socket}"

[ttrpc]
  address = "{socket}.ttrpc"

[plugins."io.containerd.service.v1.diff-service"]
  default = {differs:?}
"#,
            differs = self.differs(),
        );
        text.extend(self.plugin.map(|plugin| our_plugins(plugin, self.native_platform())));
        if self.release.has_erofs() {
            text.push_str(&erofs_differ(self.peer, self.peer_verity));
        }
        if self.release != Release::V1_7 {
            text.push_str(&self.transfer_service());
        }
        text.extend(self.cri.map(|cri| cri.text(self.state)));
        text
    }

    /// The platform of who unpacks EROFS layers. Images that have such ask for that feature of the operating
    /// system, since containerd 2.3; older releases do not know how to write it.
    fn native_platform(&self) -> &'static str {
        if self.release.has_mount_manager() { "linux(+erofs)/amd64" } else { PLATFORM }
    }

    /// The differs in the order in which the diff service tries them.
    fn differs(&self) -> Vec<&'static str> {
        let ours = self.plugin.map(|_| DIFFER);
        let builtin = self.release.has_erofs().then_some("erofs");
        ours.into_iter().chain(builtin).chain(["walking"]).collect()
    }

    /// Which differ the transfer service unpacks with, for each snapshotter.
    fn transfer_service(&self) -> String {
        let native = self.native_platform();
        let mut unpack = vec![(PLATFORM, OVERLAYFS, "walking"), (native, BUILTIN_EROFS, "erofs")];
        if self.plugin.is_some() {
            unpack.extend([(native, SNAPSHOTTER, DIFFER), (native, HOST_SNAPSHOTTER, DIFFER)]);
        }
        let mut text = "\n[plugins.\"io.containerd.transfer.v1.local\"]\n".to_owned();
        if self.release.has_mount_manager() {
            text.push_str("  max_concurrent_unpacks = 4\n");
        }
        text.extend(unpack.into_iter().map(unpack_entry));
        text
    }
}

fn erofs_differ(peer: Peer, verity: bool) -> String {
    let options = peer.mkfs_options();
    let verity = if verity { "  enable_dmverity = true\n" } else { "" };
    format!("\n[plugins.\"io.containerd.differ.v1.erofs\"]\n  mkfs_options = {options}\n{verity}")
}

fn our_plugins(plugin: Plugin<'_>, platform: &str) -> String {
    let (socket, root) = (plugin.socket.display(), plugin.root.display());
    let snapshotter = |name: &str| {
        format!(
            r#"
[proxy_plugins.{name}]
  type = "snapshot"
  address = "{socket}"
  platform = "{platform}"
  capabilities = ["rebase", "remap-ids"]
  [proxy_plugins.{name}.exports]
    root = "{root}"
"#
        )
    };
    format!(
        r#"{}{}
[proxy_plugins.{DIFFER}]
  type = "diff"
  address = "{socket}"
  platform = "{platform}"
"#,
        snapshotter(SNAPSHOTTER),
        snapshotter(HOST_SNAPSHOTTER),
    )
}

fn unpack_entry((platform, snapshotter, differ): (&str, &str, &str)) -> String {
    format!(
        r#"
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = "{platform}"
    snapshotter = "{snapshotter}"
    differ = "{differ}"
"#
    )
}

impl Cri<'_> {
    fn text(&self, state: &Path) -> String {
        let Self { snapshotter, sandbox, .. } = self;
        let (state, networks) = (state.display(), self.networks.display());
        format!(
            r#"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "{snapshotter}"
  discard_unpacked_layers = false
  stats_collect_period = 1
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{sandbox}"

[plugins."io.containerd.cri.v1.runtime"]
  enable_cdi = false
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  # Where the machine is a container itself, nobody may lower a process's score.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        # The machine's service manager does not manage these groups.
        SystemdCgroup = false
        Root = "{state}/runc"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{networks}"

[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
"#
        )
    }
}
