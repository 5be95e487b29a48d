//! What a daemon left behind: mounts and loop devices that point below a directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Mount points of this namespace that lie below `dir` or whose file system's source does.
///
/// # Errors
/// `/proc/self/mountinfo` cannot be read.
pub fn mounts_below(dir: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let prefix = format!("{}/", dir.display());
    Ok(text
        .lines()
        .filter(|line| line.split(' ').any(|field| names(field, &prefix)))
        .map(str::to_owned)
        .collect())
}

/// Whether a field of mountinfo is a path below `prefix`, or a list of options that has one.
fn names(field: &str, prefix: &str) -> bool {
    field.split([',', ':', '=']).any(|part| part.starts_with(prefix))
}

/// Loop devices whose backing file lies below `dir`.
///
/// # Errors
/// `/sys/block` cannot be read.
pub fn loops_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for device in fs::read_dir("/sys/block").context("read /sys/block")? {
        let device = device?.path();
        // A loop device without a file has no such attribute.
        let Ok(file) = fs::read_to_string(device.join("loop/backing_file")) else { continue };
        if Path::new(file.trim_end()).starts_with(dir) {
            found.push(device);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_options_name_directories() {
        assert!(names("rw,lowerdir=/a/b:/w/x/fs,upperdir=/u", "/w/x/"));
        assert!(names("/w/x/root", "/w/x/"));
        assert!(!names("/w/xy", "/w/x/"));
    }
}
