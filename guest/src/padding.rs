//! Layers that hold nothing, under those that a manifest lists.
//!
//! Runtimes decide by counting layers, and Kata leaves an image of one unchecked, in silence. So containerd is given plans
//! that are filled up with layers that hold nothing (`docs/decisions/empty-layers.md`), and a host that follows them gives
//! the guest more layers than the manifest lists. The guest takes these and no others: as many as such a plan has, under all
//! that is listed, where they hide nothing, and with the one table that the layout gives them.

use crate::manifest::{Layer, LayoutVersion};

/// So many layers has a plan that was filled up (`Padding::of_checked` in `src/expose/plan/padding.rs`).
const FULL: usize = 2;

/// What lies under the `listed` layers of a manifest if the host gives `given` of them: nothing if these are as many. None
/// if no plan has so many.
pub(crate) fn under(layout: LayoutVersion, listed: usize, given: usize) -> Option<Vec<&'static Layer>> {
    match given.checked_sub(listed)? {
        0 => Some(Vec::new()),
        lacking if given == FULL => Some(vec![layout.empty_layer()?; lacking]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_layer_is_filled_up_to_two_and_nothing_else_is() {
        let found = |listed, given| under(LayoutVersion::V1, listed, given).map(|layers| layers.len());
        assert_eq!((found(1, 1), found(2, 2), found(500, 500)), (Some(0), Some(0), Some(0)));
        assert_eq!(found(1, 2), Some(1));
        for (listed, given) in [(1, 0), (1, 3), (1, 4), (2, 1), (2, 3), (2, 4), (3, 2), (3, 4), (499, 500)] {
            assert_eq!(found(listed, given), None, "{given} for {listed}");
        }
    }
}
