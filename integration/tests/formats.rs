//! Every format of layers on real containerd: images whose layers are EROFS already, as containerd's own
//! converter publishes them, and tars of which mkfs.erofs makes layers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::images::Image;
use nexuserofs_integration::images::layout::Layout;
use nexuserofs_integration::node::{DaemonOptions, HOST_SNAPSHOTTER, Node, NodeOptions, Pull, SNAPSHOTTER};

const TESTS: &[Test] = &[
    Test {
        name: "native_layers",
        run: |bed| converted(bed, "raw", &["--erofs", "raw"], Pull::Transfer, SNAPSHOTTER),
    },
    Test {
        name: "native_layers_with_zstd",
        run: |bed| converted(bed, "zstd", &["--erofs", "zstd"], Pull::Local, SNAPSHOTTER),
    },
    Test {
        name: "native_layers_of_compressed_files",
        run: |bed| {
            let options = ["--erofs", "raw", "--erofs-compressors", "lz4hc"];
            converted(bed, "lz4hc", &options, Pull::Transfer, HOST_SNAPSHOTTER)
        },
    },
    Test { name: "native_layers_of_old_types", run: old_type },
    Test { name: "hostile_native_layers_are_refused", run: hostile },
    Test { name: "mkfs_compresses", run: |bed| mkfs(bed, "compressed", "mkfs_options = ['-zlz4hc']", 'm') },
    Test { name: "tars_with_an_index", run: |bed| mkfs(bed, "index", "builder = 'tar-index'", 't') },
];

const NAMESPACE: &str = "default";

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), ..Needs::default() }, TESTS)
}

fn start(bed: &Bed, name: &str, settings: &str) -> Result<Node> {
    let daemon = DaemonOptions { settings: Some(settings.to_owned()), ..DaemonOptions::default() };
    let options = NodeOptions { daemon: Some(daemon), ..NodeOptions::default() };
    Node::start(&bed.place, &format!("formats-{name}"), &options)
}

/// The demo image with its layers converted by containerd, pushed, pulled, run and compared.
fn converted(bed: &Bed, name: &str, options: &[&str], how: Pull, snapshotter: &str) -> Result<()> {
    let mut node = start(bed, name, "")?;
    let source = node.push(&bed.images.demo)?;
    node.containerd.fetch(NAMESPACE, &source)?;
    let image = source.replace("demo", "converted");
    let ctr = || node.containerd.ctr(NAMESPACE);
    ctr().args(["images", "convert", "--oci"]).args(options).args([&source, &image]).run()?;
    ctr().args(["images", "push", "--plain-http", &image]).run()?;
    node.containerd.remove_image(NAMESPACE, &image)?;
    node.containerd.remove_image(NAMESPACE, &source)?;
    node.containerd.pull(NAMESPACE, snapshotter, how, &image)?;
    ensure_layers(&mut node, bed, 'e')?;
    run(&node, snapshotter, &image)?;
    diff(&node, snapshotter, &image)?;
    node.containerd.remove_image(NAMESPACE, &image)?;
    node.assert_nothing_left()
}

/// As many layers as the image has, all of this kind.
fn ensure_layers(node: &mut Node, bed: &Bed, kind: char) -> Result<()> {
    let keys: Vec<String> = node.daemon()?.entries("layers")?.iter().map(|path| key(path)).collect();
    let expected = bed.images.demo.layers()?.len();
    let is_right = keys.len() == expected && keys.iter().all(|key| key.starts_with(kind));
    ensure!(is_right, "{expected} layers of kind {kind} were expected: {keys:?}");
    Ok(())
}

