//! Comparisons by real containerd: what a container changed becomes a layer, and that layer, unpacked by
//! containerd's own overlayfs snapshotter, shows what the container saw.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::digest::hex;
use nexuserofs_integration::harness::{self, Test, eventually};
use nexuserofs_integration::images::Image;
use nexuserofs_integration::images::layout::{Encoding, Layout, Source};
use nexuserofs_integration::node::containerd::ImageMount;
use nexuserofs_integration::node::{DaemonOptions, Node, NodeOptions, OVERLAYFS, Pull, SNAPSHOTTER};
use nexuserofs_integration::tree::{self, Tree};
use nexuserofs_proto::containerd::services::content::v1::InfoRequest;
use nexuserofs_proto::containerd::services::content::v1::content_client::ContentClient;
use nexuserofs_proto::containerd::services::leases::v1::leases_client::LeasesClient;
use nexuserofs_proto::containerd::services::leases::v1::{ListRequest, ListResourcesRequest};
use sha2::{Digest as _, Sha256};

const TESTS: &[Test] = &[
    Test { name: "directory_mode", run: |bed| diff(bed, "diff-directory", DaemonOptions::default()) },
    Test { name: "block_mode", run: |bed| diff(bed, "diff-block", block_mode()) },
    Test { name: "renamed_directories_and_copies_without_data", run: redirects },
    Test { name: "an_image_can_be_made_of_its_own_layers", run: committed },
];

const NAMESPACE: &str = "default";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// What the container does, and then it waits to be looked at.
const CHANGES: &str = r#"
import os, time
os.chdir('/srv/app')
open('new', 'w').write('written')
open('main.py', 'a').write('# changed')
os.remove('kept/empty')
for name in os.listdir('opaque/new'):
    os.remove('opaque/new/' + name)
os.rmdir('opaque/new')
os.mkdir('opaque/new')
open('opaque/new/other', 'w').write('in a directory made anew')
os.link('new', 'kept/another name of new')
os.link('setuid', 'linked setuid')
os.chmod('new', 0o4751)
os.chown('new', 70000, 4000000000)
os.setxattr('new', 'user.comment', b'bytes \x00 \n = \xff')
os.mknod('null', 0o20666, os.makedev(1, 3))
os.mkfifo('pipe')
os.symlink('new', b'link \xff')
os.mkdir('directory')
os.utime('directory', ns=(0, 1234567890123456789))
with open('sparse', 'wb') as sparse:
    sparse.seek(5000000)
    sparse.write(b'end')
"#;

const WAIT: &str = "
open('/done', 'w').close()
import time
time.sleep(3600)
";

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), ..Needs::default() }, TESTS)
}

fn block_mode() -> DaemonOptions {
    DaemonOptions { default_size: Some("64MiB"), ..DaemonOptions::default() }
}

/// A node whose container has changed what the program says, and still runs.
struct Changed<'b> {
    bed: &'b Bed,
    node: Node,
    /// The container's name. That of its control group is the same, whatever the node.
    container: &'static str,
    rootfs: PathBuf,
}

impl<'b> Changed<'b> {
    fn by(bed: &'b Bed, name: &'static str, daemon: DaemonOptions, program: &str) -> Result<Self> {
        let options = NodeOptions { daemon: Some(daemon), ..NodeOptions::default() };
        let node = Node::start(&bed.place, name, &options)?;
        let image = node.push(&bed.images.demo)?;
        node.containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Transfer, &image)?;
        node.containerd
            .run_container(NAMESPACE, SNAPSHOTTER)
            .args(["--detach", &image, name, "/usr/bin/python3", "-c", &format!("{program}{WAIT}")])
            .run()?;
        let rootfs = node.containerd.rootfs_of(NAMESPACE, name);
        let done = rootfs.join("done");
        eventually(|| Ok((!done.exists()).then(|| "the container has not done its changes".to_owned())))?;
        Ok(Self { bed, node, container: name, rootfs })
    }

    /// The difference in a type of layer, and what `ctr` is told besides.
    fn diff(&self, media_type: &str, more: &[&str]) -> Result<Vec<u8>> {
        self.node
            .containerd
            .ctr(NAMESPACE)
            .args(["snapshots", "--snapshotter", SNAPSHOTTER, "diff", "--media-type", media_type, "--keep"])
            .args(more)
            .arg(self.container)
            .bytes()
    }

    /// What the image shows with this tar as one more layer, unpacked by `snapshotter`.
    fn with_layer(&self, tar: &[u8], snapshotter: &str) -> Result<Tree> {
        let dir = self.node.dir().join(format!("with layer, by {snapshotter}"));
        fs::create_dir(&dir)?;
        let file = dir.join("layer.tar");
        fs::write(&file, tar)?;
        let mut layout = Layout::create(&dir)?;
        layout.add_image(&self.bed.images.demo)?;
        layout.add(Source::Tar(&file), Encoding::Gzip)?;
        layout.finish()?;
        let reference = self.node.push(&Image { name: "with-layer", layout: dir.clone() })?;
        self.node.containerd.pull(NAMESPACE, snapshotter, Pull::Transfer, &reference)?;
        let target = &dir.join("mounted");
        let image =
            ImageMount { namespace: NAMESPACE, snapshotter, reference: &reference, target, writable: false };
        let mounted = self.node.containerd.mount(image)?;
        let tree = tree::read_image(mounted.path())?;
        mounted.undo()?;
        Ok(tree)
    }

    /// Compares what the container sees with the image made of its difference.
    fn ensure_same(&self, tar: &[u8]) -> Result<()> {
        let expected = tree::read_image(&self.rootfs)?;
        ensure!(expected.contains_key(Path::new("done")), "the container's root is not mounted");
        for snapshotter in [OVERLAYFS, SNAPSHOTTER] {
            let found = tree::differences(&expected, &self.with_layer(tar, snapshotter)?, 20);
            ensure!(
                found.is_empty(),
                "{snapshotter} differs, the container on the left:\n{}",
                found.join("\n")
            );
        }
        Ok(())
    }
}

