//! Options that the operator adds to every overlay mount.

use std::fmt;
use std::str::FromStr;

/// One mount option of overlayfs that does not interfere with the mount plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayOption(String);

/// Options by which the plan itself says which directories it joins.
const PLANNED: [&str; 5] = ["lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir"];

/// A text that would break every mount plan.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidOverlayOption {
    /// Nothing.
    #[error("an empty option means nothing to overlayfs; remove it")]
    Empty,
    /// Several options in one text.
    #[error("{0:?} has a comma, which separates mount options; give each option by itself")]
    Comma(String),
    /// Blanks, control characters or template braces.
    #[error(
        "{0:?} has blanks, control characters or template braces, which no overlay option has; write name or name=value"
    )]
    Characters(String),
    /// A directory that the plan sets.
    #[error("{0:?} is set by the mount plan; remove it")]
    Planned(String),
    /// An instruction for containerd's mount manager.
    #[error("{0:?} is an instruction to containerd and not to overlayfs; remove it")]
    Instruction(String),
}

impl OverlayOption {
    /// The option as it goes into a mount, `name` or `name=value`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OverlayOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OverlayOption {
    type Err = InvalidOverlayOption;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let owned = text.to_owned();
        let name = text.split('=').next().unwrap_or_default();
        if name.is_empty() {
            Err(InvalidOverlayOption::Empty)
        } else if text.contains(',') {
            Err(InvalidOverlayOption::Comma(owned))
        } else if text.contains("{{") || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            Err(InvalidOverlayOption::Characters(owned))
        } else if PLANNED.contains(&name) {
            Err(InvalidOverlayOption::Planned(owned))
        } else if text.to_ascii_lowercase().starts_with("x-containerd.") {
            Err(InvalidOverlayOption::Instruction(owned))
        } else {
            Ok(Self(owned))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_overlayfs_pass() {
        for text in ["index=off", "metacopy=on", "volatile", "xino=auto", "redirect_dir=nofollow"] {
            assert_eq!(text.parse::<OverlayOption>().map(|option| option.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn options_that_break_a_plan_do_not() {
        use InvalidOverlayOption as E;
        type Refusal = fn(String) -> E;
        let refused: [(&str, Refusal); 11] = [
            ("", |_| E::Empty),
            ("=off", |_| E::Empty),
            ("index=off,metacopy=off", E::Comma),
            ("lowerdir=/a", E::Planned),
            ("lowerdir+=/a", E::Planned),
            ("datadir+=/a", E::Planned),
            ("upperdir=/a", E::Planned),
            ("workdir=/a", E::Planned),
            ("index= off", E::Characters),
            ("index={{ mount 0 }}", E::Characters),
            ("X-containerd.mkdir.path=/a", E::Instruction),
        ];
        for (text, error) in refused {
            assert_eq!(text.parse::<OverlayOption>(), Err(error(text.to_owned())), "{text}");
        }
    }
}
