//! Where a policy comes from.

use std::fmt;
use std::path::PathBuf;

use super::rule::default_uppers;
use super::{KeyRule, Policy, Rule, UpperKind};
use crate::canonical::NotCanonical;
use crate::command_line::{CommandLine, InvalidCommandLine};

/// A place that the host cannot change without the guest's measurement changing. Which of them is measured
/// depends on the machine: `docs/guest.md` says how to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The kernel's command line.
    CommandLine,
    /// A file in the guest's image, in its initramfs, or what an agent wrote of the initdata.
    File(PathBuf),
}

/// Why there is no policy. Without one nothing is allowed.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPolicy {
    /// No place has one.
    #[error(
        "there is no policy, so nothing is allowed: make one with `nexuserofs policy emit`, and put it into the \
         measured command line, the initdata or the initramfs"
    )]
    Missing,
    /// Several places have one, and the host may have added one of them.
    #[error("there are policies in {first} and in {second}: leave one")]
    Ambiguous {
        /// One place.
        first: Origin,
        /// Another.
        second: Origin,
    },
    /// It is not a policy.
    #[error("{origin} has no policy that can be read: {source}")]
    Damaged {
        /// Where it is.
        origin: Origin,
        /// What is wrong.
        source: NotCanonical,
    },
    /// The parameters do not fit together.
    #[error("the policy on the kernel's command line is not clear: {reason}")]
    Contradiction {
        /// Which.
        reason: &'static str,
    },
    /// The command line cannot be read.
    #[error(transparent)]
    CommandLine(#[from] InvalidCommandLine),
}

impl InvalidPolicy {
    /// The reason in one stable word, for programs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "policy_missing",
            Self::Ambiguous { .. } => "policy_ambiguous",
            Self::Damaged { .. } | Self::Contradiction { .. } => "policy_damaged",
            Self::CommandLine(_) => "command_line_damaged",
        }
    }
}

/// The one policy among those that were found.
///
/// # Errors
/// If there is none or more than one, even if they say the same.
pub fn choose(found: impl IntoIterator<Item = (Origin, Policy)>) -> Result<Policy, InvalidPolicy> {
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (None, _) => Err(InvalidPolicy::Missing),
        (Some((_, policy)), None) => Ok(policy),
        (Some((first, _)), Some((second, _))) => Err(InvalidPolicy::Ambiguous { first, second }),
    }
}

impl Policy {
    /// The policy on a command line. None if it has no parameter of one.
    ///
    /// # Errors
    /// If a value is wrong, or parameters of both rules are there, or of none.
    pub fn from_command_line(line: &CommandLine) -> Result<Option<Self>, InvalidPolicy> {
        let hashes = line.list("image_hash", "image hash")?;
        let keys = line.list("key", "Ed25519 public key")?;
        let minimum_version = line.parsed("minimum_version", "number")?;
        let names = line.list("name", "name of an image")?;
        let uppers = line.list::<UpperKind>("uppers", "kind of upper")?;
        let restricts = minimum_version.is_some() || names.is_some();
        let contradiction = |reason| Err(InvalidPolicy::Contradiction { reason });
        let rule = match (hashes, keys) {
            (Some(_), Some(_)) => return contradiction("it has both image_hash and key"),
            (Some(_), None) if restricts => {
                return contradiction("minimum_version and name go with key, not with image_hash");
            }
            (None, None) if restricts || uppers.is_some() => {
                return contradiction("it has neither image_hash nor key");
            }
            (None, None) => return Ok(None),
            (Some(hashes), None) => Rule::Exact(hashes.into_iter().collect()),
            (None, Some(keys)) => Rule::Key(KeyRule {
                keys,
                minimum_version: minimum_version.unwrap_or(0),
                names: names.unwrap_or_default().into_iter().collect(),
            }),
        };
        let uppers = uppers.map_or_else(default_uppers, |uppers| uppers.into_iter().collect());
        Ok(Some(Self { rule, uppers }))
    }

