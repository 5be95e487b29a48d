//! The operator's tool on real components: what it says of layers against erofs-utils and cryptsetup, what it
//! converts on containerd's built-in snapshotter and ours, and what it mounts against what containerd mounts.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::images::Image;
use nexuserofs_integration::node::containerd::ImageMount;
use nexuserofs_integration::node::{BUILTIN_EROFS, DaemonOptions, Node, NodeOptions, Pull, SNAPSHOTTER};
use nexuserofs_integration::tree;
use serde_json::Value;

const TESTS: &[Test] = &[
    Test { name: "erofs_utils_agree_about_layers", run: inspected },
    Test { name: "veritysetup_agrees_about_trees", run: verified },
    Test { name: "compressed_images_are_told_as_they_are", run: compressed },
    Test { name: "a_snapshot_is_shown_as_containerd_shows_it", run: mounted },
    Test { name: "a_chain_is_shown_as_containerd_shows_it", run: chain },
    Test {
        name: "converted_images_run_on_the_built_in_snapshotter",
        run: |bed| converted(bed, BUILTIN_EROFS),
    },
    Test { name: "converted_images_run_on_ours", run: |bed| converted(bed, SNAPSHOTTER) },
    Test { name: "what_containerd_exports_is_converted", run: exported },
    Test { name: "what_containerd_has_is_converted_there", run: converted_there },
];

const NAMESPACE: &str = "default";
const PLATFORM: &str = "linux/amd64";
/// The platform of images whose layers are EROFS images, as containerd 2.3 has to be told.
const NATIVE_PLATFORM: &str = "linux(+erofs)/amd64";

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), ..Needs::default() }, TESTS)
}

fn tool(bed: &Bed) -> Run {
    Run::new(bed.place.programs.join("nexuserofs"))
}

/// What the tool prints as JSON.
fn lines(run: Run) -> Result<Vec<Value>> {
    serde_json::from_str(&run.arg("--json").output()?).context("JSON of the tool")
}

/// A directory of its own for a test.
fn directory(bed: &Bed, name: &str) -> Result<PathBuf> {
    let directory = bed.place.scratch.join(name);
    fs::create_dir(&directory)?;
    Ok(directory)
}

/// A layer that was built, and what the tool said about it.
struct Built {
    file: PathBuf,
    line: Value,
}

/// The layers of the demo image with dm-verity trees.
fn build(bed: &Bed, directory: &Path) -> Result<Vec<Built>> {
    let run = tool(bed).args(["build", "--verity", "--output"]).arg(directory).arg(&bed.images.demo.layout);
    let built = lines(run)?.into_iter().map(|line| {
        let file = PathBuf::from(line["file"].as_str().context("file")?);
        Ok(Built { file, line })
    });
    built.collect()
}

/// The value behind a name in what dump.erofs prints.
fn dumped<'d>(dump: &'d str, name: &str) -> Result<&'d str> {
    let line = dump.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.with_context(|| format!("no {name:?} in {dump}"))?.trim())
}

fn inspected(bed: &Bed) -> Result<()> {
    for Built { file, .. } in build(bed, &directory(bed, "inspected")?)? {
        Run::new("fsck.erofs").arg(&file).run()?;
        let dump = Run::new("dump.erofs").arg(&file).output()?;
        let said = lines(tool(bed).arg("inspect").arg(&file))?.remove(0);
        let superblock = &said["superblock"];
        for (name, key) in [
            ("Filesystem blocks:", "blocks"),
            ("Filesystem inode metadata start block:", "meta_block"),
            ("Filesystem root nid:", "root_nid"),
            ("Filesystem inode count:", "inodes"),
        ] {
            let found = dumped(&dump, name)?.split_whitespace().next().unwrap_or_default();
            ensure!(
                superblock[key] == found.parse::<u64>()?,
                "{name} {found}, and {key} is {}",
                superblock[key]
            );
        }
        let uuid = dumped(&dump, "Filesystem UUID:")?;
        ensure!(superblock["uuid"] == uuid, "{uuid} and {}", superblock["uuid"]);
    }
    Ok(())
}

