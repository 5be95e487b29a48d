//! Who holds what we want, for the message that refuses us.

use std::fmt;

/// Longest description in bytes that is repeated to the operator.
const LONGEST: usize = 400;

/// The process that holds a root or a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process, and its command as far as it is known.
    Process {
        /// Its process id.
        pid: i32,
        /// Its command line, or its name.
        command: String,
    },
    /// It could not be found out, for instance because it lives in another PID namespace.
    Unknown,
}

impl Holder {
    /// This process.
    pub(super) fn this_process() -> Self {
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self::Process { pid, command: words.collect::<Vec<_>>().join(" ") }
    }

    /// The process with this id, with the name that the kernel gives it.
    pub(super) fn process(pid: i32) -> Self {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Self::Process { pid, command: name.trim().to_owned() }
    }

    /// The line by which a holder makes itself known in its lock file: process id, blank, command.
    pub(super) fn to_line(&self) -> String {
        match self {
            Self::Process { pid, command } => format!("{pid} {}\n", printable(command)),
            Self::Unknown => String::new(),
        }
    }

    /// The holder that wrote `line`.
    pub(super) fn from_line(line: &str) -> Self {
        let (pid, command) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match pid.parse() {
            Ok(pid) => Self::Process { pid, command: printable(command) },
            Err(_) => Self::Unknown,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command } if command.is_empty() => write!(f, "process {pid}"),
            Self::Process { pid, command } => write!(f, "process {pid} ({command})"),
            Self::Unknown => f.write_str("a process that cannot be seen from here"),
        }
    }
}

/// The start of `text` on one line: what is shown may have been written by anybody.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_round_trips() {
        let holder = Holder::this_process();
        assert_eq!(Holder::from_line(&holder.to_line()), holder);
        assert!(holder.to_string().contains(&std::process::id().to_string()));
    }

    #[test]
    fn foreign_lines_do_no_harm() {
        assert_eq!(Holder::from_line(""), Holder::Unknown);
        assert_eq!(Holder::from_line("who knows"), Holder::Unknown);
        let shown = Holder::from_line(&format!("7 a\u{1b}[31m{}", "x".repeat(9999))).to_string();
        assert!(!shown.contains('\u{1b}') && shown.len() < 500, "{shown}");
    }

    #[test]
    fn the_kernel_knows_this_process() {
        let Holder::Process { command, .. } = Holder::process(std::process::id() as i32) else {
            panic!("a process has a name")
        };
        assert!(!command.is_empty());
    }
}