    /// The parameters for a kernel's command line that say the same as this policy.
    #[must_use]
    pub fn to_command_line(&self) -> String {
        use crate::command_line::PREFIX;
        let list = |name: &str, values: Vec<String>| format!("{PREFIX}{name}={}", values.join(","));
        let mut parameters = match &self.rule {
            Rule::Exact(hashes) => vec![list("image_hash", hashes.iter().map(ToString::to_string).collect())],
            Rule::Key(KeyRule { keys, minimum_version, names }) => {
                let mut parameters = vec![list("key", keys.iter().map(ToString::to_string).collect())];
                if *minimum_version > 0 {
                    parameters.push(format!("{PREFIX}minimum_version={minimum_version}"));
                }
                if !names.is_empty() {
                    parameters.push(list("name", names.iter().map(ToString::to_string).collect()));
                }
                parameters
            }
        };
        if self.uppers != default_uppers() {
            parameters.push(list("uppers", self.uppers.iter().map(ToString::to_string).collect()));
        }
        parameters.join(" ")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("the kernel's command line"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for UpperKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Tmpfs => "tmpfs",
            Self::Device => "device",
            Self::Encrypted => "encrypted",
        })
    }
}

impl std::str::FromStr for UpperKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.to_string() == text);
        found.ok_or_else(|| format!("{text:?} is none of none, tmpfs, device, encrypted"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fixtures;

    fn policies() -> Vec<Policy> {
        let hashes = [fixtures::manifest(1).image_hash(), fixtures::manifest(2).image_hash()];
        let keys = vec![fixtures::public(&fixtures::key(1)), fixtures::public(&fixtures::key(2))];
        let names = BTreeSet::from(["registry.example/app".parse().unwrap()]);
        vec![
            Policy::new(Rule::Exact(hashes.into_iter().collect())),
            Policy::new(Rule::Key(KeyRule {
                keys: keys.clone(),
                minimum_version: 0,
                names: BTreeSet::new(),
            })),
            Policy {
                rule: Rule::Key(KeyRule { keys, minimum_version: 3, names }),
                uppers: BTreeSet::from([UpperKind::Tmpfs, UpperKind::Device, UpperKind::Encrypted]),
            },
        ]
    }

    #[test]
    fn a_policy_on_a_command_line_is_read_as_it_is_written() {
        for policy in policies() {
            let line = CommandLine::read(&format!("quiet {}", policy.to_command_line())).unwrap();
            assert_eq!(Policy::from_command_line(&line).unwrap(), Some(policy));
        }
        let line = CommandLine::read("quiet nexuserofs.timeout=5").unwrap();
        assert_eq!(Policy::from_command_line(&line).unwrap(), None);
    }

    #[test]
    fn parameters_that_do_not_fit_together_are_refused() {
        let hash = policies().remove(0).to_command_line();
        let key = policies().remove(1).to_command_line();
        for (line, reason) in [
            (format!("{hash} {key}"), "policy_damaged"),
            (format!("{hash} nexuserofs.minimum_version=1"), "policy_damaged"),
            ("nexuserofs.minimum_version=1".to_owned(), "policy_damaged"),
            ("nexuserofs.uppers=tmpfs".to_owned(), "policy_damaged"),
            (format!("{hash},"), "command_line_damaged"),
            (format!("{key} nexuserofs.uppers=host"), "command_line_damaged"),
            ("nexuserofs.image_hash=sha256:0".to_owned(), "command_line_damaged"),
        ] {
            let read = Policy::from_command_line(&CommandLine::read(&line).unwrap());
            assert_eq!(read.unwrap_err().reason(), reason, "{line}");
        }
    }

    #[test]
    fn exactly_one_policy_is_a_policy() {
        let policy = policies().remove(0);
        let file = || (Origin::File("/etc/policy.json".into()), policy.clone());
        let line = || (Origin::CommandLine, policy.clone());
        assert_eq!(choose([file()]).unwrap(), policy);
        assert_eq!(choose([]).unwrap_err().reason(), "policy_missing");
        assert_eq!(choose([file(), line()]).unwrap_err().reason(), "policy_ambiguous");
    }
}
