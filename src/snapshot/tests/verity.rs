//! Layers with dm-verity trees: their files, and the plans that tell of them.

use std::fs;
use std::io::Read as _;

use super::host::{DIR, Host, Layer};
use super::plan::upper_of;
use crate::config::VerityMode;
use crate::error::{Classify, Kind};
use crate::expose::mount::Mount;
use crate::image::erofs::Superblock;
use crate::layer::shelf::VERITY_NAME;
use crate::layer::{LayerRecord, Recipe, Verity};
use crate::snapshot::index::{Below, Change};
use crate::snapshot::{Error, Labels};

/// A host with one layer with a tree and one without, whose profile has this mode.
fn host(mode: VerityMode) -> Host {
    let host = Host::new();
    host.commit_layer(DIR, "with", None, &Layer::with_tree("a"));
    host.commit_layer(DIR, "both", Some("with"), &Layer::new("b"));
    with_mode(host, mode)
}

fn with_mode(host: Host, mode: VerityMode) -> Host {
    host.reconfigured(|settings| settings.profiles.get_mut(DIR).unwrap().verity = mode)
}

/// The files with parameters that a plan names, one for each EROFS entry.
fn verified(plan: &[Mount]) -> Vec<Option<&str>> {
    let layers = plan.iter().filter(|mount| mount.fstype == "erofs");
    let file = |mount: &Mount| -> Option<usize> {
        mount.options.iter().position(|option| option.starts_with("X-containerd.dmverity="))
    };
    layers
        .map(|mount| file(mount).and_then(|place| mount.options[place].split_once('=')).map(|(_, path)| path))
        .collect()
}

#[test]
fn the_parameters_lie_beside_the_layer_and_go_with_it() {
    let host = host(VerityMode::Auto);
    let layer = Layer::with_tree("a");
    let directory = host.path(&format!("layers/{}", layer.key()));
    let text = fs::read(directory.join(VERITY_NAME)).unwrap();
    assert_eq!(serde_json::from_slice::<Verity>(&text).unwrap(), layer.verity.unwrap());
    assert_eq!(fs::read(directory.join("layer.erofs")).unwrap(), layer.image);
    let without = host.path(&format!("layers/{}/{VERITY_NAME}", Layer::new("b").key()));
    assert!(!without.exists());
    host.snapshotter.remove(DIR, "both").unwrap();
    host.snapshotter.remove(DIR, "with").unwrap();
    host.assert_consistent();
    assert!(!directory.exists());
}

#[test]
fn plans_tell_of_trees_as_the_profile_says() {
    let host = host(VerityMode::Off);
    let plan = host.snapshotter.view(DIR, "off", Some("with"), Labels::new()).unwrap();
    assert_eq!(verified(&plan), [None]);

    let host = with_mode(host, VerityMode::Auto);
    let s = &host.snapshotter;
    let sidecar = host.path(&format!("layers/{}/{VERITY_NAME}", Layer::with_tree("a").key()));
    let sidecar = sidecar.to_str();
    let nothing = host.path("empty/empty1-0/layer.erofs.dmverity");
    let (nothing, root) = (nothing.to_str(), host.root.path().to_owned());
    assert_eq!(verified(&s.view(DIR, "v", Some("with"), Labels::new()).unwrap()), [sidecar, nothing]);
    assert_eq!(verified(&s.prepare(DIR, "p", Some("both"), Labels::new()).unwrap()), [None, sidecar]);

    let host = with_mode(host, VerityMode::Require);
    let s = &host.snapshotter;
    assert_eq!(verified(&s.view(DIR, "r", Some("with"), Labels::new()).unwrap()), [sidecar, nothing]);
    for refused in
        [s.view(DIR, "x", Some("both"), Labels::new()), s.prepare(DIR, "x", Some("both"), Labels::new())]
    {
        let error = refused.unwrap_err();
        assert!(matches!(&error, Error::NoVerity { layer } if layer.as_str() == Layer::new("b").key()));
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert!(error.to_string().contains("pull again"), "{error}");
    }
    let empty = s.prepare(DIR, "empty", None, Labels::new()).unwrap();
    let other = root.join("empty/empty1-1/layer.erofs.dmverity");
    assert_eq!(verified(&empty), [nothing, other.to_str()]);
    host.assert_consistent();
}

