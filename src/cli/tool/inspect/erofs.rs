//! An EROFS image as its superblock, its tree and what lies behind it show it.

use std::fs::File;
use std::path::Path;

use serde::Serialize;
use uuid::Uuid;

use super::files::{self, FileLine};
use super::usage::Usage;
use super::verity::{self, Verity};
use crate::cli::tool::error::with_causes;
use crate::cli::tool::survey::survey;
use crate::image::erofs::header::{Checksum, DeviceSlot, Error, Header};
use crate::layer::open::LayerFile;

/// An EROFS image.
#[derive(Debug, Serialize)]
pub(super) struct Image {
    pub(super) superblock: Superblock,
    /// The devices that file data is on, by number from 1 on.
    pub(super) devices: Vec<Device>,
    /// What takes how much; null if the tree was not read.
    pub(super) usage: Option<Usage>,
    /// Why the tree was not read.
    pub(super) unread: Option<String>,
    /// The dm-verity tree behind the image; null without one.
    pub(super) verity: Option<Verity>,
    /// The files, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) files: Option<Vec<FileLine>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Superblock {
    /// `right`, `wrong` or `none`.
    pub(super) checksum: &'static str,
    pub(super) block_size: u32,
    /// Size of the image in bytes.
    pub(super) image_bytes: u64,
    pub(super) blocks: u32,
    pub(super) inodes: u64,
    pub(super) root_nid: u16,
    pub(super) meta_block: u32,
    pub(super) xattr_block: u32,
    /// Seconds since the epoch.
    pub(super) built: i64,
    pub(super) uuid: Uuid,
    pub(super) volume_name: String,
    pub(super) compatible: Vec<String>,
    pub(super) incompatible: Vec<String>,
    pub(super) xattr_prefixes: u8,
}

#[derive(Debug, Serialize)]
pub(super) struct Device {
    pub(super) tag: String,
    pub(super) blocks: u32,
    pub(super) mapped_block: u32,
}

/// Reads the image at the start of `file`, which is called `path` and has `bytes` bytes.
pub(super) fn read(path: &Path, file: File, bytes: u64, with_files: bool) -> Result<Image, Error> {
    let file = LayerFile::new(file);
    let header = Header::read(&file)?;
    let verity = verity::read(path, &file, header.image_size(), bytes);
    let (usage, unread, files) = match survey(&file, bytes) {
        Ok((image, places)) => {
            let usage = Usage::of(&image, &places, header.image_size());
            let files = with_files.then(|| files::list(&image));
            (Some(usage), None, files)
        }
        Err(error) => (None, Some(with_causes(&error)), None),
    };
    let devices = header.devices.iter().map(Device::of).collect();
    Ok(Image { superblock: Superblock::of(&header), devices, usage, unread, verity, files })
}

impl Superblock {
    fn of(header: &Header) -> Self {
        Self {
            checksum: match header.checksum {
                Checksum::None => "none",
                Checksum::Right => "right",
                Checksum::Wrong => "wrong",
            },
            block_size: header.block_size,
            image_bytes: header.image_size(),
            blocks: header.blocks,
            inodes: header.inodes,
            root_nid: header.root_nid,
            meta_block: header.meta_block,
            xattr_block: header.xattr_block,
            built: header.built.seconds,
            uuid: Uuid::from_bytes(header.uuid),
            volume_name: String::from_utf8_lossy(&header.volume_name).into_owned(),
            compatible: header.compatible.clone(),
            incompatible: header.incompatible.clone(),
            xattr_prefixes: header.xattr_prefixes,
        }
    }
}

impl Device {
    fn of(slot: &DeviceSlot) -> Self {
        let tag = String::from_utf8_lossy(&slot.tag).into_owned();
        Self { tag, blocks: slot.blocks, mapped_block: slot.mapped_block }
    }
}
