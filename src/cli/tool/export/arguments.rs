//! What can be asked for about exports.

use std::path::PathBuf;

use clap::Args;

use crate::cli::tool::arguments::root_hash;
use crate::config::defaults;
use crate::expose::export::specification::Identity;
use crate::image::digest::Digest;

pub(in crate::cli::tool) const EXPORT_EXAMPLES: &str = "Examples:
  nexuserofs export --directory vm layer.erofs
  nexuserofs export --directory vm --metadata fsmeta.erofs --verify BOTTOM.erofs TOP.erofs
  nexuserofs export --directory vm --writable rwlayer.img layer.erofs";

#[derive(Debug, Args)]
pub(in crate::cli::tool) struct Export {
    /// Where the sockets go, image.sock and writable.sock; made if it is missing
    #[arg(long, value_name = "DIRECTORY", required_unless_present = "told")]
    pub(in crate::cli::tool) directory: Option<PathBuf>,
    /// Merged metadata of the layers, fsmeta.erofs: they are one file system then, and partitions without
    #[arg(long, value_name = "FILE", requires = "layers")]
    pub(in crate::cli::tool) metadata: Option<PathBuf>,
    /// A file that the guest writes to, as a second disk
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli::tool) writable: Option<PathBuf>,
    /// Check every block of layers and metadata against a hash tree when the guest reads it first; LAYER.dmverity has
    /// a layer's root hash, merged.verity beside the metadata is their tree
    #[arg(long)]
    pub(in crate::cli::tool) verify: bool,
    /// Root hash of the tree over metadata and layers, 64 hex digits; of chain.json beside the metadata without
    #[arg(long, value_name = "HEX", requires_all = ["metadata", "verify"], value_parser = root_hash)]
    pub(in crate::cli::tool) root_hash: Option<Digest>,
    /// Queues of each disk, one for each processor of the guest at best
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub(in crate::cli::tool) queues: u16,
    /// Whom the process becomes, if it is root
    #[arg(long, value_name = "UID:GID", default_value = "65534:65534", value_parser = identity)]
    pub(in crate::cli::tool) user: Identity,
    /// Serve what comes over standard input, a socket, as the daemon says it
    #[arg(long, hide = true, conflicts_with_all = ["directory", "metadata", "writable", "verify", "root_hash", "queues", "user", "layers"])]
    pub(in crate::cli::tool) told: bool,
    /// EROFS files of layers, the oldest first
    #[arg(value_name = "LAYER", required_unless_present_any = ["told", "writable"])]
    pub(in crate::cli::tool) layers: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli::tool) struct Exports {
    /// Data of the daemon
    #[arg(long, value_name = "DIRECTORY", default_value = defaults::ROOT)]
    pub(in crate::cli::tool) root: PathBuf,
}

fn identity(text: &str) -> Result<Identity, String> {
    let numbers = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    match numbers {
        Some((uid, gid)) if uid != 0 && gid != 0 => Ok(Identity { uid, gid }),
        _ => Err("write two numbers other than 0, such as 65534:65534".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_becomes_root() {
        assert_eq!(identity("1000:100"), Ok(Identity { uid: 1000, gid: 100 }));
        for text in ["0:0", "0:1", "1:0", "1", "a:b", "1:2:3", "-1:1", ""] {
            assert!(identity(text).is_err(), "{text}");
        }
    }
}
