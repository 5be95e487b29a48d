//! `kata-config/policy.rego` with the rules of an image behind it, put together as `docs/kata.md` says.

use serde_json::{Value, json};

use crate::answer;
use crate::host::Image;
use crate::kata::{request, storages};

/// The policy of a pod whose containers are of this image.
fn policy(image: &Image) -> String {
    let frame =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/kata-config/policy.rego")).unwrap();
    let rules = image.rules();
    let kept = rules.lines().filter(|line| !line.starts_with("package ") && !line.starts_with("import "));
    frame + &kept.map(|line| format!("{line}\n")).collect::<String>()
}

#[test]
fn the_frame_allows_the_image_and_denies_what_it_does_not_name() {
    let image = Image::of(2);
    let policy = policy(&image);
    let allowed = |endpoint: &str, input: &Value| answer(&[&policy], endpoint, input);
    let mut storages = storages(&image.plan());
    assert_eq!(allowed("CreateContainerRequest", &request(storages.clone())), Some(true));
    storages.pop();
    assert_eq!(allowed("CreateContainerRequest", &request(storages)), Some(false));
    assert_eq!(allowed("StartContainerRequest", &json!({})), Some(true));
    for denied in ["ExecProcessRequest", "SetPolicyRequest", "CopyFileRequest"] {
        assert_eq!(allowed(denied, &json!({})), Some(false), "{denied}");
    }
    // The agent refuses what a policy does not speak of.
    assert_eq!(allowed("AllowRequestsFailingPolicy", &json!({})), None);
    assert_eq!(allowed("PullImageRequest", &json!({})), None);
}