fn verified(bed: &Bed) -> Result<()> {
    let directory = directory(bed, "verified")?;
    let built = build(bed, &directory)?;
    ensure!(built.len() > 1, "{} layers", built.len());
    for Built { file, line } in &built {
        let (root, offset) = (&line["verity"]["roothash"], &line["verity"]["hashoffset"]);
        let root = root.as_str().context("root hash")?;
        let oracle = || {
            Run::new("veritysetup")
                .args(["verify", &format!("--hash-offset={offset}")])
                .args([file, file])
                .arg(root)
        };
        oracle().run()?;
        lines(tool(bed).args(["verify", "--root-hash", root]).arg(file))?;
        let bytes = File::options().read(true).write(true).open(file)?;
        let place = offset.as_u64().context("offset")? / 2;
        let mut byte = [0];
        bytes.read_exact_at(&mut byte, place)?;
        bytes.write_all_at(&[byte[0] ^ 4], place)?;
        oracle().fails()?;
        let said = tool(bed).arg("verify").arg(file).into_command().output()?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        ensure!(said.status.code() == Some(65), "{text}");
        let block = place / 4096 * 4096;
        ensure!(text.contains(&format!("bytes {block} to ")), "{text}");
    }
    Ok(())
}

/// Images that mkfs.erofs compressed, in each way that it knows, and one with small blocks.
fn compressed(bed: &Bed) -> Result<()> {
    let directory = directory(bed, "compressed")?;
    let tree = directory.join("tree");
    fs::create_dir(&tree)?;
    let text = "the same words again and again\n".repeat(20_000);
    fs::write(tree.join("large"), &text)?;
    fs::write(tree.join("empty"), "")?;
    std::os::unix::fs::symlink("large", tree.join("link"))?;
    for option in ["-zlz4", "-zlz4hc,12", "-zdeflate", "-zzstd", "-Eall-fragments,ztailpacking", "-b1024"] {
        let file = directory.join(format!("image{option}"));
        let options: &[&str] = if option.starts_with("-E") { &["-zlz4", option] } else { &[option] };
        Run::new("mkfs.erofs").arg("--quiet").args(options).args([&file, &tree]).run()?;
        let said = lines(tool(bed).args(["inspect", "--files"]).arg(&file))?.remove(0);
        let is_compressed = option != "-b1024";
        let large = said["files"].as_array().context("files")?.iter().find(|line| line["path"] == "/large");
        let large = large.with_context(|| format!("{option}: no large file in {said}"))?;
        ensure!(large["size"] == text.len(), "{option}: {large}");
        ensure!(large["compressed"] == is_compressed, "{option}: {large}");
        ensure!(said["usage"]["compressed_files"] == u64::from(is_compressed), "{option}: {said}");
        let verify = || tool(bed).arg("verify").arg(&file).into_command().output();
        ensure!(verify()?.status.code() == Some(69), "{option}: nothing is known to be wrong with it");
        // A byte of the root's inode, which is metadata in all of them.
        let meta = said["superblock"]["meta_block"].as_u64().context("block")?;
        let root = said["superblock"]["root_nid"].as_u64().context("root")?;
        let size = said["superblock"]["block_size"].as_u64().context("size")?;
        let bytes = File::options().read(true).write(true).open(&file)?;
        bytes.write_all_at(&[0xff; 2], meta * size + root * 32)?;
        ensure!(verify()?.status.code() == Some(65), "{option}: damaged metadata was taken");
    }
    Ok(())
}

fn start(bed: &Bed, name: &str, settings: Option<String>) -> Result<Node> {
    let daemon = Some(DaemonOptions { settings, ..DaemonOptions::default() });
    Node::start(&bed.place, name, &NodeOptions { daemon, ..NodeOptions::default() })
}

fn mounted(bed: &Bed) -> Result<()> {
    let mut node = start(bed, "tool-mounted", None)?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Transfer, &image)?;
    let target = node.dir().join("containerd");
    let mount = ImageMount {
        namespace: NAMESPACE,
        snapshotter: SNAPSHOTTER,
        reference: &image,
        target: &target,
        writable: false,
    };
    let expected = node.containerd.read_image(mount)?;
    // That of the whole image is the only one that no other stands on.
    let keys = node.containerd.snapshots(NAMESPACE, SNAPSHOTTER)?;
    let point = node.dir().join("tool");
    fs::create_dir(&point)?;
    let root = node.daemon()?.root().to_owned();
    let mut layers = Vec::new();
    for key in &keys {
        let run = tool(bed).args(["mount", "--root"]).arg(&root).arg(key).arg(&point);
        let shown = lines(run)?.remove(0)["files"].as_array().context("files")?.len();
        layers.push(shown);
        let found = tree::read_image(&point)?;
        tool(bed).arg("umount").arg(&point).run()?;
        if shown == keys.len() {
            let differences = tree::differences(&expected, &found, 5);
            ensure!(differences.is_empty(), "{differences:?}");
        }
        // The daemon runs, and its layers are read beside it.
        let said =
            tool(bed).args(["verify", "--quiet", "--root"]).arg(&root).arg(key).into_command().output()?;
        ensure!(said.status.code() == Some(69), "layers without trees are not proven: {said:?}");
    }
    layers.sort_unstable();
    ensure!(layers == (1..=keys.len()).collect::<Vec<_>>(), "{layers:?}");
    node.assert_nothing_mounted()
}

