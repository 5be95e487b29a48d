//! Layer media types: what each holds, and how it is compressed.
//!
//! The types are those of the OCI image specification, Docker's image manifest V2 schema 2, and
//! what containerd (`core/images/mediatypes.go`, the erofs differ of 2.2 and 2.3) accepts beside them.

use std::fmt;

use crate::layer::Content;

/// Media type of what Apply returns: the uncompressed tar.
pub(super) const OCI_TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// How a layer's bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 8878, one or more frames.
    Zstd,
}

/// Media type of a native EROFS layer, since containerd 2.3.
const EROFS: &str = "application/vnd.erofs.layer.v1";
/// Ends the type of a native EROFS layer in containerd 2.2, whatever it begins with.
const OLD_EROFS: &str = ".erofs";

/// What a media type says of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Media {
    /// What it holds when it is decompressed.
    pub(super) content: Content,
    /// How it is compressed.
    pub(super) compression: Declared,
    /// The type of what it holds.
    pub(super) decompressed: String,
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
    /// An EROFS image that is compressed as a whole in a way that is not defined.
    #[error("layer type {0:?}: an EROFS layer is plain or +zstd; publish it as one of the two")]
    ErofsSuffix(String),
    /// Anything else.
    #[error("layer type {0:?} is not one of the layer types of OCI, Docker or EROFS that are unpacked here")]
    Unknown(String),
}

/// What `media_type` declares.
pub(super) fn parse(media_type: &str) -> Result<Media, Unsupported> {
    if media_type.ends_with("+encrypted") {
        return Err(Unsupported::Encrypted(media_type.to_owned()));
    }
    if let Some(suffix) = media_type.strip_prefix(EROFS) {
        return native(media_type, suffix);
    }
    if media_type.ends_with(OLD_EROFS) {
        return Ok(erofs(media_type, Compression::None));
    }
    let compression = tar_compression(media_type)?;
    Ok(Media { content: Content::Tar, compression, decompressed: OCI_TAR.to_owned() })
}

/// An EROFS type of containerd 2.3 with what follows its base.
fn native(media_type: &str, suffix: &str) -> Result<Media, Unsupported> {
    match suffix {
        "" => Ok(erofs(EROFS, Compression::None)),
        "+zstd" => Ok(erofs(EROFS, Compression::Zstd)),
        suffix if suffix.starts_with('+') => Err(Unsupported::ErofsSuffix(media_type.to_owned())),
        _ => Err(Unsupported::Unknown(media_type.to_owned())),
    }
}

fn erofs(decompressed: &str, compression: Compression) -> Media {
    let (content, compression) = (Content::Erofs, Declared::As(compression));
    Media { content, compression, decompressed: decompressed.to_owned() }
}

fn tar_compression(media_type: &str) -> Result<Declared, Unsupported> {
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
            Self::None => "not compressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(compression: Declared) -> Media {
        Media { content: Content::Tar, compression, decompressed: OCI_TAR.to_owned() }
    }

    #[test]
    fn types_name_their_compression() {
        let oci = |suffix: &str| parse(&format!("{OCI_TAR}{suffix}"));
        assert_eq!(oci(""), Ok(tar(Declared::As(Compression::None))));
        assert_eq!(oci("+gzip"), Ok(tar(Declared::As(Compression::Gzip))));
        assert_eq!(oci("+zstd"), Ok(tar(Declared::As(Compression::Zstd))));
        assert_eq!(parse("application/vnd.docker.image.rootfs.diff.tar"), Ok(tar(Declared::Unclear)));
    }

    #[test]
    fn erofs_types_keep_their_name_without_the_compression() {
        let base = "application/vnd.erofs.layer.v1";
        let old = "application/vnd.example.image.layer.v1.erofs";
        for (media_type, compression, decompressed) in [
            (base, Compression::None, base),
            ("application/vnd.erofs.layer.v1+zstd", Compression::Zstd, base),
            (old, Compression::None, old),
        ] {
            let expected = Media {
                content: Content::Erofs,
                compression: Declared::As(compression),
                decompressed: decompressed.to_owned(),
            };
            assert_eq!(parse(media_type), Ok(expected));
        }
        let gzip = format!("{base}+gzip");
        assert_eq!(parse(&gzip), Err(Unsupported::ErofsSuffix(gzip.clone())));
    }

    #[test]
    fn other_types_are_refused_by_name() {
        let encrypted = format!("{OCI_TAR}+gzip+encrypted");
        assert_eq!(parse(&encrypted), Err(Unsupported::Encrypted(encrypted.clone())));
        for unknown in [
            "",
            "application/json",
            "application/vnd.oci.image.layer.v1.tar+lz4",
            "application/vnd.erofs.layer.v10",
            "application/vnd.erofs.layer.v2",
        ] {
            assert_eq!(parse(unknown), Err(Unsupported::Unknown(unknown.to_owned())));
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
