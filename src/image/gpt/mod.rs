//! A disk with one partition for each layer.
//!
//! The format is the UEFI specification's (2.11, chapter 5, "GUID Partition Table (GPT) Disk Layout"): a
//! protective MBR in sector 0, the header in sector 1, 128 entries of 128 bytes behind it. There is no second
//! table at the end: nobody writes to such a disk, and Linux takes the first one, with a line in its log.
//!
//! Two programs make such disks of a snapshot's layers, and a guest may rely on either's form ([`Style`]). Unlike
//! Kata's, every byte here is a function of the layers, so that a disk is the same wherever it is made.
//!
//! * `style`: in what the two forms differ.
//! * `disk`: where each partition lies, and what it is called.
//! * `head`: the sectors before the first partition.

mod disk;
mod head;
mod style;

pub use disk::{Disk, Error, LARGEST_COUNT, Layer, Partition};
pub use style::Style;
