//! `nexuserofs export`, started by an operator.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nexuserofs::expose::export::{Place, Role, Running};
use nexuserofs::layer::{HashTree, build};
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::archive::{Entry, archive};
use crate::driver::Driver;
use crate::node::{PROGRAM, wait_for};
use crate::skipped::skip;

/// A user who is not root.
const USER: u32 = 65534;

/// A layer with a hash tree, and beside it the file that tells of it.
fn layer(directory: &Path) -> PathBuf {
    let tar = archive(&[Entry::file("one", "of a layer ".repeat(2000))]);
    let path = directory.join("layer.erofs");
    let built = build::read(&mut tar.as_slice(), &path, HashTree::With).unwrap();
    let sealed = built.seal(&nexuserofs::image::digest::Digest::of(&tar)).unwrap();
    let sidecar = serde_json::to_vec(&sealed.verity.unwrap()).unwrap();
    fs::write(directory.join("layer.erofs.dmverity"), sidecar).unwrap();
    path
}

/// A process that serves. It ends with this.
pub(crate) struct Serving {
    child: Child,
    directory: TempDir,
}

impl Serving {
    pub(crate) fn start(arguments: impl FnOnce(&Path) -> Vec<String>) -> Self {
        Self::start_as(Command::new(PROGRAM), arguments)
    }

    /// Started by this command, to which the arguments are added.
    fn start_as(mut command: Command, arguments: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        command.arg("export").arg("--directory").arg(directory.path().join("vm"));
        let child = command.args(arguments(directory.path())).stderr(Stdio::piped()).spawn().unwrap();
        let serving = Self { child, directory };
        wait_for("the process", || Running::find(&serving.place()).unwrap());
        serving
    }

    fn place(&self) -> Place {
        Place::new(self.directory.path().join("vm"))
    }

    /// Connects once the process serves.
    pub(crate) fn connect(&self, role: Role) -> Driver {
        Driver::connect(&self.place().socket(role), 1, 64)
    }

    /// Ends it, and returns what it logged.
    pub(crate) fn log(mut self) -> String {
        self.child.kill().unwrap();
        let output = std::mem::take(&mut self.child.stderr).map(std::io::read_to_string);
        output.unwrap().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_layer_and_a_file_are_two_disks() {
    let serving = Serving::start(|directory| {
        let writable = directory.join("writable");
        fs::File::create(&writable).unwrap().set_len(1 << 20).unwrap();
        vec!["--writable".to_owned(), writable.display().to_string(), layer(directory).display().to_string()]
    });
    let expected = fs::read(serving.directory.path().join("layer.erofs")).unwrap();
    let mut image = serving.connect(Role::Image);
    assert_eq!(u64::from(image.config().capacity) * 512, expected.len() as u64);
    assert_eq!((image.read(0, 0, 8192), image.get(0, 8192)), (0, expected[..8192].to_vec()));
    let mut writable = serving.connect(Role::Writable);
    writable.put(0, &[3; 512]);
    assert_eq!((writable.write(0, 512, 512), writable.flush(0)), (0, 0));
    assert_eq!(fs::read(serving.directory.path().join("writable")).unwrap()[512..1024], [3; 512]);
}

#[test]
fn a_damaged_block_is_an_error_and_a_line_in_the_log() {
    let serving = Serving::start(|directory| {
        let path = layer(directory);
        let mut bytes = fs::read(&path).unwrap();
        bytes[4096] ^= 1;
        fs::write(&path, bytes).unwrap();
        vec!["--verify".to_owned(), path.display().to_string()]
    });
    let mut image = serving.connect(Role::Image);
    assert_eq!(image.read(0, 0, 4096), 0);
    assert!(image.read(0, 4096, 4096) < 0);
    assert!(image.read(0, 0, 8192) < 0, "a read of more has it too");
    drop(image);
    let log = serving.log();
    let line = log.lines().find(|line| line.contains("hash tree")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("layer.erofs") && line.contains("offset=4096"), "{line}");
    assert!(line.contains("data of /one"), "{line}");
}

#[test]
fn nobody_looks_into_the_process_of_a_user_either() {
    let mut command = Command::new(PROGRAM);
    if geteuid().is_root() {
        command.uid(USER).gid(USER);
        if let Err(error) = command.output() {
            let test = "nobody_looks_into_the_process_of_a_user_either";
            return skip(test, format!("another user cannot start the program where it lies: {error}"));
        }
    }
    let serving = Serving::start_as(command, |directory| {
        let layer = layer(directory);
        fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(&layer, Permissions::from_mode(0o644)).unwrap();
        vec![layer.display().to_string()]
    });
    serving.connect(Role::Image);
    // What is not dumpable is root's here, whosever process it is (proc(5)).
    let owner = fs::metadata(format!("/proc/{}/status", serving.child.id())).unwrap().uid();
    assert_eq!(owner, 0);
}

#[test]
fn one_directory_is_served_by_one_process() {
    let serving = Serving::start(|directory| vec![layer(directory).display().to_string()]);
    let layer = serving.directory.path().join("layer.erofs");
    let mut second = Command::new(PROGRAM);
    second.arg("export").arg("--directory").arg(serving.directory.path().join("vm")).arg(layer);
    let output = second.output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("another process serves"), "{said}");
    // The first is still reached.
    assert_eq!(serving.connect(Role::Image).read(0, 0, 4096), 0);
}