fn key(layer: &Path) -> String {
    layer.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The container sees what the layers together are, whiteouts and opaque directories included.
fn run(node: &Node, snapshotter: &str, image: &str) -> Result<()> {
    let program = "import os; open('/srv/app/new', 'w').write('written'); \
         print(open('/etc/hostname').read().strip(), open('/srv/app/new').read(), \
         sorted(os.listdir('/srv/app/opaque')), os.path.exists('/srv/app/removed'))";
    let command = ["/usr/bin/python3", "-c", program];
    let printed = node.containerd.run(NAMESPACE, snapshotter, image, "one", &command)?;
    ensure!(printed.trim() == "demo written ['new'] False", "the container printed {printed:?}");
    Ok(())
}

/// What a container wrote on such layers can be written back.
fn diff(node: &Node, snapshotter: &str, image: &str) -> Result<()> {
    let ctr = || node.containerd.ctr(NAMESPACE);
    let command = ["/usr/bin/python3", "-c", "open('/srv/app/new', 'w').write('written')"];
    node.containerd.run_container(NAMESPACE, snapshotter).args([image, "changed"]).args(command).run()?;
    let media_type = "application/vnd.oci.image.layer.v1.tar";
    let snapshots = ctr().args(["snapshots", "--snapshotter", snapshotter]);
    let difference = snapshots.args(["diff", "--media-type", media_type, "--keep", "changed"]).bytes()?;
    let tar = node.dir().join("difference.tar");
    fs::write(&tar, difference)?;
    let listed = Run::new("tar").args(["--list", "--file"]).arg(&tar).output()?;
    ensure!(listed.lines().any(|line| line == "srv/app/new"), "the difference has {listed:?}");
    ctr().args(["containers", "rm", "changed"]).run()
}

/// The tar of a layer as an EROFS file.
fn erofs_of(bed: &Bed, layer: usize, dir: &Path) -> Result<PathBuf> {
    let layers = bed.images.demo.layers()?;
    let blob = &layers.get(layer).context("the image has fewer layers")?.blob.digest;
    let blob = bed.images.demo.layout.join("blobs").join(blob.replace(':', "/"));
    let file = dir.join(format!("{layer}.erofs"));
    let script = format!(
        "gzip --decompress --stdout {} | mkfs.erofs --quiet --tar=f --aufs -Enoinline_data -T0 --mkfs-time {}",
        blob.display(),
        file.display()
    );
    Run::new("sh").args(["-c", &script]).run()?;
    Ok(file)
}

/// An image of these layers, with the type that containerd 2.2 knows by its ending.
fn image_of(layers: &[PathBuf], dir: &Path) -> Result<Image> {
    let layout = dir.join("layout");
    let mut image = Layout::create(&layout)?;
    for layer in layers {
        image.add_file(layer, "application/vnd.oci.image.layer.v1.erofs")?;
    }
    image.finish()?;
    Ok(Image { name: "old", layout })
}

fn old_type(bed: &Bed) -> Result<()> {
    let mut node = start(bed, "old", "")?;
    let count = bed.images.demo.layers()?.len();
    let dir = node.dir().to_owned();
    let layers = (0..count).map(|layer| erofs_of(bed, layer, &dir)).collect::<Result<Vec<_>>>()?;
    let image = node.push(&image_of(&layers, &dir)?)?;
    node.containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Local, &image)?;
    ensure_layers(&mut node, bed, 'e')?;
    run(&node, SNAPSHOTTER, &image)?;
    node.containerd.remove_image(NAMESPACE, &image)?;
    node.assert_nothing_left()
}

/// Images that nobody may mount: the pull fails with the reason, and nothing is left of it.
fn hostile(bed: &Bed) -> Result<()> {
    let mut node = start(bed, "hostile", "")?;
    let dir = node.dir().to_owned();
    let whole = fs::read(erofs_of(bed, 1, &dir)?)?;
    let mut flipped = whole.clone();
    *flipped.get_mut(1100).context("an image has a superblock")? ^= 1;
    let cut = whole.get(..whole.len() - 4096).context("an image has blocks")?.to_vec();
    let cases = [("flipped", flipped, "superblock is damaged"), ("cut", cut, "the file ends here")];
    for (name, bytes, reason) in cases {
        let dir = dir.join(name);
        fs::create_dir(&dir)?;
        let file = dir.join("layer.erofs");
        fs::write(&file, bytes)?;
        let image = node.push(&image_of(&[file], &dir)?)?;
        let pull = ["images", "pull", "--plain-http", "--local", "--snapshotter", SNAPSHOTTER, &image];
        let error = node.containerd.ctr(NAMESPACE).args(pull).fails()?;
        ensure!(error.contains(reason), "a {name} image is refused otherwise: {error}");
        node.containerd.remove_image(NAMESPACE, &image)?;
        let layers = node.daemon()?.layers()?;
        ensure!(layers.is_empty(), "a {name} image left layers: {layers:?}");
    }
    node.assert_nothing_left()
}

/// The demo image, with layers that mkfs.erofs made.
fn mkfs(bed: &Bed, name: &str, settings: &str, kind: char) -> Result<()> {
    let mut node = start(bed, name, settings)?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Transfer, &image)?;
    ensure_layers(&mut node, bed, kind)?;
    run(&node, SNAPSHOTTER, &image)?;
    diff(&node, SNAPSHOTTER, &image)?;
    node.containerd.remove_image(NAMESPACE, &image)?;
    node.assert_nothing_left()
}