/// A profile that merges layers.
const MERGED: &str = "[profiles.nexuserofs]\nlayers = \"merged\"\n";

fn chain(bed: &Bed) -> Result<()> {
    let mut node = start(bed, "tool-chain", Some(MERGED.to_owned()))?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Transfer, &image)?;
    let target = node.dir().join("containerd");
    let expected = node.containerd.read_image(ImageMount {
        namespace: NAMESPACE,
        snapshotter: SNAPSHOTTER,
        reference: &image,
        target: &target,
        writable: false,
    })?;
    let directory = node.daemon()?.entries("chains")?.pop().context("there is no chain")?;
    let key = directory.file_name().and_then(|name| name.to_str()).context("key")?.to_owned();
    let root = node.daemon()?.root().to_owned();
    let point = node.dir().join("tool");
    fs::create_dir(&point)?;
    tool(bed).args(["mount", "--root"]).args([&root, Path::new(&key), &point]).run()?;
    let found = tree::read_image(&point)?;
    tool(bed).arg("umount").arg(&point).run()?;
    let differences = tree::differences(&expected, &found, 5);
    ensure!(differences.is_empty(), "{differences:?}");

    let said = tool(bed)
        .args(["verify", "--json", "--root"])
        .args([&root, Path::new(&key)])
        .into_command()
        .output()?;
    let lines: Vec<Value> = serde_json::from_slice(&said.stdout)?;
    ensure!(lines.len() == bed.images.demo.layers()?.len() + 1, "the merged image and each layer: {lines:?}");
    let is_sound = |line: &Value| line["state"] == "unproven" && line["file"].as_str().is_some();
    ensure!(said.status.code() == Some(69) && lines.iter().all(is_sound), "{lines:?}");
    let said = lines_of_inspect(bed, &root, &key)?;
    ensure!(said["devices"].as_array().is_some_and(|devices| devices.len() + 1 == lines.len()), "{said}");
    node.assert_nothing_mounted()
}

fn lines_of_inspect(bed: &Bed, root: &Path, key: &str) -> Result<Value> {
    Ok(lines(tool(bed).args(["inspect", "--root"]).arg(root).arg(key))?.remove(0))
}

/// The demo image as a native one.
fn convert(bed: &Bed, source: &Path, output: &Path, options: &[&str]) -> Result<Image> {
    lines(tool(bed).arg("convert").args(options).args([source, output]))?;
    Ok(Image { name: "native", layout: output.to_owned() })
}

fn converted(bed: &Bed, snapshotter: &str) -> Result<()> {
    let node = start(bed, &format!("tool-{snapshotter}"), None)?;
    let reference = node.push(&bed.images.demo)?;
    node.containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Transfer, &reference)?;
    let read = |snapshotter, reference: &str, name: &str| {
        let target = node.dir().join(name);
        let (namespace, writable) = (NAMESPACE, false);
        node.containerd.read_image(ImageMount {
            namespace,
            snapshotter,
            reference,
            target: &target,
            writable,
        })
    };
    let expected = read(SNAPSHOTTER, &reference, "expected")?;
    for (name, platform, options) in [
        ("plain", NATIVE_PLATFORM, &[][..]),
        ("zstd", NATIVE_PLATFORM, &["--zstd"]),
        ("any", PLATFORM, &["--without-os-features"]),
    ] {
        let output = node.dir().join(name);
        let native = convert(bed, &bed.images.demo.layout, &output, options)?;
        let reference = node.push(&native)?;
        let pull = ["images", "pull", "--plain-http", "--platform", platform, "--snapshotter", snapshotter];
        node.containerd.ctr(NAMESPACE).args(pull).arg(&reference).run()?;
        let found = read(snapshotter, &reference, &format!("{name}-found"))?;
        let differences = tree::differences(&expected, &found, 5);
        ensure!(differences.is_empty(), "{name}: {differences:?}");
        let command = ["/usr/bin/python3", "-c", "print(open('/etc/hostname').read())"];
        let printed = node.containerd.run(NAMESPACE, snapshotter, &reference, name, &command)?;
        ensure!(printed.trim() == "demo", "{name}: the container printed {printed:?}");
        node.containerd.remove_image(NAMESPACE, &reference)?;
    }
    Ok(())
}

