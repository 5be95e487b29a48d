//! Profiles that merge an image's layers, on real containerd; and merged images before judges that no one here
//! wrote: fsck.erofs, the kernel, mkfs.erofs, and containerd's overlayfs snapshotter on the same image.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use nexuserofs::expose::device;
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::node::containerd::ImageMount;
use nexuserofs_integration::node::{DaemonOptions, Node, NodeOptions, OVERLAYFS, Pull};
use nexuserofs_integration::tree::{self, Tree};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const TESTS: &[Test] = &[
    Test { name: "templates_in_directories", run: |bed| run_and_compare(bed, &TEMPLATES, None) },
    Test { name: "templates_in_blocks", run: |bed| run_and_compare(bed, &TEMPLATES, Some(BLOCK)) },
    Test { name: "host_in_directories", run: |bed| run_and_compare(bed, &HOST, None) },
    Test { name: "host_in_blocks", run: |bed| run_and_compare(bed, &HOST, Some(BLOCK)) },
    Test { name: "a_merged_image_before_other_readers", run: judge },
];

/// Size of the writable block.
const BLOCK: &str = "64MiB";

const NAMESPACE: &str = "merged";

/// A profile that merges layers, under the name of one that the node's containerd knows.
struct Merging {
    /// What the test's directory is called.
    name: &'static str,
    snapshotter: &'static str,
}

const TEMPLATES: Merging = Merging { name: "templates", snapshotter: "nexuserofs" };
const HOST: Merging = Merging { name: "host", snapshotter: "nexuserofs-host" };

/// Reads, writes, and removes a file of a lower layer.
const PROGRAM: &str = "import os; open('/srv/app/new', 'w').write('written'); os.remove('/srv/app/main.py'); \
     print(open('/etc/hostname').read().strip(), open('/srv/app/new').read(), \
     sorted(os.listdir('/srv/app/opaque')), os.path.exists('/srv/app/removed'))";

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), ..Needs::default() }, TESTS)
}

/// A node in which the demo image is unpacked, by us and by overlayfs; and the image's reference.
fn start(
    bed: &Bed,
    name: &str,
    profile: &Merging,
    default_size: Option<&'static str>,
) -> Result<(Node, String)> {
    let settings = format!("[profiles.{}]\nlayers = \"merged\"\n", profile.snapshotter);
    let daemon = DaemonOptions { default_size, settings: Some(settings), ..DaemonOptions::default() };
    let options = NodeOptions { daemon: Some(daemon), ..NodeOptions::default() };
    let node = Node::start(&bed.place, name, &options)?;
    let image = node.push(&bed.images.demo)?;
    for snapshotter in [profile.snapshotter, OVERLAYFS] {
        node.containerd.pull(NAMESPACE, snapshotter, Pull::Transfer, &image)?;
    }
    Ok((node, image))
}

fn run_and_compare(bed: &Bed, profile: &Merging, default_size: Option<&'static str>) -> Result<()> {
    let mode = if default_size.is_some() { "blocks" } else { "directories" };
    let (mut node, image) = start(bed, &format!("{}-{mode}", profile.name), profile, default_size)?;
    let program = ["/usr/bin/python3", "-c", PROGRAM];
    let printed = node.containerd.run(NAMESPACE, profile.snapshotter, &image, "one", &program)?;
    ensure!(printed.trim() == "demo written ['new'] False", "the container printed {printed:?}");
    ensure!(node.daemon()?.entries("chains")?.len() == 1, "one image makes one chain");
    for writable in [false, true] {
        let expected = read(&node, OVERLAYFS, &image, writable)?;
        let ours = read(&node, profile.snapshotter, &image, writable)?;
        ensure!(expected.len() > 5_000, "only {} entries to compare", expected.len());
        let found = tree::differences(&expected, &ours, 20);
        ensure!(found.is_empty(), "writable {writable}: overlayfs on the left:\n{}", found.join("\n"));
    }
    node.containerd.remove_image(NAMESPACE, &image)?;
    node.assert_nothing_left()?;
    Ok(())
}

fn read(node: &Node, snapshotter: &str, reference: &str, writable: bool) -> Result<Tree> {
    let target = &node.dir().join("mounted");
    node.containerd.read_image(ImageMount { namespace: NAMESPACE, snapshotter, reference, target, writable })
}