#[test]
fn a_chain_that_was_asked_for_is_told_anew_once_a_layer_is_another() {
    let host = host(VerityMode::Off);
    let ledger = &host.snapshotter.inner.ledger;
    let with_tree = || match ledger.read(|index| index.below(DIR, Some("both"))).unwrap() {
        Below::Chain(chain) => chain.verity.len(),
        Below::Unsealed(record) => panic!("{record:?}"),
    };
    assert_eq!((with_tree(), with_tree()), (1, 1));
    let layer = ledger.read(|index| index.layer(&Layer::with_tree("a").record().key).cloned()).unwrap();
    let without = LayerRecord { verity: None, ..LayerRecord::clone(&layer) };
    ledger.change(|_| Ok(vec![Change::UpdateLayer(without.into())])).unwrap();
    assert_eq!(with_tree(), 0);
}

#[test]
fn a_plan_stays_as_it_is_when_the_mode_changes() {
    let host = host(VerityMode::Auto);
    let plan = host.snapshotter.prepare(DIR, "p", Some("both"), Labels::new()).unwrap();
    let host = with_mode(host, VerityMode::Off);
    assert_eq!(host.snapshotter.mounts(DIR, "p").unwrap(), plan);
    let host = with_mode(host, VerityMode::Require);
    assert_eq!(host.snapshotter.mounts(DIR, "p").unwrap(), plan);
}

#[test]
fn parameters_that_are_lost_or_of_another_tree_are_written_again_by_the_next_start() {
    let layer = Layer::with_tree("a");
    let path = format!("layers/{}/{VERITY_NAME}", layer.key());
    let other = serde_json::to_vec(&Layer::with_tree("other").verity.unwrap()).unwrap();
    for damage in [None, Some(b"{".to_vec()), Some(other)] {
        let host = host(VerityMode::Auto);
        match damage {
            None => fs::remove_file(host.path(&path)).unwrap(),
            Some(text) => fs::write(host.path(&path), text).unwrap(),
        }
        assert_eq!(
            host.snapshotter.layer_of_blob(&layer.blob, &Recipe::Native),
            None,
            "its plan could not be mounted"
        );
        let host = host.restart();
        assert!(host.report.missing.is_empty(), "{:?}", host.report);
        let text = fs::read(host.path(&path)).unwrap();
        assert_eq!(serde_json::from_slice::<Verity>(&text).unwrap(), layer.verity.unwrap());
        assert!(host.snapshotter.layer_of_blob(&layer.blob, &Recipe::Native).is_some());
        host.assert_consistent();
    }
}

#[test]
fn a_record_survives_without_the_database() {
    let layer = Layer::with_tree("a");
    let host = host(VerityMode::Auto).restarted(|root| fs::remove_file(root.join("metadata.redb")).unwrap());
    let host = with_mode(host, VerityMode::Require);
    let plan = host.snapshotter.view(DIR, "v", Some("with"), Labels::new()).unwrap();
    assert!(verified(&plan)[0].unwrap().contains(&layer.key()));
}

#[test]
fn what_was_written_gets_a_tree_if_a_profile_wants_trees() {
    for (mode, has_tree) in [(VerityMode::Off, false), (VerityMode::Auto, true)] {
        let host = with_mode(Host::new(), mode);
        let s = &host.snapshotter;
        let plan = s.prepare(DIR, "k", None, Labels::new()).unwrap();
        fs::write(upper_of(&plan).join("file"), "content").unwrap();
        s.commit(DIR, "c", "k", None, Labels::new()).unwrap();
        let view = s.view(DIR, "v", Some("c"), Labels::new()).unwrap();
        let files = verified(&view);
        assert_eq!(files.len(), if has_tree { 2 } else { 1 }, "one is not enough for Kata");
        assert_eq!(files[0].is_some(), has_tree);
        let mut first = [0; 4096];
        fs::File::open(&view[0].source).unwrap().read_exact(&mut first).unwrap();
        let image = Superblock::parse(&first).unwrap().image_size();
        let size = fs::metadata(&view[0].source).unwrap().len();
        match files[0] {
            None => assert_eq!(size, image),
            Some(path) => {
                let verity: Verity = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
                assert_eq!((verity.image_size(), verity.geometry().file_size()), (image, size));
            }
        }
        host.assert_consistent();
    }
}
