//! The text of a descriptor, both ways.

use std::fmt;

use super::path::{ExtentPath, InvalidPath};
use crate::image::extent::SECTOR;

/// Longest text that QEMU reads to its end, in bytes.
const LONGEST: usize = (1 << 20) - 1;

/// Most sectors that a disk can have: as many bytes as a signed 64-bit number counts.
const MOST_SECTORS: u64 = i64::MAX as u64 / SECTOR;

/// `CID` values that mean something of their own: a disk without parent, and one that nobody wrote to yet.
const RESERVED_CIDS: u32 = 0xffff_fffe;

const HEADS: u64 = 16;
const SECTORS_PER_TRACK: u64 = 63;

const BEGINNING: &str = "# Disk DescriptorFile\nversion=1\nCID=";
const TYPE: &str = "\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n\n# Extent description\n";
const DATABASE: &str =
    "\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"";
const END: &str =
    "\"\nddb.geometry.heads = \"16\"\nddb.geometry.sectors = \"63\"\nddb.adapterType = \"ide\"\n";

/// A disk as the files that it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    extents: Vec<Extent>,
}

/// A file from its beginning on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The file.
    pub path: ExtentPath,
    /// How much of it belongs to the disk, in sectors of 512 bytes.
    pub sectors: u64,
}

/// Why files make no disk.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A path that a descriptor cannot name.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// No file, or nothing of one.
    #[error("a VMDK disk needs at least one file, and something of each")]
    Empty,
    /// More sectors than a disk can have.
    #[error("a VMDK disk has at most {MOST_SECTORS} sectors")]
    TooLarge,
    /// The text is longer than QEMU reads.
    #[error(
        "a VMDK descriptor of {bytes} bytes is longer than the {LONGEST} that QEMU reads; use a flat file instead"
    )]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
}

/// Why a text is not a descriptor that this program writes.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// A line of the list is not `RW SECTORS FLAT "PATH" 0`.
    #[error("line {line} of the descriptor does not name a whole file: {text:?}")]
    Line {
        /// The line's number, counted from 1.
        line: usize,
        /// What it says.
        text: String,
    },
    /// The files make no disk.
    #[error(transparent)]
    Disk(#[from] Error),
    /// What stands around the list is not what it has to be.
    #[error("the descriptor was not written by this program, or was changed since")]
    Foreign,
}

impl Descriptor {
    /// The disk of these files, one behind the other.
    ///
    /// # Errors
    /// If there is no file, nothing of one, or more than a disk or a descriptor can hold.
    pub fn new(extents: Vec<Extent>) -> Result<Self, Error> {
        if extents.is_empty() || extents.iter().any(|extent| extent.sectors == 0) {
            return Err(Error::Empty);
        }
        let total = extents.iter().try_fold(0_u64, |sum, extent| sum.checked_add(extent.sectors));
        total.filter(|total| *total <= MOST_SECTORS).ok_or(Error::TooLarge)?;
        let descriptor = Self { extents };
        let bytes = descriptor.to_string().len();
        if bytes > LONGEST { Err(Error::TooLong { bytes }) } else { Ok(descriptor) }
    }

    /// Reads a text that this type wrote.
    ///
    /// # Errors
    /// If the text is any other, however another reader would take it.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let list = text.split_once(TYPE).and_then(|(_, rest)| rest.split_once(DATABASE));
        let (list, _) = list.ok_or(ParseError::Foreign)?;
        // TYPE ends with the line before the list.
        let before =
            text.split_once(TYPE).map_or(0, |(head, _)| head.lines().count() + TYPE.lines().count() - 1);
        let mut extents = Vec::new();
        for (index, line) in list.lines().enumerate() {
            let foreign = || ParseError::Line { line: before + index + 1, text: line.to_owned() };
            extents.push(parse_line(line).ok_or_else(foreign)??);
        }
        let descriptor = Self::new(extents)?;
        // Checksum, geometry and order of all lines are functions of the list.
        if descriptor.to_string() == text { Ok(descriptor) } else { Err(ParseError::Foreign) }
    }

    /// The files, in their order on the disk.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Size of the disk in sectors of 512 bytes.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.extents.iter().map(|extent| extent.sectors).sum()
    }
}

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: String = self.extents.iter().map(|extent| format!("{extent}\n")).collect();
        // VMware's tools change this number with the content. Readers want any; a checksum is the same everywhere.
        let cid = crc32fast::hash(list.as_bytes()) % RESERVED_CIDS;
        let cylinders = self.sectors().div_ceil(HEADS * SECTORS_PER_TRACK);
        write!(f, "{BEGINNING}{cid:08x}{TYPE}{list}{DATABASE}{cylinders}{END}")
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RW {} FLAT \"{}\" 0", self.sectors, self.path)
    }
}

