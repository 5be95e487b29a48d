//! The serial number of a disk.

use std::fmt;
use std::str::FromStr;

/// Length in bytes of what a guest is told (`VIRTIO_BLK_ID_BYTES`, VIRTIO 1.3, 5.2.6).
pub const SERIAL_BYTES: usize = 20;

/// What a guest finds in `/sys/block/vdX/serial`: at most 20 printable ASCII characters, not none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serial(String);

/// A text that cannot be a serial number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no serial number of a disk: use 1 to {SERIAL_BYTES} printable ASCII characters")]
pub struct InvalidSerial {
    /// The text.
    pub text: String,
}

impl Serial {
    /// As it goes to the guest: filled up with zeros.
    #[must_use]
    pub fn bytes(&self) -> [u8; SERIAL_BYTES] {
        let mut bytes = [0; SERIAL_BYTES];
        bytes.iter_mut().zip(self.0.bytes()).for_each(|(to, from)| *to = from);
        bytes
    }
}

impl FromStr for Serial {
    type Err = InvalidSerial;

    fn from_str(text: &str) -> Result<Self, InvalidSerial> {
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if is_printable && (1..=SERIAL_BYTES).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidSerial { text: text.to_owned() })
        }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_short_printable_texts() {
        let serial: Serial = "merged".parse().unwrap();
        assert_eq!(&serial.bytes(), b"merged\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!("12345678901234567890".parse::<Serial>().unwrap().bytes(), *b"12345678901234567890");
        for refused in ["", "123456789012345678901", "a\nb", "ä"] {
            assert_eq!(refused.parse::<Serial>(), Err(InvalidSerial { text: refused.to_owned() }));
        }
    }
}
