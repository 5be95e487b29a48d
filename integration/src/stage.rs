//! A program that moves into the test host: it runs itself again there, in namespaces of its own.
//!
//! Three stages of one program, told apart by an environment variable:
//!
//! 1. outside, it prepares the machine and calls [`enter`];
//! 2. as the first process of new mount and process namespaces it builds the root: an overlay on the test
//!    host (which is never written to), `/proc`, `/sys`, `/dev`, and the directories of [`Place`];
//! 3. inside, it does what it is for. Registry, containerd, our daemon and every mount live in the same
//!    namespaces, so that the program sees them as plain paths.
//!
//! When the first process ends, the kernel ends every other process and every mount of the namespaces:
//! nothing outlives a test that was interrupted. runc needs `/` to be a mount point, which rules out chroot.

use std::env;
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    unmount,
};
use rustix::process::{Pid, WaitOptions, pivot_root, wait};
use serde::{Deserialize, Serialize};

use crate::host::TestHost;
use crate::host::tools::Extra;

/// Where the project's own test programs lie inside.
const OWN_TESTS: &str = "/testbed/own-tests";

/// Carries the stage, as JSON, from one run of the program to the next.
const VARIABLE: &str = "NEXUSEROFS_TEST_BED";

/// Where things lie inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// containerd 2.3, `ctr`, the runc shim and `image-mount`.
    pub tools: PathBuf,
    /// The project's programs, as cargo built them. Absent where they were not asked for.
    pub programs: PathBuf,
    /// The cache folder.
    pub cache: PathBuf,
    /// The project's source tree.
    pub project: PathBuf,
    /// An empty directory on the machine's disk. Removed at the end.
    pub scratch: PathBuf,
    /// Versions of the host's packages, one per line.
    pub versions: String,
    /// The program `nexuserofs-guest`. Absent where guests were not asked for.
    pub guest_program: PathBuf,
    /// A root directory with the machine's own programs, QEMU among them. The scratch directory and the cache
    /// folder have the same paths in it.
    pub machine: PathBuf,
    /// Directories of the parts that were asked for besides, by name.
    extras: Vec<(String, PathBuf)>,
}

impl Place {
    /// The place in a guest, where a part of the machine is only there if a test carried it into the payload.
    pub(crate) fn in_guest(tools: &Path, payload: &Path, scratch: &Path) -> Self {
        Self {
            tools: tools.to_owned(),
            programs: payload.join("programs"),
            cache: payload.join("cache"),
            project: payload.join("project"),
            scratch: scratch.to_owned(),
            versions: String::new(),
            guest_program: payload.join("nexuserofs-guest"),
            machine: payload.join("machine"),
            extras: Vec::new(),
        }
    }

    /// The directory of the project's own test programs that were asked for.
    #[must_use]
    pub fn own_tests(&self) -> &Path {
        Path::new(OWN_TESTS)
    }

    /// The directory of a part of the test host that was asked for.
    ///
    /// # Errors
    /// It was not asked for.
    pub fn extra(&self, part: Extra) -> Result<&Path> {
        let found = self.extras.iter().find(|(name, _)| name == part.name());
        let (_, directory) =
            found.with_context(|| format!("{} is not among the Needs of this program", part.name()))?;
        Ok(directory)
    }
}

/// In which stage the program runs.
#[derive(Debug)]
pub enum Stage {
    /// On the machine.
    Outside,
    /// First process of the new namespaces.
    Entering(Entrance),
    /// In the test host.
    Inside(Place),
}

/// What the first process needs to know to build the root.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entrance {
    root: PathBuf,
    /// An empty directory for the tmpfs that holds the new root.
    base: PathBuf,
    binds: Vec<(PathBuf, PathBuf)>,
    inside: Place,
}

/// The variable's content.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Enter(Entrance),
    Inside(Place),
}

