//! Bytes as lower-case hex digits, the one way in which dm-verity's table prints them.

/// Two digits per byte.
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes; None for an odd number of digits and for whatever [`encode`] does not write.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_is_read() {
        let bytes = [0, 0x0f, 0xa0, 0xff];
        assert_eq!(decode(&encode(&bytes)), Some(bytes.to_vec()));
        assert_eq!(decode(""), Some(Vec::new()));
        for text in ["0", "0F", "0g", "+1", " 1", "é"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
