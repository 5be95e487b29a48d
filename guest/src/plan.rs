//! What is to be done, decided before anything is done.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Serialize;

use crate::descriptor::{Assembly, Descriptor, ImageSource, LayerSource, UpperSource};
use crate::devices::{BlockDevice, BlockDevices, Lookup};
use crate::ext4;
use crate::manifest::{ImageHash, Layer, LayerFields, Manifest, MergedFields, UnixTime};
use crate::padding;
use crate::part::Part;
use crate::policy::{Approved, Policy, Refusal};
use crate::verity::{DeviceNumber, Parameters};

/// How a root file system is made. Only [`plan`] makes one, so what it says was held against a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    image_hash: ImageHash,
    lowers: Vec<Lower>,
    upper: Upper,
}

/// A part of the image on its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lower {
    /// Which part.
    #[serde(serialize_with = "as_text")]
    pub part: Part,
    /// The kernel's name of the device.
    pub device: String,
    /// Its number.
    #[serde(serialize_with = "as_text")]
    pub number: DeviceNumber,
    /// What the verity device over it is made with: the manifest's parameters.
    pub verity: Parameters,
}

/// What takes the writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Upper {
    /// Nothing.
    None,
    /// Memory.
    Tmpfs {
        /// How much, in bytes; half of it if not said.
        size: Option<u64>,
    },
    /// The ext4 file system on a device.
    Device {
        /// The device's node.
        path: String,
    },
    /// A new file system on an encrypted device.
    Encrypted {
        /// The kernel's name of the device.
        device: String,
        /// Its number.
        #[serde(serialize_with = "as_text")]
        number: DeviceNumber,
        /// Its size in bytes.
        bytes: u64,
    },
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// The policy, or the manifest, does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A device is not there, or there are several.
    #[error(transparent)]
    Device(#[from] Lookup),
}

/// Decides how to make the root file system that `descriptor` describes, of these devices, at this time.
///
/// # Errors
/// If the policy does not allow the manifest or the upper, if the host gives another number of layers than the manifest
/// lists or a plan of them has, or other parameters, if a device is missing, ambiguous, too small, or given twice.
pub fn plan(
    descriptor: &Descriptor,
    policy: &Policy,
    devices: &BlockDevices,
    now: UnixTime,
) -> Result<Plan, NoPlan> {
    let approved = approve(descriptor, policy, now)?;
    let Assembly { image, upper } = &descriptor.assembly;
    let content = content(approved.manifest(), image)?;
    let mut parts = Vec::with_capacity(content.len());
    let mut lowers = Vec::with_capacity(content.len());
    for (what, source) in content.into_iter().zip(image.sources()) {
        let device = devices.find(&source.device)?;
        lowers.push(what.on(device)?);
        parts.push((device, what.verity));
    }
    let (upper, written) = match upper {
        UpperSource::None => (Upper::None, None),
        UpperSource::Tmpfs { size } => (Upper::Tmpfs { size: *size }, None),
        UpperSource::Device(query) => {
            let device = devices.find(query)?;
            (Upper::Device { path: device.path() }, Some(device))
        }
        UpperSource::Encrypted(query) => {
            let device = devices.find(query)?;
            (encrypted(device)?, Some(device))
        }
    };
    each_once(&parts, written)?;
    Ok(Plan { image_hash: approved.image_hash(), lowers, upper })
}

/// What a device has to hold.
#[derive(Clone, Copy)]
struct Content<'a> {
    part: Part,
    bytes: u64,
    verity: &'a Parameters,
}

impl<'a> Content<'a> {
    fn of(part: Part, layer: &'a Layer) -> Self {
        let LayerFields { size, verity, .. } = layer.fields();
        Self { part, bytes: *size, verity }
    }

    /// This on a device that is large enough for it.
    fn on(self, device: &BlockDevice) -> Result<Lower, Refusal> {
        let Self { part, bytes, verity } = self;
        let name = device.name.clone();
        match device.bytes >= bytes {
            true => Ok(Lower { part, device: name, number: device.number, verity: verity.clone() }),
            false => Err(Refusal::DeviceTooSmall { part, device: name, needed: bytes, found: device.bytes }),
        }
    }
}

