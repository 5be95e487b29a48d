//! Unmounting in a test that has others beside it in its process.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

/// How long a mount may stay busy.
const DEADLINE: Duration = Duration::from_secs(10);

/// Unmounts `point`. While another test starts a program, the child has every open file of this process for a
/// moment, and what they lie on is busy until it executes the program.
pub(crate) fn unmount(point: &Path) {
    let start = Instant::now();
    loop {
        match rustix::mount::unmount(point, UnmountFlags::empty()) {
            Err(Errno::BUSY) if start.elapsed() < DEADLINE => sleep(Duration::from_millis(5)),
            result => return result.unwrap(),
        }
    }
}
