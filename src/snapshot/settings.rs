//! What an operator may choose about snapshots.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Error;

/// What an operator may choose about snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// Directory that holds everything: absolute, made if it does not exist.
    pub root: PathBuf,
    /// Profiles by the name that a request calls the snapshotter by.
    pub profiles: BTreeMap<String, Profile>,
}

/// What one kind of consumer is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Size in bytes of an active snapshot's writable block; 0 for a directory instead.
    pub default_size: u64,
    /// Options that are added to overlay mounts, in this order.
    pub overlay_options: Vec<String>,
}

impl SnapshotSettings {
    /// Refuses what would break mount plans.
    ///
    /// # Errors
    /// [`Error::Root`] or [`Error::OverlayOption`].
    pub fn validate(&self) -> Result<(), Error> {
        root_text(&self.root)?;
        for (name, profile) in &self.profiles {
            for option in &profile.overlay_options {
                check_overlay_option(name, option)?;
            }
        }
        Ok(())
    }
}

/// The root as text that can stand in an overlay option and in a template.
///
/// # Errors
/// [`Error::Root`] if it is not absolute or holds a character with a meaning in mount options.
pub(super) fn root_text(root: &Path) -> Result<&str, Error> {
    let refused = |reason| Error::Root { path: root.to_owned(), reason };
    let text = root.to_str().ok_or_else(|| refused("it is not UTF-8"))?;
    if !root.is_absolute() {
        return Err(refused("it is not absolute"));
    }
    // Overlay splits its options at commas and its directories at colons, and takes a backslash for
    // an escape; containerd's mount manager expands braces.
    if text.contains([',', ':', '\\', '"', '{', '}']) || text.contains(char::is_control) {
        return Err(refused(r#"it holds one of , : \ " { } or a control character"#));
    }
    Ok(text.trim_end_matches('/'))
}

fn check_overlay_option(profile: &str, option: &str) -> Result<(), Error> {
    let name = option.split('=').next().unwrap_or_default();
    let reason = match name {
        "" => "it is empty",
        "lowerdir" | "lowerdir+" | "datadir+" | "upperdir" | "workdir" => "each snapshot has its own",
        _ if option.contains("{{") => "it would be expanded as a template",
        _ => return Ok(()),
    };
    Err(Error::OverlayOption { profile: profile.to_owned(), option: option.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(root: &str, option: Option<&str>) -> SnapshotSettings {
        let overlay_options = option.map(str::to_owned).into_iter().collect();
        let profile = Profile { default_size: 0, overlay_options };
        SnapshotSettings { root: root.into(), profiles: BTreeMap::from([("p".to_owned(), profile)]) }
    }

    #[test]
    fn roots_that_would_break_a_plan_are_refused() {
        for root in ["", "relative", "/a,b", "/a:b", "/a\\b", "/a{{b", "/a\nb"] {
            assert!(matches!(settings(root, None).validate(), Err(Error::Root { .. })), "{root:?}");
        }
        settings("/var/lib/nexuserofs", None).validate().unwrap();
    }

    #[test]
    fn a_trailing_slash_is_not_part_of_the_root() {
        assert_eq!(root_text(Path::new("/a/b//")).unwrap(), "/a/b");
    }

    #[test]
    fn overlay_options_that_are_ours_to_set_are_refused() {
        for option in ["", "=x", "upperdir=/x", "lowerdir+=/x", "workdir=/x", "context={{ x }}"] {
            let result = settings("/r", Some(option)).validate();
            assert!(matches!(result, Err(Error::OverlayOption { .. })), "{option:?}");
        }
        for option in ["volatile", "index=off", "xino=auto"] {
            settings("/r", Some(option)).validate().unwrap();
        }
    }
}
