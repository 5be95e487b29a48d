//! `nexuserofs manifest`: lists of an image's layers for guests that trust nothing else.
//!
//! * `arguments`: what can be asked for. * `compute`: the list of an image, from the image alone.

pub(super) mod arguments;
mod compute;

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use nexuserofs_guest::canonical::Canonical as _;
use nexuserofs_guest::manifest::{Fields, Image, MergedFields, SignedManifest, UnixTime};
use nexuserofs_guest::policy::Policy;

use self::arguments::{ManifestVerb, Sign, Verify};
use super::error::Error;
use super::report::{Console, print};
use crate::cli::exit::Exit;
use crate::trust::key::{Claims, Signer};

/// Does what was asked for. Documents go to standard output, in their canonical form and an end of line.
pub(super) fn run(verb: &ManifestVerb, console: Console) -> Result<Exit, Error> {
    match verb {
        ManifestVerb::Compute(asked) => {
            let manifest = compute::compute(asked, console)?;
            print(&SignedManifest::from(manifest).to_canonical())?;
        }
        ManifestVerb::Sign(asked) => print(&sign(asked)?.to_canonical())?,
        ManifestVerb::Verify(asked) => return verify(asked),
        ManifestVerb::Show { manifest } => show(&read(manifest)?)?,
    }
    Ok(Exit::Success)
}

fn sign(asked: &Sign) -> Result<SignedManifest, Error> {
    let mut signed = read(&asked.manifest)?;
    let text = text(&asked.key)?;
    let signer = Signer::read(&text).map_err(|source| Error::Key { path: asked.key.clone(), source })?;
    let Sign { version, name, expires, .. } = asked;
    let claims = Claims { version: *version, name: name.clone(), expires: expires.map(UnixTime) };
    // A key says one thing about a manifest: the last.
    signed.signatures.retain(|signature| signature.statement.key_id != signer.public().id());
    signed.signatures.push(signer.sign(&signed.manifest, claims));
    Ok(signed)
}

fn verify(asked: &Verify) -> Result<Exit, Error> {
    let policy = Policy::read(text(&asked.policy)?.as_bytes());
    let policy =
        policy.map_err(|source| Error::Document { path: asked.policy.clone(), what: "policy", source })?;
    let signed = read(&asked.manifest)?;
    match policy.approve(&signed, now()) {
        Ok(approved) => print(&approved.image_hash().to_string()).map(|()| Exit::Success),
        Err(refusal) => Err(Error::Refused(refusal)),
    }
}

fn show(signed: &SignedManifest) -> Result<(), Error> {
    let Fields { image, platform, layers, merged, .. } = signed.manifest.fields();
    print(&format!("image hash  {}", signed.manifest.image_hash()))?;
    if let Some(Image { manifest, config }) = image {
        print(&format!("manifest    {manifest}\nconfig      {config}"))?;
    }
    let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    print(&format!("platform    {}/{}{variant}", platform.os, platform.architecture))?;
    for (index, layer) in layers.iter().enumerate() {
        let fields = layer.fields();
        let root = fields.verity.fields().root_digest;
        print(&format!("layer {index:<5} {} {} bytes, root {root}", fields.diff_id, fields.size))?;
    }
    if let Some(merged) = merged {
        let MergedFields { size, verity, .. } = merged.fields();
        print(&format!("merged      {size} bytes, root {}", verity.fields().root_digest))?;
    }
    for signature in &signed.signatures {
        let statement = &signature.statement;
        let name = statement.name.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
        let expires =
            statement.expires.map(|UnixTime(time)| format!(", until second {time}")).unwrap_or_default();
        print(&format!("signed by   {}, version {}{name}{expires}", statement.key_id, statement.version))?;
    }
    Ok(())
}

/// Reads a manifest, with signatures or without, with an end of line or without.
pub(super) fn read(path: &Path) -> Result<SignedManifest, Error> {
    let text = text(path)?;
    SignedManifest::from_canonical(text.trim_end().as_bytes()).map_err(|source| Error::Document {
        path: path.to_owned(),
        what: "layers manifest",
        source,
    })
}

/// The text of a file, or of standard input for `-`.
pub(super) fn text(path: &Path) -> Result<String, Error> {
    let read = match path == Path::new("-") {
        true => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        }
        false => fs::read_to_string(path),
    };
    read.map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixTime(since.as_secs())
}
