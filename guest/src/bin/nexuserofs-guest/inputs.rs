//! Policy and description, from where they are.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nexuserofs_guest::canonical::Canonical as _;
use nexuserofs_guest::command_line::CommandLine;
use nexuserofs_guest::descriptor::{self, Descriptor, HEADER_BYTES};
use nexuserofs_guest::devices::{Query, wait_for};
use nexuserofs_guest::manifest::{SignedManifest, UnixTime};
use nexuserofs_guest::policy::{InvalidPolicy, Origin, Policy, choose};

use crate::arguments::Arguments;
use crate::failure::Failure;

/// Where a policy may be besides the command line: in the guest's own image, and where Kata's agent puts
/// what the initdata has.
const POLICIES: [&str; 2] =
    ["/etc/nexuserofs/policy.json", "/run/confidential-containers/initdata/nexuserofs-policy.json"];

/// How long to wait for devices, if nobody says.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the program is given, with the kernel's command line.
pub(crate) struct Inputs<'a> {
    arguments: &'a Arguments,
    command_line: CommandLine,
}

impl<'a> Inputs<'a> {
    pub(crate) fn read(arguments: &'a Arguments) -> Result<Self, Failure> {
        let path = &arguments.command_line;
        let line = fs::read_to_string(path).map_err(Failure::file("read", path))?;
        Ok(Self { arguments, command_line: CommandLine::read(&line)? })
    }

    pub(crate) const fn command_line(&self) -> &CommandLine {
        &self.command_line
    }

    /// How long to wait for devices.
    pub(crate) fn patience(&self) -> Result<Duration, Failure> {
        let seconds = self.command_line.parsed("timeout", "number of seconds")?;
        Ok(self.arguments.timeout.or(seconds.map(Duration::from_secs)).unwrap_or(PATIENCE))
    }

    /// The one policy.
    pub(crate) fn policy(&self) -> Result<Policy, Failure> {
        if let Some(path) = &self.arguments.policy {
            let (_, policy) = policy(path)?.ok_or(InvalidPolicy::Missing)?;
            return Ok(policy);
        }
        let mut found = Vec::new();
        for path in POLICIES {
            found.extend(policy(Path::new(path))?);
        }
        let on_line = Policy::from_command_line(&self.command_line)?;
        found.extend(on_line.map(|policy| (Origin::CommandLine, policy)));
        Ok(choose(found)?)
    }

    /// The manifest alone, wherever it is.
    pub(crate) fn signed(&self) -> Result<SignedManifest, Failure> {
        match &self.arguments.manifest {
            Some(path) => {
                let text = read_file(path, SignedManifest::LIMIT)?;
                SignedManifest::from_canonical(text.trim_ascii_end())
                    .map_err(|source| Failure::Manifest { path: path.clone(), source })
            }
            None => Ok(self.descriptor()?.signed),
        }
    }

    /// What the host describes.
    pub(crate) fn descriptor(&self) -> Result<Descriptor, Failure> {
        match (&self.arguments.kata, &self.arguments.descriptor) {
            (Some(storages), _) => {
                let storages = read_file(storages, descriptor::Assembly::LIMIT)?;
                Ok(Descriptor {
                    assembly: descriptor::from_storages(&storages)?,
                    signed: self.signed()?,
                })
            }
            (None, Some(source)) if source != "cmdline" => match source.to_str() {
                Some("-") => Ok(Descriptor::read(&read(io::stdin().lock(), Path::new("-"), Descriptor::LIMIT)?)?),
                Some(text) if text.starts_with("block:") => self.at(text),
                _ => Ok(Descriptor::read(&read_file(Path::new(source), Descriptor::LIMIT)?)?),
            },
            (None, _) => match self.command_line.get("descriptor") {
                Some(text) => self.at(text),
                None => Err(Failure::Usage(
                    "there is no descriptor: name one with --descriptor, or with nexuserofs.descriptor on the \
                     kernel's command line"
                        .to_owned(),
                )),
            },
        }
    }

    /// The descriptor where a kernel's command line says that it is, or in it.
    fn at(&self, text: &str) -> Result<Descriptor, Failure> {
        if let Some(query) = text.strip_prefix("block:") {
            return self.on_device(&query.parse()?);
        }
        match text.strip_prefix("base64:") {
            Some(encoded) => Ok(Descriptor::from_base64(encoded)?),
            None => Ok(Descriptor::read(&read_file(Path::new(text), Descriptor::LIMIT)?)?),
        }
    }

    fn on_device(&self, query: &Query) -> Result<Descriptor, Failure> {
        let devices = wait_for(&self.arguments.sysfs, &[query], self.patience()?)?;
        let path = PathBuf::from(devices.find(query)?.path());
        let failed = || Failure::file("read", &path);
        let mut device = File::open(&path).map_err(failed())?;
        let mut header = [0; HEADER_BYTES];
        device.read_exact(&mut header).map_err(failed())?;
        let mut payload = vec![0; descriptor::payload_length(&header, Descriptor::LIMIT)?];
        device.read_exact(&mut payload).map_err(failed())?;
        Ok(Descriptor::read(&payload)?)
    }
}

/// The guest's clock.
pub(crate) fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixTime(since.as_secs())
}

fn policy(path: &Path) -> Result<Option<(Origin, Policy)>, Failure> {
    let origin = Origin::File(path.to_owned());
    let text = match read_file(path, Policy::LIMIT) {
        Err(Failure::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    match Policy::read(&text) {
        Ok(policy) => Ok(Some((origin, policy))),
        Err(source) => Err(InvalidPolicy::Damaged { origin, source }.into()),
    }
}

fn read_file(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    read(File::open(path).map_err(Failure::file("open", path))?, path, limit)
}

/// Reads one byte more than there may be, so that too long a document shows as one.
fn read(source: impl Read, path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    source.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(Failure::file("read", path))?;
    Ok(bytes)
}
