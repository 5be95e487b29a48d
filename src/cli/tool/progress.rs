//! A bar on standard error for what takes time. Nothing is shown where that is no terminal.

use std::io::Read;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::report::Console;

const BYTES: &str = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
/// Where the end is not known.
const ENDLESS: &str = "{msg} {spinner} {bytes} {bytes_per_sec}";

/// Bytes that are read, of all that there are to read.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Shows progress towards `total` bytes; 0 stands for an end that is not known.
    pub(super) fn of_bytes(total: u64, console: Console) -> Self {
        let target = if console.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let (length, template) = if total == 0 { (None, ENDLESS) } else { (Some(total), BYTES) };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: ProgressBar::with_draw_target(length, target).with_style(style) }
    }

    /// Says what is being read.
    pub(super) fn name(&self, path: &Path) {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        self.bar.set_message(name.chars().take(20).collect::<String>());
    }

    /// Counts what is read from `bytes`.
    pub(super) fn count<R: Read>(&self, bytes: R) -> impl Read + use<R> {
        self.bar.wrap_read(bytes)
    }

    /// Counts bytes that were read, or need not be.
    pub(super) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
