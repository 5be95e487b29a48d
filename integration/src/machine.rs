//! The machine that the test bed stands on: Debian, root, and a few of its packages.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use crate::command::Run;
use crate::progress::Outcome;

/// A package of the machine, and the file that shows that it is there, however it was installed.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Debian's name for it.
    pub name: &'static str,
    /// A program in `PATH`, or an absolute path.
    pub provides: &'static str,
}

/// What every part of the test bed needs.
pub const BASE: &[Package] = &[
    Package { name: "mmdebstrap", provides: "mmdebstrap" },
    Package { name: "ca-certificates", provides: "/etc/ssl/certs/ca-certificates.crt" },
    Package { name: "e2fsprogs", provides: "mkfs.ext4" },
    Package { name: "util-linux", provides: "unshare" },
];

/// Refuses a machine on which the test bed cannot work.
///
/// # Errors
/// The system is not Debian, or the caller is not root.
pub fn check() -> Result<()> {
    ensure!(
        Path::new("/etc/debian_version").exists(),
        "the test bed needs a Debian machine: it installs packages with apt-get"
    );
    ensure!(
        rustix::process::geteuid().is_root(),
        "the test bed needs root: it installs packages, makes namespaces and mounts; run it with sudo"
    );
    Ok(())
}

/// Installs those packages that are not there yet.
///
/// # Errors
/// apt-get fails, or a package does not bring what it is installed for.
pub fn install(packages: &[Package]) -> Result<((), Outcome)> {
    let missing: Vec<&Package> = packages.iter().filter(|package| !is_there(package.provides)).collect();
    if missing.is_empty() {
        return Ok(((), Outcome::AlreadyThere));
    }
    check()?;
    Run::new("apt-get").args(["update", "--quiet"]).run()?;
    Run::new("apt-get")
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(missing.iter().map(|package| package.name))
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()?;
    for package in missing {
        if !is_there(package.provides) {
            bail!("the package {} is installed, but {} is not there", package.name, package.provides);
        }
    }
    Ok(((), Outcome::Done))
}

/// Whether a program is in `PATH`, or an absolute path exists.
#[must_use]
pub fn is_there(program: &str) -> bool {
    let path = Path::new(program);
    if path.is_absolute() {
        return path.exists();
    }
    std::env::var_os("PATH")
        .is_some_and(|dirs| std::env::split_paths(&dirs).any(|dir| dir.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        assert!(is_there("sh"));
        assert!(is_there("/bin/sh"));
        assert!(!is_there("no-such-program-anywhere"));
        assert!(!is_there("/no/such/file"));
    }
}
