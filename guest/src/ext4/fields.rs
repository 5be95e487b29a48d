//! Numbers in bytes, little-endian.

/// Writes `bytes` at `at`, which lie in `into`.
pub(super) fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = into.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Writes a 16-bit number.
pub(super) fn put_u16(into: &mut [u8], at: usize, number: u16) {
    put(into, at, &number.to_le_bytes());
}

/// Writes a 32-bit number.
pub(super) fn put_u32(into: &mut [u8], at: usize, number: u32) {
    put(into, at, &number.to_le_bytes());
}
