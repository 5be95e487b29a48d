//! The image of the demo: a Debian root with Python, an application, and an upper layer that takes
//! things away.
//!
//! The second layer has what a tar can say about a file: hard links, setuid and sticky modes, owners beyond
//! 16 bits, devices, FIFOs, file capabilities, large attributes, times with nanoseconds. The third has
//! whiteouts, an opaque directory, a directory that replaces a file and the reverse.
//!
//! Two things are left out because containerd's overlayfs snapshotter, which the image is compared with,
//! drops them: it sets no `trusted.*` attribute of an archive, and turns times before 1970 into 0
//! (containerd 2.3, `pkg/archive/tar_unix.go` and `time.go`).

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use super::Image;
use super::layout::{Encoding, Layout, Source};
use crate::cache::{Cache, Key};
use crate::command::Run;
use crate::progress::Outcome;

/// Changes when the recipe below does.
const RECIPE: &str = "demo 2";

/// Seconds since 1970 that stand for "now" in the Debian root.
const EPOCH: &str = "1760000000";

/// Makes the image unless the cache has it.
///
/// # Errors
/// mmdebstrap fails, or a file cannot be made.
pub fn make(cache: &Cache) -> Result<(Image, Outcome)> {
    let (layout, outcome) = cache.entry("image-demo", &Key::of([RECIPE]), |dir| {
        let work = tempfile::tempdir_in(dir)?;
        let root = work.path().join("root.tar");
        debian_with_python(&root)?;
        let application = work.path().join("application");
        write_application(&application)?;
        let upper = work.path().join("upper");
        write_upper(&upper)?;
        let mut layout = Layout::create(dir)?;
        layout.add(Source::Tar(&root), Encoding::Gzip)?;
        layout.add(Source::Directory(&application), Encoding::Gzip)?;
        layout.add(Source::Directory(&upper), Encoding::Gzip)?;
        layout.finish()
    })?;
    Ok((Image { name: "demo", layout }, outcome))
}

fn debian_with_python(tar: &Path) -> Result<()> {
    Run::new("mmdebstrap")
        .args(["--variant=minbase", "--include=python3-minimal,ca-certificates", "trixie"])
        .arg(tar)
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .run()
}

/// The second layer.
fn write_application(root: &Path) -> Result<()> {
    let app = root.join("srv/app");
    for dir in ["kept", "removed", "opaque/old", "becomes-a-file"] {
        fs::create_dir_all(app.join(dir))?;
    }
    fs::write(app.join("main.py"), "print('hello from', __file__)\n")?;
    fs::write(app.join("removed/file"), "gone in the next layer\n")?;
    fs::write(app.join("opaque/old/file"), "hidden by the next layer\n")?;
    fs::write(app.join("opaque/also-old"), "hidden as well\n")?;
    fs::write(app.join("becomes-a-file/inside"), "goes with its directory\n")?;
    fs::write(app.join("becomes-a-directory"), "a file for one layer\n")?;
    fs::write(app.join("kept/data"), vec![7; 300_000])?;
    fs::write(app.join("kept/empty"), "")?;
    File::create(app.join("kept/sparse"))?.set_len(9_000_000)?;
    fs::hard_link(app.join("kept/data"), app.join("kept/hard link"))?;
    symlink("kept/data", app.join("symlink"))?;
    symlink("/no/such/place", app.join("dangling"))?;
    special_files(&app)?;
    owners_and_modes(&app)?;
    times(&app)
}

fn special_files(app: &Path) -> Result<()> {
    let make = |name: &str, kind, device| {
        mknodat(CWD, app.join(name), kind, Mode::from_raw_mode(0o640), device)
            .with_context(|| format!("make the special file {name}"))
    };
    make("fifo", FileType::Fifo, 0)?;
    make("char", FileType::CharacterDevice, makedev(5, 1))?;
    make("block", FileType::BlockDevice, makedev(259, 70_000))
}

fn owners_and_modes(app: &Path) -> Result<()> {
    let chmod = |name: &str, mode| fs::set_permissions(app.join(name), fs::Permissions::from_mode(mode));
    fs::write(app.join("setuid"), "#!/bin/sh\n")?;
    fs::write(app.join("secret"), "no one reads this\n")?;
    fs::write(app.join("capable"), "#!/bin/sh\n")?;
    lchown(app.join("secret"), Some(70_001), Some(4_000_000_000))?;
    lchown(app.join("symlink"), Some(1000), Some(1000))?;
    // After chown, which clears the setuid bit.
    chmod("setuid", 0o4755)?;
    chmod("secret", 0o000)?;
    chmod("kept", 0o1777)?;
    set_xattr(&app.join("capable"), "security.capability", CAP_NET_RAW)?;
    set_xattr(&app.join("main.py"), "user.comment", b"an attribute")?;
    set_xattr(&app.join("kept"), "user.large", &[b'x'; 3000])
}

/// `cap_net_raw=ep` as `vfs_cap_data` revision 2, see `linux/capability.h`.
const CAP_NET_RAW: &[u8] = &[0x01, 0, 0, 0x02, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> Result<()> {
    setxattr(path, CString::new(name)?, value, XattrFlags::empty())
        .with_context(|| format!("set {name} on {}", path.display()))
}

fn times(app: &Path) -> Result<()> {
    let set = |name: &str, since_1970| -> Result<()> {
        Ok(File::open(app.join(name))?.set_modified(SystemTime::UNIX_EPOCH + since_1970)?)
    };
    set("main.py", Duration::new(1_700_000_000, 123_456_789))?;
    set("setuid", Duration::ZERO)?;
    // Past 2038 and past what 32 unsigned bits hold.
    set("kept/data", Duration::from_secs(5_000_000_000))
}

/// The third layer: what OCI calls whiteouts.
fn write_upper(root: &Path) -> Result<()> {
    let app = root.join("srv/app");
    fs::create_dir_all(app.join("opaque/new"))?;
    fs::create_dir_all(app.join("becomes-a-directory"))?;
    fs::write(app.join("becomes-a-directory/inside"), "a directory now\n")?;
    fs::write(app.join("becomes-a-file"), "a file now\n")?;
    fs::write(app.join("opaque/new/file"), "the only file here\n")?;
    fs::write(app.join("opaque/.wh..wh..opq"), "")?;
    fs::write(app.join(".wh.removed"), "")?;
    fs::create_dir_all(root.join("usr/share"))?;
    fs::write(root.join("usr/share/.wh.doc"), "")?;
    fs::create_dir_all(root.join("etc"))?;
    Ok(fs::write(root.join("etc/hostname"), "demo\n")?)
}
