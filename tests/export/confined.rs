//! What a process that serves cannot do any more. Each attempt is made by this program, started again.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use nexuserofs::expose::export::confinement::filter;
use rustix::process::{Signal, getpid, kill_process};

/// Says to [`child`] what to try.
const ATTEMPT: &str = "NEXUSEROFS_TEST_ATTEMPT";

/// SIGSYS, the same on every processor that we build for.
const BAD_CALL: i32 = 31;

const ATTEMPTS: &[(&str, fn())] = &[
    ("open", || drop(File::open("/proc/self/status"))),
    ("look", || drop(Path::new("/").metadata())),
    ("connect", || drop(TcpStream::connect("127.0.0.1:1"))),
    ("execute", || drop(Command::new("/bin/true").status())),
    ("identity", || _ = rustix::process::setsid()),
    ("signal", || _ = kill_process(getpid(), Signal::CONT)),
    ("memory", || drop(rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::empty()))),
];

/// What the attempts are made in. It does nothing where none is asked for.
#[test]
fn child() {
    let Ok(asked) = std::env::var(ATTEMPT) else { return };
    filter::enter().unwrap();
    if let Some((_, attempt)) = ATTEMPTS.iter().find(|(name, _)| *name == asked) {
        attempt();
    }
}

fn run(attempt: &str) -> std::process::ExitStatus {
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(this);
    command.args(["--exact", "confined::child", "--test-threads=1"]).env(ATTEMPT, attempt);
    command.output().unwrap().status
}

#[test]
fn a_forbidden_system_call_is_the_end() {
    for (name, _) in ATTEMPTS {
        assert_eq!(run(name).signal(), Some(BAD_CALL), "{name}");
    }
}
