//! Settings: flags and the TOML file, merged and validated before anything is touched.
//!
//! Three stages, each its own type, so that a half-checked value cannot travel further:
//!
//! 1. [`Fragment`]: what one source (the flags, the file) says; everything may be absent.
//! 2. `Merged`: one value for each setting, with the place that it came from.
//! 3. [`Settings`]: values that the daemon can rely on.
//!
//! `docs/operations.md` lists every setting for the operator. [`Settings`] stops at the `app` room,
//! which translates it into what the rooms below understand. Checked values such as [`RootPath`] and
//! [`OverlayOption`] go all the way, so that nobody below has to check them again.

mod builder;
mod error;
mod file;
mod fragment;
mod log;
mod merged;
mod named;
mod overlay;
mod path;
mod profile;
mod settings;
mod size;

use std::path::Path;

pub use builder::{Builder, InvalidMkfsOption, UnfitBuilder, UnknownBuilder};
pub use error::{ConfigError, Location, Problem};
pub use fragment::{Fragment, ProfileFragment, RawSize, Sourced};
pub use log::{LogFormat, LogLevel, LogSettings, UnknownFormat, UnknownLevel};
pub use merged::defaults;
pub use named::{NAMED, Named};
pub use overlay::{InvalidOverlayOption, OverlayOption};
pub use path::{RootPath, UnusablePath};
pub use profile::{
    Flavour, InvalidProfileName, Layers, Profile, ProfileName, ProjectQuota, UnknownFlavour, UnknownLayers,
    UnknownProjectQuota, UnknownVerityMode, VerityMode,
};
pub use settings::{ContainerdSettings, InvalidNamespace, LayerSettings, Settings};
pub use size::{InvalidSize, WritableLayer};

/// The settings of a daemon that was started with these flags and, where one is named, this file.
///
/// A flag beats the file; see `docs/operations.md` for lists and profiles.
///
/// # Errors
/// When the file cannot be read or is not what the reference in `docs/operations.md` describes,
/// and when a value cannot work. The file system is only looked at, never changed.
pub fn load(flags: Fragment, file: Option<&Path>) -> Result<Settings, ConfigError> {
    let document = file.map(file::Document::read).transpose()?;
    let from_file = document.as_ref().map(file::Document::parse).transpose()?.unwrap_or_default();
    settings::validate(merged::Merged::of(flags, from_file))
        .map_err(|invalid| invalid.located(document.as_ref()))
}
