//! Hosts that give what is listed, and hosts that do not.

use super::*;
use crate::devices::{Partition, Query};
use crate::fixtures;
use crate::manifest::{LayoutVersion, Manifest};
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
                image: ImageSource::Layers((0..layers.len()).map(source).collect()),
                upper: UpperSource::Tmpfs { size: None },
            },
        },
        policy: Policy::new(Rule::Exact([manifest.image_hash()].into())),
        devices,
    }
}

/// The image on the device `m`, an upper on `up`, and a policy for exactly this.
fn merged_setup(manifest: &Manifest) -> Setup {
    let mut setup = setup(manifest);
    let size = manifest.merged().map_or(1 << 20, |merged| merged.fields().size);
    setup.devices.push(device("m", 98, size));
    setup.descriptor.assembly.image = ImageSource::Merged(LayerSource { device: query("m"), claim: None });
    setup
}

impl Setup {
    /// Changes what the host says about the layers.
    fn layers(&mut self) -> &mut Vec<LayerSource> {
        match &mut self.descriptor.assembly.image {
            ImageSource::Layers(layers) => layers,
            ImageSource::Merged(_) => panic!("no layers"),
        }
    }

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
    more.layers().push(LayerSource { device: query("up"), claim: None });
    assert_eq!(more.refused(), "layer_count");
    let mut fewer = setup(&fixtures::manifest(2));
    fewer.layers().pop();
    assert_eq!(fewer.refused(), "layer_count");
}

/// An image of one layer as a plan has it: on `l0` what holds nothing, on `l1` the layer.
fn filled_up() -> Setup {
    let mut setup = setup(&fixtures::manifest(1));
    let empty = LayoutVersion::V1.empty_layer().unwrap().fields();
    setup.devices[0] = device("l0", 0, empty.size);
    setup.devices.push(device("l1", 1, 1 << 20));
    let layer = fixtures::manifest(1).layers()[0].fields().verity.clone();
    let source = |name, verity| LayerSource { device: query(name), claim: Some(verity) };
    *setup.layers() = vec![source("l0", empty.verity.clone()), source("l1", layer)];
    setup
}

#[test]
fn a_single_layer_may_have_one_under_it_that_holds_nothing() {
    let mut setup = filled_up();
    let parts = |plan: Plan| plan.lowers.into_iter().map(|lower| (lower.part, lower.device));
    let expected = [(Part::Empty(0), "l0".to_owned()), (Part::Layer(0), "l1".to_owned())];
    assert_eq!(parts(setup.plan().unwrap()).collect::<Vec<_>>(), expected);
    // What the host says of it changes nothing: the table is known.
    let said = setup.plan().unwrap();
    setup.layers().iter_mut().for_each(|layer| layer.claim = None);
    assert_eq!(setup.plan().unwrap(), said);
    let empty = LayoutVersion::V1.empty_layer().unwrap().fields();
    assert_eq!(said.lowers[0].verity, empty.verity);
    setup.devices[0].bytes -= 512;
    assert_eq!(setup.refused(), "device_too_small");
}

