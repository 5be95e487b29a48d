//! UUIDs that follow from what they name, so that whoever makes the same thing gives it the same.

use uuid::Uuid;

/// A version 5 UUID (RFC 9562) in the URL name space, of `urn:nexuserofs:` and `name`.
pub(super) fn uuid(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("urn:nexuserofs:{name}").as_bytes())
}

/// What stands in the names of UUIDs for a layer that was made of what a snapshot wrote, and which has no
/// diffID: `written:` and the 32 hex digits of its random name.
pub(super) fn written(unique: [u8; 16]) -> String {
    format!("written:{:032x}", u128::from_be_bytes(unique))
}
