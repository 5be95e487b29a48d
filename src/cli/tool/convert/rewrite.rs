//! Documents that name other layers than they did. Whatever else they say stays.

use serde_json::{Value, json};

use super::layer::Native;
use crate::cli::tool::oci::{Descriptor, INDEX_TYPE, MANIFEST_TYPE, Platform};

/// What a system must be able to do to run an image of such layers (`os.features`), as containerd 2.3 has it.
const FEATURE: &str = "erofs";

/// The configuration of an image with these layers.
pub(super) fn configuration(mut value: Value, layers: &[Native]) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
    value["rootfs"]["diff_ids"] = json!(diff_ids);
    let mut features: Vec<String> = match value.get("os.features") {
        Some(features) => serde_json::from_value(features.clone()).unwrap_or_default(),
        None => Vec::new(),
    };
    require(&mut features);
    value["os.features"] = json!(features);
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
pub(super) fn platform(mut platform: Platform) -> Platform {
    require(&mut platform.os_features);
    platform
}

fn require(features: &mut Vec<String>) {
    if !features.iter().any(|feature| feature == FEATURE) {
        features.push(FEATURE.to_owned());
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
        expected["os.features"] = json!(["other", "erofs"]);
        let after = configuration(before, &[layer()]);
        assert_eq!(after, expected);
        assert_eq!(configuration(after, &[layer()]), expected, "a second time changes nothing");
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
