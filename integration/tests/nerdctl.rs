//! nerdctl, which mounts snapshots by itself and knows no mount manager, with the profile made for such clients:
//! run, diff, copy, export, commit, push; and the committed image is the container's tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::host::tools::{CONTAINERD_1_7, NERDCTL};
use nexuserofs_integration::node::containerd::ImageMount;
use nexuserofs_integration::node::{
    DaemonOptions, HOST_SNAPSHOTTER, Node, NodeOptions, OVERLAYFS, Pull, Release,
};
use nexuserofs_integration::tree::{self, Tree};

const TESTS: &[Test] = &[
    Test { name: "overlayfs_on_2.3", run: |bed| peer(bed) },
    Test { name: "directories_on_2.3", run: |bed| ours(bed, "2.3", Release::V2_3, None) },
    Test { name: "blocks_on_2.3", run: |bed| ours(bed, "2.3-blocks", Release::V2_3, Some("64MiB")) },
    Test { name: "directories_on_2.1", run: |bed| ours(bed, "2.1", Release::V2_1, None) },
    Test { name: "directories_on_1.7", run: |bed| ours(bed, "1.7", Release::V1_7, None) },
];

const NAMESPACE: &str = "nerdctl";

/// Changes the tree of the demo image.
const CHANGE: &str = include_str!("programs/change.py");

/// Prints the tree that a container sees.
const TREE: &str = include_str!("programs/tree.py");

fn main() -> Result<ExitCode> {
    let extras = &[CONTAINERD_1_7, NERDCTL];
    harness::main(Needs { programs: Some(Profile::Debug), extras, ..Needs::default() }, TESTS)
}

/// nerdctl on one node.
struct Nerdctl {
    program: PathBuf,
    socket: PathBuf,
    data: PathBuf,
    snapshotter: &'static str,
}

impl Nerdctl {
    fn of(bed: &Bed, node: &Node, snapshotter: &'static str) -> Result<Self> {
        Ok(Self {
            program: bed.place.extra(NERDCTL)?.join("nerdctl"),
            socket: node.containerd.socket().to_owned(),
            data: node.dir().join("nerdctl"),
            snapshotter,
        })
    }

    fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        Run::new(&self.program)
            .arg("--address")
            .arg(&self.socket)
            .arg("--data-root")
            .arg(&self.data)
            .args(["--namespace", NAMESPACE, "--snapshotter", self.snapshotter])
            .args(["--cgroup-manager", "cgroupfs", "--insecure-registry"])
            .args(arguments)
            .output()
    }

    /// Runs a Python program in a new container. Networks are not what is tested.
    fn python(&self, options: &[&str], image: &str, program: &str) -> Result<String> {
        let command = ["run", "--net", "none", "--pull", "never"];
        let program = ["/usr/bin/python3", "-c", program];
        let arguments = command.iter().chain(options).chain([&image]).chain(&program);
        Ok(self.run(arguments.copied())?.trim().to_owned())
    }
}

fn peer(bed: &Bed) -> Result<()> {
    let node = Node::start(&bed.place, "peer", &NodeOptions::default())?;
    whole_way(bed, &node, OVERLAYFS)
}

fn ours(bed: &Bed, name: &str, release: Release, default_size: Option<&'static str>) -> Result<()> {
    let options = NodeOptions {
        // Releases before 2.0 tell a differ no namespace; then this one is taken.
        daemon: Some(DaemonOptions { default_size, namespace: Some(NAMESPACE), ..DaemonOptions::default() }),
        release,
        ..NodeOptions::default()
    };
    let node = Node::start(&bed.place, name, &options)?;
    whole_way(bed, &node, HOST_SNAPSHOTTER)
}

