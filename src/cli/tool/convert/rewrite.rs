//! Documents that name other layers than they did. Whatever else they say stays.

use serde_json::{Value, json};

use super::layer::Native;
use crate::cli::tool::oci::{Descriptor, INDEX_TYPE, MANIFEST_TYPE, Platform};

/// What a system must be able to do to run an image of such layers (`os.features`), as containerd 2.3 has it.
const FEATURE: &str = "erofs";

/// Whether an image tells what it takes to run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Features {
    /// Only clients that ask for such images are given it.
    Told,
    /// It looks like any other image.
    Untold,
}

/// The configuration of an image with these layers.
pub(super) fn configuration(mut value: Value, layers: &[Native], features: Features) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
    value["rootfs"]["diff_ids"] = json!(diff_ids);
    if features == Features::Told {
        let known = value.get("os.features").cloned().unwrap_or_default();
        let mut known: Vec<String> = serde_json::from_value(known).unwrap_or_default();
        require(&mut known);
        value["os.features"] = json!(known);
    }
    value
}

/// The manifest of an image with these layers. Docker's type becomes that of the image specification, which
/// allows layers of any type.
pub(super) fn manifest(mut value: Value, config: &Descriptor, layers: &[Native]) -> Value {
    let layers: Vec<_> = layers.iter().map(|layer| &layer.blob).collect();
    value["mediaType"] = json!(MANIFEST_TYPE);
    value["config"] = json!(config);
    value["layers"] = json!(layers);
    value
}

/// An index of these manifests.
pub(super) fn index(mut value: Value, manifests: &[Descriptor]) -> Value {
    value["mediaType"] = json!(INDEX_TYPE);
    value["manifests"] = json!(manifests);
    value
}

/// The platform of an image with such layers.
pub(super) fn platform(mut platform: Platform, features: Features) -> Platform {
    if features == Features::Told {
        require(&mut platform.os_features);
    }
    platform
}

fn require(features: &mut Vec<String>) {
    if !features.iter().any(|feature| feature == FEATURE) {
        features.push(FEATURE.to_owned());
        // containerd compares them in order (`platforms.Only`).
        features.sort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;

    fn layer() -> Native {
        let diff_id = Digest::of(b"image");
        Native { blob: Descriptor::new("application/vnd.erofs.layer.v1", diff_id, 5), diff_id }
    }

    #[test]
    fn what_a_configuration_says_besides_its_layers_stays() {
        let before = json!({
            "os": "linux", "os.features": ["other"], "config": { "Healthcheck": { "Test": ["NONE"] } },
            "history": [{ "created_by": "x" }], "rootfs": { "type": "layers", "diff_ids": ["sha256:0"] },
        });
        let mut expected = before.clone();
        expected["rootfs"]["diff_ids"] = json!([Digest::of(b"image")]);
        let untold = configuration(before.clone(), &[layer()], Features::Untold);
        assert_eq!(untold, expected);
        expected["os.features"] = json!(["erofs", "other"]);
        let after = configuration(before, &[layer()], Features::Told);
        assert_eq!(after, expected);
        let again = configuration(after, &[layer()], Features::Told);
        assert_eq!(again, expected, "a second time changes nothing");
    }

    #[test]
    fn a_manifest_of_dockers_becomes_one_of_the_specification() {
        let config = Descriptor::new("application/vnd.oci.image.config.v1+json", Digest::of(b"config"), 6);
        let before = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "annotations": { "a": "b" }, "config": {}, "layers": [],
        });
        let after = manifest(before, &config, &[layer()]);
        assert_eq!(after["mediaType"], MANIFEST_TYPE);
        assert_eq!(after["annotations"]["a"], "b");
        assert_eq!(after["config"]["digest"], json!(Digest::of(b"config")));
        assert_eq!(after["layers"][0]["size"], 5);
    }
}
