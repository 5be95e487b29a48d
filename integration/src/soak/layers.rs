//! Where the daemon keeps layers, as `docs/architecture.md` and `docs/decisions/` describe it.

use std::path::{Path, PathBuf};

use nexuserofs_proto::containerd::types::Mount;

/// The directory of the layer with this diffID.
pub(super) fn directory_of(diff_id: &str) -> String {
    let digits: String = diff_id.trim_start_matches("sha256:").chars().take(32).collect();
    format!("v1-{digits}")
}

/// The directory of the layer that is made of what is written through this plan. None if the plan does
/// not name the snapshot's own directory.
pub(super) fn directory_of_written(plan: &[Mount]) -> Option<String> {
    let texts = plan.iter().flat_map(|mount| mount.options.iter().chain([&mount.source]));
    let own = texts.filter_map(|text| text.split_once("/snapshots/")?.1.split('/').next());
    own.map(|id| format!("w1-{id}")).next()
}

/// The directory on the host that receives what is written through this plan. None where it appears only
/// once somebody has mounted the plan.
pub(super) fn upper(plan: &[Mount]) -> Option<PathBuf> {
    let last = plan.last()?;
    let upper = last.options.iter().find_map(|option| option.strip_prefix("upperdir="));
    let bind = (last.r#type == "bind").then_some(last.source.as_str());
    upper.or(bind).filter(|path| path.starts_with('/')).map(PathBuf::from)
}

/// The directory of a layer file.
pub(super) fn directory_name(layer: &Path) -> Option<String> {
    Some(layer.parent()?.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Mount { r#type: kind.to_owned(), source: source.to_owned(), options, ..Mount::default() }
    }

    #[test]
    fn the_upper_directory_names_the_layer_that_is_made_of_it() {
        let plan = [
            mount("erofs", "/root/layers/v1-1/layer.erofs", &["ro"]),
            mount(
                "overlay",
                "overlay",
                &["workdir=/root/snapshots/ab/work", "upperdir=/root/snapshots/ab/fs"],
            ),
        ];
        assert_eq!(upper(&plan), Some(PathBuf::from("/root/snapshots/ab/fs")));
        assert_eq!(directory_of_written(&plan).as_deref(), Some("w1-ab"));
        let block = [
            mount("ext4", "/root/snapshots/ab/rwlayer.img", &["loop"]),
            mount("format/bind", "{{ mount 0 }}/upper", &["rw"]),
        ];
        assert_eq!(upper(&block), None);
        assert_eq!(directory_of_written(&block).as_deref(), Some("w1-ab"));
        assert_eq!(
            upper(&[mount("bind", "/root/snapshots/ab/fs", &[])]),
            Some("/root/snapshots/ab/fs".into())
        );
    }
}
