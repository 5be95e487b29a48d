//! `nexuserofs-guest` given what Kata's agent is given: it takes the plans that the rules take.

use nexuserofs_guest::approve;
use nexuserofs_guest::descriptor::{Descriptor, from_storages};
use nexuserofs_guest::manifest::UnixTime;
use nexuserofs_guest::policy::{Policy, Rule, UpperKind};
use serde_json::Value;

use crate::host::Image;
use crate::kata;

/// What the guest makes of these storages for an image: nothing, or why it refuses them.
fn refusal(image: &Image, storages: Vec<Value>) -> Option<&'static str> {
    let manifest = image.manifest();
    let policy = Policy {
        uppers: [UpperKind::Tmpfs, UpperKind::Device].into(),
        ..Policy::new(Rule::Exact([manifest.image_hash()].into()))
    };
    let assembly = from_storages(Value::from(storages).to_string().as_bytes()).unwrap();
    let descriptor = Descriptor { signed: manifest.into(), assembly };
    approve(&descriptor, &policy, UnixTime(0)).err().map(|refusal| refusal.reason())
}

#[test]
fn plans_of_every_profile_that_kata_reads_are_taken_with_any_number_of_layers() {
    for layers in [1, 2, 3, 9] {
        let image = Image::of(layers);
        for plan in [image.plan(), image.plan_with_block(), image.unchecked_plan()] {
            assert_eq!(refusal(&image, kata::storages(&plan)), None, "{layers} layers: {plan:?}");
        }
    }
}

#[test]
fn a_plan_that_was_filled_up_is_not_one_of_a_longer_image() {
    let (one, two) = (Image::of(1), Image::of(2));
    assert_eq!(refusal(&two, kata::storages(&one.plan())), Some("parameters_differ"));
    assert_eq!(refusal(&one, kata::storages(&two.plan())), Some("parameters_differ"));
    assert_eq!(refusal(&one, kata::storages(&Image::of(3).plan())), Some("layer_count"));
}