#[test]
fn what_holds_nothing_lies_nowhere_else_and_is_not_there_again() {
    let mut above = filled_up();
    above.layers().reverse();
    assert_eq!(above.refused(), "parameters_differ");
    // Without a claim dm-verity would find it: the table of what holds nothing is over the layer's device.
    above.layers().iter_mut().for_each(|layer| layer.claim = None);
    above.devices[0].bytes = 1 << 20;
    assert_eq!(above.plan().unwrap().lowers()[0].device, "l1");
    let mut again = filled_up();
    let empty = again.layers()[0].clone();
    again.layers().insert(0, empty);
    assert_eq!(again.refused(), "layer_count");
    let mut one_device = filled_up();
    one_device.layers()[0].device = query("l1");
    assert_eq!(one_device.refused(), "device_twice");
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
    setup.layers()[1].claim = Some(right.clone());
    assert!(setup.plan().is_ok());
    let fields = right.fields();
    let one_less = std::num::NonZeroU64::new(fields.data_blocks.get() - 1).unwrap();
    for fields in [
        crate::verity::Fields { data_blocks: one_less, ..fields.clone() },
        crate::verity::Fields { hash_start_block: fields.hash_start_block + 1, ..fields.clone() },
        crate::verity::Fields { salt: crate::verity::Salt::new(&[]).unwrap(), ..fields.clone() },
        crate::verity::Fields { data_block_size: crate::verity::BlockSize::SECTOR, ..fields.clone() },
        crate::verity::Fields { root_digest: crate::verity::RootDigest::Sha256([0; 32]), ..fields.clone() },
    ] {
        setup.layers()[1].claim = Some(Parameters::new(fields).unwrap());
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
    setup1.layers()[0].device = query("l1");
    assert_eq!(setup1.refused(), "device_twice");

    let mut fields = fixtures::manifest(1).fields().clone();
    fields.layers.push(fields.layers[0].clone());
    let mut twice = setup(&Manifest::new(fields).unwrap());
    twice.layers()[1].device = query("l0");
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
fn what_takes_the_writes_is_not_around_a_layer_nor_in_its_disk() {
    let mut setup = setup(&fixtures::manifest(1));
    setup.policy.uppers.insert(UpperKind::Encrypted);
    setup.descriptor.assembly.upper = UpperSource::Encrypted(query("up"));
    let partition = |disk: &str| Partition { disk: disk.to_owned(), number: 1, label: None };
    setup.devices[0].partition = Some(partition("up"));
    setup.layers()[0].device = Query::Path("/dev/l0".parse().unwrap());
    assert_eq!(setup.refused(), "device_twice");
    setup.devices[0].partition = None;
    setup.devices[1].partition = Some(partition("l0"));
    setup.descriptor.assembly.upper = UpperSource::Encrypted(Query::Path("/dev/up".parse().unwrap()));
    assert_eq!(setup.refused(), "device_twice");
    setup.devices[1].partition = Some(partition("another"));
    assert!(setup.plan().is_ok());
}

#[test]
fn a_merged_image_gets_the_manifests_parameters_for_it() {
    let manifest = fixtures::merged_manifest(3);
    let merged = manifest.merged().unwrap().fields();
    let mut setup = merged_setup(&manifest);
    let [lower] = setup.plan().unwrap().lowers.try_into().unwrap();
    assert_eq!((lower.part, lower.device.as_str()), (Part::Merged, "m"));
    assert_eq!(lower.verity, merged.verity);
    setup.devices.last_mut().unwrap().bytes -= 512;
    assert_eq!(setup.refused(), "device_too_small");
    let claim = Some(manifest.layers()[0].fields().verity.clone());
    setup.descriptor.assembly.image = ImageSource::Merged(LayerSource { device: query("m"), claim });
    assert_eq!(setup.refused(), "parameters_differ");
    setup.descriptor.assembly.image = ImageSource::Merged(LayerSource { device: query("up"), claim: None });
    setup.descriptor.assembly.upper = UpperSource::Device(query("up"));
    setup.policy.uppers.insert(UpperKind::Device);
    assert_eq!(setup.refused(), "device_twice");
    // The layers of such a manifest can be given one by one too.
    assert_eq!(super::tests::setup(&manifest).plan().unwrap().lowers().len(), 3);
}

#[test]
fn a_merged_image_that_the_manifest_has_not_is_refused() {
    assert_eq!(merged_setup(&fixtures::manifest(3)).refused(), "not_merged");
}

#[test]
fn an_encrypted_upper_has_to_be_allowed_and_to_have_room() {
    let mut setup = setup(&fixtures::manifest(1));
    setup.descriptor.assembly.upper = UpperSource::Encrypted(query("up"));
    assert_eq!(setup.refused(), "upper_not_allowed");
    setup.policy.uppers.insert(UpperKind::Encrypted);
    let number = DeviceNumber { major: 253, minor: 99 };
    let upper = Upper::Encrypted { device: "up".to_owned(), number, bytes: 1 << 20 };
    assert_eq!(setup.plan().unwrap().upper(), &upper);
    setup.devices.last_mut().unwrap().bytes = ext4::SMALLEST - 1;
    assert_eq!(setup.refused(), "upper_too_small");
    setup.descriptor.assembly.upper = UpperSource::Encrypted(query("l0"));
    setup.devices[0].bytes = 1 << 20;
    assert_eq!(setup.refused(), "device_twice");
}

#[test]
fn devices_that_are_missing_or_ambiguous_are_no_refusal_of_the_policy() {
    let mut setup = setup(&fixtures::manifest(2));
    setup.devices[0].serial = Some("l1".to_owned());
    assert!(matches!(setup.plan(), Err(NoPlan::Device(Lookup::Missing { .. }))));
    setup.layers()[0].device = query("l1");
    assert!(matches!(setup.plan(), Err(NoPlan::Device(Lookup::Ambiguous { .. }))));
}