/// Directories of the machine that are visible inside.
#[derive(Clone, Debug)]
pub struct Visible<'a> {
    /// Where cargo put the project's programs, if they were built.
    pub programs: Option<&'a Path>,
    /// Where the project's own test programs lie that were asked for.
    pub own_tests: &'a Path,
    /// The program `nexuserofs-guest`, if it was built.
    pub guest_program: Option<&'a Path>,
    /// The cache folder.
    pub cache: &'a Path,
    /// The project's source tree.
    pub project: &'a Path,
    /// An empty directory on the machine's disk. Inside, a directory in it is the scratch directory.
    pub scratch: &'a Path,
    /// Directories in the cache folder, with names by which they are asked for inside.
    pub extras: &'a [(String, PathBuf)],
}

impl Visible<'_> {
    /// The extras' directories, as they are named where the cache folder is at `cache`.
    fn extras_inside(&self, cache: &Path) -> Result<Vec<(String, PathBuf)>> {
        let inside = |(name, directory): &(String, PathBuf)| {
            let below = directory.strip_prefix(self.cache);
            let below = below.with_context(|| format!("{} is not in the cache", directory.display()))?;
            Ok((name.clone(), cache.join(below)))
        };
        self.extras.iter().map(inside).collect()
    }
}

/// Tells in which stage this process runs.
///
/// # Errors
/// The variable holds something that [`enter`] did not write.
pub fn current() -> Result<Stage> {
    let Some(text) = env::var_os(VARIABLE) else { return Ok(Stage::Outside) };
    let message = serde_json::from_slice(text.as_encoded_bytes())
        .with_context(|| format!("{VARIABLE} is for the test bed's own use: unset it"))?;
    Ok(match message {
        Message::Enter(entrance) => Stage::Entering(entrance),
        Message::Inside(place) => Stage::Inside(place),
    })
}

/// Runs this program again inside the test host, with the same arguments, and returns its exit code.
///
/// # Errors
/// The namespaces cannot be made.
pub fn enter(host: &TestHost, visible: &Visible<'_>) -> Result<ExitCode> {
    let program = env::current_exe().context("find this program's own file")?;
    let inside = Place {
        tools: "/testbed/tools".into(),
        programs: "/testbed/programs".into(),
        cache: "/testbed/cache".into(),
        project: "/testbed/project".into(),
        scratch: "/testbed/scratch".into(),
        versions: host.versions.clone(),
        guest_program: "/testbed/nexuserofs-guest".into(),
        machine: MACHINE.into(),
        extras: visible.extras_inside(Path::new("/testbed/cache"))?,
    };
    let base = visible.scratch.join("root");
    let scratch = visible.scratch.join("scratch");
    for dir in [&base, &scratch] {
        fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
    }
    let mut binds = vec![
        (host.tools.clone(), inside.tools.clone()),
        (visible.cache.to_owned(), inside.cache.clone()),
        (visible.project.to_owned(), inside.project.clone()),
        (scratch.clone(), inside.scratch.clone()),
        (visible.own_tests.to_owned(), OWN_TESTS.into()),
        (program.clone(), PROGRAM.into()),
    ];
    binds.extend(visible.programs.map(|programs| (programs.to_owned(), inside.programs.clone())));
    binds.extend(visible.guest_program.map(|program| (program.to_owned(), inside.guest_program.clone())));
    binds.extend(machine(&[(visible.cache, &inside.cache), (&scratch, &inside.scratch)]));
    let entrance = Entrance { root: host.root.clone(), base, binds, inside };
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--"])
        .arg(&program)
        .args(env::args_os().skip(1))
        .env(VARIABLE, serde_json::to_string(&Message::Enter(entrance))?)
        .status()
        .context("run unshare")?;
    Ok(exit_code(status.code()))
}

/// The root directory with the machine's own programs, inside.
const MACHINE: &str = "/testbed/machine";

/// What that root is made of: directories of the machine, and these besides under the names that they have inside.
fn machine(shared: &[(&Path, &Path)]) -> Vec<(PathBuf, PathBuf)> {
    let own = ["/usr", "/bin", "/lib", "/lib64", "/opt", "/dev"].map(Path::new).into_iter();
    let own = own.filter(|directory| directory.is_dir()).map(|directory| (directory, directory));
    let all = own.chain(shared.iter().copied());
    all.map(|(source, target)| (source.to_owned(), below(Path::new(MACHINE), target))).collect()
}

/// This program's own file, inside.
const PROGRAM: &str = "/testbed/program";

