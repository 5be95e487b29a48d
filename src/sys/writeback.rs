//! Early write-back of a file that is still being written.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Asks the kernel to start writing `length` bytes from `offset` to the disk, without waiting.
///
/// This makes nothing durable; it spreads the work, so that a later `fdatasync` has little left.
///
/// # Errors
/// What `sync_file_range(2)` reports, or `InvalidInput` for a range past the largest file.
pub fn start(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let to_signed = |value: u64| i64::try_from(value).map_err(|_| io::ErrorKind::InvalidInput);
    let (offset, length) = (to_signed(offset)?, to_signed(length)?);
    // SAFETY: the call takes no pointers, and `file` keeps the descriptor open until it returns.
    let result =
        unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_a_file_is_taken_and_a_bad_one_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        start(&file, 0, 8192).unwrap();
        assert_eq!(start(&file, u64::MAX, 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
