//! Profiles: what the daemon returns to each snapshotter name that it serves.

use std::fmt;
use std::str::FromStr;

use super::overlay::OverlayOption;
use super::size::WritableLayer;

/// What snapshots of one profile look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Who mounts the layers.
    pub flavour: Flavour,
    /// Whether they are mounted one by one.
    pub layers: Layers,
    /// Where writes go.
    pub writable_layer: WritableLayer,
    /// What becomes of a size that a client asks for where writes go to a directory.
    pub project_quota: ProjectQuota,
    /// Whether the layers have dm-verity trees.
    pub verity: VerityMode,
    /// Options added to each overlay mount, in this order.
    pub overlay_options: Vec<OverlayOption>,
}

/// Who mounts the layers of an image, and so what a mount plan looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// containerd's mount manager or the runtime: each layer is an entry of the plan, and templates
    /// join them. For containerd 2.2 or newer and for virtual machines.
    #[default]
    Template,
    /// A guest, which joins the images as it knows: each is an entry of the plan, the writable block the last,
    /// and there is no overlay. Only for virtual machines.
    Raw,
    /// The daemon, once for the node: a plan is one plain mount. For everything that mounts for itself.
    Host,
    /// A guest, which finds disks that the daemon has a process serve: a plan names their sockets. For virtual
    /// machine monitors with vhost-user-blk.
    VhostUser,
}

/// A text that names no flavour.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no flavour of mount plans; write \"template\", \"raw\", \"host\" or \"vhost-user\"")]
pub struct UnknownFlavour(String);

impl FromStr for Flavour {
    type Err = UnknownFlavour;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "template" => Ok(Self::Template),
            "raw" => Ok(Self::Raw),
            "host" => Ok(Self::Host),
            "vhost-user" => Ok(Self::VhostUser),
            _ => Err(UnknownFlavour(text.to_owned())),
        }
    }
}

/// How many mounts an image of several layers takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layers {
    /// One for each layer, which overlayfs joins.
    #[default]
    Separate,
    /// One for all of them, where they can be merged.
    Merged,
}

/// A text that does not say how layers are mounted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} does not say how layers are mounted; write \"separate\" or \"merged\"")]
pub struct UnknownLayers(String);

impl FromStr for Layers {
    type Err = UnknownLayers;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "separate" => Ok(Self::Separate),
            "merged" => Ok(Self::Merged),
            _ => Err(UnknownLayers(text.to_owned())),
        }
    }
}

/// Whether directories that a client wants limited get a project quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProjectQuota {
    /// They do not: the client's wish is passed over.
    Off,
    /// They do where the file system has project quotas, and have no limit elsewhere.
    #[default]
    Auto,
    /// They do, and where the file system has none, the client is refused.
    Require,
}

/// A text that does not say what to do about project quotas.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} does not say what to do about project quotas; write \"auto\", \"require\" or \"off\"")]
pub struct UnknownProjectQuota(String);

impl FromStr for ProjectQuota {
    type Err = UnknownProjectQuota;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            "require" => Ok(Self::Require),
            _ => Err(UnknownProjectQuota(text.to_owned())),
        }
    }
}

/// Whether a profile's layers have dm-verity trees, and whether its plans tell of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerityMode {
    /// None is made for this profile, and its plans tell of none.
    #[default]
    Off,
    /// Layers get one, and plans tell of those that there are.
    Auto,
    /// The same, and nothing can be made on a layer without one.
    Require,
}

/// A text that does not say what to do about dm-verity.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} does not say what to do about dm-verity; write \"auto\", \"require\" or \"off\"")]
pub struct UnknownVerityMode(String);

impl FromStr for VerityMode {
    type Err = UnknownVerityMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            "require" => Ok(Self::Require),
            _ => Err(UnknownVerityMode(text.to_owned())),
        }
    }
}

/// Name of a profile: the snapshotter's name in containerd's configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProfileName(String);

/// Longest name in bytes, as for containerd's identifiers.
const LONGEST: usize = 76;

/// A text that cannot name a profile: it is not an identifier of containerd.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} cannot be a snapshotter's name; use letters and digits with single . _ - between them, at most 76"
)]
pub struct InvalidProfileName(String);

impl ProfileName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ProfileName {
    type Err = InvalidProfileName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_identifier(text) { Ok(Self(text.to_owned())) } else { Err(InvalidProfileName(text.to_owned())) }
    }
}

/// Whether containerd takes `text` as an identifier: runs of letters and digits, joined by single
/// `.`, `_` or `-`, at most 76 bytes (containerd, `pkg/identifiers`).
pub(super) fn is_identifier(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    text.len() <= LONGEST && text.split(['.', '_', '-']).all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_containerds() {
        for text in ["a", "nexuserofs", "k8s.io", "a-b_c.d1", &"a".repeat(76)] {
            assert!(is_identifier(text), "{text}");
        }
        for text in ["", "-a", "a-", "a--b", "a b", "ä", "a/b", &"a".repeat(77)] {
            assert!(!is_identifier(text), "{text}");
        }
    }
}