/// Search path inside: containerd 2.3 hides Debian's.
pub(crate) const PATH: &str = "/testbed/tools:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Entrance {
    /// Builds the root, runs the program in it and collects every orphan until the program ends.
    ///
    /// # Errors
    /// A mount fails, or the program cannot be started.
    pub fn complete(self) -> Result<ExitCode> {
        mount("tmpfs", &self.base, "tmpfs", MountFlags::empty(), None)
            .with_context(|| format!("mount a tmpfs on {}", self.base.display()))?;
        let root = overlay(&self.root, &self.base)?;
        for (source, target) in &self.binds {
            bind(source, &below(&root, target))?;
        }
        system_directories(&root)?;
        network_files(&root)?;
        switch_root(&root)?;

        let child = Command::new(PROGRAM)
            .args(env::args_os().skip(1))
            .env(VARIABLE, serde_json::to_string(&Message::Inside(self.inside))?)
            .env("PATH", PATH)
            .env("HOME", "/root")
            .env_remove("XDG_CACHE_HOME")
            .env("TMPDIR", "/tmp")
            .spawn()
            .with_context(|| format!("run {PROGRAM} inside the test host"))?;
        Ok(exit_code(collect_until(child.id())?))
    }
}

/// An overlay of the test host and an upper directory below `base`, which goes when the namespaces go.
fn overlay(lower: &Path, base: &Path) -> Result<PathBuf> {
    let lower = lower.to_str().context("the cache folder's path is not UTF-8")?;
    ensure!(
        !lower.contains([':', ',', '\\']),
        "the cache folder's path must be free of `:`, `,` and `\\`: {lower}"
    );
    let root = base.join("root");
    for dir in ["root", "upper", "work"] {
        fs::create_dir(base.join(dir)).with_context(|| format!("make {dir} in {}", base.display()))?;
    }
    let base = base.display();
    let options = CString::new(format!("lowerdir={lower},upperdir={base}/upper,workdir={base}/work"))?;
    mount("overlay", &root, "overlay", MountFlags::empty(), options.as_c_str())
        .context("mount an overlay on the test host's root")?;
    Ok(root)
}

/// `path`, which is absolute, below `root`.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    if source.is_dir() {
        fs::create_dir_all(target)?;
    } else {
        fs::create_dir_all(target.parent().unwrap_or(target))?;
        fs::write(target, "")?;
    }
    mount_bind(source, target).with_context(|| format!("bind {} to {}", source.display(), target.display()))
}

fn system_directories(root: &Path) -> Result<()> {
    for dir in ["/sys", "/dev"] {
        mount_bind_recursive(dir, below(root, Path::new(dir))).with_context(|| format!("bind {dir}"))?;
    }
    mount("proc", root.join("proc"), "proc", MountFlags::empty(), None).context("mount /proc")?;
    for dir in ["run", "tmp"] {
        mount("tmpfs", root.join(dir), "tmpfs", MountFlags::empty(), None)
            .with_context(|| format!("mount a tmpfs on /{dir}"))?;
    }
    Ok(())
}

/// What an installer writes and a bare root lacks. Pods and containers get copies.
pub(crate) fn network_files(root: &Path) -> Result<()> {
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n").context("write /etc/hosts")?;
    fs::write(root.join("etc/resolv.conf"), "").context("write /etc/resolv.conf")
}

fn switch_root(root: &Path) -> Result<()> {
    env::set_current_dir(root)?;
    fs::create_dir_all("old")?;
    pivot_root(".", "old").context("pivot_root")?;
    env::set_current_dir("/")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("make / private")?;
    unmount("/old", UnmountFlags::DETACH).context("let go of the machine's root")
}

/// Waits for children, orphans of others included, until the one that matters ends. Returns its exit code, or
/// nothing if a signal ended it.
pub(crate) fn collect_until(child: u32) -> Result<Option<i32>> {
    let child = i32::try_from(child).ok().and_then(Pid::from_raw);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if Some(pid) == child => return Ok(status.exit_status()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for the program inside the test host"),
        }
    }
}

/// The code of a process that exited, or 1 for one that a signal ended.
fn exit_code(code: Option<i32>) -> ExitCode {
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
