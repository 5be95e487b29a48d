//! The one place where the rooms are put together.

use std::thread::available_parallelism;

use tonic::service::Routes;

use super::background::Background;
use super::damage;
use super::error::Error;
use super::service_manager::Probe;
use crate::config::{Builder, Flavour, LayerSettings, Settings};
use crate::diff::{ContentStore, Differ};
use crate::expose::export::Launch;
use crate::expose::host::corruption::Watch;
use crate::expose::host::visibility::{self, Visibility};
use crate::layer::cache::LayerCache;
use crate::layer::mkfs::Program;
use crate::layer::{Protection, Recipe};
use crate::service;
use crate::service::cache_hits::CacheHits;
use crate::snapshot::{SnapshotSettings, Snapshotter};

/// Layers that are unpacked at the same time, at the least: with one the disk would wait for the
/// processor and the other way round.
const MIN_PASSES: usize = 2;

/// A daemon that only lacks its socket.
#[derive(Debug)]
pub(super) struct Assembled {
    /// The services that answer on the socket.
    pub(super) routes: Routes,
    /// Reads the records, as every call does.
    pub(super) probe: Probe,
    /// What goes on behind the calls.
    pub(super) background: Background,
}

/// Opens what the daemon keeps under its root and puts the services on top of it.
///
/// The root is locked by then, and clients that connect already wait until this is done.
pub(super) fn assemble(settings: &Settings) -> Result<Assembled, Error> {
    let tar_recipe = tar_recipe(&settings.layers)?;
    let launch = Launch { log: settings.log, ..Launch::beside_this_program() };
    let (snapshotter, _report) = Snapshotter::open_with(snapshot_settings(settings), launch)?;
    warn_of_hidden_mounts(settings);
    let content = ContentStore::new(&settings.containerd.address)?;
    let caches: Vec<LayerCache> = settings.layers.caches.iter().cloned().map(LayerCache::new).collect();
    let hits =
        settings.layers.trust_caches.then(|| CacheHits::new(caches.clone(), &settings.containerd.address));
    let differ =
        Differ::new(snapshotter.clone(), content, passes()).with_caches(caches).with_tar_recipe(tar_recipe);
    let probe = probe(snapshotter.clone());
    let background = background(snapshotter.clone(), damage::watch(&snapshotter));
    let routes = Routes::new(service::snapshots::Service::server(snapshotter, hits.transpose()?))
        .add_service(service::diff::Service::server(differ, &settings.containerd.namespace));
    Ok(Assembled { routes, probe, background })
}

/// How layers are made of tars. A program that is needed for it has to be there from the start.
fn tar_recipe(layers: &LayerSettings) -> Result<Recipe, Error> {
    let recipe = match layers.builder {
        Builder::Native => return Ok(Recipe::Native),
        Builder::Mkfs => Program::find()?.recipe(&layers.mkfs_options),
        Builder::TarIndex => Program::find()?.index_recipe(&layers.mkfs_options),
    };
    tracing::info!(?recipe, "layers are made of tars by mkfs.erofs");
    Ok(recipe)
}

/// Says so if a profile has the daemon mount layers where containerd would not see them.
fn warn_of_hidden_mounts(settings: &Settings) {
    let root = settings.root.as_path();
    if settings.profiles.values().all(|profile| profile.flavour != Flavour::Host) {
        return;
    }
    match visibility::of(root) {
        Ok(Visibility::Private { mount }) => tracing::warn!(
            root = %root.display(), mount = %mount.display(),
            "containerd may not see what the daemon mounts: this is not the mount namespace of process 1, and the \
             mount that holds the root is private. Profiles of the flavour \"host\" need a shared one"
        ),
        Ok(Visibility::Host | Visibility::Shared) => {}
        Err(error) => tracing::warn!(%error, "it is unknown whether containerd sees what the daemon mounts"),
    }
}

/// Looks for the snapshots of a profile that cannot exist, which costs the same however many there are.
fn probe(snapshotter: Snapshotter) -> Probe {
    const NOBODYS: &str = "";
    Probe::new(move || drop(snapshotter.list(NOBODYS)))
}

fn background(snapshotter: Snapshotter, watch: Option<Watch>) -> Background {
    Background::new(move || {
        snapshotter.stop_sealing();
        drop(watch);
    })
}

fn passes() -> usize {
    available_parallelism().map_or(MIN_PASSES, |cores| cores.get().max(MIN_PASSES))
}

fn snapshot_settings(settings: &Settings) -> SnapshotSettings {
    let profiles = settings.profiles.iter().map(|(name, profile)| (name.to_string(), profile.into()));
    let LayerSettings { fsverity, immutable, .. } = settings.layers;
    let protection = Protection { fsverity, immutable };
    SnapshotSettings { root: settings.root.clone(), protection, profiles: profiles.collect() }
}
