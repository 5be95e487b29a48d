//! The kinds of layer that are written, and the compression of each.

use std::io::{self, Write};

use flate2::{Compression as Level, GzBuilder, write::GzEncoder};

use super::error::Error;
use crate::diff::media::OCI_TAR;

/// What gzip and zstd are told to do: their own defaults, written down because they decide about bytes.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// The operating system in a gzip header: unknown (RFC 1952, 2.3.1), whatever this one is.
const GZIP_UNKNOWN_SYSTEM: u8 = 255;

/// A kind of layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Tar(Compression),
    /// An EROFS image.
    Erofs,
}

/// How a tar layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Formats by media type (`core/images/mediatypes.go` in containerd).
const FORMATS: [(&str, Format); 4] = [
    (OCI_TAR, Format::Tar(Compression::None)),
    ("application/vnd.oci.image.layer.v1.tar+gzip", Format::Tar(Compression::Gzip)),
    ("application/vnd.oci.image.layer.v1.tar+zstd", Format::Tar(Compression::Zstd)),
    ("application/vnd.erofs.layer.v1", Format::Erofs),
];

impl Format {
    /// The format of a media type, which is that of an OCI gzip layer if it is empty.
    pub(super) fn of(media_type: &str) -> Result<Self, Error> {
        if media_type.is_empty() {
            return Ok(Self::Tar(Compression::Gzip));
        }
        let known = FORMATS.iter().find(|(name, _)| *name == media_type);
        known.map(|(_, format)| *format).ok_or_else(|| Error::MediaType(media_type.to_owned()))
    }

    /// Its media type.
    pub(super) fn media_type(self) -> &'static str {
        FORMATS.iter().find(|(_, format)| *format == self).map_or(OCI_TAR, |(name, _)| name)
    }
}

/// Compresses what is written to it. The bytes are the same whenever and wherever it is done: there is
/// neither a time nor a name in them, and one thread makes them.
pub(super) enum Encoder<W: Write> {
    None(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::stream::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(compression: Compression, out: W) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(out),
            Compression::Gzip => {
                let header = GzBuilder::new().mtime(0).operating_system(GZIP_UNKNOWN_SYSTEM);
                Self::Gzip(header.write(out, Level::new(GZIP_LEVEL)))
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::Encoder::new(out, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Writes what is left and returns what was written to.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::None(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(out) => out.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn media_types_are_those_of_containerd() {
        assert_eq!(Format::of("").unwrap().media_type(), "application/vnd.oci.image.layer.v1.tar+gzip");
        for (name, format) in FORMATS {
            assert_eq!((Format::of(name).unwrap(), format.media_type()), (format, name));
        }
        for unknown in ["application/vnd.docker.image.rootfs.diff.tar.gzip", "application/json"] {
            assert!(matches!(Format::of(unknown), Err(Error::MediaType(name)) if name == unknown));
        }
    }

    #[test]
    fn what_is_compressed_is_there_again_and_gzip_tells_no_time() {
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let encode = |compression| {
            let mut encoder = Encoder::new(compression, Vec::new()).unwrap();
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap()
        };
        assert!(encode(Compression::None) == bytes);
        let gzip = encode(Compression::Gzip);
        assert_eq!(gzip[..4], [0x1f, 0x8b, 8, 0], "no flags, so no name");
        assert_eq!(gzip[4..8], [0; 4], "no time");
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(gzip.as_slice()).read_to_end(&mut plain).unwrap();
        assert!(plain == bytes);
        assert!(zstd::stream::decode_all(encode(Compression::Zstd).as_slice()).unwrap() == bytes);
    }
}
