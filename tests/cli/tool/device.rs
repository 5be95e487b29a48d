//! `nexuserofs device`.

use std::fs;

use nexuserofs::expose::device::check;
use nexuserofs::image::verity::Leaves;
use serde_json::Value;

use super::super::daemon::Place;
use super::{DATA, USAGE, lines, refused, tar, text, tool};

/// Files of layers, each with one file that is named like it.
fn layers(place: &Place, names: &[&str]) -> Vec<String> {
    let layer = |name: &&str| {
        let built = lines(&["build", "--output", &place.arg("layers"), &tar(place, name)]);
        text(&built[0], "file")
    };
    names.iter().map(layer).collect()
}

#[test]
fn a_device_is_made_in_every_form_and_made_once() {
    let place = Place::new();
    let layers = layers(&place, &["one", "two", "three"]);
    let files: Vec<&str> = layers.iter().map(String::as_str).collect();
    let output = place.arg("device");
    let whole: u64 = layers.iter().map(|layer| fs::metadata(layer).unwrap().len()).sum();
    for (options, name, format) in [
        (&[][..], "merged.vmdk", "vmdk"),
        (&["--flat"], "merged.img", "raw"),
        (&["--layout=partitions"], "layers.vmdk", "vmdk"),
        (&["--layout=partitions", "--flat"], "layers.img", "raw"),
        (&["--layout=nerdbox-partitions"], "layers-nerdbox.vmdk", "vmdk"),
        (&["--layout=nerdbox-partitions", "--flat"], "layers-nerdbox.img", "raw"),
    ] {
        let arguments = [&["device", "--output", &output], options, &files].concat();
        let made = lines(&arguments);
        assert_eq!((text(&made[0], "format").as_str(), &made[0]["layers"]), (format, &3.into()), "{name}");
        let (file, bytes) = (text(&made[0], "file"), made[0]["bytes"].as_u64().unwrap());
        assert!(file.ends_with(&format!("/device/{name}")) && bytes > whole, "{file} {bytes}");
        match format {
            "raw" => assert_eq!(fs::metadata(&file).unwrap().len(), bytes),
            _ => assert_eq!(check(file.as_ref()).unwrap().sectors() * 512, bytes),
        }
        assert_eq!(lines(&arguments), made);
    }
}

#[test]
fn a_verified_device_is_what_the_manifest_lists() {
    let place = Place::new();
    let tars = ["one", "two", "three"].map(|name| tar(&place, name));
    let tars: Vec<&str> = tars.iter().map(String::as_str).collect();
    let built = lines(&[&["build", "--verity", "--output", &place.arg("layers")], &tars[..]].concat());
    let layers: Vec<String> = built.iter().map(|layer| text(layer, "file")).collect();
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    let device = |options: &[&str]| {
        let device = ["device", "--output", &place.arg("device"), "--layout=verified"];
        let made = lines(&[&device, options, &layers].concat()).remove(0);
        (text(&made, "file"), made["bytes"].as_u64().unwrap(), text(&made, "root_hash"))
    };
    let ((flat, bytes, root), (vmdk, same, same_root)) = (device(&["--flat"]), device(&[]));
    assert_eq!(root, same_root);
    assert!(flat.ends_with("/verified.img") && vmdk.ends_with("/verified.vmdk"));
    assert_eq!((check(vmdk.as_ref()).unwrap().sectors() * 512, same), (bytes, bytes));

    let compute = ["manifest", "compute", "--merged", "--platform", "linux/amd64"];
    let manifest = |tars: &[&str]| -> Value {
        let output = tool(&[&compute, tars].concat());
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let listed = manifest(&tars);
    let merged = &listed["manifest"]["merged"];
    assert_eq!(merged["size"], bytes);
    // The root is that of all the bytes before the tree, whoever wrote them.
    let blocks = merged["verity"]["data_blocks"].as_u64().unwrap();
    let device = fs::read(flat).unwrap();
    let mut data = &device[..blocks as usize * 4096];
    let tree = Leaves::of(&mut data).unwrap().into_tree(blocks).unwrap();
    assert_eq!(merged["verity"]["root_digest"], tree.root().to_string());
    assert_eq!(root, tree.root().to_string());
    let single = manifest(&tars[..1]);
    assert!(single["manifest"].get("merged").is_none(), "{single}");
}

#[test]
fn what_makes_no_device_is_refused_with_the_way_out() {
    let place = Place::new();
    let one = layers(&place, &["one"]).remove(0);
    let other = place.arg("other");
    fs::write(&other, vec![1; 8192]).unwrap();
    let device = |output: &str| ["device".to_owned(), "--output".to_owned(), place.arg(output)];
    let output = device("out");
    let output: Vec<&str> = output.iter().map(String::as_str).collect();
    refused(&output, USAGE, "LAYER");
    refused(&[&output[..], &[&place.arg("missing")]].concat(), 70, "cannot read");
    refused(&[&output[..], &[&one, &other]].concat(), DATA, "cannot merge the layers");
    let two = layers(&place, &["two"]).remove(0);
    refused(&[&output[..], &["--layout=verified", &one, &two]].concat(), 70, "erofs.dmverity");
    refused(&[&output[..], &["--layout=verified", &one]].concat(), USAGE, "a single layer");
    let blank = device("a b");
    let blank: Vec<&str> = blank.iter().map(String::as_str).collect();
    refused(&[&blank[..], &["--layout=partitions", &one]].concat(), USAGE, "has a blank; move the directory");
    lines(&[&blank[..], &["--layout=partitions", "--flat", &one]].concat());
}
