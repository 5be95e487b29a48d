mod exported;
mod host;
mod merged;
mod padded;

use super::*;
use crate::image::digest::Digest;

const PLACES: Places<'static> = Places {
    snapshot: "/r/snapshots/1f",
    layers: "/r/layers",
    chains: "/r/chains",
    empty: "/r/empty",
    mounts: "/r/mnt",
    exports: "/r/exports/1f",
};

/// A chain of `count` layers; layer 0 is the newest.
fn chain(count: usize) -> Lower {
    Lower {
        flavour: Flavour::Template,
        layers: (0..count).map(|i| LayerKey::new(1, &Digest::from_bytes([i as u8; 32]))).collect(),
        verity: BTreeSet::new(),
        overlay_options: strings(["index=off", "volatile"]),
        merged: None,
        padding: Padding::NONE,
        mapping: None,
    }
}

/// A plan as text, one entry a line: type, source, options.
fn text(mounts: &[Mount]) -> String {
    let line = |mount: &Mount| {
        assert_eq!(mount.target, "");
        format!("{} {} [{}]", mount.fstype, mount.source, mount.options.join(", "))
    };
    mounts.iter().map(line).collect::<Vec<_>>().join("\n")
}

const LAYER_0: &str = "erofs /r/layers/v1-00000000000000000000000000000000/layer.erofs [ro, loop]";
const LAYER_1: &str = "erofs /r/layers/v1-01010101010101010101010101010101/layer.erofs [ro, loop]";
const LAYER_2: &str = "erofs /r/layers/v1-02020202020202020202020202020202/layer.erofs [ro, loop]";

#[test]
fn views() {
    assert_eq!(text(&view(&chain(0), PLACES)), "bind /r/snapshots/1f/fs [ro, rbind]");
    assert_eq!(text(&view(&chain(1), PLACES)), LAYER_0);
    assert_eq!(
        text(&view(&chain(3), PLACES)),
        [LAYER_0, LAYER_1, LAYER_2, "format/overlay overlay [lowerdir={{ overlay 0 2 }}, index=off]"]
            .join("\n")
    );
}

#[test]
fn extractions() {
    assert_eq!(
        text(&active(&chain(0), Writable::Extraction, PLACES)),
        "overlay overlay [upperdir=/r/snapshots/1f/fs]"
    );
    assert_eq!(
        active(&chain(2), Writable::Extraction, PLACES),
        active(&chain(2), Writable::Directory, PLACES)
    );
}

#[test]
fn actives_in_a_directory() {
    let plan = |count| text(&active(&chain(count), Writable::Directory, PLACES));
    assert_eq!(plan(0), "bind /r/snapshots/1f/fs [rw, rbind]");
    assert_eq!(
        plan(1),
        [
            LAYER_0,
            "format/overlay overlay [workdir=/r/snapshots/1f/work, upperdir=/r/snapshots/1f/fs, \
             lowerdir={{ mount 0 }}, index=off, volatile]",
        ]
        .join("\n")
    );
    assert_eq!(
        plan(2),
        [
            LAYER_0,
            LAYER_1,
            "format/overlay overlay [workdir=/r/snapshots/1f/work, upperdir=/r/snapshots/1f/fs, \
             lowerdir={{ overlay 0 1 }}, index=off, volatile]",
        ]
        .join("\n")
    );
}

#[test]
fn actives_on_a_block() {
    let plan = |count| text(&active(&chain(count), Writable::Block, PLACES));
    let block = "ext4 /r/snapshots/1f/rwlayer.img [rw, loop]";
    assert_eq!(plan(0), [block, "format/bind {{ mount 0 }}/upper [rw, rbind]"].join("\n"));
    assert_eq!(
        plan(1),
        [
            block,
            LAYER_0,
            "format/overlay overlay [workdir={{ mount 0 }}/work, upperdir={{ mount 0 }}/upper, \
             lowerdir={{ mount 1 }}, index=off, volatile]",
        ]
        .join("\n")
    );
    assert_eq!(
        plan(3),
        [
            block,
            LAYER_0,
            LAYER_1,
            LAYER_2,
            "format/overlay overlay [workdir={{ mount 0 }}/work, upperdir={{ mount 0 }}/upper, \
             lowerdir={{ overlay 1 3 }}, index=off, volatile]",
        ]
        .join("\n")
    );
}

#[test]
fn a_view_drops_what_only_an_upper_directory_gives_a_meaning() {
    let mut lower = chain(2);
    lower.overlay_options = strings(["index=on", "metacopy=on", "fsync=volatile", "xino=off", "volatile"]);
    let plan = view(&lower, PLACES);
    assert_eq!(plan.last().unwrap().options[1..], ["metacopy=on", "xino=off"]);
    let plan = active(&lower, Writable::Directory, PLACES);
    assert_eq!(plan.last().unwrap().options[3..], lower.overlay_options);
}

