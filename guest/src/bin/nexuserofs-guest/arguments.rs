//! What the program can be asked for.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::ValueExt as _;
use nexuserofs_guest::assembly::{AssemblyId, Busy, Reading};
use nexuserofs_guest::devices::Sysfs;

/// How it is used.
pub(crate) const USAGE: &str = "\
nexuserofs-guest VERB [FLAGS]: makes a root file system of the layers that a policy allows

verbs
  verify   hold the manifest against the policy; no device is looked at
  plan     the same, find the devices, and print what would be done
  mount    do it
  umount   undo it
  inspect  print the block devices, and what names them
  init     as the first process: mount proc, sys, dev and run, load /modules, mount, and run
           what follows a lone -- on the kernel's command line, or /sbin/init, in the new root

flags
  --descriptor SOURCE   what the host describes: a file, - for standard input, cmdline for
                        nexuserofs.descriptor, block:serial:NAME and the like for a block device
  --manifest FILE       a signed manifest, in place of a descriptor
  --kata FILE           Kata's storages, with --manifest
  --policy FILE         the policy, and no other place is looked at
  --target DIRECTORY    where the root file system goes
  --id ID               tells it from others (root)
  --timeout SECONDS     how long to wait for devices (10)
  --read-everything     read every block before anything is mounted
  --detach              umount: take away what is in use, too
  --command-line FILE   in place of /proc/cmdline
  --sysfs DIRECTORY     in place of /sys
  --run DIRECTORY       in place of /run/nexuserofs

exit codes
  0 done   2 usage   3 refused   4 device missing or ambiguous   5 dm-verity   6 mount
";

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Verify,
    Plan,
    Mount,
    Umount,
    Inspect,
    Init,
    Help,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    pub(crate) verb: Verb,
    /// None: what is on the kernel's command line.
    pub(crate) descriptor: Option<OsString>,
    pub(crate) manifest: Option<PathBuf>,
    pub(crate) kata: Option<PathBuf>,
    pub(crate) policy: Option<PathBuf>,
    pub(crate) target: Option<PathBuf>,
    pub(crate) id: AssemblyId,
    pub(crate) timeout: Option<Duration>,
    pub(crate) reading: Reading,
    pub(crate) busy: Busy,
    pub(crate) command_line: PathBuf,
    pub(crate) sysfs: Sysfs,
    pub(crate) run: PathBuf,
}

impl Arguments {
    /// Reads the arguments, the first of which is the program's name. As the first process there is one verb,
    /// and what the kernel hands on is not for us.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, lexopt::Error> {
        let mut found = Self::default();
        if std::process::id() == 1 {
            found.verb = Verb::Init;
            return Ok(found);
        }
        found.read(lexopt::Parser::from_iter(arguments))?;
        Ok(found)
    }

    fn read(&mut self, mut parser: lexopt::Parser) -> Result<(), lexopt::Error> {
        use lexopt::Arg::{Long, Short, Value};
        let mut verb = None;
        while let Some(argument) = parser.next()? {
            match argument {
                Value(name) if verb.is_none() => verb = Some(Verb::of(&name.string()?)?),
                Long("help") | Short('h') => verb = Some(Verb::Help),
                Long("descriptor") => self.descriptor = Some(parser.value()?),
                Long("manifest") => self.manifest = Some(parser.value()?.into()),
                Long("kata") => self.kata = Some(parser.value()?.into()),
                Long("policy") => self.policy = Some(parser.value()?.into()),
                Long("target") => self.target = Some(parser.value()?.into()),
                Long("id") => self.id = parser.value()?.parse()?,
                Long("timeout") => self.timeout = Some(Duration::from_secs(parser.value()?.parse()?)),
                Long("read-everything") => self.reading = Reading::Everything,
                Long("detach") => self.busy = Busy::Detach,
                Long("json") => {}
                Long("command-line") => self.command_line = parser.value()?.into(),
                Long("sysfs") => self.sysfs = Sysfs::new(parser.value()?),
                Long("run") => self.run = parser.value()?.into(),
                other => return Err(other.unexpected()),
            }
        }
        self.verb = verb.ok_or("name a verb; --help lists them")?;
        match (&self.descriptor, &self.manifest, &self.kata) {
            (Some(_), Some(_), _) => Err("--descriptor has a manifest in it: leave --manifest away".into()),
            (_, None, Some(_)) => Err("--kata needs --manifest: Kata's storages have none".into()),
            _ => Ok(()),
        }
    }
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            verb: Verb::Help,
            descriptor: None,
            manifest: None,
            kata: None,
            policy: None,
            target: None,
            id: AssemblyId::default(),
            timeout: None,
            reading: Reading::Mounting,
            busy: Busy::Refuse,
            command_line: "/proc/cmdline".into(),
            sysfs: Sysfs::default(),
            run: "/run/nexuserofs".into(),
        }
    }
}

impl Verb {
    fn of(name: &str) -> Result<Self, lexopt::Error> {
        Ok(match name {
            "verify" => Self::Verify,
            "plan" => Self::Plan,
            "mount" => Self::Mount,
            "umount" => Self::Umount,
            "inspect" => Self::Inspect,
            "init" => Self::Init,
            "help" => Self::Help,
            other => return Err(format!("{other:?} is no verb; --help lists them").into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, lexopt::Error> {
        Arguments::parse(["nexuserofs-guest"].iter().chain(words).map(Into::into))
    }

    #[test]
    fn flags_are_read_on_either_side_of_the_verb() {
        let found = parse(&["--target", "/mnt", "mount", "--timeout=3", "--id", "pod-1"]).unwrap();
        assert_eq!((found.verb, found.timeout), (Verb::Mount, Some(Duration::from_secs(3))));
        assert_eq!((found.target, found.id.as_str()), (Some("/mnt".into()), "pod-1"));
    }

    #[test]
    fn what_is_not_known_or_does_not_fit_is_refused() {
        for words in [
            &[][..],
            &["fetch"],
            &["mount", "umount"],
            &["mount", "--force"],
            &["mount", "--id", "../x"],
            &["plan", "--kata", "storages.json"],
            &["plan", "--descriptor", "-", "--manifest", "m.json"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
