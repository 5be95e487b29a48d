//! Go modules of this folder, built into the cache.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Recipe;
use crate::cache::{Cache, Key, remove_tree};
use crate::command::Run;
use crate::machine;
use crate::progress::Outcome;

/// A Go module of ours, and what is built from it.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// Its directory in this folder, and the name of the cache entry.
    pub name: &'static str,
    /// What is built.
    pub product: Product,
}

/// What is built from a module.
#[derive(Clone, Copy, Debug)]
pub enum Product {
    /// Programs, by import path or by directory.
    Programs(&'static [&'static str]),
    /// The module's own tests, as a program `NAME.test`.
    Tests,
}

/// Leaves out snapshotters that need C headers.
const TAGS: &str = "no_btrfs no_devmapper no_zfs";

/// A root with a new Go, for machines without one. Its caches stay, so that modules share what they compile.
const GO_BUILDER: Recipe = Recipe {
    name: "go-builder",
    suite: "sid",
    variant: "minbase",
    packages: &["ca-certificates", "golang-go"],
};

impl Module {
    /// The module's directory.
    fn directory(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(self.name)
    }

    /// What decides the contents of what is built: every source of the module.
    ///
    /// # Errors
    /// The module's files cannot be read.
    pub fn key(&self) -> Result<Key> {
        let mut sources = Vec::new();
        collect_sources(&self.directory(), &mut sources)?;
        sources.sort();
        let mut parts = vec![TAGS.as_bytes().to_vec()];
        for source in sources {
            parts.push(fs::read(&source).with_context(|| format!("read {}", source.display()))?);
        }
        Ok(Key::of(parts))
    }

    /// Builds the module into the cache, by the machine's Go or, where that is missing or too old, by one
    /// in a Debian root.
    ///
    /// # Errors
    /// The build fails, or the builder's root cannot be made.
    pub fn build(&self, cache: &Cache) -> Result<(PathBuf, Outcome)> {
        cache.entry(self.name, &self.key()?, |dir| {
            if machine_go_builds(&self.directory())? {
                return self.build_with(Run::new("go").dir(self.directory()), dir);
            }
            self.build_in_root(&GO_BUILDER.in_cache(cache)?.0, dir)
        })
    }

    fn build_with(&self, go: Run, into: &Path) -> Result<()> {
        let go = match self.product {
            Product::Programs(_) => go.arg("build"),
            Product::Tests => go.args(["test", "-c"]),
        };
        let go = go.args(["-trimpath", "-buildvcs=false", "-tags", TAGS, "-o"]);
        // The slash makes go take it for a directory.
        let go = go.arg(format!("{}/", into.display()));
        let go = match self.product {
            Product::Programs(programs) => go.args(programs),
            Product::Tests => go.arg("."),
        };
        go.env("CGO_ENABLED", "0")
            // A newer toolchain is never fetched: the versions at hand decide.
            .env("GOTOOLCHAIN", "local")
            .run()
    }

    /// Builds in a root that has Go.
    fn build_in_root(&self, root: &Path, into: &Path) -> Result<()> {
        // The machine's trust anchors and resolver, so that the module proxy is reached as from the machine.
        for file in ["etc/ssl/certs/ca-certificates.crt", "etc/resolv.conf"] {
            let from = Path::new("/").join(file);
            fs::copy(&from, root.join(file))
                .with_context(|| format!("copy {} into the Go builder", from.display()))?;
        }
        let work = root.join(self.name);
        remove_tree(&work)?;
        fs::create_dir_all(work.join("built"))?;
        Run::new("cp").arg("-a").arg(self.directory()).arg(work.join("module")).run()?;
        let go = Run::new("unshare")
            // /proc is mounted after the change of root, so its path is the new root's.
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc=/proc"])
            .arg(format!("--root={}", root.display()))
            .arg(format!("--wd=/{}/module", self.name))
            .arg("go")
            .env("HOME", "/root");
        self.build_with(go, &Path::new("/").join(self.name).join("built"))?;
        Run::new("cp").arg("-a").arg(work.join("built/.")).arg(into).run()?;
        remove_tree(&work)
    }
}

/// Collects the module files and Go sources below a directory.
fn collect_sources(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect_sources(&path, into)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "go" || extension == "mod" || extension == "sum")
        {
            into.push(path);
        }
    }
    Ok(())
}

/// Whether the machine's Go is as new as the module in `directory` demands.
fn machine_go_builds(directory: &Path) -> Result<bool> {
    let file = directory.join("go.mod");
    let module = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let demanded = module
        .lines()
        .find_map(|line| parse_version(line.strip_prefix("go ")?))
        .with_context(|| format!("{} has no line with its Go version", file.display()))?;
    if !machine::is_there("go") {
        return Ok(false);
    }
    let version = Run::new("go").args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output()?;
    Ok(version.trim().strip_prefix("go").and_then(parse_version) >= Some(demanded))
}

/// Reads `1.26.8` as (major, minor, patch).
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text.trim().split(['.', '-', ' ']).map(str::parse);
    let major = numbers.next()?.ok()?;
    let minor = numbers.next()?.ok()?;
    let patch = numbers.next().and_then(Result::ok).unwrap_or(0);
    Some((major, minor, patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_compare() {
        assert_eq!(parse_version("1.26.8\n"), Some((1, 26, 8)));
        assert_eq!(parse_version("1.27rc1"), None);
        assert_eq!(parse_version("1.27"), Some((1, 27, 0)));
        assert!(parse_version("1.19.8") < Some((1, 26, 3)));
        assert!(parse_version("1.27rc1") < Some((1, 26, 3)), "an unknown version is none");
    }

    #[test]
    fn a_changed_source_makes_another_key() {
        let dir = tempfile::tempdir().unwrap();
        let sources = || {
            let mut found = Vec::new();
            collect_sources(dir.path(), &mut found).unwrap();
            found.len()
        };
        fs::create_dir(dir.path().join("cmd")).unwrap();
        fs::write(dir.path().join("go.mod"), "module x\n").unwrap();
        fs::write(dir.path().join("cmd/main.go"), "package main\n").unwrap();
        fs::write(dir.path().join("README.md"), "not a source\n").unwrap();
        assert_eq!(sources(), 2);
    }
}