/// What containerd 2.3.4's mount manager does with a plan, from the text of
/// `core/mount/manager/manager.go` (Activate) and `format.go`.
mod manager {
    use super::*;

    /// What is left for the caller to mount, and what the manager mounted as (source, mount point).
    #[derive(Debug, PartialEq)]
    pub(super) struct Activation {
        pub(super) active: Vec<Mount>,
        pub(super) system: Vec<Mount>,
    }

    /// What the manager answers, or how it dies.
    #[derive(Debug, PartialEq)]
    pub(super) enum Outcome {
        Activated(Activation),
        NotImplemented,
        Panic,
        Error(String),
    }

    /// The place where the manager mounts entry `index`.
    pub(super) fn mount_point(index: usize) -> String {
        format!("/t/{index}")
    }

    /// `allowed` are the types that the runtime asked to get unmounted and untransformed.
    pub(super) fn activate(mounts: &[Mount], allowed: &[&str]) -> Outcome {
        let mut first_system = None;
        let mut transformed = vec![false; mounts.len()];
        for (index, mount) in mounts.iter().enumerate() {
            let mut base = mount.fstype.as_str();
            while let Some((prefix, rest)) = base.split_once('/') {
                assert_eq!(prefix, "format", "the only transform in our plans");
                if !allowed.contains(&"format/*") && !allowed.contains(&mount.fstype.as_str()) {
                    first_system = Some(index);
                }
                transformed[index] = true;
                base = rest;
            }
            if base == "erofs" && !allowed.contains(&base) {
                first_system = Some(index + 1);
            }
        }
        let Some(first_system) = first_system else { return Outcome::NotImplemented };
        let mut active = Vec::new();
        for (index, mount) in mounts.iter().enumerate().take(first_system) {
            match transform(mount, transformed[index], active.len()) {
                Ok(mount) => active.push(mount),
                Err(error) => return Outcome::Error(error),
            }
        }
        let mut system = mounts[first_system..].to_vec();
        if transformed.contains(&true) {
            let Some(first) = system.first_mut() else { return Outcome::Panic };
            match transform(first, transformed[first_system], active.len()) {
                Ok(mount) => *first = mount,
                Err(error) => return Outcome::Error(error),
            }
        }
        Outcome::Activated(Activation { active, system })
    }

    fn transform(mount: &Mount, format: bool, active: usize) -> Result<Mount, String> {
        if !format {
            return Ok(mount.clone());
        }
        Ok(Mount {
            fstype: mount.fstype.trim_start_matches("format/").to_owned(),
            source: expand(&mount.source, active)?,
            target: expand(&mount.target, active)?,
            options: mount.options.iter().map(|option| expand(option, active)).collect::<Result<_, _>>()?,
        })
    }

    fn expand(text: &str, active: usize) -> Result<String, String> {
        let Some((before, rest)) = text.split_once("{{ ") else { return Ok(text.to_owned()) };
        let (call, after) = rest.split_once(" }}").ok_or("template is not closed")?;
        let words: Vec<&str> = call.split(' ').collect();
        let index = |word: &str| match word.parse::<usize>() {
            Ok(index) if index < active => Ok(index),
            _ => Err(format!("index out of bounds: {word}, has {active} active mounts")),
        };
        let value = match words[..] {
            ["mount", at] => mount_point(index(at)?),
            ["overlay", start, end] => {
                let (start, end) = (index(start)?, index(end)?);
                assert!(start < end, "we count upwards");
                (start..=end).map(mount_point).collect::<Vec<_>>().join(":")
            }
            _ => return Err(format!("unknown call {call}")),
        };
        Ok(format!("{before}{value}{}", expand(after, active)?))
    }
}

use manager::{Outcome, activate, mount_point};

/// Every plan that can be given out for up to 130 layers, with the index of its first layer.
fn all_plans() -> impl Iterator<Item = (String, usize, Vec<Mount>)> {
    (0..=130).flat_map(|count| {
        let lower = chain(count);
        let writable = |kind| (format!("{kind:?} on {count}"), active(&lower, kind, PLACES));
        let (extraction, directory, block) =
            (writable(Writable::Extraction), writable(Writable::Directory), writable(Writable::Block));
        [
            (format!("view of {count}"), 0, view(&lower, PLACES)),
            (extraction.0, 0, extraction.1),
            (directory.0, 0, directory.1),
            (block.0, 1, block.1),
        ]
    })
}

