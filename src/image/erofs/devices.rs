//! File data on other devices: which device holds a file's blocks, and the table that names the devices.
//!
//! `struct erofs_deviceslot`, 128 bytes each, from block 1 on. The kernel numbers devices from 1 in the order
//! of the table; 0 is the image itself.

use super::error::Error;
use crate::image::tree::{BLOCK_SIZE, InodeId};

/// Size in bytes of an entry of the table, the unit of `devt_slotoff` too.
const SLOT_SIZE: usize = 128;
/// Block that the table starts at: behind the superblock's.
const TABLE_BLOCK: u64 = 1;
/// `devt_slotoff` of every table.
pub(super) const TABLE_SLOT: u16 = (TABLE_BLOCK * BLOCK_SIZE / SLOT_SIZE as u64) as u16;

/// A device that holds file data of an image: the whole file of another image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// UUID of that image. Its 32 hex digits are the tag by which the table names the device.
    pub uuid: [u8; 16],
    /// Size of its file in blocks of 4096 bytes.
    pub blocks: u32,
}

/// Where the data of an image's files is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Homes<'d> {
    /// In the image, before this block.
    Own { end: u32 },
    /// On devices: by inode id the number of a file's device, 0 for a file without data.
    Devices { table: &'d [Device], numbers: &'d [u16] },
}

/// Where the data of one file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home {
    /// Number of the device, 0 for the image itself.
    pub(super) device: u16,
    /// The block that data ends before.
    pub(super) end: u32,
}

impl<'d> Homes<'d> {
    /// Where a file's data is.
    pub(super) fn of(&self, file: InodeId) -> Home {
        match self {
            Self::Own { end } => Home { device: 0, end: *end },
            Self::Devices { table, numbers } => {
                let device = numbers.get(file.0 as usize).copied().unwrap_or(0);
                let slot = usize::from(device).checked_sub(1).and_then(|index| table.get(index));
                Home { device, end: slot.map_or(0, |slot| slot.blocks) }
            }
        }
    }

    /// The devices, by number from 1 on.
    pub(super) const fn table(&self) -> &'d [Device] {
        match self {
            Self::Own { .. } => &[],
            Self::Devices { table, .. } => table,
        }
    }

    /// How many devices there are.
    pub(super) fn count(&self) -> Result<u16, Error> {
        let devices = self.table().len();
        u16::try_from(devices).map_err(|_| Error::TooManyDevices { devices })
    }

    /// Blocks that the table takes.
    pub(super) fn table_blocks(&self) -> Result<u32, Error> {
        let bytes = usize::from(self.count()?) * SLOT_SIZE;
        Ok((bytes as u64).div_ceil(BLOCK_SIZE) as u32)
    }

    /// Appends the table. On one device that holds all, the others follow the image of `blocks` blocks in
    /// their order; each slot says from which block on.
    pub(super) fn encode(&self, blocks: u32, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut next = u64::from(blocks);
        for device in self.table() {
            let start = next;
            next += u64::from(device.blocks);
            // An address below 2^32 - 1 for every block, as in an image of one device.
            let address = u32::try_from(start).ok().filter(|_| next <= u64::from(u32::MAX));
            let address = address.ok_or(Error::DevicesTooLarge { blocks: next })?;
            let end = out.len() + SLOT_SIZE;
            device.uuid.iter().for_each(|byte| out.extend_from_slice(&hex(*byte)));
            out.resize(end - 64, 0);
            out.extend_from_slice(&device.blocks.to_le_bytes());
            out.extend_from_slice(&address.to_le_bytes());
            out.resize(end, 0);
        }
        Ok(())
    }
}

fn hex(byte: u8) -> [u8; 2] {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).map_or(b'0', |digit| digit as u8);
    [digit(byte >> 4), digit(byte & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(first: u8, blocks: u32) -> Device {
        let mut uuid = [0xa5; 16];
        uuid[0] = first;
        Device { uuid, blocks }
    }

    #[test]
    fn a_table_names_devices_and_lays_them_behind_the_image() {
        let table = [device(0x01, 7), device(0xff, 9)];
        let homes = Homes::Devices { table: &table, numbers: &[0, 2] };
        let mut bytes = Vec::new();
        homes.encode(3, &mut bytes).unwrap();
        assert_eq!(bytes.len(), 256);
        assert_eq!(bytes[..34], *b"01a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5\0\0");
        assert_eq!(bytes[64..72], [7, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(bytes[128..130], *b"ff");
        assert_eq!(bytes[192..200], [9, 0, 0, 0, 10, 0, 0, 0]);
        assert_eq!(homes.table_blocks().unwrap(), 1);
        assert_eq!(homes.of(InodeId(1)), Home { device: 2, end: 9 });
        assert_eq!(homes.of(InodeId(9)), Home { device: 0, end: 0 });
    }

    #[test]
    fn devices_end_where_addresses_do() {
        let fits = [device(1, u32::MAX - 5)];
        let homes = |table| Homes::Devices { table, numbers: &[] };
        homes(&fits).encode(5, &mut Vec::new()).unwrap();
        let error = homes(&fits).encode(6, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, Error::DevicesTooLarge { blocks: 0x1_0000_0000 }), "{error}");
    }

    #[test]
    fn device_numbers_have_16_bits() {
        let many = vec![device(1, 1); 65_536];
        let homes = Homes::Devices { table: &many, numbers: &[] };
        assert!(matches!(homes.table_blocks(), Err(Error::TooManyDevices { devices: 65_536 })));
        let homes = Homes::Devices { table: &many[1..], numbers: &[] };
        assert_eq!(homes.table_blocks().unwrap(), 2048);
    }
}
