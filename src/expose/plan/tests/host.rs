//! Plans of the host flavour, and plans for user namespaces.

use super::*;

/// A chain of `count` layers under names that the daemon mounted.
fn mounted(count: usize) -> Lower {
    let names = (0..count).map(|index| format!("b{index:03}").parse().unwrap()).collect();
    Lower { flavour: Flavour::Host { names }, ..chain(count) }
}

fn shifted(lower: Lower) -> Lower {
    let mapping = IdMapping { uids: "0:1000:10".parse().unwrap(), gids: "0:2000:10,20:5:1".parse().unwrap() };
    Lower { mapping: Some(mapping), ..lower }
}

#[test]
fn views() {
    assert_eq!(text(&view(&mounted(0), PLACES)), "bind /r/snapshots/1f/fs [ro, rbind]");
    assert_eq!(text(&view(&mounted(1), PLACES)), "bind /r/mnt/b000 [ro, rbind]");
    assert_eq!(
        text(&view(&mounted(3), PLACES)),
        "overlay overlay [lowerdir=/r/mnt/b000:/r/mnt/b001:/r/mnt/b002, index=off]"
    );
}

#[test]
fn extractions() {
    let plan = |count| active(&mounted(count), Writable::Extraction, PLACES);
    assert_eq!(text(&plan(0)), "overlay overlay [upperdir=/r/snapshots/1f/fs]");
    assert_eq!(plan(2), active(&mounted(2), Writable::Directory, PLACES));
}

#[test]
fn actives() {
    let plan = |count, writable| text(&active(&mounted(count), writable, PLACES));
    assert_eq!(plan(0, Writable::Directory), "bind /r/snapshots/1f/fs [rw, rbind]");
    assert_eq!(plan(0, Writable::Block), "bind /r/snapshots/1f/rw/upper [rw, rbind]");
    assert_eq!(
        plan(1, Writable::Directory),
        "overlay overlay [workdir=/r/snapshots/1f/work, upperdir=/r/snapshots/1f/fs, \
         lowerdir=/r/mnt/b000, index=off, volatile]"
    );
    assert_eq!(
        plan(2, Writable::Block),
        "overlay overlay [workdir=/r/snapshots/1f/rw/work, upperdir=/r/snapshots/1f/rw/upper, \
         lowerdir=/r/mnt/b000:/r/mnt/b001, index=off, volatile]"
    );
}

#[test]
fn a_user_namespace_is_named_on_each_overlay_of_templates_and_on_nothing_else() {
    let maps = "uidmap=0:1000:10, gidmap=0:2000:10,20:5:1";
    let block = active(&shifted(chain(1)), Writable::Block, PLACES);
    assert_eq!(
        text(&block[2..]),
        format!(
            "format/overlay overlay [workdir={{{{ mount 0 }}}}/work, upperdir={{{{ mount 0 }}}}/upper, {maps}, \
             lowerdir={{{{ mount 1 }}}}, index=off, volatile]"
        )
    );
    for plan in [
        view(&shifted(chain(0)), PLACES),
        active(&shifted(chain(0)), Writable::Directory, PLACES),
        view(&shifted(mounted(3)), PLACES),
        active(&shifted(mounted(3)), Writable::Directory, PLACES),
    ] {
        assert!(!text(&plan).contains("map="), "{plan:?}");
    }
}

#[test]
fn the_daemon_mounts_shifted_layers_for_each_snapshot() {
    assert_eq!(
        text(&active(&shifted(mounted(2)), Writable::Directory, PLACES)),
        "overlay overlay [workdir=/r/snapshots/1f/work, upperdir=/r/snapshots/1f/fs, \
         lowerdir=/r/snapshots/1f/lower/0:/r/snapshots/1f/lower/1, index=off, volatile]"
    );
    assert_eq!(text(&view(&shifted(mounted(1)), PLACES)), "bind /r/snapshots/1f/lower/0 [ro, rbind]");
}

#[test]
fn a_single_layer_of_templates_is_shifted_by_an_overlay_of_two() {
    assert_eq!(
        text(&view(&shifted(chain(1)), PLACES)),
        format!(
            "{LAYER_0}\n{LAYER_0}\nformat/overlay overlay [uidmap=0:1000:10, gidmap=0:2000:10,20:5:1, \
             lowerdir={{{{ overlay 0 1 }}}}, index=off]"
        )
    );
}

#[test]
fn no_host_plan_needs_a_mount_manager() {
    for count in 0..=130 {
        for lower in [mounted(count), shifted(mounted(count))] {
            let writables = [Writable::Extraction, Writable::Directory, Writable::Block];
            let mut plans = vec![view(&lower, PLACES)];
            plans.extend(writables.map(|writable| active(&lower, writable, PLACES)));
            for plan in plans {
                assert_eq!(plan.len(), 1);
                assert!(matches!(plan[0].fstype.as_str(), "overlay" | "bind"), "{plan:?}");
                assert!(!text(&plan).contains("{{"), "{plan:?}");
                assert_eq!(activate(&plan, &[]), Outcome::NotImplemented);
            }
        }
    }
}

#[test]
fn records_of_earlier_releases_are_read() {
    let before = r#"{"flavour":"template","layers":[],"overlay_options":[]}"#;
    let lower: Lower = serde_json::from_str(before).unwrap();
    assert_eq!((&lower.flavour, &lower.mapping), (&Flavour::Template, &None));
    assert_eq!(serde_json::to_string(&lower).unwrap(), before);
    let lower = shifted(mounted(2));
    assert_eq!(serde_json::from_str::<Lower>(&serde_json::to_string(&lower).unwrap()).unwrap(), lower);
}