/// A chain of the node's daemon: its image, and the files of its layers, the oldest first.
fn chain(node: &mut Node) -> Result<(PathBuf, Vec<PathBuf>)> {
    let daemon = node.daemon()?;
    let directory = daemon.entries("chains")?.pop().context("there is no chain")?;
    let record: serde_json::Value = serde_json::from_slice(&fs::read(directory.join("chain.json"))?)?;
    let layers = record["layers"].as_array().context("a chain has layers")?;
    let file = |layer: &serde_json::Value| {
        let key = layer["key"].as_str().context("a layer has a key")?;
        Ok(daemon.root().join("layers").join(key).join("layer.erofs"))
    };
    Ok((directory.join("fsmeta.erofs"), layers.iter().map(file).collect::<Result<_>>()?))
}

/// Other programs find the merged image whole, and show of it what overlayfs shows.
fn judge(bed: &Bed) -> Result<()> {
    let (mut node, image) = start(bed, "judge", &HOST, None)?;
    let expected = read(&node, OVERLAYFS, &image, false)?;
    read(&node, HOST.snapshotter, &image, false)?;
    let (merged, layers) = chain(&mut node)?;
    let devices = || layers.iter().map(|layer| format!("--device={}", layer.display()));
    Run::new("fsck.erofs").arg("--extract").args(devices()).arg(&merged).run()?;
    let ours = mounted(&node, &merged, &layers)?;
    same(&expected, &ours, "overlayfs", "the merged image")?;
    let flattened = node.dir().join("flattened");
    concatenate(&merged, &layers, &flattened)?;
    same(&ours, &mounted(&node, &flattened, &[])?, "the merged image", "all on one device")?;
    let disk = device::check(&merged.with_file_name("merged.vmdk"))?;
    let files = disk.extents().iter().map(|extent| Path::new(extent.path.as_str()));
    ensure!(files.eq([&merged].into_iter().chain(&layers)), "merged.vmdk is of other files: {disk}");
    ensure!(disk.sectors() * 512 == fs::metadata(&flattened)?.len(), "merged.vmdk has another size");

    let theirs = node.dir().join("mkfs.erofs");
    Run::new("mkfs.erofs").args(["--quiet", "--ovlfs-strip=1"]).arg(&theirs).args(&layers).run()?;
    // mkfs.erofs 1.9 loses the holes of files that it merges, and makes up a root directory with mode 0777.
    let common = |mut tree: Tree| {
        for path in ["srv/app/kept/sparse", ""] {
            tree.remove(Path::new(path)).with_context(|| format!("the image has no {path:?}"))?;
        }
        anyhow::Ok(tree)
    };
    same(&common(mounted(&node, &theirs, &layers)?)?, &common(ours)?, "mkfs.erofs", "the merged image")
}

fn same(left: &Tree, right: &Tree, of_left: &str, of_right: &str) -> Result<()> {
    let found = tree::differences(left, right, 20);
    ensure!(found.is_empty(), "{of_left} on the left, {of_right} on the right:\n{}", found.join("\n"));
    ensure!(left.len() > 5_000, "only {} entries to compare", left.len());
    Ok(())
}

/// What the kernel shows of an image with these devices.
fn mounted(node: &Node, image: &Path, devices: &[PathBuf]) -> Result<Tree> {
    let target = node.dir().join("judged");
    fs::create_dir_all(&target)?;
    let options: Vec<String> = devices.iter().map(|device| format!("device={}", device.display())).collect();
    let options = CString::new(options.join(","))?;
    mount(image, &target, "erofs", MountFlags::RDONLY, options.as_c_str())
        .with_context(|| format!("mount {}", image.display()))?;
    let read = tree::read_image(&target);
    unmount(&target, UnmountFlags::empty())?;
    read
}

fn concatenate(first: &Path, others: &[PathBuf], into: &Path) -> Result<()> {
    let mut output = fs::File::create(into)?;
    for file in std::iter::once(first).chain(others.iter().map(PathBuf::as_path)) {
        std::io::copy(&mut fs::File::open(file)?, &mut output)?;
    }
    Ok(())
}