#[test]
fn the_model_of_the_manager_knows_its_traps() {
    let template = |fstype: &str, option: &str| Mount {
        fstype: fstype.to_owned(),
        options: vec![option.to_owned()],
        ..Mount::default()
    };
    let last_is_handled = [template("format/bind", ""), template("erofs", "")];
    assert_eq!(activate(&last_is_handled, &[]), Outcome::Panic);
    assert_eq!(activate(&[template("format/erofs", "")], &[]), Outcome::Panic);
    let out_of_range = [template("erofs", ""), template("format/overlay", "lowerdir={{ overlay 0 1 }}")];
    assert!(matches!(activate(&out_of_range, &[]), Outcome::Error(_)));
}

#[test]
fn no_plan_makes_the_manager_fail() {
    // The runtimes that take mounts raw ask for these.
    for allowed in [&[][..], &["mkdir/*", "format/*", "erofs"][..]] {
        for (name, _, plan) in all_plans() {
            let outcome = activate(&plan, allowed);
            assert!(
                matches!(outcome, Outcome::Activated(_) | Outcome::NotImplemented),
                "{name}: {outcome:?}"
            );
        }
    }
}

#[test]
fn the_manager_leaves_one_mount_without_templates_to_the_caller() {
    for (name, _, plan) in all_plans() {
        let system = match activate(&plan, &[]) {
            Outcome::Activated(activation) => activation.system,
            Outcome::NotImplemented => plan,
            outcome => panic!("{name}: {outcome:?}"),
        };
        assert!(system.len() <= 1, "{name}: {system:?}");
        for mount in &system {
            assert!(matches!(mount.fstype.as_str(), "overlay" | "bind"), "{name}: {system:?}");
            assert!(!format!("{mount:?}").contains("{{"), "{name}: {system:?}");
        }
    }
}

#[test]
fn overlays_get_every_layer_in_order_and_nothing_else() {
    for (name, first, plan) in all_plans() {
        let Outcome::Activated(activation) = activate(&plan, &[]) else { continue };
        let layers: Vec<String> = (first..activation.active.len()).map(mount_point).collect();
        for (index, mount) in activation.active.iter().enumerate() {
            assert_eq!(mount.fstype == "erofs", index >= first, "{name}");
        }
        if let Some(overlay) = activation.system.iter().find(|mount| mount.fstype == "overlay") {
            let lower = overlay.options.iter().find_map(|option| option.strip_prefix("lowerdir=")).unwrap();
            assert_eq!(lower, layers.join(":"), "{name}");
        }
    }
}

#[test]
fn no_plan_is_taken_for_read_only_unless_it_is() {
    // core/mount/mount.go, Mount.ReadOnly: a plan whose last entry is read-only counts as already unpacked.
    let read_only = |mount: &Mount| {
        let has = |text: &str| mount.options.iter().any(|option| option.starts_with(text));
        match mount.fstype.rsplit('/').next() {
            Some("erofs") => true,
            Some("overlay") => !has("upperdir=") || mount.options.contains(&"ro".to_owned()),
            _ => mount.options.contains(&"ro".to_owned()),
        }
    };
    for (name, _, plan) in all_plans() {
        assert_eq!(read_only(plan.last().unwrap()), name.starts_with("view"), "{name}");
    }
}

#[test]
fn layers_with_a_tree_tell_where_its_parameters_are() {
    let below = |count: usize, with: &[usize]| {
        let lower = chain(count);
        Lower { verity: with.iter().map(|&i| lower.layers[i].clone()).collect(), ..lower }
    };
    let verified = |entry: &str| {
        let directory = entry.trim_start_matches("erofs ").trim_end_matches("/layer.erofs [ro, loop]");
        entry.replace("loop]", &format!("loop, X-containerd.dmverity={directory}/layer.erofs.dmverity]"))
    };
    assert_eq!(text(&view(&below(1, &[0]), PLACES)), verified(LAYER_0));
    let plan = text(&active(&below(2, &[1]), Writable::Directory, PLACES));
    assert!(plan.starts_with(&format!("{LAYER_0}\n{}\n", verified(LAYER_1))), "{plan}");
    let plan = text(&active(&below(3, &[0, 1, 2]), Writable::Block, PLACES));
    let layers = [LAYER_0, LAYER_1, LAYER_2].map(verified).join("\n");
    assert!(plan.contains(&layers), "{plan}");
    // Nobody mounts it: it only says that there is nothing to unpack.
    assert_eq!(text(&staged(&chain(1).layers[0], PLACES)), LAYER_0);
}

#[test]
fn a_record_without_trees_is_read_and_written_as_it_was() {
    let text = serde_json::to_string(&chain(1)).unwrap();
    assert!(!text.contains("verity"), "{text}");
    assert_eq!(serde_json::from_str::<Lower>(&text).unwrap(), chain(1));
}
