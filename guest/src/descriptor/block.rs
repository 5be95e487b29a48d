//! A document on a raw block device: [`MAGIC`], the length in bytes as a 64-bit little-endian number, the
//! document, and anything behind it.

/// The first bytes of the device.
pub const MAGIC: &[u8; 16] = b"nexuserofs-guest";

/// Bytes before the document.
pub const HEADER_BYTES: usize = 24;

/// A device with no document on it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidBlock {
    /// It begins with something else.
    #[error("the device does not begin with \"nexuserofs-guest\" and a length")]
    Magic,
    /// No document is that long.
    #[error("the device says that its document has {length} bytes, and none has more than {limit}")]
    TooLong {
        /// What it says.
        length: u64,
        /// How many there may be.
        limit: usize,
    },
}

/// The length of the document behind a header, if it is no longer than `limit` bytes.
///
/// # Errors
/// [`InvalidBlock`].
pub fn payload_length(header: &[u8; HEADER_BYTES], limit: usize) -> Result<usize, InvalidBlock> {
    let (magic, length) = header.split_at(MAGIC.len());
    let length = <[u8; 8]>::try_from(length).map_err(|_| InvalidBlock::Magic)?;
    if magic != MAGIC {
        return Err(InvalidBlock::Magic);
    }
    let length = u64::from_le_bytes(length);
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= limit)
        .ok_or(InvalidBlock::TooLong { length, limit })
}

/// The bytes of a device with this document: a multiple of 512, as devices are.
#[must_use]
pub fn to_block(document: &[u8]) -> Vec<u8> {
    let length = (document.len() as u64).to_le_bytes();
    let mut block = [MAGIC.as_slice(), &length, document].concat();
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_found_again() {
        for length in [0, 1, 488, 489, 5000] {
            let document = vec![b'x'; length];
            let block = to_block(&document);
            assert_eq!(block.len() % 512, 0);
            let header = block.first_chunk().unwrap();
            assert_eq!(payload_length(header, 5000), Ok(length));
            assert_eq!(&block[HEADER_BYTES..HEADER_BYTES + length], document);
        }
    }

    #[test]
    fn other_devices_and_endless_documents_are_refused() {
        let mut header: [u8; HEADER_BYTES] = *to_block(&[0; 10]).first_chunk().unwrap();
        assert_eq!(payload_length(&header, 9), Err(InvalidBlock::TooLong { length: 10, limit: 9 }));
        header[16..].fill(0xff);
        assert_eq!(
            payload_length(&header, usize::MAX >> 1),
            Err(InvalidBlock::TooLong { length: u64::MAX, limit: usize::MAX >> 1 })
        );
        header[0] = b'N';
        assert_eq!(payload_length(&header, 10), Err(InvalidBlock::Magic));
    }
}
