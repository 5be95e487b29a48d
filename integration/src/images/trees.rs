//! Three large real trees of more than 20,000 files each, one image per tree: what PyPI, npm and Debian
//! packages unpack to.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Image;
use super::layout::{Encoding, Layout, Source};
use crate::cache::{Cache, Key};
use crate::command::Run;
use crate::machine::{self, Package};
use crate::progress::{Outcome, Steps};

/// Fewest files that make a tree large.
const LARGE: usize = 20_000;

/// A tree that can be fetched again at any time.
#[derive(Clone, Copy, Debug)]
pub enum Tree {
    /// Wheels, unpacked as pip installs them: `name==version`.
    PyPi(&'static [&'static str]),
    /// npm packages, unpacked below `node_modules` without their dependencies: `name@version`.
    Npm(&'static [&'static str]),
    /// Debian packages of the machine's own release, unpacked into one root.
    Debian(&'static [&'static str]),
}

/// Python packages: sources, data files, a few large shared objects.
pub const PYPI: Tree = Tree::PyPi(&["ansible==11.1.0", "Django==5.1.4", "pandas==2.2.3"]);
/// npm packages: many very small files.
pub const NPM: Tree =
    Tree::Npm(&["@mui/icons-material@5.16.7", "core-js@3.37.1", "date-fns@3.6.0", "lodash@4.17.21"]);
/// Debian packages: headers, sources, symlinks and hard links, setuid programs.
pub const DEBIAN: Tree = Tree::Debian(&[
    "adwaita-icon-theme",
    "golang-1.19-src",
    "iputils-ping",
    "libboost1.81-dev",
    "sudo",
    "tzdata",
]);

/// The images of all three trees, with their names.
const IMAGES: [(&str, Tree); 3] = [("tree-pypi", PYPI), ("tree-npm", NPM), ("tree-debian", DEBIAN)];

/// Makes those images that the cache has not.
///
/// # Errors
/// A package cannot be fetched, or a tree is smaller than it was meant to be.
pub fn make(cache: &Cache, steps: &Steps<'_>) -> Result<Vec<Image>> {
    IMAGES
        .iter()
        .map(|&(name, tree)| steps.run(&format!("image {name}"), || make_one(cache, name, tree)))
        .collect()
}

fn make_one(cache: &Cache, name: &'static str, tree: Tree) -> Result<(Image, Outcome)> {
    let (layout, outcome) = cache.entry(&format!("image-{name}"), &tree.key(), |dir| {
        let work = tempfile::tempdir_in(dir)?;
        tree.fetch(work.path())?;
        let files = count_files(work.path())?;
        ensure!(files > LARGE, "{name} has only {files} files, but must have more than {LARGE}");
        let mut layout = Layout::create(dir)?;
        layout.add(Source::Directory(work.path()), Encoding::Gzip)?;
        layout.finish()
    })?;
    Ok((Image { name, layout }, outcome))
}

impl Tree {
    /// What decides the tree's contents.
    #[must_use]
    pub fn key(self) -> Key {
        let (Self::PyPi(packages) | Self::Npm(packages) | Self::Debian(packages)) = self;
        Key::of(packages)
    }

    /// Fetches and unpacks the tree into `dir`.
    ///
    /// # Errors
    /// The package client cannot be installed, or fails.
    pub fn fetch(self, dir: &Path) -> Result<()> {
        match self {
            Self::PyPi(packages) => fetch_wheels(packages, dir),
            Self::Npm(packages) => fetch_npm(packages, dir),
            Self::Debian(packages) => fetch_debian(packages, dir),
        }
    }
}

fn fetch_wheels(packages: &[&str], dir: &Path) -> Result<()> {
    machine::install(&[Package { name: "python3-pip", provides: "pip3" }])?;
    Run::new("pip3")
        .args(["install", "--quiet", "--no-deps", "--no-compile", "--root-user-action=ignore"])
        // Wheels for one interpreter, whichever the machine has: every machine gets the same files.
        .args(["--only-binary=:all:", "--implementation=cp", "--python-version=3.12"])
        .args(["--platform=manylinux2014_x86_64", "--target"])
        .arg(dir.join("usr/lib/python3/dist-packages"))
        .args(packages)
        .run()
}

fn fetch_npm(packages: &[&str], dir: &Path) -> Result<()> {
    machine::install(&[Package { name: "npm", provides: "npm" }])?;
    let archives = tempfile::tempdir()?;
    let listed = Run::new("npm").args(["pack", "--json"]).args(packages).dir(archives.path()).output()?;
    let listed: Vec<Packed> = serde_json::from_str(&listed).context("list of npm pack")?;
    for package in listed {
        let into = dir.join("usr/share/nodejs/node_modules").join(&package.name);
        fs::create_dir_all(&into)?;
        Run::new("tar")
            .args(["--extract", "--strip-components=1", "--file"])
            .arg(archives.path().join(&package.filename))
            .arg("--directory")
            .arg(&into)
            .run()?;
    }
    Ok(())
}

/// An entry of what `npm pack --json` prints.
#[derive(Debug, serde::Deserialize)]
struct Packed {
    name: String,
    filename: String,
}

fn fetch_debian(packages: &[&str], dir: &Path) -> Result<()> {
    let archives = tempfile::tempdir()?;
    Run::new("apt-get").args(["update", "--quiet"]).run()?;
    Run::new("apt-get")
        .args(["download", "--quiet"])
        // As root, apt would fetch as a user that cannot write here.
        .args(["--option", "APT::Sandbox::User=root"])
        .args(packages)
        .dir(archives.path())
        .run()?;
    for archive in fs::read_dir(archives.path())? {
        Run::new("dpkg-deb").arg("--extract").arg(archive?.path()).arg(dir).run()?;
    }
    Ok(())
}

/// Files of any type except directories.
fn count_files(dir: &Path) -> Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(files)
}
