//! Mounts plans as containerd's mount manager does, as far as these tests need it.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind_recursive};
use tempfile::TempDir;

use crate::expose::mount::Mount;
use crate::sys::loop_device::{Access, LoopDevice};
use crate::unmounting::unmount;

/// A plan that is mounted, until dropped.
pub(super) struct Mounted {
    points: Vec<TempDir>,
}

impl Mounted {
    pub(super) fn new(plan: &[Mount]) -> Result<Self, Errno> {
        let mut mounted = Self { points: Vec::new() };
        for entry in plan {
            let point = tempfile::tempdir().unwrap();
            mounted.mount(entry, point.path())?;
            mounted.points.push(point);
        }
        Ok(mounted)
    }

    /// What the plan is for.
    pub(super) fn top(&self) -> &Path {
        self.points.last().unwrap().path()
    }

    fn mount(&self, entry: &Mount, point: &Path) -> Result<(), Errno> {
        let flags = if entry.options.iter().any(|option| option == "ro") {
            MountFlags::RDONLY
        } else {
            MountFlags::empty()
        };
        match entry.fstype.as_str() {
            "erofs" => mount(&entry.source, point, "erofs", flags, None),
            "ext4" => {
                let file = File::options().read(true).write(true).open(&entry.source).unwrap();
                let device = LoopDevice::attach(&file, Access::ReadWrite);
                let device = device.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
                mount(device.path(), point, "ext4", flags, None)
            }
            "bind" | "format/bind" => mount_bind_recursive(self.filled_in(&entry.source), point),
            "format/overlay" => {
                let options: Vec<_> = entry.options.iter().map(|option| self.filled_in(option)).collect();
                let options = std::ffi::CString::new(options.join(",")).unwrap();
                mount("overlay", point, "overlay", flags, options.as_c_str())
            }
            other => panic!("a plan with {other}"),
        }
    }

    /// A text with its template replaced.
    fn filled_in(&self, text: &str) -> String {
        let Some((before, rest)) = text.split_once("{{ ") else { return text.to_owned() };
        let (template, after) = rest.split_once(" }}").unwrap();
        let words: Vec<_> = template.split(' ').collect();
        let number = |word: &str| word.parse::<usize>().unwrap();
        let points = match words[..] {
            ["mount", one] => &self.points[number(one)..=number(one)],
            ["overlay", first, last] => &self.points[number(first)..=number(last)],
            _ => panic!("{template}"),
        };
        let points: Vec<_> = points.iter().map(|point| point.path().to_str().unwrap()).collect();
        format!("{before}{}{after}", points.join(":"))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for point in self.points.iter().rev() {
            unmount(point.path());
        }
    }
}

/// The directory that a plan in directory mode writes to.
pub(super) fn upper_of(mounts: &[Mount]) -> PathBuf {
    let last = mounts.last().unwrap();
    let upper = last.options.iter().find_map(|option| option.strip_prefix("upperdir="));
    PathBuf::from(upper.unwrap_or(&last.source))
}
