//! Where each partition lies.

use uuid::Uuid;

use super::head;
use super::style::Style;
use crate::image::extent::{self, ExtentMap, SECTOR};
use crate::image::identity;

/// Most partitions that a disk can have: what the table has room for.
pub const LARGEST_COUNT: usize = 128;

/// What every partition's offset is a multiple of, in bytes.
const ALIGNMENT: u64 = 1 << 20;

/// A layer that gets a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What the layer is known by. It goes into names and GUIDs.
    pub identity: String,
    /// Size of its file in bytes.
    pub bytes: u64,
}

/// A disk of layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    pub(super) style: Style,
    pub(super) guid: Uuid,
    pub(super) sectors: u64,
    pub(super) partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its name, which Linux shows as `PARTNAME`.
    pub name: String,
    /// Its GUID, which Linux shows as `PARTUUID`.
    pub guid: Uuid,
    /// Its first sector of 512 bytes.
    pub first: u64,
    /// Its last sector.
    pub last: u64,
}

/// Why layers cannot be the partitions of a disk.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// More layers than there are entries in the table, or none.
    #[error("a disk has 1 to {LARGEST_COUNT} partitions, not {layers}; merge the layers instead")]
    Count {
        /// Number of layers.
        layers: usize,
    },
    /// A layer's file has no size that a partition can have.
    #[error("layer {index} of the disk has {bytes} bytes")]
    Size {
        /// Its index, counted from 0.
        index: usize,
        /// Size of its file in bytes.
        bytes: u64,
        /// Why not.
        source: extent::Error,
    },
}

impl Disk {
    /// The disk of these layers, each in a partition of its own, in their order.
    ///
    /// # Errors
    /// If there are too many layers or none, or a layer's size is not a multiple of 512 bytes.
    pub fn new(style: Style, layers: &[Layer]) -> Result<Self, Error> {
        if !(1..=LARGEST_COUNT).contains(&layers.len()) {
            return Err(Error::Count { layers: layers.len() });
        }
        let guid = disk_guid(style, layers);
        // Only to find places: it has no head yet, but a hole of the same length.
        let mut map = ExtentMap::new();
        map.push_zeros(ALIGNMENT).map_err(size_of(0, ALIGNMENT))?;
        let mut partitions = Vec::with_capacity(layers.len());
        for (index, layer) in layers.iter().enumerate() {
            let first = map.length() / SECTOR;
            map.push_file(index, 0, layer.bytes).map_err(size_of(index, layer.bytes))?;
            partitions.push(Partition {
                name: style.name(index, &layer.identity),
                guid: Uuid::new_v5(&guid, format!("partition:{index}").as_bytes()),
                first,
                last: map.length() / SECTOR - 1,
            });
            if style.ends_aligned() || index + 1 < layers.len() {
                map.pad_to(ALIGNMENT).map_err(size_of(index, layer.bytes))?;
            }
        }
        Ok(Self { style, guid, sectors: map.length() / SECTOR, partitions })
    }

    /// The disk's GUID.
    #[must_use]
    pub const fn guid(&self) -> Uuid {
        self.guid
    }

    /// The partitions, in the order of the layers.
    #[must_use]
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// What lies where on the disk. The layers' files have the numbers of their order.
    ///
    /// # Errors
    /// None that [`Disk::new`] did not refuse.
    pub fn extents(&self) -> Result<ExtentMap, extent::Error> {
        let mut map = ExtentMap::new();
        map.push_bytes(head::bytes(self))?;
        for (index, partition) in self.partitions.iter().enumerate() {
            map.pad_to(ALIGNMENT)?;
            map.push_file(index, 0, (partition.last + 1 - partition.first) * SECTOR)?;
        }
        if self.style.ends_aligned() {
            map.pad_to(ALIGNMENT)?;
        }
        Ok(map)
    }
}

/// A version 5 UUID (RFC 9562) in the URL name space, of the style and each layer's identity and size.
fn disk_guid(style: Style, layers: &[Layer]) -> Uuid {
    let mut name = format!("disk:v1:{}", style.word());
    for layer in layers {
        name.push_str(&format!(":{}:{}", layer.identity, layer.bytes));
    }
    identity::uuid(&name)
}

fn size_of(index: usize, bytes: u64) -> impl FnOnce(extent::Error) -> Error {
    move |source| Error::Size { index, bytes, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(sizes: &[u64]) -> Vec<Layer> {
        let layer = |(index, bytes): (usize, &u64)| Layer { identity: format!("v1-{index}"), bytes: *bytes };
        sizes.iter().enumerate().map(layer).collect()
    }

    #[test]
    fn partitions_begin_at_megabytes_and_are_as_long_as_their_files() {
        let disk = Disk::new(Style::Kata, &layers(&[4096, (1 << 20) + 512, 1 << 20])).unwrap();
        let places: Vec<_> = disk.partitions().iter().map(|found| (found.first, found.last)).collect();
        assert_eq!(places, [(2048, 2055), (4096, 6144), (8192, 10239)]);
        assert_eq!(disk.extents().unwrap().length(), 10240 * SECTOR);
        let disk = Disk::new(Style::Nerdbox, &layers(&[4096])).unwrap();
        assert_eq!(disk.extents().unwrap().length(), 2 * ALIGNMENT);
    }

    #[test]
    fn layers_that_make_no_disk_are_refused_with_the_reason() {
        assert_eq!(Disk::new(Style::Kata, &[]), Err(Error::Count { layers: 0 }));
        assert_eq!(Disk::new(Style::Kata, &layers(&[4096; 129])), Err(Error::Count { layers: 129 }));
        assert!(Disk::new(Style::Nerdbox, &layers(&[4096; 128])).is_ok());
        let error = Disk::new(Style::Kata, &layers(&[512, 100])).unwrap_err();
        assert_eq!(error.to_string(), "layer 1 of the disk has 100 bytes");
        assert!(matches!(
            Disk::new(Style::Kata, &layers(&[0])),
            Err(Error::Size { index: 0, source: extent::Error::Empty, .. })
        ));
        let huge = Disk::new(Style::Kata, &layers(&[1 << 62, 1 << 62]));
        assert!(matches!(huge, Err(Error::Size { index: 1, source: extent::Error::TooLarge, .. })));
    }

    #[test]
    fn guids_are_functions_of_the_layers() {
        let disk = |style, sizes| Disk::new(style, &layers(sizes)).unwrap();
        // python3 -c 'import uuid; print(uuid.uuid5(uuid.NAMESPACE_URL, "urn:nexuserofs:disk:v1:kata:v1-0:4096:v1-1:8192"))'
        let one = disk(Style::Kata, &[4096, 8192]);
        assert_eq!(one.guid().to_string(), "086abdfe-79d3-5d1a-8fe6-22bb4d92807a");
        assert_eq!(one, disk(Style::Kata, &[4096, 8192]));
        assert_ne!(one.guid(), disk(Style::Nerdbox, &[4096, 8192]).guid());
        assert_ne!(one.guid(), disk(Style::Kata, &[8192, 4096]).guid());
        assert_ne!(one.partitions()[0].guid, one.partitions()[1].guid);
    }
}
