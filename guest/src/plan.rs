//! What is to be done, decided before anything is done.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::descriptor::{Assembly, Descriptor, LayerSource, UpperSource};
use crate::devices::{BlockDevice, BlockDevices, Lookup};
use crate::manifest::{ImageHash, Layer, LayerFields, UnixTime};
use crate::policy::{Approved, Policy, Refusal};
use crate::verity::{DeviceNumber, Parameters};

/// How a root file system is made. Only [`plan`] makes one, so what it says was held against a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    image_hash: ImageHash,
    lowers: Vec<Lower>,
    upper: Upper,
}

/// A layer on its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lower {
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
/// If the policy does not allow the manifest or the upper, if the host gives another number of layers or
/// other parameters than the manifest, if a device is missing, ambiguous, too small, or given twice.
pub fn plan(
    descriptor: &Descriptor,
    policy: &Policy,
    devices: &BlockDevices,
    now: UnixTime,
) -> Result<Plan, NoPlan> {
    let approved = approve(descriptor, policy, now)?;
    let assembly = &descriptor.assembly;
    let mut used = Vec::with_capacity(assembly.layers.len() + 1);
    let mut lowers = Vec::with_capacity(assembly.layers.len());
    for (index, (layer, source)) in approved.manifest().layers().iter().zip(&assembly.layers).enumerate() {
        let device = devices.find(&source.device)?;
        lowers.push(lower(index, layer, device)?);
        used.push((device, Some(layer)));
    }
    let upper = match &assembly.upper {
        UpperSource::None => Upper::None,
        UpperSource::Tmpfs { size } => Upper::Tmpfs { size: *size },
        UpperSource::Device(query) => {
            let device = devices.find(query)?;
            used.push((device, None));
            Upper::Device { path: device.path() }
        }
    };
    each_once(&used)?;
    Ok(Plan { image_hash: approved.image_hash(), lowers, upper })
}

/// A layer on a device that is large enough for it.
fn lower(index: usize, layer: &Layer, device: &BlockDevice) -> Result<Lower, Refusal> {
    let LayerFields { size, verity, .. } = layer.fields();
    let name = device.name.clone();
    match device.bytes >= *size {
        true => Ok(Lower { device: name, number: device.number, verity: verity.clone() }),
        false => {
            Err(Refusal::DeviceTooSmall { layer: index, device: name, needed: *size, found: device.bytes })
        }
    }
}

/// What can be decided without looking at any device: the manifest and the shape of the assembly.
///
/// # Errors
/// If the policy does not allow the manifest or the upper, or if the host gives another number of layers
/// or other parameters than the manifest.
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
    same_layers(approved.manifest().layers(), assembly)?;
    Ok(approved)
}

fn same_layers(layers: &[Layer], assembly: &Assembly) -> Result<(), Refusal> {
    if layers.len() != assembly.layers.len() {
        return Err(Refusal::LayerCount { listed: layers.len(), given: assembly.layers.len() });
    }
    let differs = |(layer, source): (&Layer, &LayerSource)| {
        source.claim.as_ref().is_some_and(|claim| *claim != layer.fields().verity)
    };
    match layers.iter().zip(&assembly.layers).position(differs) {
        Some(layer) => Err(Refusal::ParametersDiffer { layer }),
        None => Ok(()),
    }
}

/// Refuses a device that is given for two things. The same layer twice is one thing: images have it.
fn each_once(used: &[(&BlockDevice, Option<&Layer>)]) -> Result<(), Refusal> {
    let mut purposes = BTreeMap::new();
    for (device, purpose) in used {
        let earlier = purposes.insert(device.number, purpose);
        if earlier.is_some_and(|earlier| earlier.is_none() || earlier != purpose) {
            return Err(Refusal::DeviceTwice { device: device.name.clone() });
        }
    }
    Ok(())
}

impl Plan {
    /// The image that comes of it.
    #[must_use]
    pub const fn image_hash(&self) -> ImageHash {
        self.image_hash
    }

