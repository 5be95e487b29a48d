//! Sizes of writable layers.

use std::num::NonZeroU64;
use std::str::FromStr;

use super::fragment::RawSize;

/// Where the writes of a container go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WritableLayer {
    /// A directory on the file system of the root; no limit of its own. Written as size 0.
    Directory,
    /// An ext4 file system of this many bytes, a multiple of 4096, in a sparse file.
    Block(NonZeroU64),
}

/// Block size in bytes of the writable file system; sizes are rounded up to it.
const BLOCK: u64 = 4096;

/// A text that is no size, or a size that no writable layer can have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidSize {
    /// Not a number with a known suffix.
    #[error(
        "{0:?} is not a size; write bytes, or a whole number with K, M, G or T (powers of 1024), such as 20GiB, or 0 for directory mode"
    )]
    Text(String),
    /// Out of range.
    #[error(
        "{0} bytes cannot hold a writable layer; write 0 for directory mode, or a size from 16MiB to just under 16TiB"
    )]
    Range(u64),
}

impl TryFrom<&RawSize> for WritableLayer {
    type Error = InvalidSize;

    fn try_from(size: &RawSize) -> Result<Self, Self::Error> {
        match size {
            RawSize::Text(text) => text.parse(),
            RawSize::Bytes(bytes) => u64::try_from(*bytes)
                .map_err(|_| InvalidSize::Text(bytes.to_string()))
                .and_then(Self::of_bytes),
        }
    }
}

impl FromStr for WritableLayer {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_bytes(text).ok_or_else(|| InvalidSize::Text(text.to_owned())).and_then(Self::of_bytes)
    }
}

impl WritableLayer {
    /// Smallest writable block in bytes: less leaves an ext4 with a journal no room for data.
    pub const SMALLEST: u64 = 16 << 20;

    /// Largest writable block in bytes: the largest file that an ext4 host can hold.
    pub const LARGEST: u64 = (16 << 40) - BLOCK;

    fn of_bytes(bytes: u64) -> Result<Self, InvalidSize> {
        match NonZeroU64::new(bytes) {
            None => Ok(Self::Directory),
            Some(_) if !(Self::SMALLEST..=Self::LARGEST).contains(&bytes) => Err(InvalidSize::Range(bytes)),
            Some(size) => Ok(Self::Block(NonZeroU64::new(bytes.next_multiple_of(BLOCK)).unwrap_or(size))),
        }
    }
}

/// Bytes of a size text: digits and an optional suffix, in either case.
///
/// `B` is bytes. `K`, `M`, `G`, `T`, alone or followed by `B` or `iB`, are 1024 to the power of 1,
/// 2, 3 and 4: `20G`, `20GB` and `20GiB` are one size. That is how containerd reads the
/// `default_size` of its own erofs snapshotter, so a value can be taken over as it stands.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(digits_end)?;
    let power = match suffix.trim_start_matches(' ').to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << (10 * power))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(bytes: u64) -> WritableLayer {
        WritableLayer::Block(NonZeroU64::new(bytes).expect("not zero"))
    }

    #[test]
    fn suffixes_are_powers_of_1024() {
        for (text, bytes) in [
            ("16777216", 16 << 20),
            ("16777216B", 16 << 20),
            ("20480k", 20 << 20),
            ("512M", 512 << 20),
            ("512mb", 512 << 20),
            ("20G", 20 << 30),
            ("20GB", 20 << 30),
            ("20GiB", 20 << 30),
            ("20 GiB", 20 << 30),
            ("1tib", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(block(bytes)), "{text}");
        }
    }

    #[test]
    fn zero_is_directory_mode() {
        for text in ["0", "0B", "0GiB"] {
            assert_eq!(text.parse(), Ok(WritableLayer::Directory), "{text}");
        }
    }

    #[test]
    fn sizes_are_rounded_up_to_blocks() {
        assert_eq!("16777217".parse(), Ok(block((16 << 20) + 4096)));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "G", "-1", "+5", "1.5GiB", "20 gigs", "20PiB", "99999999999999999999", "20000000T"] {
            assert_eq!(text.parse::<WritableLayer>(), Err(InvalidSize::Text(text.to_owned())), "{text}");
        }
        assert!(WritableLayer::try_from(&RawSize::Bytes(-1)).is_err());
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for (text, bytes) in [("1", 1), ("15MiB", 15 << 20), ("16TiB", 16 << 40)] {
            assert_eq!(text.parse::<WritableLayer>(), Err(InvalidSize::Range(bytes)), "{text}");
        }
    }
}
