//! The one extra device that is taken: data behind the image in the same file, such as the tar behind its
//! index. The kernel mounts such a file without being told of a device (`flatdev` in `fs/erofs/super.c`).

use super::error::{Damage, Error};
use super::source::{Fields, ReadAt, Window};

/// Size of `struct erofs_deviceslot`, and the unit in which the table's place is given.
const SLOT: u64 = 128;

/// The blocks of a device, counted from the start of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlatDevice {
    /// Its first block.
    pub(super) start: u32,
    /// How many it has.
    pub(super) blocks: u32,
    /// Where its slot is, for errors.
    slot: u64,
}

impl FlatDevice {
    /// Reads the slot with this number, of a device that has to be behind `image_blocks` blocks of metadata.
    pub(super) fn read<S: ReadAt>(
        window: &mut Window<'_, S>,
        number: u64,
        image_blocks: u32,
    ) -> Result<Self, Error> {
        let slot = number * SLOT;
        let record: [u8; SLOT as usize] = window.array(slot)?;
        let (blocks, start) = (record.u32_at(64), record.u32_at(68));
        if start < image_blocks {
            return Err(Error::damaged_at(slot, Damage::Device { start }));
        }
        Ok(Self { start, blocks, slot })
    }

    /// The block behind the last one.
    pub(super) fn end(&self) -> Result<u32, Error> {
        let damaged = Error::damaged_at(self.slot, Damage::Device { start: self.start });
        self.start.checked_add(self.blocks).ok_or(damaged)
    }

    /// The block of the image that a block of the device is.
    pub(super) fn block(&self, block: u32) -> Option<u32> {
        self.start.checked_add(block)
    }
}
