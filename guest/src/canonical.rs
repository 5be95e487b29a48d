//! JSON with one text for each value, so that it can be hashed and signed.
//!
//! The form is the part of RFC 8785 (JSON Canonicalization Scheme) that our documents need: objects with
//! their keys in the order of their bytes, arrays, integers from 0 to 2^53 - 1 in decimal digits, and texts
//! of ASCII characters that need no escape. No blanks, no line ends, nothing before or behind.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::de::DeserializeOwned;

/// The largest integer that every JSON reader reads exactly.
pub const LARGEST: u64 = (1 << 53) - 1;

/// A value that has a canonical text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// At most [`LARGEST`]; whoever makes it sees to that.
    Number(u64),
    /// Characters that need no escape; the types that are written this way have no others.
    Text(String),
    /// Values in an order that matters.
    Array(Vec<Json>),
    /// Values by their names.
    Object(BTreeMap<&'static str, Json>),
}

/// What has a canonical text and is read from nothing else.
pub trait Canonical: DeserializeOwned {
    /// Longest text in bytes.
    const LIMIT: usize;

    /// The value as JSON.
    fn json(&self) -> Json;

    /// The canonical text.
    fn to_canonical(&self) -> String {
        self.json().to_string()
    }

    /// Reads the canonical text, and nothing else that means the same.
    ///
    /// # Errors
    /// [`NotCanonical`].
    fn from_canonical(bytes: &[u8]) -> Result<Self, NotCanonical> {
        let value: Self = read(bytes, Self::LIMIT)?;
        match value.to_canonical().as_bytes() == bytes {
            true => Ok(value),
            false => Err(NotCanonical::Form),
        }
    }
}

/// Bytes that are not the canonical text of anything.
#[derive(Debug, thiserror::Error)]
pub enum NotCanonical {
    /// More than such a document can have.
    #[error("it has {length} bytes, and no such document has more than {limit}")]
    TooLong {
        /// How many there are.
        length: usize,
        /// How many there may be.
        limit: usize,
    },
    /// No JSON, or JSON of something else: a key that is not known, missing or there twice, a value out of
    /// range, bytes behind the end.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// The right value in another text.
    #[error(
        "its keys are not in order, or it has blanks or escapes: write it as the documentation of its format says"
    )]
    Form,
}

/// Reads JSON that need not be canonical, but is no longer than `limit` bytes and ends where it ends.
///
/// # Errors
/// [`NotCanonical::TooLong`] and [`NotCanonical::Json`].
pub fn read<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, NotCanonical> {
    if bytes.len() > limit {
        return Err(NotCanonical::TooLong { length: bytes.len(), limit });
    }
    Ok(serde_json::from_slice(bytes)?)
}

impl Json {
    /// The text of something that prints in characters that need no escape.
    pub fn text(value: impl fmt::Display) -> Self {
        Self::Text(value.to_string())
    }

    /// An object of the members that are there.
    #[must_use]
    pub fn object(members: impl IntoIterator<Item = (&'static str, Option<Self>)>) -> Self {
        Self::Object(members.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::Array(values) => list(f, ['[', ']'], values.iter(), |f, value| write!(f, "{value}")),
            Self::Object(members) => {
                list(f, ['{', '}'], members.iter(), |f, (name, value)| write!(f, "\"{name}\":{value}"))
            }
        }
    }
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    [open, close]: [char; 2],
    items: impl Iterator<Item = T>,
    mut each: impl FnMut(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    f.write_char(open)?;
    for (index, item) in items.enumerate() {
        if index > 0 {
            f.write_char(',')?;
        }
        each(f, item)?;
    }
    f.write_char(close)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_order_and_nothing_is_between() {
        let value = Json::object([
            ("b", Some(Json::Array(vec![Json::Number(1), Json::text("x")]))),
            ("a", Some(Json::object([]))),
            ("c", None),
            ("B", Some(Json::Number(LARGEST))),
        ]);
        assert_eq!(value.to_string(), r#"{"B":9007199254740991,"a":{},"b":[1,"x"]}"#);
    }
}
