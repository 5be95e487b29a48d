//! Reads and writes of files straight to and from the memory of a guest, which changes it as it likes meanwhile.
//!
//! No reference to such memory is ever made, only addresses of it go to the kernel: that is why this is not done with
//! the slices of the standard library. Interfaces: preadv2(2), pwritev(2).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vm_memory::VolatileSlice;

/// Most pieces of memory in one call. The kernel takes 1024 (`IOV_MAX`); a request of a guest rarely has more than
/// this, and this many addresses fit on the stack.
const PIECES: usize = 128;

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It waits until there is something.
    ForDisk,
    /// Only what lies in memory is read (`RWF_NOWAIT`, Linux 4.14); `WouldBlock` if nothing does.
    Never,
}

/// Reads from `offset` of `file` into these pieces of memory, in order, and returns how many bytes were read. They
/// may be fewer than there is room for; 0 means the end of the file, or no room.
///
/// # Errors
/// What preadv2(2) reports. `WouldBlock` and `Unsupported` belong to [`Wait::Never`].
pub fn read_at(file: &File, offset: u64, pieces: &[VolatileSlice<'_>], wait: Wait) -> io::Result<usize> {
    let flags = match wait {
        Wait::ForDisk => 0,
        Wait::Never => libc::RWF_NOWAIT,
    };
    let offset = signed(offset)?;
    with_addresses(pieces, |addresses| {
        // SAFETY: each address is that of a piece of memory which the slices borrow, so it stays mapped, and the
        // kernel writes within it. Nothing else here refers to that memory.
        unsafe {
            libc::preadv2(file.as_raw_fd(), addresses.as_ptr(), addresses.len() as libc::c_int, offset, flags)
        }
    })
}

/// Writes these pieces of memory, in order, from `offset` of `file` on, and returns how many bytes were written,
/// which may be fewer.
///
/// # Errors
/// What pwritev(2) reports.
pub fn write_at(file: &File, offset: u64, pieces: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let offset = signed(offset)?;
    with_addresses(pieces, |addresses| {
        // SAFETY: as in `read_at`; the kernel only reads the memory.
        unsafe { libc::pwritev(file.as_raw_fd(), addresses.as_ptr(), addresses.len() as libc::c_int, offset) }
    })
}

/// Calls the kernel with the addresses of the first [`PIECES`] pieces, again if a signal came first.
fn with_addresses(
    pieces: &[VolatileSlice<'_>],
    call: impl Fn(&[libc::iovec]) -> libc::ssize_t,
) -> io::Result<usize> {
    let mut addresses = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PIECES];
    let count = pieces.len().min(PIECES);
    for (address, piece) in addresses.iter_mut().zip(pieces) {
        *address = libc::iovec { iov_base: piece.ptr_guard_mut().as_ptr().cast(), iov_len: piece.len() };
    }
    loop {
        // A negative result says that the reason is in `errno`.
        match usize::try_from(call(&addresses[..count])) {
            Ok(bytes) => return Ok(bytes),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

fn signed(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

    use super::*;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 16)]).unwrap()
    }

    #[test]
    fn pieces_are_filled_and_emptied_in_their_order() {
        let memory = memory();
        let piece = |address, length| memory.get_slice(GuestAddress(address), length).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let pieces = [piece(4096, 3), piece(100, 5)];
        assert_eq!(read_at(&file, 1, &pieces, Wait::ForDisk).unwrap(), 8);
        let mut bytes = [0; 8];
        piece(4096, 3).copy_to(&mut bytes[..3]);
        piece(100, 5).copy_to(&mut bytes[3..]);
        assert_eq!(&bytes, b"12345678");
        assert_eq!(write_at(&file, 20, &[pieces[1], pieces[0]]).unwrap(), 8);
        file.read_exact_at(&mut bytes, 20).unwrap();
        assert_eq!(&bytes, b"45678123");
        assert_eq!(read_at(&file, 28, &pieces, Wait::ForDisk).unwrap(), 0);
        assert_eq!(
            read_at(&file, u64::MAX, &pieces, Wait::ForDisk).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn more_pieces_than_a_call_takes_are_a_short_read() {
        let memory = memory();
        let pieces: Vec<_> =
            (0..PIECES as u64 + 9).map(|at| memory.get_slice(GuestAddress(at), 1).unwrap()).collect();
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        assert_eq!(read_at(&file, 0, &pieces, Wait::ForDisk).unwrap(), PIECES);
    }
}