    /// The layers, oldest first; one at least.
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

fn as_text<S: serde::Serializer>(number: &DeviceNumber, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Query;
    use crate::fixtures;
    use crate::manifest::Manifest;
    use crate::policy::{Rule, UpperKind};

    const NOW: UnixTime = UnixTime(0);

    fn query(serial: &str) -> Query {
        Query::Serial(serial.parse().unwrap())
    }

    fn device(name: &str, minor: u32, bytes: u64) -> BlockDevice {
        BlockDevice {
            name: name.to_owned(),
            number: DeviceNumber { major: 253, minor },
            bytes,
            serial: Some(name.to_owned()),
            scsi_serial: None,
            pci: None,
            scsi_address: None,
            partition: None,
        }
    }

    struct Setup {
        descriptor: Descriptor,
        policy: Policy,
        devices: Vec<BlockDevice>,
    }

    /// Layers on devices `l0`, `l1` and so on, a device `up`, and a policy for exactly this.
    fn setup(manifest: &Manifest) -> Setup {
        let layers = manifest.layers();
        let source = |index: usize| LayerSource { device: query(&format!("l{index}")), claim: None };
        let disk =
            |(index, layer): (usize, &Layer)| device(&format!("l{index}"), index as u32, layer.fields().size);
        let mut devices: Vec<_> = layers.iter().enumerate().map(disk).collect();
        devices.push(device("up", 99, 1 << 20));
        Setup {
            descriptor: Descriptor {
                signed: manifest.clone().into(),
                assembly: Assembly {
                    layers: (0..layers.len()).map(source).collect(),
                    upper: UpperSource::Tmpfs { size: None },
                },
            },
            policy: Policy::new(Rule::Exact([manifest.image_hash()].into())),
            devices,
        }
    }

    impl Setup {
        fn plan(&self) -> Result<Plan, NoPlan> {
            plan(&self.descriptor, &self.policy, &BlockDevices::new(self.devices.clone()), NOW)
        }

        fn refused(&self) -> &'static str {
            match self.plan() {
                Err(NoPlan::Refused(refusal)) => refusal.reason(),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn layers_get_the_manifests_parameters_on_the_hosts_devices() {
        let manifest = fixtures::manifest(3);
        let plan = setup(&manifest).plan().unwrap();
        let names: Vec<_> = plan.lowers().iter().map(|lower| lower.device.as_str()).collect();
        assert_eq!(names, ["l0", "l1", "l2"]);
        for (lower, layer) in plan.lowers().iter().zip(manifest.layers()) {
            assert_eq!(lower.verity, layer.fields().verity);
        }
        assert_eq!(plan.image_hash(), manifest.image_hash());
    }

    #[test]
    fn one_layer_more_or_fewer_is_refused() {
        let mut more = setup(&fixtures::manifest(2));
        more.descriptor.assembly.layers.push(LayerSource { device: query("up"), claim: None });
        assert_eq!(more.refused(), "layer_count");
        let mut fewer = setup(&fixtures::manifest(2));
        fewer.descriptor.assembly.layers.pop();
        assert_eq!(fewer.refused(), "layer_count");
    }

    #[test]
    fn a_manifest_that_was_changed_is_refused() {
        let good = setup(&fixtures::manifest(3));
        let mut fields = fixtures::manifest(3).fields().clone();
        fields.layers.swap(0, 1);
        for layers in [
            fields.layers.clone(),
            fields.layers[..2].to_vec(),
            [fields.layers, vec![fixtures::layer(1, 9)]].concat(),
        ] {
            let changed =
                Manifest::new(crate::manifest::Fields { layers, ..fixtures::manifest(3).fields().clone() });
            let other = Setup { policy: good.policy.clone(), ..setup(&changed.unwrap()) };
            assert_eq!(other.refused(), "image_hash_not_allowed");
        }
    }

    #[test]
    fn each_parameter_that_the_host_says_otherwise_is_refused() {
        let mut setup = setup(&fixtures::manifest(2));
        let right = fixtures::manifest(2).layers()[1].fields().verity.clone();
        setup.descriptor.assembly.layers[1].claim = Some(right.clone());
        assert!(setup.plan().is_ok());
        let fields = right.fields();
        let one_less = std::num::NonZeroU64::new(fields.data_blocks.get() - 1).unwrap();
        for fields in [
            crate::verity::Fields { data_blocks: one_less, ..fields.clone() },
            crate::verity::Fields { hash_start_block: fields.hash_start_block + 1, ..fields.clone() },
            crate::verity::Fields { salt: crate::verity::Salt::new(&[]).unwrap(), ..fields.clone() },
            crate::verity::Fields { data_block_size: crate::verity::BlockSize::SECTOR, ..fields.clone() },
            crate::verity::Fields {
                root_digest: crate::verity::RootDigest::Sha256([0; 32]),
                ..fields.clone()
            },
        ] {
            setup.descriptor.assembly.layers[1].claim = Some(Parameters::new(fields).unwrap());
            assert_eq!(setup.refused(), "parameters_differ");
        }
    }

    #[test]
    fn a_device_that_cannot_hold_its_layer_is_refused() {
        let mut setup = setup(&fixtures::manifest(2));
        setup.devices[1].bytes -= 512;
        assert_eq!(setup.refused(), "device_too_small");
    }

    #[test]
    fn one_device_for_two_things_is_refused_but_one_layer_twice_is_one_thing() {
        let mut setup1 = setup(&fixtures::manifest(2));
        setup1.descriptor.assembly.layers[0].device = query("l1");
        assert_eq!(setup1.refused(), "device_twice");

        let mut fields = fixtures::manifest(1).fields().clone();
        fields.layers.push(fields.layers[0].clone());
        let mut twice = setup(&Manifest::new(fields).unwrap());
        twice.descriptor.assembly.layers[1].device = query("l0");
        assert_eq!(twice.plan().unwrap().lowers().len(), 2);
    }

    #[test]
    fn a_hosts_upper_is_refused_unless_the_policy_names_it() {
        let mut setup = setup(&fixtures::manifest(1));
        setup.descriptor.assembly.upper = UpperSource::Device(query("up"));
        assert_eq!(setup.refused(), "upper_not_allowed");
        setup.policy.uppers.insert(UpperKind::Device);
        assert_eq!(setup.plan().unwrap().upper(), &Upper::Device { path: "/dev/up".to_owned() });
        setup.descriptor.assembly.upper = UpperSource::Device(query("l0"));
        assert_eq!(setup.refused(), "device_twice");
    }

    #[test]
    fn devices_that_are_missing_or_ambiguous_are_no_refusal_of_the_policy() {
        let mut setup = setup(&fixtures::manifest(2));
        setup.devices[0].serial = Some("l1".to_owned());
        assert!(matches!(setup.plan(), Err(NoPlan::Device(Lookup::Missing { .. }))));
        setup.descriptor.assembly.layers[0].device = query("l1");
        assert!(matches!(setup.plan(), Err(NoPlan::Device(Lookup::Ambiguous { .. }))));
    }
}
