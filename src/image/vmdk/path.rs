//! Names of files in a descriptor.

use std::fmt;

/// Longest path that QEMU reads, in bytes.
const LONGEST: usize = 511;

/// The path of a file as a descriptor can name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentPath(String);

/// A path that a descriptor cannot name.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a VMDK descriptor cannot name {path:?}: it {reason}; move the directory, or use a flat file instead"
)]
pub struct InvalidPath {
    path: String,
    /// Why not.
    pub reason: Reason,
}

/// Why a descriptor cannot name a path.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Reason {
    /// Where it leads depends on who reads the descriptor.
    #[error("is not absolute")]
    Relative,
    /// QEMU reads no more than 511 bytes.
    #[error("is longer than {LONGEST} bytes")]
    TooLong,
    /// Cloud Hypervisor ends a word at blanks.
    #[error("has a blank")]
    Blank,
    /// A quote ends the name.
    #[error("has a quote")]
    Quote,
    /// Control characters end a line, or the text.
    #[error("has a control character")]
    Control,
    /// Cloud Hypervisor refuses these, since they can lead out of a directory.
    #[error("has a component `.` or `..`, or an empty one")]
    Component,
    /// A descriptor is text.
    #[error("is not UTF-8")]
    NotText,
}

impl ExtentPath {
    /// Takes `path` if every reader understands it.
    ///
    /// # Errors
    /// With the reason if some reader does not.
    pub fn new(path: &[u8]) -> Result<Self, InvalidPath> {
        let invalid = |reason| InvalidPath { path: String::from_utf8_lossy(path).into_owned(), reason };
        let text = std::str::from_utf8(path).map_err(|_| invalid(Reason::NotText))?;
        match fault(text) {
            Some(reason) => Err(invalid(reason)),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExtentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn fault(path: &str) -> Option<Reason> {
    let Some(below) = path.strip_prefix('/') else { return Some(Reason::Relative) };
    if path.len() > LONGEST {
        return Some(Reason::TooLong);
    }
    if path.contains(char::is_control) {
        return Some(Reason::Control);
    }
    if path.contains(char::is_whitespace) {
        return Some(Reason::Blank);
    }
    // Cloud Hypervisor takes double quotes away at both ends; a single one means nothing to any reader.
    if path.contains('"') {
        return Some(Reason::Quote);
    }
    below.split('/').any(|name| matches!(name, "" | "." | "..")).then_some(Reason::Component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_a_reader_misunderstands_are_refused_with_the_reason() {
        let long = format!("/{}", "a".repeat(511));
        for (path, reason) in [
            ("", Reason::Relative),
            ("layer.erofs", Reason::Relative),
            ("/a b", Reason::Blank),
            ("/a\u{a0}b", Reason::Blank),
            ("/a\nRW 1 FLAT \"/etc/shadow\" 0", Reason::Control),
            ("/a\0b", Reason::Control),
            ("/a\"b", Reason::Quote),
            ("/a/../b", Reason::Component),
            ("/a//b", Reason::Component),
            ("/a/.", Reason::Component),
            ("/a/", Reason::Component),
            (&long, Reason::TooLong),
        ] {
            assert_eq!(ExtentPath::new(path.as_bytes()).unwrap_err().reason, reason, "{path:?}");
        }
        assert_eq!(ExtentPath::new(b"/\xff").unwrap_err().reason, Reason::NotText);
        let message = ExtentPath::new(b"/a b").unwrap_err().to_string();
        assert!(message.contains("\"/a b\": it has a blank; move"), "{message}");
    }

    #[test]
    fn ordinary_paths_are_taken_up_to_the_longest() {
        let long = format!("/{}", "a".repeat(510));
        for path in ["/var/lib/nexuserofs/layers/v1-00/layer.erofs", "/é", "/a'b", &long] {
            assert_eq!(ExtentPath::new(path.as_bytes()).unwrap().as_str(), path);
        }
    }
}
