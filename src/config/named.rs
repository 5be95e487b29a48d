//! What the names of profiles stand for.

/// What a profile of one name is where the file does not say otherwise. Keys of `[profiles.NAME]` beat it; it
/// beats the top of the file, since a name is a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: &'static str,
    /// Whether the profile exists without being written.
    pub is_standard: bool,
    /// Its `flavour`.
    pub flavour: &'static str,
    /// Its `layers`.
    pub layers: &'static str,
    /// Its `verity`. None leaves that to the top of the file.
    pub verity: Option<&'static str>,
}

/// The names that stand for something.
pub const NAMED: [Named; 6] = [
    Named { is_standard: true, ..Named::plain("nexuserofs") },
    Named { is_standard: true, flavour: "host", ..Named::plain("nexuserofs-host") },
    Named { layers: "merged", ..Named::plain("nexuserofs-merged") },
    Named { verity: Some("require"), ..Named::plain("nexuserofs-verity") },
    Named { flavour: "raw", layers: "merged", ..Named::plain("nexuserofs-vm") },
    Named { flavour: "vhost-user", layers: "merged", ..Named::plain("nexuserofs-vhost") },
];

impl Named {
    /// A name that stands for nothing in particular.
    #[must_use]
    pub const fn plain(name: &'static str) -> Self {
        Self { name, is_standard: false, flavour: "template", layers: "separate", verity: None }
    }

    /// What a profile's name stands for.
    #[must_use]
    pub fn of(profile: &str) -> Self {
        NAMED.into_iter().find(|named| named.name == profile).unwrap_or(Self::plain(""))
    }

    /// The profiles that exist without being written.
    pub fn standard() -> impl Iterator<Item = &'static str> {
        NAMED.into_iter().filter(|named| named.is_standard).map(|named| named.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flavour, Layers, VerityMode};

    #[test]
    fn every_value_is_one_that_the_file_could_have() {
        for named in NAMED {
            named.flavour.parse::<Flavour>().unwrap();
            named.layers.parse::<Layers>().unwrap();
            named.verity.iter().for_each(|mode| assert!(mode.parse::<VerityMode>().is_ok()));
            assert_eq!(Named::of(named.name), named);
        }
        assert_eq!(Named::of("mine").flavour, "template");
    }
}
