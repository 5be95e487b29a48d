//! `layers.manifest`: the list that spinbox compares with the mount's `device=` options before it uses `merged.vmdk`
//! (`internal/shim/platform/mounts/linux.go`). It keeps descriptor and mount from being mixed up, and proves nothing.

use std::path::{Path, PathBuf};

use crate::image::digest::Digest;

/// Its base name.
pub(super) const NAME: &str = "layers.manifest";

/// One line for each layer, oldest first: its digest if the file is named after one, else the file's base name.
pub(super) fn text(layers: &[PathBuf]) -> String {
    layers.iter().map(|layer| format!("{}\n", line(layer))).collect()
}

fn line(layer: &Path) -> String {
    let name = layer.file_name().unwrap_or_default().to_string_lossy();
    let hex = name.strip_prefix("sha256-").and_then(|rest| rest.strip_suffix(".erofs"));
    let digest = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
    digest.map_or_else(|| format!("blob:{name}"), |digest| digest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_the_digest_or_the_name() {
        let hex = "a".repeat(64);
        let layers =
            [format!("/x/sha256-{hex}.erofs"), "/layers/v1-0/layer.erofs".into(), "/x/sha256-0.erofs".into()];
        let layers = layers.map(PathBuf::from);
        assert_eq!(text(&layers), format!("sha256:{hex}\nblob:layer.erofs\nblob:sha256-0.erofs\n"));
    }
}
