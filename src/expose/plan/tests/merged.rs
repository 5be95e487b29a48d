//! Plans of layers that are merged.

use super::*;
use crate::layer::chain::ChainLayer;

/// A chain of `count` layers, merged.
fn merged(count: usize) -> Lower {
    let lower = chain(count);
    let layers: Vec<_> =
        lower.layers.iter().rev().map(|key| ChainLayer { key: key.clone(), bytes: 4096 }).collect();
    Lower { merged: Some(ChainKey::of(&layers)), ..lower }
}

fn mounted() -> Lower {
    Lower { flavour: Flavour::Host { names: vec!["b000".parse().unwrap()] }, ..merged(3) }
}

fn shifted(lower: Lower) -> Lower {
    let mapping = IdMapping { uids: "0:1000:10".parse().unwrap(), gids: "0:2000:10".parse().unwrap() };
    Lower { mapping: Some(mapping), ..lower }
}

/// The entry of a merged chain of two layers: layer 1 is the older one, and the first device.
fn entry() -> String {
    let key = merged(2).merged.unwrap();
    let layer = |number: u8| format!("/r/layers/v1-{}/layer.erofs", format!("{number:02x}").repeat(16));
    format!("erofs /r/chains/{key}/fsmeta.erofs [ro, loop, device={}, device={}]", layer(1), layer(0))
}

#[test]
fn a_view_is_one_image_and_a_bind() {
    assert_eq!(
        text(&view(&merged(2), PLACES)),
        format!("{}\nformat/bind {{{{ mount 0 }}}} [ro, rbind]", entry())
    );
    assert_eq!(text(&view(&mounted(), PLACES)), "bind /r/mnt/b000 [ro, rbind]");
}

#[test]
fn an_active_has_one_lower_directory() {
    assert_eq!(
        text(&active(&merged(2), Writable::Directory, PLACES)),
        format!(
            "{}\nformat/overlay overlay [workdir=/r/snapshots/1f/work, upperdir=/r/snapshots/1f/fs, \
             lowerdir={{{{ mount 0 }}}}, index=off, volatile]",
            entry()
        )
    );
    let block = active(&merged(2), Writable::Block, PLACES);
    assert_eq!(block.len(), 3);
    assert_eq!(text(&block[1..2]), entry());
    assert!(block[2].options.contains(&"lowerdir={{ mount 1 }}".to_owned()), "{block:?}");
    assert_eq!(
        text(&active(&mounted(), Writable::Directory, PLACES)),
        "overlay overlay [workdir=/r/snapshots/1f/work, upperdir=/r/snapshots/1f/fs, lowerdir=/r/mnt/b000, \
         index=off, volatile]"
    );
}

#[test]
fn a_view_for_a_user_namespace_is_the_image_on_itself() {
    let plan = view(&shifted(merged(2)), PLACES);
    assert_eq!(text(&plan[..2]), [entry(), entry()].join("\n"));
    assert_eq!(
        text(&plan[2..]),
        "format/overlay overlay [uidmap=0:1000:10, gidmap=0:2000:10, lowerdir={{ overlay 0 1 }}, index=off]"
    );
    assert_eq!(text(&view(&shifted(mounted()), PLACES)), "bind /r/snapshots/1f/lower/0 [ro, rbind]");
}

#[test]
fn a_record_without_a_chain_is_what_it_was() {
    let text = serde_json::to_string(&chain(2)).unwrap();
    assert!(!text.contains("merged"), "{text}");
    let lower = merged(2);
    assert_eq!(serde_json::from_str::<Lower>(&serde_json::to_string(&lower).unwrap()).unwrap(), lower);
}

#[test]
fn paths_longer_than_a_mount_option_do_not_fit() {
    let lower = merged(2);
    let fit = |root: usize| {
        let layers = format!("/{}", "r".repeat(root));
        let places = Places { layers: &layers, ..PLACES };
        places.fit_options(lower.merged.as_ref().unwrap(), &lower.layers)
    };
    // A slash, the root, a slash, the key, a slash and the name.
    let longest = 255 - 1 - 1 - 35 - 1 - "layer.erofs".len();
    assert!(fit(longest) && !fit(longest + 1));
}
