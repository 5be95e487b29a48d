//! One daemon for each root and each socket.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::process::Signal;

use super::daemon::{Place, exists, refusal};

/// Exit code when another process is in the way.
const IN_USE: i32 = 75;

#[test]
fn the_socket_is_the_owners() {
    let place = Place::new();
    let _daemon = place.start();
    let mode = place.path("run/s.sock").symlink_metadata().expect("socket").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    UnixStream::connect(place.path("run/s.sock")).expect("it accepts");
}

#[test]
fn a_second_daemon_on_the_root_is_told_who_has_it() {
    let place = Place::new();
    let first = place.start();
    let (code, message) = refusal(&place.arguments("root", "other.sock"));
    assert_eq!(code, IN_USE, "{message}");
    assert!(message.contains(&format!("process {}", first.pid())), "{message}");
    assert!(message.contains("nexuserofs-snapshotter --root"), "the command line: {message}");
    assert!(message.contains("another --root"), "{message}");
    UnixStream::connect(place.path("run/s.sock")).expect("the first one still accepts");
}

#[test]
fn a_second_daemon_on_the_socket_is_told_who_has_it() {
    let place = Place::new();
    let first = place.start();
    let (code, message) = refusal(&place.arguments("other-root", "s.sock"));
    assert_eq!(code, IN_USE, "{message}");
    assert!(message.contains(&format!("process {}", first.pid())), "{message}");
    assert!(message.contains("another --address"), "{message}");
    UnixStream::connect(place.path("run/s.sock")).expect("the first one still accepts");
}

#[test]
fn a_stranger_on_the_socket_is_named() {
    let place = Place::new();
    std::fs::create_dir(place.path("run")).expect("directory");
    let _stranger = UnixListener::bind(place.path("run/s.sock")).expect("socket");
    let (code, message) = refusal(&place.arguments("root", "s.sock"));
    assert_eq!(code, IN_USE, "{message}");
    let name = std::fs::read_to_string("/proc/self/comm").expect("name");
    assert!(message.contains(&format!("process {} ({})", std::process::id(), name.trim())), "{message}");
}

#[test]
fn a_killed_daemon_leaves_nothing_in_the_way() {
    let place = Place::new();
    let mut first = place.start();
    first.signal(Signal::KILL);
    first.wait();
    assert!(exists(&place.path("run/s.sock")), "it had no chance to remove its socket");
    let _second = place.start_with("second", &place.arguments("root", "s.sock"));
    UnixStream::connect(place.path("run/s.sock")).expect("the second one accepts");
}

#[test]
fn who_has_claimed_the_socket_but_not_bound_it_yet_is_named() {
    let place = Place::new();
    std::fs::create_dir(place.path("run")).expect("directory");
    let mut lock = File::create(place.path("run/s.sock.lock")).expect("lock file");
    lock.lock().expect("lock");
    lock.write_all(b"4711 somebody else\n").expect("line");
    let (code, message) = refusal(&place.arguments("root", "s.sock"));
    assert_eq!(code, IN_USE, "{message}");
    assert!(message.contains("process 4711 (somebody else)"), "{message}");
    assert!(!exists(&place.path("run/s.sock")), "it is not for us to bind");
}

#[test]
fn of_many_that_start_at_once_one_gets_the_socket() {
    let place = Place::new();
    let mut daemons: Vec<_> = (0..6)
        .map(|n| place.spawn(&format!("d{n}"), &place.arguments(&format!("root{n}"), "s.sock"), &[]))
        .collect();
    let ready: Vec<_> = daemons.iter_mut().map(|daemon| daemon.notified("READY=1")).collect();
    assert_eq!(ready.iter().filter(|ready| **ready).count(), 1, "{ready:?}");
    for (daemon, _) in daemons.iter_mut().zip(&ready).filter(|(_, ready)| !**ready) {
        assert_eq!(daemon.wait().code(), Some(IN_USE), "{}", daemon.log());
    }
    UnixStream::connect(place.path("run/s.sock")).expect("the one accepts");
}
