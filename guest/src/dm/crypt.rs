//! The target `crypt`. Format of its table: `Documentation/admin-guide/device-mapper/dm-crypt.rst` in Linux.

use std::fmt;
use std::fmt::Write as _;

use zeroize::Zeroizing;

use super::Error;
use crate::random;
use crate::verity::DeviceNumber;

/// AES in XTS mode, with the number of the sector as initial value: what LUKS2 has without saying.
const CIPHER: &str = "aes-xts-plain64";
/// Two keys of 256 bits.
const KEY_BYTES: usize = 64;
/// What is encrypted at a time, in bytes: a block of the file system, so that each takes one operation.
const SECTOR: u64 = 4096;
/// The unit in which device-mapper counts, in bytes.
const UNIT: u64 = 512;

/// A key that was made here and is nowhere else. It is wiped when it is dropped, and cannot be printed.
pub struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl Key {
    /// A new key. In a guest that just started this waits until the kernel has random numbers.
    ///
    /// # Errors
    /// [`Error::NoRandom`].
    pub fn random() -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        random::fill(key.as_mut_slice()).map_err(|source| Error::NoRandom { source })?;
        Ok(Self(key))
    }

    /// The parameters of the target `crypt` over the device of this number.
    pub(super) fn table_line(&self, over: DeviceNumber) -> Zeroizing<String> {
        let tail = format!(" 0 {over} 0 1 sector_size:{SECTOR}");
        // With all its room from the start: one that grows would leave copies of the key behind.
        let room = CIPHER.len() + 1 + 2 * KEY_BYTES + tail.len();
        let mut line = Zeroizing::new(String::with_capacity(room));
        line.push_str(CIPHER);
        line.push(' ');
        for byte in self.0.iter() {
            // Writing to a text does not fail.
            let _ = write!(line, "{byte:02x}");
        }
        line.push_str(&tail);
        line
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// Length of a device of so many bytes, in units of device-mapper.
pub(super) const fn sectors(bytes: u64) -> u64 {
    bytes / SECTOR * (SECTOR / UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_the_one_that_the_kernel_documents() {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        key[1] = 0xab;
        let line = Key(key).table_line(DeviceNumber { major: 254, minor: 16 });
        let hex = format!("00ab{}", "00".repeat(KEY_BYTES - 2));
        assert_eq!(*line, format!("aes-xts-plain64 {hex} 0 254:16 0 1 sector_size:4096"));
        assert_eq!(line.capacity(), line.len(), "it grew");
    }

    #[test]
    fn sizes_are_whole_blocks() {
        assert_eq!((sectors(4096), sectors(8191), sectors(1 << 20)), (8, 8, 2048));
    }

    #[test]
    fn keys_differ_and_are_not_printed() {
        let (one, two) = (Key::random().unwrap(), Key::random().unwrap());
        assert_ne!(*one.0, *two.0);
        assert_eq!(format!("{one:?}"), "Key");
    }
}
