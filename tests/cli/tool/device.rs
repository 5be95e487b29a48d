//! `nexuserofs device`.

use std::fs;

use nexuserofs::expose::device::check;

use super::super::daemon::Place;
use super::{DATA, USAGE, lines, refused, tar, text};

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
    let blank = device("a b");
    let blank: Vec<&str> = blank.iter().map(String::as_str).collect();
    refused(&[&blank[..], &["--layout=partitions", &one]].concat(), USAGE, "has a blank; move the directory");
    lines(&[&blank[..], &["--layout=partitions", "--flat", &one]].concat());
}
