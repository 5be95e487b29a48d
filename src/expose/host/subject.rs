//! What is mounted once for the node.

use std::fmt;
use std::str::FromStr;

use crate::layer::LayerKey;
use crate::layer::chain::ChainKey;
use crate::layer::chain::key::InvalidChainKey;

/// An image that the daemon mounts: of one layer, or of layers that are merged.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A layer.
    Layer(LayerKey),
    /// Merged layers.
    Chain(ChainKey),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(key) => key.fmt(f),
            Self::Chain(key) => key.fmt(f),
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Subject {
    type Err = InvalidChainKey;

    /// Keys of layers and of chains start with different letters.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Layer).or_else(|_| text.parse().map(Self::Chain))
    }
}
