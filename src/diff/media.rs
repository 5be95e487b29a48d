//! Layer media types and the compression that each stands for.
//!
//! The types are those of the OCI image specification, Docker's image manifest V2 schema 2, and
//! what containerd (`core/images/mediatypes.go`) accepts beside them.

use std::fmt;

/// Media type of what Apply returns: the uncompressed tar.
pub(super) const OCI_TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// How a layer's bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 8878, one or more frames.
    Zstd,
}

/// What a media type says about the compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declared {
    /// The type names the compression; content of another kind is refused.
    As(Compression),
    /// The type is used for any compression; the first bytes tell.
    Unclear,
}

/// A media type that this differ does not apply.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unsupported {
    /// An encrypted layer.
    #[error("layer type {0:?} is encrypted, and this differ has no keys: decrypt the image first")]
    Encrypted(String),
    /// A layer that is an EROFS image already.
    #[error("layer type {0:?} is an EROFS image; this version unpacks tar layers only")]
    Erofs(String),
    /// Anything else.
    #[error("layer type {0:?} is not one of the OCI or Docker tar layer types")]
    Unknown(String),
}

/// The compression that `media_type` declares.
pub(super) fn declared(media_type: &str) -> Result<Declared, Unsupported> {
    use Compression::{Gzip, None, Zstd};
    Ok(match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar" => Declared::As(None),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Declared::As(Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Declared::As(Zstd),
        // Old Docker clients used the bare type for compressed layers too.
        "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar" => Declared::Unclear,
        other if other.ends_with("+encrypted") => return Err(Unsupported::Encrypted(other.to_owned())),
        other if other.starts_with("application/vnd.erofs.layer.") || other.ends_with(".erofs") => {
            return Err(Unsupported::Erofs(other.to_owned()));
        }
        other => return Err(Unsupported::Unknown(other.to_owned())),
    })
}

/// The compression that the first bytes of a blob show. Four bytes decide; fewer mean a plain tar.
pub(super) fn sniffed(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, 8, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "plain tar",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_name_their_compression() {
        let oci = |suffix: &str| declared(&format!("{OCI_TAR}{suffix}"));
        assert_eq!(oci(""), Ok(Declared::As(Compression::None)));
        assert_eq!(oci("+gzip"), Ok(Declared::As(Compression::Gzip)));
        assert_eq!(oci("+zstd"), Ok(Declared::As(Compression::Zstd)));
        assert_eq!(declared("application/vnd.docker.image.rootfs.diff.tar"), Ok(Declared::Unclear));
    }

    #[test]
    fn other_types_are_refused_by_name() {
        let encrypted = format!("{OCI_TAR}+gzip+encrypted");
        assert_eq!(declared(&encrypted), Err(Unsupported::Encrypted(encrypted.clone())));
        for erofs in ["application/vnd.erofs.layer.v1", "application/vnd.erofs.layer.v1+zstd", "x.erofs"] {
            assert_eq!(declared(erofs), Err(Unsupported::Erofs(erofs.to_owned())));
        }
        for unknown in ["", "application/json", "application/vnd.oci.image.layer.v1.tar+lz4"] {
            assert_eq!(declared(unknown), Err(Unsupported::Unknown(unknown.to_owned())));
        }
    }

    #[test]
    fn content_shows_its_compression() {
        assert_eq!(sniffed(&[0x1f, 0x8b, 8, 0]), Compression::Gzip);
        assert_eq!(sniffed(&[0x28, 0xb5, 0x2f, 0xfd]), Compression::Zstd);
        assert_eq!(sniffed(&[0x5a, 0x2a, 0x4d, 0x18]), Compression::Zstd, "a skippable frame");
        assert_eq!(sniffed(b"etc/"), Compression::None);
        assert_eq!(sniffed(b""), Compression::None);
    }
}
