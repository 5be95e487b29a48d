//! How many layers a plan has to have, and what it is filled up with.

use serde::{Deserialize, Serialize};

/// Most layers that a plan may have whose consumer checks them: a disk with a partition for each has a
/// table of 128 entries (UEFI 5.3.2; kata-containers, `gpt_disk.rs`).
pub const MOST_CHECKED: usize = 128;

/// Fewest images that a plan has. Without any, Kata refuses the plan, and other consumers would have to be
/// given another kind of it.
const LEAST: usize = 1;

/// Fewest images in a plan that tells of dm-verity trees: Kata reads of them only where there are two or more
/// (kata-containers, `erofs_rootfs.rs`), and mounts a single one unchecked, in silence.
const LEAST_CHECKED: usize = 2;

/// Layers that hold nothing and lie under all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Padding {
    /// How many.
    pub layers: u8,
    /// Whether the plan tells of their dm-verity trees.
    pub verity: bool,
}

impl Padding {
    /// Nothing lies under the layers.
    pub const NONE: Self = Self { layers: 0, verity: false };

    /// Whether nothing lies under the layers.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.layers == 0
    }

    /// What a plan with so many images lacks.
    #[must_use]
    pub fn of_unchecked(images: usize) -> Self {
        Self { layers: lacking(LEAST, images), verity: false }
    }

    /// What a plan with so many images lacks that tells of their dm-verity trees.
    #[must_use]
    pub fn of_checked(images: usize) -> Self {
        match lacking(LEAST_CHECKED, images) {
            0 => Self::NONE,
            layers => Self { layers, verity: true },
        }
    }
}

fn lacking(least: usize, images: usize) -> u8 {
    u8::try_from(least.saturating_sub(images)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_filled_up_and_never_beyond() {
        assert_eq!(Padding::of_unchecked(0), Padding { layers: 1, verity: false });
        assert_eq!(Padding::of_checked(0), Padding { layers: 2, verity: true });
        assert_eq!(Padding::of_checked(1), Padding { layers: 1, verity: true });
        let enough = [Padding::of_unchecked(1), Padding::of_unchecked(9), Padding::of_checked(2)];
        assert!(enough.iter().all(Padding::is_none));
    }
}
