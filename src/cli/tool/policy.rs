//! `nexuserofs policy`: which images a guest runs, in the forms that guests take.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use nexuserofs_guest::manifest::PublicKey;
use nexuserofs_guest::policy::{KeyRule, Policy, Rule, UpperKind};
use nexuserofs_guest::word::Word;

use super::error::Error;
use super::manifest;
use super::report::print;
use crate::cli::exit::Exit;
use crate::trust::{key, policy};

const EXAMPLES: &str = "Examples:
  nexuserofs policy emit --format cmdline image.json
  openssl pkey -in key.pem -pubout -out key.pub
  nexuserofs policy emit --format initdata --key key.pub --minimum-version 7 --name IMAGE";

#[derive(Debug, Subcommand)]
pub(super) enum PolicyVerb {
    /// Print a policy that allows these manifests, or whatever these keys sign.
    #[command(after_help = EXAMPLES)]
    Emit(Emit),
}

/// How a policy is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Parameters for a measured kernel command line
    Cmdline,
    /// Initdata of Kata, in TOML
    Initdata,
    /// Rules for the policy of Kata's agent; one manifest
    Rego,
    /// The file /etc/nexuserofs/policy.json of an initramfs
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Emit {
    /// How it is written
    #[arg(long, value_enum)]
    format: Format,
    /// Allow what this key signs: a PEM file, or the key itself in base64url
    #[arg(long, value_name = "FILE|KEY", conflicts_with = "manifests")]
    key: Vec<String>,
    /// The oldest version that is allowed
    #[arg(long, value_name = "VERSION", requires = "key", default_value_t = 0)]
    minimum_version: u64,
    /// What an image may be called; anything if not said
    #[arg(long, requires = "key")]
    name: Vec<Word>,
    /// What may take the writes: none, tmpfs, device, encrypted (none and tmpfs if not said)
    #[arg(long)]
    upper: Vec<UpperKind>,
    /// Allow the images of these manifests
    #[arg(required_unless_present = "key")]
    manifests: Vec<PathBuf>,
}

/// Prints what was asked for.
pub(super) fn run(verb: &PolicyVerb) -> Result<Exit, Error> {
    let PolicyVerb::Emit(asked) = verb;
    let text = match asked.format {
        Format::Rego => match asked.manifests.as_slice() {
            [one] => policy::rego(&manifest::read(one)?.manifest),
            _ => return Err(Error::RegoNeedsOne),
        },
        Format::Cmdline => Ok(asked.policy()?.to_command_line()),
        Format::Json => policy::json(&asked.policy()?),
        Format::Initdata => policy::initdata(&asked.policy()?).inspect(|text| {
            // Not on standard output: it is no part of the document.
            eprintln!(
                "sha256 of the initdata: {}",
                policy::initdata_digest(&format!("{}\n", text.trim_end()))
            );
        }),
    };
    print(text.map_err(|source| Error::Output(source.into()))?.trim_end())?;
    Ok(Exit::Success)
}

impl Emit {
    fn policy(&self) -> Result<Policy, Error> {
        let rule = match self.key.as_slice() {
            [] => Rule::Exact(self.hashes()?),
            keys => Rule::Key(KeyRule {
                keys: keys.iter().map(|key| public(key)).collect::<Result<_, _>>()?,
                minimum_version: self.minimum_version,
                names: self.name.iter().cloned().collect(),
            }),
        };
        let policy = Policy::new(rule);
        Ok(match self.upper.as_slice() {
            [] => policy,
            uppers => Policy { uppers: uppers.iter().copied().collect(), ..policy },
        })
    }

    fn hashes(&self) -> Result<BTreeSet<nexuserofs_guest::manifest::ImageHash>, Error> {
        self.manifests.iter().map(|path| Ok(manifest::read(path)?.manifest.image_hash())).collect()
    }
}

/// A key itself, or the one in a file.
fn public(text: &str) -> Result<PublicKey, Error> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let path = PathBuf::from(text);
    let pem = fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    key::public(&pem).map_err(|source| Error::Key { path, source })
}
