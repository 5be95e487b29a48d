//! Signals and the way down.

use std::io::Read as _;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;

use super::daemon::{Place, exists, logged};

#[test]
fn either_signal_ends_it_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new();
        let mut daemon = place.start();
        daemon.signal(signal);
        assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
        assert!(!exists(&place.path("run/s.sock")), "the socket is removed");
        assert!(exists(&place.path("root/lock")), "the lock file stays");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let place = Place::new();
    let mut daemon = place.start();
    // A client that says nothing holds up the end. The server speaks first, which shows that the
    // connection was accepted.
    let mut silent = UnixStream::connect(place.path("run/s.sock")).expect("it accepts");
    silent.read_exact(&mut [0]).expect("a greeting");
    daemon.signal(Signal::TERM);
    daemon.wait_for("STOPPING=1");
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait().code(), Some(130), "{}", daemon.log());
    assert!(!exists(&place.path("run/s.sock")), "the socket is removed");
}

#[test]
fn the_log_tells_the_story_in_json_too() {
    let place = Place::new();
    let mut arguments = place.arguments("root", "s.sock");
    arguments.push("--log-format=json".to_owned());
    let mut daemon = place.start_with("first", &arguments);
    daemon.signal(Signal::TERM);
    daemon.wait();
    let log = daemon.log();
    assert_eq!(logged(&log, "starting")["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(logged(&log, "stopping: finishing running calls")["signal"], "SIGTERM");
    assert_eq!(logged(&log, "stopped")["level"], "INFO");
}