fn diff(bed: &Bed, name: &'static str, daemon: DaemonOptions) -> Result<()> {
    let changed = Changed::by(bed, name, daemon, CHANGES)?;
    let tar = changed.diff(TAR, &[])?;
    let gzip = changed.diff(&format!("{TAR}+gzip"), &[])?;
    let zstd = changed.diff(&format!("{TAR}+zstd"), &[])?;
    let mut inflated = Vec::new();
    GzDecoder::new(gzip.as_slice()).read_to_end(&mut inflated)?;
    ensure!(inflated == tar, "gzip gives another tar");
    ensure!(zstd::stream::decode_all(zstd.as_slice())? == tar, "zstd gives another tar");
    for (suffix, blob) in [("", &tar), ("+gzip", &gzip), ("+zstd", &zstd)] {
        ensure!(changed.diff(&format!("{TAR}{suffix}"), &[])? == *blob, "a second diff{suffix} is another");
        ensure_labelled_and_kept(&changed.node, blob, &tar)?;
    }
    ensure_is_ours(&changed.node)?;
    changed.ensure_same(&tar)
}

/// Directories that were renamed, and files of which only the mode changed: with these options overlayfs
/// leaves the content in the image's layers.
fn redirects(bed: &Bed) -> Result<()> {
    let settings = Some(r#"overlay_options = ["redirect_dir=on", "metacopy=on"]"#.to_owned());
    let daemon = DaemonOptions { settings, ..DaemonOptions::default() };
    let program = r#"
import os
os.rename('/srv/app/kept', '/srv/renamed')
os.mkdir('/srv/app/kept')
open('/srv/app/kept/new', 'w').write('in place of what was renamed')
open('/srv/renamed/added', 'w').write('to what was renamed')
os.remove('/srv/renamed/empty')
os.rename('/srv/app/opaque', '/srv/app/sibling')
os.chmod('/srv/app/main.py', 0o751)
os.chmod('/srv/app/setuid', 0o4711)
os.rename('/srv/app/setuid', '/srv/app/moved setuid')
"#;
    let changed = Changed::by(bed, "diff-redirects", daemon, program)?;
    let tar = changed.diff(TAR, &[])?;
    ensure!(tar == changed.diff(TAR, &[])?, "a second diff is another");
    ensure_is_ours(&changed.node)?;
    changed.ensure_same(&tar)
}

/// All layers of a committed image as one, which shows the same as they.
fn committed(bed: &Bed) -> Result<()> {
    let changed = Changed::by(bed, "diff-committed", DaemonOptions::default(), "")?;
    let ctr = |more: &[&str]| {
        let ctr = changed.node.containerd.ctr(NAMESPACE);
        ctr.args(["snapshots", "--snapshotter", SNAPSHOTTER]).args(more).bytes()
    };
    let list = String::from_utf8(ctr(&["list"])?)?;
    let is_committed = |line: &&str| line.trim_end().ends_with("Committed");
    let names: Vec<&str> =
        list.lines().filter(is_committed).filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(names.len() == bed.images.demo.layers()?.len(), "the snapshots are {list}");
    let mut trees = Vec::new();
    for name in &names {
        trees.push(ctr(&["diff", "--media-type", TAR, name])?);
        ensure!(
            ctr(&["diff", "--media-type", TAR, name])? == trees[trees.len() - 1],
            "a second diff is another"
        );
    }
    ensure_is_ours(&changed.node)?;
    let dir = changed.node.dir().join("again");
    fs::create_dir(&dir)?;
    let mut layout = Layout::create(&dir)?;
    // The list is by name; the order of the chain is that of the image, told by the diffIDs' chain.
    for tar in in_order(&changed.node, &names, trees)? {
        let file = dir.join("layer.tar");
        fs::write(&file, tar)?;
        layout.add(Source::Tar(&file), Encoding::Zstd)?;
    }
    layout.finish()?;
    let reference = changed.node.push(&Image { name: "again", layout: dir.clone() })?;
    let original = changed.node.push(&bed.images.demo)?;
    changed.node.containerd.pull(NAMESPACE, OVERLAYFS, Pull::Transfer, &original)?;
    let mut views = Vec::new();
    for (reference, snapshotter) in [(&original, OVERLAYFS), (&reference, SNAPSHOTTER)] {
        changed.node.containerd.pull(NAMESPACE, snapshotter, Pull::Transfer, reference)?;
        let target = &dir.join(format!("mounted by {snapshotter}"));
        let image = ImageMount { namespace: NAMESPACE, snapshotter, reference, target, writable: false };
        let mounted = changed.node.containerd.mount(image)?;
        views.push(tree::read_image(mounted.path())?);
        mounted.undo()?;
    }
    let found = tree::differences(&views[0], &views[1], 20);
    ensure!(found.is_empty(), "the image on the left:\n{}", found.join("\n"));
    Ok(())
}

/// Sorts what belongs to snapshots from the lowest of their chain up.
fn in_order(node: &Node, names: &[&str], things: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
    let mut by_parent = BTreeMap::new();
    for (name, thing) in names.iter().zip(things) {
        let info = node.containerd.ctr(NAMESPACE);
        let info = info.args(["snapshots", "--snapshotter", SNAPSHOTTER, "info", name]).output()?;
        let info: serde_json::Value = serde_json::from_str(&info)?;
        let parent = info["Parent"].as_str().unwrap_or_default().to_owned();
        by_parent.insert(parent, ((*name).to_owned(), thing));
    }
    let (mut ordered, mut parent) = (Vec::new(), String::new());
    while let Some((name, thing)) = by_parent.remove(&parent) {
        ordered.push(thing);
        parent = name;
    }
    ensure!(by_parent.is_empty(), "the snapshots are no chain: {:?}", by_parent.keys());
    Ok(ordered)
}

/// The blob tells its diffID, and a lease of our own keeps it for a while.
fn ensure_labelled_and_kept(node: &Node, blob: &[u8], tar: &[u8]) -> Result<()> {
    let digest = |bytes: &[u8]| format!("sha256:{}", hex(&Sha256::digest(bytes)));
    let connection = node.containerd.connect(NAMESPACE)?;
    let caller = connection.caller();
    connection.wait_for(async {
        let request = caller.request(InfoRequest { digest: digest(blob) }, None)?;
        let info = ContentClient::new(caller.channel.clone()).info(request).await?.into_inner().info;
        let labels = info.context("no record of the blob")?.labels;
        ensure!(labels.get(UNCOMPRESSED) == Some(&digest(tar)), "the labels are {labels:?}");
        ensure!(labels.contains_key("containerd.io/gc.root"), "the client's labels are lost: {labels:?}");
        let mut leases = LeasesClient::new(caller.channel.clone());
        let all = leases.list(caller.request(ListRequest::default(), None)?).await?.into_inner().leases;
        for lease in all.iter().filter(|lease| lease.labels.contains_key("containerd.io/gc.expire")) {
            let request = caller.request(ListResourcesRequest { id: lease.id.clone() }, None)?;
            let kept = leases.list_resources(request).await?.into_inner().resources;
            if kept.iter().any(|resource| resource.r#type == "content" && resource.id == digest(blob)) {
                return Ok(());
            }
        }
        anyhow::bail!("no lease that expires keeps the blob: {all:?}")
    })
}

/// Fails if another differ made a difference.
fn ensure_is_ours(node: &Node) -> Result<()> {
    let daemon = node.daemon.as_ref().context("no daemon")?;
    let calls = daemon.calls()?;
    let diffs: Vec<_> = calls.iter().filter(|call| call.method == "Diff").collect();
    ensure!(!diffs.is_empty(), "our differ was not asked");
    ensure!(diffs.iter().all(|call| call.code == "Ok"), "our differ refused: {:?}", diffs);
    Ok(())
}
