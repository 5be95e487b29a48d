//! Kata's storages as a description, so that an agent can hand on what it was given.
//!
//! Source: kata-containers, `src/libs/protocols/protos/agent.proto` (message `Storage`) and
//! `src/agent/src/storage/multi_layer_erofs.rs` (the options `X-kata.*`). Partition 1, or the first in the
//! list, is the newest layer. Options for mounting are read and not used: ours are fixed.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Assembly, ImageSource, LayerSource, UpperSource};
use crate::canonical::{self, NotCanonical};
use crate::devices::Query;
use crate::verity::{BlockSize, Fields, Parameters, RootDigest, Salt};
use crate::word::Word;

/// Storages that do not describe a root file system.
#[derive(Debug, thiserror::Error)]
pub enum InvalidStorages {
    /// They are no list of storages.
    #[error("the storages cannot be read: {0}")]
    Json(#[from] NotCanonical),
    /// One of them is not what Kata makes.
    #[error("storage {index}: {reason}")]
    Storage {
        /// Which, counted from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// They contradict each other.
    #[error("the storages do not fit together: {reason}")]
    Together {
        /// How.
        reason: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Storage {
    driver: String,
    source: Word,
    fstype: String,
    options: Vec<String>,
    #[serde(default, rename = "mount_point")]
    _mount_point: IgnoredAny,
    #[serde(default, rename = "driver_options")]
    _driver_options: IgnoredAny,
    #[serde(default, rename = "fs_group")]
    _fs_group: IgnoredAny,
    #[serde(default, rename = "shared")]
    _shared: IgnoredAny,
}

/// What one storage is.
enum Part {
    Upper(Query),
    /// With its partition, if it is on one.
    Lower(Option<u32>, LayerSource),
}

/// Where Kata's storages, a JSON array, say that layers and upper are. Without an upper it is memory, as
/// in Kata's agent.
///
/// # Errors
/// For anything that is not the storages of one multi-layer EROFS root, and for options that are not known.
pub fn from_storages(json: &[u8]) -> Result<Assembly, InvalidStorages> {
    let storages: Vec<Storage> = canonical::read(json, Assembly::LIMIT)?;
    let mut upper = None;
    let mut lowers = Vec::new();
    for (index, storage) in storages.into_iter().enumerate() {
        match storage.part().map_err(|reason| InvalidStorages::Storage { index, reason })? {
            Part::Upper(_) if upper.is_some() => {
                return Err(InvalidStorages::Together { reason: "there is more than one upper" });
            }
            Part::Upper(device) => upper = Some(UpperSource::Device(device)),
            Part::Lower(partition, layer) => lowers.push((partition, layer)),
        }
    }
    let image = ImageSource::Layers(in_order(lowers)?);
    Ok(Assembly { image, upper: upper.unwrap_or(UpperSource::Tmpfs { size: None }) })
}

/// The layers, oldest first.
fn in_order(mut lowers: Vec<(Option<u32>, LayerSource)>) -> Result<Vec<LayerSource>, InvalidStorages> {
    lowers.sort_by_key(|(partition, _)| *partition);
    let expected = || (1..).map(Some);
    let on_partitions = lowers.iter().map(|(partition, _)| *partition).zip(expected()).all(|(a, b)| a == b);
    let is_whole_disk = matches!(lowers.as_slice(), [(None, _)]);
    if lowers.is_empty() || !(on_partitions || is_whole_disk) {
        let reason = "expected one layer on a whole disk, or layers on the partitions 1, 2, 3 and so on";
        return Err(InvalidStorages::Together { reason });
    }
    Ok(lowers.into_iter().rev().map(|(_, layer)| layer).collect())
}

impl Storage {
    fn part(self) -> Result<Part, String> {
        let disk = match self.driver.as_str() {
            "blk" => Query::Pci(self.source),
            "scsi" => Query::ScsiAddress(self.source),
            other => return Err(format!("the driver {other:?} is not known: expected blk or scsi")),
        };
        let mut options = Options::read(&self.options)?;
        options.expect("multi-layer", "true")?;
        let part = match (self.fstype.as_str(), options.flag("overlay-upper"), options.flag("overlay-lower"))
        {
            ("ext4", true, false) => Part::Upper(disk),
            ("erofs", false, true) => lower(disk, &mut options)?,
            (kind, ..) => {
                return Err(format!(
                    "{kind:?} with these options is neither an EROFS layer nor an ext4 upper"
                ));
            }
        };
        options.none_left()?;
        Ok(part)
    }
}

fn lower(disk: Query, options: &mut Options<'_>) -> Result<Part, String> {
    let partition = match options.take("gpt-partitioned") {
        Some(value) if value != "true" => return Err(format!("gpt-partitioned is {value:?}")),
        Some(_) => Some(options.number("partition-number")?.ok_or("it has no partition-number")?),
        None => None,
    };
    let device = match partition {
        Some(number) => Query::Partition { disk: Box::new(disk), number },
        None => disk,
    };
    let claim = match options.flag_value("dmverity-enabled")? {
        true => Some(claim(options)?),
        false => None,
    };
    Ok(Part::Lower(partition, LayerSource { device, claim }))
}

fn claim(options: &mut Options<'_>) -> Result<Parameters, String> {
    let size = |size: u32| BlockSize::try_from(size).map_err(|error| error.to_string());
    let data_block_size = size(options.number("dmverity.blocksize")?.unwrap_or(4096))?;
    let hash_block_size = size(options.number("dmverity.hashsize")?.unwrap_or(4096))?;
    let offset: u64 = options.number("dmverity.hashoffset")?.ok_or("it has no dmverity.hashoffset")?;
    let [data, hash] = [data_block_size, hash_block_size].map(|size| u64::from(size.bytes()));
    if !(offset.is_multiple_of(data) && offset.is_multiple_of(hash)) {
        return Err(format!("dmverity.hashoffset {offset} is no multiple of the block sizes"));
    }
    if options.number("dmverity.hashtype")?.unwrap_or(1) != 1 {
        return Err("dmverity.hashtype is not 1".to_owned());
    }
    let superblock = u64::from(!options.flag_value("dmverity.no-superblock")?);
    let algorithm = options.take("dmverity.algorithm").unwrap_or("sha256");
    let root = options.take("dmverity.roothash").ok_or("it has no dmverity.roothash")?;
    let salt = options.take("dmverity.salt").ok_or("it has no dmverity.salt")?;
    let fields = Fields {
        root_digest: RootDigest::from_parts(algorithm, root).map_err(|error| error.to_string())?,
        salt: Salt::try_from(salt.to_owned()).map_err(|error| error.to_string())?,
        data_block_size,
        hash_block_size,
        data_blocks: NonZeroU64::new(offset / data).ok_or("dmverity.hashoffset is 0")?,
        // A superblock takes 512 bytes, the smallest block there is.
        hash_start_block: offset / hash + superblock,
    };
    Parameters::new(fields).map_err(|error| error.to_string())
}

/// Kata's own options, by their names without `X-kata.`.
struct Options<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Options<'a> {
    fn read(options: &'a [String]) -> Result<Self, String> {
        let mut found = BTreeMap::new();
        for option in options.iter().filter_map(|option| option.strip_prefix("X-kata.")) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            // Directories that the agent makes in its upper: we make our own two.
            if name != "mkdir.path" && found.insert(name, value).is_some() {
                return Err(format!("X-kata.{name} is there twice"));
            }
        }
        Ok(Self(found))
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        self.0.remove(name)
    }

    fn flag(&mut self, name: &str) -> bool {
        self.take(name) == Some("")
    }

    /// Whether an option is `true`; without it, it is not.
    fn flag_value(&mut self, name: &str) -> Result<bool, String> {
        match self.take(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(format!("X-kata.{name} is {other:?}: expected true or false")),
        }
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let wrong = |text| format!("X-kata.{name} is {text:?}: expected a number");
        self.take(name).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
    }

    fn expect(&mut self, name: &str, value: &str) -> Result<(), String> {
        match self.take(name) {
            Some(found) if found == value => Ok(()),
            _ => Err(format!("it has no X-kata.{name}={value}")),
        }
    }

    fn none_left(&self) -> Result<(), String> {
        match self.0.keys().next() {
            Some(name) => Err(format!("X-kata.{name} is not known, or does not belong here")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    /// A lower as Kata's runtime writes it for a GPT disk.
    fn lower(number: u32, verity: &Parameters) -> serde_json::Value {
        let fields = verity.fields();
        serde_json::json!({
            "driver": "blk",
            "driver_options": [],
            "source": "02/03",
            "fstype": "erofs",
            "mount_point": "/run/kata-containers/c/rootfs",
            "shared": false,
            "fs_group": null,
            "options": [
                "X-kata.overlay-lower",
                "X-kata.multi-layer=true",
                "X-kata.gpt-partitioned=true",
                format!("X-kata.partition-number={number}"),
                "X-kata.dmverity-enabled=true",
                format!("X-kata.dmverity.roothash={}", fields.root_digest.hex()),
                format!("X-kata.dmverity.hashoffset={}", verity.data_bytes()),
                "X-kata.dmverity.no-superblock=false",
                format!("X-kata.dmverity.salt={}", fields.salt.hex()),
            ],
        })
    }

    fn upper() -> serde_json::Value {
        serde_json::json!({
            "driver": "scsi", "source": "0:1", "fstype": "ext4",
            "options": ["rw", "noatime", "X-kata.overlay-upper", "X-kata.multi-layer=true"],
        })
    }

    fn read(storages: &[serde_json::Value]) -> Result<Assembly, InvalidStorages> {
        from_storages(&serde_json::to_vec(storages).unwrap())
    }

    #[test]
    fn layers_come_oldest_first_with_the_parameters_that_the_host_claims() {
        let (new, old) = (fixtures::verity(6, 2), fixtures::verity(3, 1));
        let mut first = lower(1, &new);
        first["options"].as_array_mut().unwrap().push("X-kata.mkdir.path={{ mount 0 }}/upper:0755".into());
        let assembly = read(&[upper(), first, lower(2, &old)]).unwrap();
        let claims: Vec<_> = assembly.image.sources().iter().map(|layer| layer.claim.clone()).collect();
        assert_eq!(claims, [Some(old), Some(new)]);
        let disk = Box::new(Query::Pci("02/03".parse().unwrap()));
        assert_eq!(assembly.image.sources()[0].device, Query::Partition { disk, number: 2 });
        assert_eq!(assembly.upper, UpperSource::Device(Query::ScsiAddress("0:1".parse().unwrap())));
    }

    #[test]
    fn a_single_layer_is_a_whole_disk_and_the_upper_is_memory() {
        let storage = serde_json::json!({
            "driver": "blk", "source": "02", "fstype": "erofs",
            "options": ["ro", "X-kata.overlay-lower", "X-kata.multi-layer=true"],
        });
        let assembly = read(&[storage]).unwrap();
        let layer = LayerSource { device: Query::Pci("02".parse().unwrap()), claim: None };
        assert_eq!(assembly.image, ImageSource::Layers(vec![layer]));
        assert_eq!(assembly.upper, UpperSource::Tmpfs { size: None });
    }

    #[test]
    fn storages_that_may_mean_two_things_are_refused() {
        let verity = fixtures::verity(3, 1);
        let good = || lower(1, &verity);
        let with = |option: &str| {
            let mut storage = good();
            storage["options"].as_array_mut().unwrap().push(option.into());
            storage
        };
        let replaced = |name: &str, value: &str| {
            let mut storage = good();
            storage[name] = value.into();
            storage
        };
        assert!(read(&[good()]).is_ok());
        for (storages, what) in [
            (vec![], "none"),
            (vec![good(), good()], "two of one number"),
            (vec![good(), lower(3, &verity)], "a gap"),
            (vec![upper()], "an upper alone"),
            (vec![upper(), upper(), good()], "two uppers"),
            (vec![with("X-kata.partition-number=2")], "two numbers"),
            (vec![with("X-kata.overlay-upper")], "lower and upper"),
            (vec![with("X-kata.new-thing=1")], "an option that is not known"),
            (vec![with("X-kata.dmverity.hashtype=0")], "another hash type"),
            (vec![with("X-kata.dmverity.blocksize=8192")], "another block size"),
            (vec![replaced("driver", "mmioblk")], "another driver"),
            (vec![replaced("fstype", "xfs")], "another file system"),
            (vec![replaced("extra", "x")], "another member"),
        ] {
            assert!(read(&storages).is_err(), "{what}");
        }
    }
}
