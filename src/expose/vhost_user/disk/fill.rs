//! Reads of one file, straight to the guest.

use std::fs::File;
use std::io;

use vm_memory::VolatileSlice;

use crate::expose::vhost_user::pieces::advanced;
use crate::sys::guest_memory::{Wait, read_at};

/// Fills `pieces` with the file's bytes from `offset` on.
///
/// What lies in the page cache is read first. `waiting` is called before anything is waited for, so that the guest
/// hears of what is done already, and the disk of what is needed next.
pub(super) fn fill(
    file: &File,
    offset: u64,
    pieces: &mut [VolatileSlice<'_>],
    waiting: &mut dyn FnMut(),
) -> io::Result<()> {
    let (mut rest, mut offset, mut wait) = (pieces, offset, Wait::Never);
    while !rest.is_empty() {
        match read_at(file, offset, rest, wait) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => {
                rest = advanced(rest, bytes)?;
                offset += bytes as u64;
            }
            Err(error) if wait == Wait::Never && is_about_waiting(&error) => {
                waiting();
                wait = Wait::ForDisk;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a read that may not wait has to, or the file system knows no such reads.
fn is_about_waiting(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Unsupported)
}