/// Reads a line of the list. None if it is not of the form; an error if its path is one that must not be there.
fn parse_line(line: &str) -> Option<Result<Extent, Error>> {
    let (sectors, path) = line.strip_prefix("RW ")?.split_once(" FLAT \"")?;
    let path = path.strip_suffix("\" 0")?;
    let sectors = sectors.parse().ok()?;
    Some(ExtentPath::new(path.as_bytes()).map(|path| Extent { path, sectors }).map_err(Error::Path))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn extent(path: &str, sectors: u64) -> Extent {
        Extent { path: ExtentPath::new(path.as_bytes()).unwrap(), sectors }
    }

    #[test]
    fn a_disk_is_written_like_this() {
        let descriptor =
            Descriptor::new(vec![extent("/a/fsmeta.erofs", 8), extent("/b/layer.erofs", 6_291_456)]);
        // python3 -c 'import zlib; print(hex(zlib.crc32(b"RW 8 FLAT \"/a/fsmeta.erofs\" 0\nRW 6291456 FLAT \"/b/layer.erofs\" 0\n") % 0xfffffffe))'
        let text = "\
# Disk DescriptorFile
version=1
CID=c44e19d9
parentCID=ffffffff
createType=\"twoGbMaxExtentFlat\"

# Extent description
RW 8 FLAT \"/a/fsmeta.erofs\" 0
RW 6291456 FLAT \"/b/layer.erofs\" 0

# The Disk Data Base
#DDB

ddb.virtualHWVersion = \"4\"
ddb.geometry.cylinders = \"6242\"
ddb.geometry.heads = \"16\"
ddb.geometry.sectors = \"63\"
ddb.adapterType = \"ide\"
";
        assert_eq!(descriptor.unwrap().to_string(), text);
    }

    #[test]
    fn disks_that_no_reader_takes_are_refused() {
        assert_eq!(Descriptor::new(vec![]), Err(Error::Empty));
        assert_eq!(Descriptor::new(vec![extent("/a", 1), extent("/b", 0)]), Err(Error::Empty));
        let half = MOST_SECTORS / 2 + 1;
        assert_eq!(Descriptor::new(vec![extent("/a", half), extent("/b", half)]), Err(Error::TooLarge));
        assert_eq!(Descriptor::new(vec![extent("/a", u64::MAX), extent("/b", 2)]), Err(Error::TooLarge));
        let path = format!("/{}", "a".repeat(500));
        let many = Descriptor::new(vec![extent(&path, 8); 2048]);
        assert!(matches!(many, Err(Error::TooLong { bytes }) if bytes > 1 << 20));
    }

    #[test]
    fn texts_of_others_are_refused() {
        let text = Descriptor::new(vec![extent("/a", 8), extent("/b", 16)]).unwrap().to_string();
        let foreign = |from: &str, to: &str| Descriptor::parse(&text.replacen(from, to, 1)).unwrap_err();
        for (from, to) in [
            ("RW 8", "RDONLY 8"),
            ("RW 8", "RW  8"),
            ("RW 8", "RW +8"),
            ("RW 8", "RW 18446744073709551616"),
            ("FLAT", "ZERO"),
            ("\"/a\" 0", "\"/a\" 8"),
            ("\"/a\" 0", "/a 0"),
        ] {
            let error = foreign(from, to);
            // A number that is written in another way is only found at the end.
            assert!(matches!(error, ParseError::Line { line: 8, .. } | ParseError::Foreign), "{to}: {error}");
        }
        assert!(matches!(foreign("\"/a\"", "\"/a b\""), ParseError::Disk(Error::Path(_))));
        assert_eq!(foreign("RW 8", "RW 0"), ParseError::Disk(Error::Empty));
        for (from, to) in [("RW 8", "RW 24"), ("CID=", "CID=0"), ("version=1", "version=2"), ("\n", "\r\n")] {
            assert_eq!(foreign(from, to), ParseError::Foreign, "{to}");
        }
        assert_eq!(Descriptor::parse(""), Err(ParseError::Foreign));
        assert_eq!(Descriptor::parse(&format!("{text}\n")), Err(ParseError::Foreign));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(files in vec(("/[a-z0-9._-]{1,20}x", 1..1_u64 << 40), 1..20)) {
            let extents = files.iter().map(|(path, sectors)| extent(path, *sectors)).collect();
            let descriptor = Descriptor::new(extents).unwrap();
            prop_assert_eq!(Descriptor::parse(&descriptor.to_string()), Ok(descriptor));
        }

        #[test]
        fn no_text_makes_the_parser_fail_otherwise(text in "\\PC*", noise in any::<String>()) {
            let _ = Descriptor::parse(&text);
            let _ = Descriptor::parse(&format!("{BEGINNING}00000000{TYPE}{noise}{DATABASE}{text}"));
        }
    }
}
