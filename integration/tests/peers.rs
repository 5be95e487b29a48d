//! The test bed itself, with containerd's built-in snapshotters: what is compared and measured later must
//! work without us first.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use nexuserofs_integration::bed::{self, Bed, Needs, Profile};
use nexuserofs_integration::node::containerd::ImageMount;
use nexuserofs_integration::node::{BUILTIN_EROFS, Node, NodeOptions, OVERLAYFS, Pull};
use nexuserofs_integration::progress::{Lines, Steps};
use nexuserofs_integration::tree;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let needs = Needs { programs: Profile::Debug, trees: false };
    bed::run(
        needs,
        &Steps::new(&Lines),
        |_| {},
        |bed| {
            let trials = vec![
                trial("overlayfs_runs", &bed, |bed| runs(bed, OVERLAYFS)),
                trial("erofs_runs", &bed, |bed| runs(bed, BUILTIN_EROFS)),
                trial("erofs_equals_overlayfs", &bed, equal),
            ];
            Ok(libtest_mimic::run(&arguments, trials).exit_code())
        },
    )
}

fn trial(name: &str, bed: &Bed, test: impl FnOnce(&Bed) -> Result<()> + Send + 'static) -> Trial {
    let bed = bed.clone();
    Trial::test(name, move || test(&bed).map_err(|error| Failed::from(format!("{error:#}"))))
}

fn runs(bed: &Bed, snapshotter: &str) -> Result<()> {
    let node = Node::start(&bed.place, &format!("runs-{snapshotter}"), &NodeOptions::default())?;
    let image = node.push(&bed.demo)?;
    node.containerd.pull("default", snapshotter, Pull::Transfer, &image)?;
    let program =
        "open('/new', 'w').write('written'); print(open('/etc/hostname').read() + open('/new').read())";
    let printed =
        node.containerd.run("default", snapshotter, &image, "one", &["/usr/bin/python3", "-c", program])?;
    ensure!(printed.trim() == "demo\nwritten", "the container printed {printed:?}");
    node.containerd.remove_image("default", &image)?;
    let left = node.containerd.snapshots("default", snapshotter)?;
    ensure!(left.is_empty(), "snapshots were left: {left:?}");
    node.assert_nothing_mounted()
}

fn equal(bed: &Bed) -> Result<()> {
    let node = Node::start(&bed.place, "equal", &NodeOptions::default())?;
    let image = node.push(&bed.demo)?;
    let mut trees = Vec::new();
    for snapshotter in [OVERLAYFS, BUILTIN_EROFS] {
        node.containerd.pull("default", snapshotter, Pull::Local, &image)?;
        let target = node.dir().join(snapshotter);
        let mounted = node.containerd.mount(ImageMount {
            namespace: "default",
            snapshotter,
            reference: &image,
            target: &target,
            writable: false,
        })?;
        trees.push(tree::read_image(mounted.path()).with_context(|| format!("plan: {}", mounted.plan))?);
        mounted.undo()?;
    }
    let found = tree::differences(&trees[0], &trees[1], 20);
    ensure!(found.is_empty(), "{BUILTIN_EROFS} differs from {OVERLAYFS}:\n{}", found.join("\n"));
    ensure!(trees[0].len() > 1000, "only {} entries were compared", trees[0].len());
    node.assert_nothing_mounted()
}
