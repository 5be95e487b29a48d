//! What a guest trusts, made by the operator's tool as an operator makes it: with a key of its own, and of the image alone.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nexuserofs_guest::canonical::Canonical as _;
use nexuserofs_guest::manifest::SignedManifest;

use crate::command::Run;
use crate::images::Image;
use crate::stage::Place;

/// Someone who signs images.
#[derive(Debug)]
pub struct Signer {
    tool: PathBuf,
    directory: PathBuf,
}

/// What is said of an image besides which it is.
#[derive(Clone, Copy, Debug)]
pub struct Release<'a> {
    /// What the image is called.
    pub name: &'a str,
    /// Grows with every release.
    pub version: u64,
}

impl Signer {
    /// Someone with a new key, which lies in `directory`.
    ///
    /// # Errors
    /// openssl fails.
    pub fn with_new_key(place: &Place, directory: &Path) -> Result<Self> {
        let signer = Self { tool: place.programs.join("nexuserofs"), directory: directory.to_owned() };
        let (private, public) = (signer.private(), signer.public());
        Run::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&private).run()?;
        Run::new("openssl").args(["pkey", "-pubout", "-in"]).arg(private).arg("-out").arg(public).run()?;
        Ok(signer)
    }

    /// The signed list of an image's layers, with the merged image.
    ///
    /// # Errors
    /// The tool fails, or prints something else.
    pub fn sign(&self, image: &Image, release: Release<'_>) -> Result<SignedManifest> {
        let unsigned = self.directory.join("manifest.json");
        fs::write(&unsigned, self.run("manifest", "compute").arg("--merged").arg(&image.layout).bytes()?)?;
        let version = release.version.to_string();
        let signed = self.run("manifest", "sign").args(["--version", &version, "--name", release.name]);
        let signed = signed.arg("--key").arg(self.private()).arg(unsigned).bytes()?;
        Ok(SignedManifest::from_canonical(signed.trim_ascii_end())?)
    }

    /// A policy that takes what this signer calls so, from this version on, as the file of an initramfs. The host's
    /// block may take the writes.
    ///
    /// # Errors
    /// The tool fails.
    pub fn policy(&self, release: Release<'_>) -> Result<String> {
        let version = release.version.to_string();
        let emit = self.run("policy", "emit").args(["--format", "json", "--upper", "device"]);
        let emit = emit.args(["--minimum-version", &version, "--name", release.name]);
        emit.arg("--key").arg(self.public()).output()
    }

    fn run(&self, noun: impl AsRef<OsStr>, verb: impl AsRef<OsStr>) -> Run {
        Run::new(&self.tool).arg(noun).arg(verb)
    }

    fn private(&self) -> PathBuf {
        self.directory.join("key.pem")
    }

    fn public(&self) -> PathBuf {
        self.directory.join("key.pub")
    }
}