/// What the devices of the image have to hold, by the manifest, in the host's form of it.
fn content<'a>(manifest: &'a Manifest, image: &ImageSource) -> Result<Vec<Content<'a>>, Refusal> {
    match image {
        ImageSource::Layers(given) => {
            let (listed, given) = (manifest.layers(), given.len());
            let under = padding::under(manifest.fields().layout_version, listed.len(), given);
            let under = under.ok_or(Refusal::LayerCount { listed: listed.len(), given })?;
            let under = under.into_iter().enumerate();
            let under = under.map(|(index, layer)| Content::of(Part::Empty(index), layer));
            let listed = listed.iter().enumerate();
            Ok(under.chain(listed.map(|(index, layer)| Content::of(Part::Layer(index), layer))).collect())
        }
        ImageSource::Merged(_) => {
            let MergedFields { size, verity, .. } = manifest.merged().ok_or(Refusal::NotMerged)?.fields();
            Ok(vec![Content { part: Part::Merged, bytes: *size, verity }])
        }
    }
}

/// What can be decided without looking at any device: the manifest and the shape of the assembly.
///
/// # Errors
/// If the policy does not allow the manifest or the upper, or if the host gives another number of layers than the manifest
/// lists or a plan of them has, or other parameters.
pub fn approve<'a>(
    descriptor: &'a Descriptor,
    policy: &Policy,
    now: UnixTime,
) -> Result<Approved<'a>, Refusal> {
    let Descriptor { signed, assembly } = descriptor;
    let approved = policy.approve(signed, now)?;
    let kind = assembly.upper.kind();
    if !policy.uppers.contains(&kind) {
        return Err(Refusal::UpperNotAllowed { kind });
    }
    let content = content(approved.manifest(), &assembly.image)?;
    let differs = |(what, source): &(Content<'_>, &LayerSource)| {
        source.claim.as_ref().is_some_and(|claim| claim != what.verity)
    };
    match content.into_iter().zip(assembly.image.sources()).find(differs) {
        Some((Content { part, .. }, _)) => Err(Refusal::ParametersDiffer { part }),
        None => Ok(approved),
    }
}

/// An upper on a device that a file system fits on.
fn encrypted(device: &BlockDevice) -> Result<Upper, Refusal> {
    let BlockDevice { name, number, bytes, .. } = device;
    match *bytes >= ext4::SMALLEST {
        true => Ok(Upper::Encrypted { device: name.clone(), number: *number, bytes: *bytes }),
        false => Err(Refusal::UpperTooSmall { device: name.clone(), needed: ext4::SMALLEST, found: *bytes }),
    }
}

/// Refuses a device that is given for two things. The same layer twice is one thing: images have it. What takes the writes
/// lies on no disk of a part of the image, and not around its partition: otherwise what is written would replace it.
fn each_once(parts: &[(&BlockDevice, &Parameters)], upper: Option<&BlockDevice>) -> Result<(), Refusal> {
    let twice = |device: &BlockDevice| Err(Refusal::DeviceTwice { device: device.name.clone() });
    let mut purposes = BTreeMap::new();
    for (device, purpose) in parts {
        let earlier = purposes.insert(device.number, purpose);
        if earlier.is_some_and(|earlier| earlier != purpose) {
            return twice(device);
        }
    }
    match upper {
        Some(upper) if parts.iter().any(|(part, _)| upper.overlaps(part)) => twice(upper),
        _ => Ok(()),
    }
}

impl Plan {
    /// The image that comes of it.
    #[must_use]
    pub const fn image_hash(&self) -> ImageHash {
        self.image_hash
    }

    /// The layers, oldest first, with what lies under them, or the merged image alone; one at least.
    #[must_use]
    pub fn lowers(&self) -> &[Lower] {
        &self.lowers
    }

    /// What takes the writes.
    #[must_use]
    pub const fn upper(&self) -> &Upper {
        &self.upper
    }
}

fn as_text<S: serde::Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests;
