//! `cargo xtask bench verity`: what is measured against what.
//!
//! What a daemon does is set at its start, so each way of ours has a node of its own, with its own containerd
//! and content. The turns alternate over all of them.

mod report;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nexuserofs_integration::bed::Bed;
use nexuserofs_integration::images::Image;
use nexuserofs_integration::node::containerd::Peer;
use nexuserofs_integration::node::{BUILTIN_EROFS, DaemonOptions, LogLevel, Node, NodeOptions, SNAPSHOTTER};
use nexuserofs_integration::unpack::Durability;
use rustix::mount::{MountFlags, mount};

use self::report::{Report, Row};
use super::machine::Setting;
use super::rounds::{Contender, measure};
use super::unpack::fetch;
use super::{Corpus, RoundsArguments, run_in_bed};

pub(super) fn run(arguments: &RoundsArguments) -> Result<ExitCode> {
    run_in_bed(Corpus::Large, arguments.print_only, |bed| measure_all(bed, arguments.rounds))
}

/// The nodes of the three ways of ours. Two of them have a containerd of each tuning as well.
struct Nodes {
    plain: Node,
    verity: Node,
    immutable: Node,
}

fn measure_all(bed: &Bed, rounds: u32) -> Result<Report> {
    let layers = bed.images.bench.as_ref().context("the layers of the benchmark were not made")?;
    pretend_dm_verity()?;
    let nodes = Nodes::start(bed)?;
    let rows = layers.real.iter().map(|image| nodes.row(image, rounds)).collect::<Result<_>>()?;
    Ok(Report { setting: Setting::of(bed)?, rounds, rows })
}

impl Nodes {
    fn start(bed: &Bed) -> Result<Self> {
        let start = |name: &str, settings: &str, peer| {
            let daemon = DaemonOptions {
                log_level: LogLevel::Info,
                settings: Some(settings.to_owned()),
                ..DaemonOptions::default()
            };
            let options =
                NodeOptions { daemon: Some(daemon), peer, peer_verity: true, ..NodeOptions::default() };
            Node::start(&bed.place, name, &options)
        };
        Ok(Self {
            plain: start("plain", "set_immutable = false", Peer::Default)?,
            verity: start("verity", "set_immutable = false\nverity = 'auto'", Peer::Tuned)?,
            immutable: start("immutable", "set_immutable = true", Peer::Default)?,
        })
    }

    fn row(&self, image: &Image, rounds: u32) -> Result<Row> {
        eprintln!("measuring {}, {rounds} rounds", image.name);
        for node in [&self.plain, &self.verity, &self.immutable] {
            fetch(node, image)?;
        }
        let layers = image.layers()?;
        let unpack = |node, snapshotter| Contender { node, snapshotter, durability: Durability::AsIs };
        let contenders = [
            unpack(&self.plain, SNAPSHOTTER),
            unpack(&self.verity, SNAPSHOTTER),
            unpack(&self.immutable, SNAPSHOTTER),
            unpack(&self.plain, BUILTIN_EROFS),
            unpack(&self.verity, BUILTIN_EROFS),
        ];
        let times = measure(&contenders, &layers, rounds)?;
        let [plain, verity, immutable, default, tuned] =
            <[_; 5]>::try_from(times).ok().context("a contender has no time")?;
        let bytes = layers.iter().map(|layer| layer.blob.size).sum();
        Ok(Row { name: image.name, bytes, plain, verity, immutable, default, tuned })
    }
}

/// Has containerd believe that the kernel has dm-verity, in this program's own mount namespace. Its differ
/// refuses to start otherwise, though it only writes trees to files, which takes no kernel.
fn pretend_dm_verity() -> Result<()> {
    let modules = Path::new("/sys/module");
    if modules.join("dm_verity").exists() {
        return Ok(());
    }
    mount("tmpfs", modules, "tmpfs", MountFlags::empty(), None).context("mount on /sys/module")?;
    fs::create_dir(modules.join("dm_verity")).context("make /sys/module/dm_verity")
}
