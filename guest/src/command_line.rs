//! Our parameters on the kernel's command line.
//!
//! Syntax: `Documentation/admin-guide/kernel-parameters.rst` in Linux. Parameters are apart by blanks, a
//! blank between double quotes does not count, and what follows a lone `--` is for the first process.

use std::collections::BTreeMap;

/// What the names of our parameters begin with.
pub const PREFIX: &str = "nexuserofs.";

/// Every parameter that means something to the program, without the prefix. `docs/guest.md` explains them.
pub const KNOWN: [&str; 7] =
    ["descriptor", "image_hash", "key", "minimum_version", "name", "timeout", "uppers"];

/// What a command line says to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The parameters whose names begin with [`PREFIX`], by the rest of their names.
    parameters: BTreeMap<String, String>,
    /// What follows the lone `--`.
    command: Vec<String>,
}

/// A command line that cannot be trusted to mean one thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommandLine {
    /// The kernel takes the last of two, other readers the first.
    #[error("the kernel's command line has {PREFIX}{name} twice")]
    Twice {
        /// The parameter without its prefix.
        name: String,
    },
    /// A parameter that needs a value.
    #[error("the kernel's command line has {PREFIX}{name} without a value")]
    NoValue {
        /// The parameter without its prefix.
        name: String,
    },
    /// Perhaps a restriction that we would not keep.
    #[error(
        "the kernel's command line has {PREFIX}{name}, which is not known here: expected one of {KNOWN:?}"
    )]
    Unknown {
        /// The parameter without its prefix.
        name: String,
    },
    /// A value that does not mean anything.
    #[error("{PREFIX}{name} on the kernel's command line is no {expected}: {reason}")]
    Value {
        /// The parameter without its prefix.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl CommandLine {
    /// Our parameters of a command line.
    ///
    /// # Errors
    /// If one is there twice, has no value, or is not [`KNOWN`].
    pub fn read(line: &str) -> Result<Self, InvalidCommandLine> {
        let mut found = BTreeMap::new();
        let mut words = words(line).into_iter();
        for word in words.by_ref().take_while(|word| word != "--") {
            let Some(parameter) = word.strip_prefix(PREFIX) else { continue };
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let name = name.to_owned();
            if !KNOWN.contains(&name.as_str()) {
                return Err(InvalidCommandLine::Unknown { name });
            }
            if value.is_empty() {
                return Err(InvalidCommandLine::NoValue { name });
            }
            if found.insert(name.clone(), value.to_owned()).is_some() {
                return Err(InvalidCommandLine::Twice { name });
            }
        }
        Ok(Self { parameters: found, command: words.collect() })
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The words for the first process: the program that is to run, and its arguments.
    #[must_use]
    pub fn command(&self) -> &[String] {
        &self.command
    }

    /// The value of a parameter, as what it should be.
    ///
    /// # Errors
    /// If it is not that.
    pub fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, InvalidCommandLine> {
        self.get(name).map(|text| parse(name, expected, text)).transpose()
    }

    /// The values of a parameter that is a list with commas. None if it is not there.
    ///
    /// # Errors
    /// If one is not what it should be.
    pub fn list<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<Option<Vec<T>>, InvalidCommandLine> {
        let values = |text: &str| text.split(',').map(|value| parse(name, expected, value)).collect();
        self.get(name).map(values).transpose()
    }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    name: &'static str,
    expected: &'static str,
    text: &str,
) -> Result<T, InvalidCommandLine> {
    text.parse().map_err(|reason: T::Err| InvalidCommandLine::Value {
        name,
        expected,
        reason: reason.to_string(),
    })
}

/// The words of a line, without the quotes around them or their values.
fn words(line: &str) -> Vec<String> {
    let mut quoted = false;
    let mut word = String::new();
    let mut words = Vec::new();
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            blank if blank.is_ascii_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_parameters_are_found_among_others() {
        let line = "console=ttyS0 \"nexuserofs.descriptor=a b\" quiet nexuserofs.name=\"c d\"\n";
        let found = CommandLine::read(line).unwrap();
        assert_eq!(found.get("descriptor"), Some("a b"));
        assert_eq!(found.get("name"), Some("c d"));
        assert_eq!(found.get("key"), None);
    }

    #[test]
    fn what_is_for_the_first_process_is_not_ours() {
        let found = CommandLine::read("quiet -- /bin/sh -c \"a b\" nexuserofs.what").unwrap();
        assert_eq!(found.command(), ["/bin/sh", "-c", "a b", "nexuserofs.what"]);
        assert!(found.parameters.is_empty());
    }

    #[test]
    fn a_line_that_may_mean_two_things_is_refused() {
        let name = |name: &str| name.to_owned();
        for (line, error) in [
            ("nexuserofs.key=a nexuserofs.key=a", InvalidCommandLine::Twice { name: name("key") }),
            ("nexuserofs.key=", InvalidCommandLine::NoValue { name: name("key") }),
            ("nexuserofs.key", InvalidCommandLine::NoValue { name: name("key") }),
            ("nexuserofs.keys=a", InvalidCommandLine::Unknown { name: name("keys") }),
            ("nexuserofs.=a", InvalidCommandLine::Unknown { name: name("") }),
        ] {
            assert_eq!(CommandLine::read(line), Err(error), "{line}");
        }
    }

    #[test]
    fn values_are_checked() {
        let line = CommandLine::read("nexuserofs.timeout=5 nexuserofs.minimum_version=x").unwrap();
        assert_eq!(line.parsed("timeout", "number"), Ok(Some(5)));
        assert!(line.parsed::<u64>("minimum_version", "number").is_err());
        assert_eq!(line.parsed::<u64>("name", "name"), Ok(None));
    }
}
