//! Settings that the daemon can rely on, and the one way to them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::builder::{Builder, UnfitBuilder, mkfs_option};
use super::error::{Invalid, Problem};
use super::fragment::Sourced;
use super::log::LogSettings;
use super::merged::{Merged, MergedProfile};
use super::path::{self, RootPath};
use super::profile::{Profile, ProfileName, is_identifier};

/// The settings of a daemon, all of them checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of the daemon's data. It may not exist yet, but could be made.
    pub root: RootPath,
    /// Path of the socket to listen at, absolute.
    pub address: PathBuf,
    /// How containerd is reached.
    pub containerd: ContainerdSettings,
    /// What is logged.
    pub log: LogSettings,
    /// How layers are made and kept.
    pub layers: LayerSettings,
    /// What is returned to each snapshotter name; `nexuserofs` and `nexuserofs-host` are always among them.
    pub profiles: BTreeMap<ProfileName, Profile>,
}

/// How containerd is reached, which knows where its blobs are and who may read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerdSettings {
    /// Path of its socket, absolute.
    pub address: PathBuf,
    /// The namespace whose blobs are read for a call that names none.
    pub namespace: String,
}

/// How layers are made and kept. Of those that are accepted and have no effect yet, the log speaks at each
/// start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSettings {
    /// Whether layers are sealed with fs-verity.
    pub fsverity: bool,
    /// Whether finished layers get the immutable attribute.
    pub immutable: bool,
    /// What makes layers of tars.
    pub builder: Builder,
    /// Options for mkfs.erofs, none with the native builder.
    pub mkfs_options: Vec<String>,
    /// Directories with layer files that the operator keeps, in the order in which they are looked into.
    pub caches: Vec<PathBuf>,
    /// Whether a cached layer is taken without its blob having been fetched.
    pub trust_caches: bool,
}

/// A text that is no containerd namespace.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a containerd namespace; use letters and digits with single . _ - between them, at most 76"
)]
pub struct InvalidNamespace(String);

/// Checks every value. The file system is only looked at.
pub(super) fn validate(merged: Merged) -> Result<Settings, Invalid> {
    let log = LogSettings {
        level: check("log_level", &merged.log_level, |text| text.parse())?,
        format: check("log_format", &merged.log_format, |text| text.parse())?,
    };
    let containerd = ContainerdSettings {
        address: check("containerd_address", &merged.containerd_address, |text| path::socket(text))?,
        namespace: check("containerd_namespace", &merged.containerd_namespace, |text| namespace(text))?,
    };
    let layers = LayerSettings {
        fsverity: merged.enable_fsverity.value,
        immutable: merged.set_immutable.value,
        builder: check("builder", &merged.builder, |text| builder(text, &merged))?,
        mkfs_options: check_each("mkfs_options", &merged.mkfs_options, |text| mkfs_option(text))?,
        caches: check_each("layer_content_caches", &merged.layer_content_caches, |text| {
            path::directory(text)
        })?,
        trust_caches: merged.trust_layer_content_caches.value,
    };
    let profiles = merged.profiles.iter().map(profile).collect::<Result<_, _>>()?;
    Ok(Settings {
        root: check("root", &merged.root, |text| path::root(text))?,
        address: check("address", &merged.address, |text| path::listening_socket(text))?,
        containerd,
        log,
        layers,
        profiles,
    })
}

fn profile(merged: &MergedProfile) -> Result<(ProfileName, Profile), Invalid> {
    let key = format!("profiles.{}", merged.name.value);
    let size = &merged.default_size;
    let options = &merged.overlay_options;
    Ok((
        check(&key, &merged.name, |text| text.parse())?,
        Profile {
            flavour: check(&format!("{key}.flavour"), &merged.flavour, |text| text.parse())?,
            layers: check(&format!("{key}.layers"), &merged.layers, |text| text.parse())?,
            project_quota: check(&format!("{key}.project_quota"), &merged.project_quota, |text| {
                text.parse()
            })?,
            verity: check(&merged.verity.key, &merged.verity.value, |text| text.parse())?,
            writable_layer: check(&size.key, &size.value, |size| size.try_into())?,
            overlay_options: check_each(&options.key, &options.value, |text| text.parse())?,
        },
    ))
}

fn namespace(text: &str) -> Result<String, InvalidNamespace> {
    if is_identifier(text) { Ok(text.to_owned()) } else { Err(InvalidNamespace(text.to_owned())) }
}

/// A builder that can do what the other settings ask for.
fn builder(text: &str, merged: &Merged) -> Result<Builder, Problem> {
    let builder: Builder = text.parse()?;
    let requires = |profile: &&MergedProfile| profile.verity.value.value == "require";
    match builder {
        Builder::Native if !merged.mkfs_options.is_empty() => Err(UnfitBuilder::Options.into()),
        Builder::TarIndex => match merged.profiles.iter().find(requires) {
            Some(profile) => Err(UnfitBuilder::NoTrees(profile.name.value.clone()).into()),
            None => Ok(builder),
        },
        _ => Ok(builder),
    }
}

/// Checks one value; a refusal keeps its key and place.
fn check<T, V, E: Into<Problem>>(
    key: &str,
    sourced: &Sourced<T>,
    check: impl FnOnce(&T) -> Result<V, E>,
) -> Result<V, Invalid> {
    check(&sourced.value).map_err(|error| Invalid {
        key: key.to_owned(),
        place: sourced.place,
        problem: error.into(),
    })
}

fn check_each<T, V, E: Into<Problem>>(
    key: &str,
    list: &[Sourced<T>],
    check_one: impl Fn(&T) -> Result<V, E>,
) -> Result<Vec<V>, Invalid> {
    list.iter().map(|sourced| check(key, sourced, &check_one)).collect()
}
