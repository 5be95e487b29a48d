//! Two forms of a disk of layers.

/// Whose form a disk has. Partitions begin at multiples of 1 MiB in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// Kata Containers' (`src/libs/kata-types/src/gpt_disk.rs`): partitions are called `erofs-INDEX-sIDENTITY`, the
    /// disk ends with the last of them, and the header's alternate is the sector past the end.
    Kata,
    /// nerdbox's (`internal/erofs/gpt.go`): partitions are called `erofs-layer-INDEX`, the disk ends at a multiple of
    /// 1 MiB, and the header has 0 for its alternate.
    Nerdbox,
}

/// Bytes that the name of a partition has room for, in UTF-16 units.
pub(super) const NAME_UNITS: usize = 36;

impl Style {
    /// What the style is called, in names that disks are derived from. It can never change.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Kata => "kata",
            Self::Nerdbox => "nerdbox",
        }
    }

    /// The name of the partition with this index, counted from 0.
    pub(super) fn name(self, index: usize, identity: &str) -> String {
        match self {
            Self::Kata => cut(&format!("erofs-{index}-s{identity}")),
            Self::Nerdbox => format!("erofs-layer-{index}"),
        }
    }

    /// Whether the disk goes on to the next multiple of the alignment behind the last partition.
    pub(super) const fn ends_aligned(self) -> bool {
        matches!(self, Self::Nerdbox)
    }

    /// Where the header says that the other table is, for a disk of so many sectors. There is none.
    pub(super) const fn alternate(self, sectors: u64) -> u64 {
        match self {
            Self::Kata => sectors,
            Self::Nerdbox => 0,
        }
    }
}

/// As many characters from the start as a partition's name has room for.
fn cut(name: &str) -> String {
    let mut units = 0;
    let fits = |character: &char| {
        units += character.len_utf16();
        units <= NAME_UNITS
    };
    name.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_between_characters() {
        let key = "v1-0123456789abcdef0123456789abcdef";
        assert_eq!(Style::Kata.name(7, key), "erofs-7-sv1-0123456789abcdef01234567");
        assert_eq!(Style::Kata.name(0, "35"), "erofs-0-s35");
        // A musical clef takes two units.
        let name = Style::Kata.name(0, &"𝄞".repeat(40));
        assert_eq!(name.encode_utf16().count(), 35);
    }
}
