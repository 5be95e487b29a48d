//! How layers are made of tars, and the options of mkfs.erofs.

use std::str::FromStr;

/// What makes layers of tars. Layers that are EROFS images already are taken over by all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Builder {
    /// This project's own, image layout v1.
    #[default]
    Native,
    /// mkfs.erofs.
    Mkfs,
    /// mkfs.erofs makes an index, and the tar stays as it is.
    TarIndex,
}

/// A text that names no builder.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no builder of layers; write \"native\", \"mkfs\" or \"tar-index\"")]
pub struct UnknownBuilder(String);

impl FromStr for Builder {
    type Err = UnknownBuilder;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "native" => Ok(Self::Native),
            "mkfs" => Ok(Self::Mkfs),
            "tar-index" => Ok(Self::TarIndex),
            _ => Err(UnknownBuilder(text.to_owned())),
        }
    }
}

/// Options of mkfs.erofs that the daemon gives itself, or that have it make something else than one image.
const OWN: [&str; 6] = ["--tar", "--blobdev", "--vmdk-desc", "--incremental", "--rebuild", "-U"];

/// A text that is no option for mkfs.erofs.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidMkfsOption {
    /// Nothing.
    #[error("an empty option means nothing to mkfs.erofs; remove it")]
    Empty,
    /// It would be taken for a file.
    #[error(
        "{0:?} is no option of mkfs.erofs, as it begins with no dash; write options and their values in one: -zlz4"
    )]
    NoDash(String),
    /// The daemon decides that.
    #[error("the option {0:?} of mkfs.erofs is the daemon's own; remove it")]
    Own(String),
}

/// Checks one option.
pub(super) fn mkfs_option(text: &str) -> Result<String, InvalidMkfsOption> {
    let owned = || text.to_owned();
    match text {
        "" => Err(InvalidMkfsOption::Empty),
        _ if !text.starts_with('-') => Err(InvalidMkfsOption::NoDash(owned())),
        _ if OWN.iter().any(|own| text.starts_with(own)) => Err(InvalidMkfsOption::Own(owned())),
        _ => Ok(owned()),
    }
}

/// A builder that cannot do what the other settings ask for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnfitBuilder {
    /// The native builder has no options.
    #[error("the builder \"native\" takes no mkfs_options; remove them, or write \"mkfs\"")]
    Options,
    /// A tree covers blocks of 4096 bytes.
    #[error(
        "layers of the builder \"tar-index\" have blocks of 512 bytes and no dm-verity trees, but the profile {0:?} requires \
         them; choose another builder, or verity = \"auto\" there"
    )]
    NoTrees(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_begin_with_a_dash_and_leave_the_mode_to_the_daemon() {
        for option in ["-zlz4hc,12", "-C65536", "-Eall-fragments", "--sort=none", "-T0"] {
            assert_eq!(mkfs_option(option), Ok(option.to_owned()));
        }
        assert_eq!(mkfs_option(""), Err(InvalidMkfsOption::Empty));
        assert_eq!(mkfs_option("65536"), Err(InvalidMkfsOption::NoDash("65536".into())));
        for option in ["--tar=f", "-Urandom", "--blobdev=/dev/sda"] {
            assert_eq!(mkfs_option(option), Err(InvalidMkfsOption::Own(option.into())));
        }
    }
}