fn whole_way(bed: &Bed, node: &Node, snapshotter: &'static str) -> Result<()> {
    let nerdctl = Nerdctl::of(bed, node, snapshotter)?;
    let image = node.push(&bed.images.demo)?;
    nerdctl.run(["pull", "--quiet", &image])?;
    let container = nerdctl.python(&["--name", "one"], &image, &format!("{CHANGE}\n{TREE}"))?;
    check_diff(&nerdctl)?;
    check_copy(&nerdctl, node)?;
    check_export(&nerdctl, node)?;

    let committed = node.registry.reference("committed");
    nerdctl.run(["commit", "one", &committed])?;
    let again = nerdctl.python(&["--rm"], &committed, TREE)?;
    // containerd's walking differ drops fractions of seconds and most attributes.
    let exact = snapshotter != OVERLAYFS;
    if exact {
        ensure_same(&container, &again).context("the committed image and the container")?;
    }
    nerdctl.run(["push", "--quiet", &committed])?;
    let first = read(node, snapshotter, &committed)?;
    nerdctl.run(["rm", "one"])?;
    for reference in [&committed, &image] {
        node.containerd.remove_image(NAMESPACE, reference)?;
    }

    for one in [snapshotter, OVERLAYFS] {
        node.containerd.pull(NAMESPACE, one, Pull::Local, &committed)?;
        let found = tree::differences(&first, &read(node, one, &committed)?, 20);
        ensure!(found.is_empty(), "pulled again for {one}, the image differs:\n{}", found.join("\n"));
    }
    let again = nerdctl.python(&["--rm"], &committed, TREE)?;
    if exact {
        ensure_same(&container, &again).context("the committed image, pulled again, and the container")?;
    }
    node.containerd.remove_image(NAMESPACE, &committed)?;
    let left = node.containerd.snapshots(NAMESPACE, snapshotter)?;
    ensure!(left.is_empty(), "snapshots were left: {left:?}");
    node.assert_nothing_left()
}

/// Compares two listings of a tree.
fn ensure_same(left: &str, right: &str) -> Result<()> {
    let (left, right): (BTreeSet<&str>, BTreeSet<&str>) = (left.lines().collect(), right.lines().collect());
    let different: Vec<&&str> = left.symmetric_difference(&right).take(20).collect();
    ensure!(different.is_empty(), "entries of one of the two only: {different:#?}");
    ensure!(left.len() > 5000, "only {} entries were compared", left.len());
    Ok(())
}

fn check_diff(nerdctl: &Nerdctl) -> Result<()> {
    let diff = nerdctl.run(["diff", "one"])?;
    for line in ["A /srv/app/new", "C /srv/app/main.py", "D /srv/app/becomes-a-file", "A /srv/app/pipe"] {
        ensure!(diff.lines().any(|found| found.trim() == line), "`{line}` is missing in:\n{diff}");
    }
    ensure!(!diff.contains("/srv/app/setuid"), "the diff has files that nobody touched:\n{diff}");
    Ok(())
}

fn check_copy(nerdctl: &Nerdctl, node: &Node) -> Result<()> {
    let copy = node.dir().join("copy");
    let target = copy.to_str().context("the node's path is not UTF-8")?;
    nerdctl.run(["cp", "one:/srv/app/new", target])?;
    ensure!(fs::read_to_string(&copy)? == "written", "what was copied out is not what was written");
    Ok(())
}

fn check_export(nerdctl: &Nerdctl, node: &Node) -> Result<()> {
    let file = node.dir().join("export.tar");
    let path = file.to_str().context("the node's path is not UTF-8")?;
    nerdctl.run(["export", "--output", path, "one"])?;
    let listed = Run::new("tar").args(["--list", "--file", path]).output()?;
    let paths: Vec<&str> = listed.lines().map(|path| path.trim_start_matches("./")).collect();
    ensure!(paths.contains(&"srv/app/new"), "the export lacks what was written");
    ensure!(!paths.contains(&"srv/app/becomes-a-file"), "the export has what was removed");
    ensure!(paths.len() > 5000, "the export has only {} entries", paths.len());
    Ok(())
}

fn read(node: &Node, snapshotter: &str, reference: &str) -> Result<Tree> {
    node.containerd.read_image(ImageMount {
        namespace: NAMESPACE,
        snapshotter,
        reference,
        target: &node.dir().join("mounted"),
        writable: false,
    })
}