/// From one name in containerd to another, without a file in between: the new image unpacks and runs, and stays when
/// the old one goes.
fn converted_there(bed: &Bed) -> Result<()> {
    let node = start(bed, "tool-there", None)?;
    let reference = node.push(&bed.images.demo)?;
    node.containerd.fetch(NAMESPACE, &reference)?;
    let names = ["example.org/demo:plain", "example.org/demo:zstd"];
    let convert = |options: &[&str], from: &str, to: &str| {
        tool(bed)
            .args(["convert", "--from-containerd", "--to-containerd", "--containerd-address"])
            .arg(node.containerd.socket())
            .args(options)
            .args([from, to])
    };
    convert(&["--without-os-features"], &reference, names[0]).run()?;
    convert(&["--without-os-features", "--zstd"], &reference, names[1]).run()?;
    let refused = convert(&[], &reference, names[0]).fails()?;
    ensure!(refused.contains("exists"), "{refused}");
    let refused = convert(&["--force"], "example.org/none:1", names[0]).fails()?;
    ensure!(refused.contains("has no image"), "{refused}");
    // Nothing but the labels of the new images keeps their blobs now.
    node.containerd.remove_image(NAMESPACE, &reference)?;
    for (number, name) in names.iter().enumerate() {
        let command = ["/usr/bin/python3", "-c", "print(open('/etc/hostname').read())"];
        let container = format!("there-{number}");
        let printed = node.containerd.run(NAMESPACE, SNAPSHOTTER, name, &container, &command)?;
        ensure!(printed.trim() == "demo", "{name}: the container printed {printed:?}");
        let check = ["images", "check", "--quiet", "--snapshotter", SNAPSHOTTER];
        let whole = node.containerd.ctr(NAMESPACE).args(check).output()?;
        ensure!(whole.lines().any(|line| line == *name), "{name} is not whole: {whole}");
    }
    let layers = |reference: &str, name: &str| -> Result<Vec<String>> {
        let output = node.dir().join(name);
        tool(bed)
            .args(["convert", "--from-containerd", "--containerd-address"])
            .arg(node.containerd.socket())
            .arg(reference)
            .arg(&output)
            .run()?;
        Ok(Image { name: "native", layout: output }
            .layers()?
            .into_iter()
            .map(|layer| layer.diff_id)
            .collect())
    };
    convert_layout(bed, &node.dir().join("from-layout"))?;
    let expected = Image { name: "native", layout: node.dir().join("from-layout") }.layers()?;
    let expected: Vec<String> = expected.into_iter().map(|layer| layer.diff_id).collect();
    ensure!(layers(names[0], "out")? == expected, "other layers than those that the layout gives");
    Ok(())
}

fn convert_layout(bed: &Bed, output: &Path) -> Result<()> {
    convert(bed, &bed.images.demo.layout, output, &[]).map(drop)
}

fn exported(bed: &Bed) -> Result<()> {
    let node = start(bed, "tool-exported", None)?;
    let reference = node.push(&bed.images.demo)?;
    node.containerd.fetch(NAMESPACE, &reference)?;
    let archive = node.dir().join("image.tar");
    node.containerd.ctr(NAMESPACE).args(["images", "export"]).arg(&archive).arg(&reference).run()?;
    convert(bed, &archive, &node.dir().join("from-archive"), &["--image", &reference])?;
    convert(bed, &bed.images.demo.layout, &node.dir().join("from-layout"), &[])?;
    let layers = |name: &str| -> Result<Vec<String>> {
        let image = Image { name: "native", layout: node.dir().join(name) };
        Ok(image.layers()?.into_iter().map(|layer| layer.diff_id).collect())
    };
    ensure!(layers("from-archive")? == layers("from-layout")?, "the same layers from both");
    Ok(())
}
