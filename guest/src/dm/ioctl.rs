//! The calls. The only unsafe code of this crate.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

use super::message::{Header, Message};

/// What can be asked; the numbers are those of `linux/dm-ioctl.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Command {
    /// Makes a device without a table.
    Create = 3,
    /// Removes a device.
    Remove = 4,
    /// Suspends a device, or resumes it with the table that was loaded.
    Suspend = 6,
    /// Number and state of a device.
    Status = 7,
    /// Loads a table.
    Load = 9,
    /// The table of a device, or its targets' status.
    TableStatus = 12,
    /// The targets that the kernel has.
    ListVersions = 13,
}

/// `DM_IOCTL`.
const GROUP: u8 = 0xfd;

/// Sends `message` and replaces it with the answer.
pub(super) fn call(control: &File, command: Command, message: &mut Message) -> Result<(), Errno> {
    message.prepare();
    // SAFETY: `Exchange` describes the call as the kernel has it: it reads and writes one header and
    // what follows it, up to the header's `data_size`, which `prepare` set to the message's size.
    unsafe { ioctl(control, Exchange { command, message }) }
}

struct Exchange<'a> {
    command: Command,
    message: &'a mut Message,
}

// SAFETY: the opcode is that of the command for a header of 312 bytes, whose layout is asserted below, and
// the pointer is to a header with as many bytes behind it as it says, exclusively borrowed.
unsafe impl Ioctl for Exchange<'_> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<Header>(GROUP, self.command as u8)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut::<Message>(self.message).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

// `struct dm_ioctl` of linux/dm-ioctl.h.
const _: () = {
    assert!(size_of::<Header>() == 312);
    assert!(std::mem::offset_of!(Header, flags) == 28);
    assert!(std::mem::offset_of!(Header, device) == 40);
    assert!(std::mem::offset_of!(Header, name) == 48);
    assert!(std::mem::offset_of!(Header, uuid) == 176);
    assert!(std::mem::offset_of!(Message, payload) == 312);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcodes_are_those_of_the_header() {
        // DM_DEV_CREATE and DM_TABLE_STATUS, as the C header's macros give them on x86-64 and aarch64.
        let mut message = Message::default();
        for (command, expected) in [(Command::Create, 0xc138_fd03), (Command::TableStatus, 0xc138_fd0c)] {
            assert_eq!(Exchange { command, message: &mut message }.opcode(), expected);
        }
    }
}
