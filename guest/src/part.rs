//! The parts of an image that have a device of their own.

use std::fmt;

/// What a device holds. Printed as people count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A layer that holds nothing and lies under all that the manifest lists, counted from 0, the lowest.
    Empty(usize),
    /// One layer of the manifest, counted from 0, the oldest.
    Layer(usize),
    /// The whole image: merged metadata with all layers behind it.
    Merged,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty(index) => write!(f, "empty layer {index}"),
            Self::Layer(index) => write!(f, "layer {index}"),
            Self::Merged => f.write_str("the merged image"),
        }
    }
}
