//! Rules for the policy of Kata's agent as it is, which hold a container against the images that may run.

use nexuserofs_guest::manifest::{Layer, Manifest};

use crate::expose::plan::{MOST_CHECKED, Padding};
use crate::image::empty;
use crate::image::verity::SALT;

/// The rules, which are the same for all images.
const RULES: &str = include_str!("rego/layers.rego");

/// Why there are no rules for Kata's agent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image has more layers than a disk has partitions.
    #[error(
        "the image has {layers} layers, and Kata checks at most {MOST_CHECKED}: build it with fewer, or have the guest \
         run nexuserofs-guest, which takes any number"
    )]
    TooManyLayers {
        /// How many it has.
        layers: usize,
    },
    /// The layer that holds nothing cannot be made. Never in practice.
    #[error(transparent)]
    Empty(#[from] empty::Error),
    /// The options have no JSON form. Never in practice.
    #[error("cannot write the options of a layer")]
    Json(#[from] serde_json::Error),
}

/// What Kata's runtime tells the agent of one layer.
struct Lower {
    root: String,
    hash_offset: u64,
    salt: String,
}

impl Lower {
    fn of(layer: &Layer) -> Self {
        let verity = &layer.fields().verity;
        Self {
            root: verity.fields().root_digest.hex(),
            hash_offset: verity.data_bytes(),
            salt: verity.fields().salt.hex(),
        }
    }

    /// That of the layer that holds nothing.
    fn empty() -> Result<Self, empty::Error> {
        let layer = empty::layer()?;
        let salt = SALT.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { root: layer.root.hex(), hash_offset: layer.geometry.hash_offset(), salt })
    }

    /// Kata's options, in its order (kata-containers, `erofs_rootfs.rs` and `gpt_disk.rs`).
    fn options(&self, partition: usize) -> [String; 9] {
        [
            "X-kata.overlay-lower".to_owned(),
            "X-kata.multi-layer=true".to_owned(),
            "X-kata.gpt-partitioned=true".to_owned(),
            format!("X-kata.partition-number={partition}"),
            "X-kata.dmverity-enabled=true".to_owned(),
            format!("X-kata.dmverity.roothash={}", self.root),
            format!("X-kata.dmverity.hashoffset={}", self.hash_offset),
            "X-kata.dmverity.no-superblock=false".to_owned(),
            format!("X-kata.dmverity.salt={}", self.salt),
        ]
    }
}

/// Rules for the policy of Kata's agent as it is: the storages of a container have to be those of one of these
/// images, with dm-verity and in the right order, as a plan of a profile with `verity = "require"` has them.
/// The list `nexuserofs_images` is of the images, a layer a line; the rest is the same for all.
///
/// # Errors
/// If an image has more layers than Kata can check.
pub fn rules(images: &[Manifest]) -> Result<String, Error> {
    let images: String = images.iter().map(image).collect::<Result<_, _>>()?;
    Ok(format!("{RULES}\nnexuserofs_images := [\n{images}]\n"))
}

/// The options of an image's layers as an array, the newest layer first.
fn image(manifest: &Manifest) -> Result<String, Error> {
    let mut lowers: Vec<_> = manifest.layers().iter().rev().map(Lower::of).collect();
    if lowers.len() > MOST_CHECKED {
        return Err(Error::TooManyLayers { layers: lowers.len() });
    }
    for _ in 0..Padding::of_checked(lowers.len()).layers {
        lowers.push(Lower::empty()?);
    }
    let line = |(lower, partition): (&Lower, usize)| {
        Ok(format!("\t\t{},\n", serde_json::to_string(&lower.options(partition))?))
    };
    let lines: String = lowers.iter().zip(1..).map(line).collect::<Result<_, Error>>()?;
    Ok(format!("\t# {}\n\t[\n{lines}\t],\n", manifest.image_hash()))
}
