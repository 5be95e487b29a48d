//! A running daemon and the place that it runs in.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How long a test waits for a message before it looks whether the daemon still runs.
const LOOK: Duration = Duration::from_millis(20);

/// How often it looks before it gives up: a test that hangs is a failed test.
const LOOKS: usize = 1500;

/// A folder of its own for each test, with room for roots, sockets and settings files.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("temporary directory") }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A path in the folder, as an argument.
    pub(crate) fn arg(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// Writes a settings file and returns its path.
    pub(crate) fn settings(&self, text: &str) -> String {
        let text = text.replace("PLACE", &self.arg(""));
        std::fs::write(self.path("settings.toml"), text).expect("settings file");
        self.arg("settings.toml")
    }

    /// The arguments for the root `root` and the socket `run/socket`.
    pub(crate) fn arguments(&self, root: &str, socket: &str) -> Vec<String> {
        vec!["--root".into(), self.arg(root), "--address".into(), self.arg("run") + "/" + socket]
    }

    /// Starts a daemon with root `root` and socket `run/s.sock` and waits until it serves.
    pub(crate) fn start(&self) -> Daemon {
        self.start_with("first", &self.arguments("root", "s.sock"))
    }

    /// Starts a daemon with these arguments and waits until it serves.
    pub(crate) fn start_with(&self, name: &str, arguments: &[String]) -> Daemon {
        let mut daemon = self.spawn(name, arguments, &[]);
        daemon.wait_for("READY=1");
        daemon
    }

    /// Starts a daemon. `name` tells its log and its notifications from those of others.
    pub(crate) fn spawn(&self, name: &str, arguments: &[String], environment: &[(&str, &str)]) -> Daemon {
        let notify = self.path(&format!("{name}.notify"));
        let notifications = UnixDatagram::bind(&notify).expect("notification socket");
        notifications.set_read_timeout(Some(LOOK)).expect("timeout");
        let log = self.path(&format!("{name}.log"));
        let child = command(arguments)
            .env("NOTIFY_SOCKET", notify)
            .envs(environment.iter().copied())
            .stderr(File::create(&log).expect("log file"))
            .spawn()
            .expect("daemon");
        Daemon { child, notifications, log }
    }
}

fn command(arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nexuserofs-snapshotter"));
    command.args(arguments).stdin(Stdio::null()).env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
    command
}

/// Runs the program with arguments that make it end by itself.
pub(crate) fn output(arguments: &[String]) -> Output {
    output_with(arguments, &[])
}

fn output_with(arguments: &[String], environment: &[(&str, &str)]) -> Output {
    let mut command = command(arguments);
    let mut child = command
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("program");
    if wait_for_end(&mut child).is_none() {
        child.kill().expect("killed");
        let output = child.wait_with_output().expect("output");
        panic!("{arguments:?} does not end:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    child.wait_with_output().expect("output")
}

/// How a process ended, unless it takes too long.
fn wait_for_end(child: &mut Child) -> Option<ExitStatus> {
    (0..LOOKS).find_map(|look| {
        if look > 0 {
            std::thread::sleep(LOOK);
        }
        child.try_wait().expect("status")
    })
}

/// The exit code and the message of a start that must be refused.
pub(crate) fn refusal(arguments: &[String]) -> (i32, String) {
    refusal_with(arguments, &[])
}

/// The same with other variables in its environment.
pub(crate) fn refusal_with(arguments: &[String], environment: &[(&str, &str)]) -> (i32, String) {
    let output = output_with(arguments, environment);
    let message = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.stdout.is_empty(), "refusals go to standard error: {message}");
    (output.status.code().expect("an exit code"), message)
}

/// A daemon that was started. It is killed when it is dropped.
pub(crate) struct Daemon {
    child: Child,
    notifications: UnixDatagram,
    log: PathBuf,
}

impl Daemon {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("log")
    }

    /// Waits for a notification with this line in it.
    pub(crate) fn wait_for(&mut self, line: &str) {
        assert!(self.notified(line), "ended without {line}:\n{}", self.log());
    }

    /// Whether it notifies with this line before it ends.
    pub(crate) fn notified(&mut self, line: &str) -> bool {
        let mut buffer = [0; 4096];
        for _ in 0..LOOKS {
            // Looked at before the messages, so that the last one is not missed.
            let ended = self.child.try_wait().expect("status").is_some();
            match self.notifications.recv(&mut buffer) {
                Ok(length) => {
                    let message = std::str::from_utf8(&buffer[..length]).expect("UTF-8");
                    if message.lines().any(|found| found == line) {
                        return true;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if ended {
                        return false;
                    }
                }
                Err(error) => panic!("cannot read notifications: {error}"),
            }
        }
        panic!("no {line} in time:\n{}", self.log());
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process id");
        kill_process(pid, signal).expect("signal");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for_end(&mut self.child).unwrap_or_else(|| panic!("it does not end:\n{}", self.log()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The fields of the first line of a JSON log with this message.
pub(crate) fn logged(log: &str, message: &str) -> serde_json::Value {
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    lines
        .into_iter()
        .find(|line| line["message"] == message)
        .unwrap_or_else(|| panic!("no {message}:\n{log}"))
}

/// Whether anything is at `path`, even a link to nowhere.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
