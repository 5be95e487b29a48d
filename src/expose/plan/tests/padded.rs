//! Plans with layers that hold nothing, and plans that nothing joins.

use super::manager::{Outcome, activate};
use super::*;

fn padded(count: usize, padding: Padding) -> Lower {
    Lower { padding, ..chain(count) }
}

fn raw(count: usize) -> Lower {
    Lower { flavour: Flavour::Raw, ..padded(count, Padding::of_unchecked(count)) }
}

/// The entry of the layer with this number that holds nothing.
fn nothing(number: u8, options: &str) -> String {
    format!("erofs /r/empty/empty1-{number}/layer.erofs [ro, loop{options}]")
}

/// What tells of such a layer's tree.
fn tree(number: u8) -> String {
    format!(", X-containerd.dmverity=/r/empty/empty1-{number}/layer.erofs.dmverity")
}

#[test]
fn an_image_without_layers_has_one_that_holds_nothing() {
    let lower = padded(0, Padding::of_unchecked(0));
    assert_eq!(text(&view(&lower, PLACES)), nothing(0, ""));
    assert_eq!(
        text(&active(&lower, Writable::Block, PLACES)),
        [
            "ext4 /r/snapshots/1f/rwlayer.img [rw, loop]",
            &nothing(0, ""),
            "format/overlay overlay [workdir={{ mount 0 }}/work, upperdir={{ mount 0 }}/upper, \
             lowerdir={{ mount 1 }}, index=off, volatile]",
        ]
        .join("\n")
    );
}

#[test]
fn what_checks_layers_gets_two_and_the_parameters_of_both() {
    let lower = chain(1);
    let lower =
        Lower { verity: lower.layers.iter().cloned().collect(), padding: Padding::of_checked(1), ..lower };
    let plan = active(&lower, Writable::Directory, PLACES);
    assert!(plan[0].options[2].starts_with("X-containerd.dmverity=/r/layers/"), "{plan:?}");
    assert_eq!(text(&plan[1..2]), nothing(0, &tree(0)));
    assert!(plan[2].options.contains(&"lowerdir={{ overlay 0 1 }}".to_owned()), "{plan:?}");
    let none = view(&padded(0, Padding::of_checked(0)), PLACES);
    assert_eq!(text(&none[..2]), [nothing(0, &tree(0)), nothing(1, &tree(1))].join("\n"));
    assert_eq!(text(&none[2..]), "format/overlay overlay [lowerdir={{ overlay 0 1 }}, index=off]");
}

#[test]
fn a_raw_plan_lists_images_and_block_and_joins_nothing() {
    assert_eq!(text(&view(&raw(2), PLACES)), [LAYER_0, LAYER_1].join("\n"));
    assert_eq!(text(&view(&raw(0), PLACES)), nothing(0, ""));
    let block = "ext4 /r/snapshots/1f/rwlayer.img [rw, loop]";
    assert_eq!(text(&active(&raw(2), Writable::Block, PLACES)), [LAYER_0, LAYER_1, block].join("\n"));
    assert_eq!(text(&active(&raw(0), Writable::Block, PLACES)), [&nothing(0, ""), block].join("\n"));
    assert_eq!(text(&active(&raw(1), Writable::Directory, PLACES)), LAYER_0);
}

#[test]
fn a_layer_is_extracted_over_the_same_plan_in_the_raw_flavour() {
    for count in 0..3 {
        let raw = Lower { padding: Padding::NONE, ..raw(count) };
        let plan = |lower: &Lower| active(lower, Writable::Extraction, PLACES);
        assert_eq!(plan(&raw), plan(&chain(count)));
    }
}

#[test]
fn the_manager_takes_them_all() {
    let lowers = [
        padded(0, Padding::of_unchecked(0)),
        padded(0, Padding::of_checked(0)),
        padded(1, Padding::of_checked(1)),
        raw(0),
        raw(1),
        raw(3),
    ];
    for lower in &lowers {
        let plans = [
            view(lower, PLACES),
            active(lower, Writable::Directory, PLACES),
            active(lower, Writable::Block, PLACES),
        ];
        for plan in plans {
            for allowed in [&[][..], &["mkdir/*", "format/*", "erofs"][..]] {
                let outcome = activate(&plan, allowed);
                assert!(
                    matches!(outcome, Outcome::Activated(_) | Outcome::NotImplemented),
                    "{plan:?}: {outcome:?}"
                );
            }
        }
    }
}

#[test]
fn a_record_without_padding_is_what_it_was() {
    let text = serde_json::to_string(&chain(0)).unwrap();
    assert!(!text.contains("padding"), "{text}");
    assert_eq!(text_of_an_empty_directory(&text), "bind /r/snapshots/1f/fs [rw, rbind]");
    let lower = padded(0, Padding::of_checked(0));
    assert_eq!(serde_json::from_str::<Lower>(&serde_json::to_string(&lower).unwrap()).unwrap(), lower);
}

/// The plan of a record that a release without padding wrote.
fn text_of_an_empty_directory(record: &str) -> String {
    text(&active(&serde_json::from_str(record).unwrap(), Writable::Directory, PLACES))
}
