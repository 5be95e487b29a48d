//! containerd, its client and its runc shim, built from Go modules, and our own client that mounts images.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::{Cache, Key};
use crate::command::Run;
use crate::machine;
use crate::progress::Outcome;

use super::Recipe;

/// Name of the cache entry.
pub const NAME: &str = "containerd-tools";

/// Oldest Go that builds containerd 2.3, as (major, minor, patch).
const OLDEST_GO: (u32, u32, u32) = (1, 26, 3);

/// What is built: containerd's programs by import path, ours by directory.
const PROGRAMS: &[&str] = &[
    "github.com/containerd/containerd/v2/cmd/containerd",
    "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    "github.com/containerd/containerd/v2/cmd/ctr",
    "./cmd/image-mount",
];

/// Leaves out snapshotters that need C headers.
const TAGS: &str = "no_btrfs no_devmapper no_zfs";

/// A throw-away root for machines without a Go of that age.
const GO_BUILDER: Recipe =
    Recipe { name: "go-builder", suite: "sid", packages: &["ca-certificates", "golang-go"] };

/// The Go module that pins containerd.
fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("containerd-tools")
}

/// What decides the contents of the programs.
///
/// # Errors
/// The module's files cannot be read.
pub fn key() -> Result<Key> {
    let mut parts = vec![TAGS.as_bytes().to_vec()];
    for file in ["go.mod", "go.sum", "cmd/image-mount/main.go"] {
        let path = module().join(file);
        parts.push(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
    }
    Ok(Key::of(parts))
}

/// Builds the programs into the cache, by the machine's Go or, where that is missing or too old, by one
/// in a throw-away Debian root.
///
/// # Errors
/// The build fails, or the builder's root cannot be made.
pub fn build(cache: &Cache) -> Result<(PathBuf, Outcome)> {
    cache.entry(NAME, &key()?, |dir| match machine_go() {
        Some(go) => build_with(Run::new(go).dir(module()), dir),
        None => build_in_root(&cache.root().join("unfinished-go-builder"), dir),
    })
}

/// The machine's Go, if it is new enough.
fn machine_go() -> Option<&'static str> {
    if !machine::is_there("go") {
        return None;
    }
    let version = Run::new("go").args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output().ok()?;
    (parse_version(&version)? >= OLDEST_GO).then_some("go")
}

fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text.trim().strip_prefix("go")?.split(['.', '-', ' ']).map(str::parse);
    let major = numbers.next()?.ok()?;
    let minor = numbers.next()?.ok()?;
    let patch = numbers.next().and_then(Result::ok).unwrap_or(0);
    Some((major, minor, patch))
}

fn build_with(go: Run, into: &Path) -> Result<()> {
    go.args(["build", "-trimpath", "-buildvcs=false", "-tags", TAGS, "-o"])
        .arg(into)
        .args(PROGRAMS)
        .env("CGO_ENABLED", "0")
        // A newer toolchain is never fetched: the versions at hand decide.
        .env("GOTOOLCHAIN", "local")
        .run()
}

/// Builds inside a root that is removed afterwards.
fn build_in_root(root: &Path, into: &Path) -> Result<()> {
    crate::cache::remove_tree(root)?;
    fs::create_dir_all(root)?;
    GO_BUILDER.make(root)?;
    // The machine's trust anchors and resolver, so that the module proxy is reached as from the machine.
    for file in ["etc/ssl/certs/ca-certificates.crt", "etc/resolv.conf"] {
        let from = Path::new("/").join(file);
        fs::copy(&from, root.join(file))
            .with_context(|| format!("copy {} into the Go builder", from.display()))?;
    }
    Run::new("cp").arg("-a").arg(module()).arg(root.join("module")).run()?;
    fs::create_dir(root.join("programs"))?;
    let go = Run::new("unshare")
        // /proc is mounted after the change of root, so its path is the new root's.
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc=/proc"])
        .arg(format!("--root={}", root.display()))
        .args(["--wd=/module", "go"])
        .env("HOME", "/root");
    build_with(go, Path::new("/programs/"))?;
    Run::new("cp").arg("-a").arg(root.join("programs/.")).arg(into).run()?;
    crate::cache::remove_tree(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_compare() {
        assert_eq!(parse_version("go1.26.8\n"), Some((1, 26, 8)));
        assert_eq!(parse_version("go1.27rc1"), None);
        assert_eq!(parse_version("go1.27"), Some((1, 27, 0)));
        assert!(parse_version("go1.19.8") < Some(OLDEST_GO));
        assert!(parse_version("go1.26.3") >= Some(OLDEST_GO));
    }
}
