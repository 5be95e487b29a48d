//! What systemd is told, on a real notification socket.

use rustix::process::Signal;

use super::daemon::Place;

#[test]
fn systemd_hears_of_the_start_and_of_the_end() {
    let place = Place::new();
    let mut daemon = place.spawn("first", &place.arguments("root", "s.sock"), &[]);
    daemon.wait_for("READY=1");
    daemon.signal(Signal::TERM);
    daemon.wait_for("STOPPING=1");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn the_watchdog_hears_of_it_again_and_again() {
    let place = Place::new();
    let watched = [("WATCHDOG_USEC", "100000")];
    let mut daemon = place.spawn("first", &place.arguments("root", "s.sock"), &watched);
    daemon.wait_for("READY=1");
    for _ in 0..4 {
        daemon.wait_for("WATCHDOG=1");
    }
}

#[test]
fn a_watchdog_of_another_process_hears_nothing() {
    let place = Place::new();
    let watched = [("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")];
    let mut daemon = place.spawn("first", &place.arguments("root", "s.sock"), &watched);
    daemon.wait_for("READY=1");
    daemon.signal(Signal::TERM);
    assert!(!daemon.notified("WATCHDOG=1"), "{}", daemon.log());
}
