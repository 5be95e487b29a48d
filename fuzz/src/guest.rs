//! What a host gives to a guest: it is read or refused, and what is read is written as it was.

use std::collections::BTreeSet;

use nexuserofs_guest::canonical::Canonical;
use nexuserofs_guest::command_line::CommandLine;
use nexuserofs_guest::descriptor::{
    Descriptor, HEADER_BYTES, ImageSource, from_storages, payload_length, to_block,
};
use nexuserofs_guest::devices::{BlockDevice, BlockDevices, Query};
use nexuserofs_guest::manifest::{Manifest, SignedManifest, Statement, UnixTime};
use nexuserofs_guest::policy::{Policy, Rule, UpperKind};
use nexuserofs_guest::verity::{DeviceNumber, Parameters};
use nexuserofs_guest::{NoPlan, plan};

/// Reads `input` behind its first byte as the document that this byte says.
pub fn check(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 8 {
        0 => canonical::<Manifest>(bytes),
        1 => canonical::<SignedManifest>(bytes),
        2 => canonical::<Statement>(bytes),
        3 => descriptor(bytes),
        4 => storages(bytes),
        5 => command_line(bytes),
        6 => policy(bytes),
        _ => block(bytes),
    }
}

fn canonical<T: Canonical>(bytes: &[u8]) {
    if let Ok(value) = T::from_canonical(bytes) {
        assert_eq!(value.to_canonical().as_bytes(), bytes);
    }
}

fn descriptor(bytes: &[u8]) {
    let Ok(found) = Descriptor::read(bytes) else { return };
    let text = found.to_json().expect("JSON");
    assert_eq!(Descriptor::read(text.as_bytes()).expect("what was written"), found);
    // No device is there, so nothing is planned, whoever allows it.
    let rule = Rule::Exact([found.signed.manifest.image_hash()].into());
    let planned = plan(&found, &Policy::new(rule), &BlockDevices::default(), UnixTime(0));
    assert!(matches!(planned, Err(NoPlan::Refused(_) | NoPlan::Device(_))));
    let nothing = Policy::new(Rule::Exact([].into()));
    let refused = plan(&found, &nothing, &BlockDevices::default(), UnixTime(0));
    assert!(matches!(refused, Err(NoPlan::Refused(_))));
    planned_of_everything(&found);
}

/// A host that has every disk that is asked for, and a policy that takes all that this host says: what comes of it is
/// still what the manifest says.
fn planned_of_everything(descriptor: &Descriptor) {
    let manifest = &descriptor.signed.manifest;
    let policy = Policy {
        rule: Rule::Exact([manifest.image_hash()].into()),
        uppers: UpperKind::ALL.into_iter().collect(),
    };
    let serials: BTreeSet<&str> = descriptor.assembly.queries().filter_map(serial).collect();
    let disks = serials.into_iter().zip(0..).map(|(serial, minor)| BlockDevice {
        name: format!("vd{minor}"),
        number: DeviceNumber { major: 253, minor },
        bytes: u64::MAX,
        serial: Some(serial.to_owned()),
        scsi_serial: None,
        pci: None,
        scsi_address: None,
        partition: None,
    });
    let Ok(planned) = plan(descriptor, &policy, &BlockDevices::new(disks.collect()), UnixTime(0)) else { return };
    let listed: Vec<&Parameters> = match &descriptor.assembly.image {
        ImageSource::Layers(_) => manifest.layers().iter().map(|layer| &layer.fields().verity).collect(),
        ImageSource::Merged(_) => manifest.merged().map(|merged| &merged.fields().verity).into_iter().collect(),
    };
    assert!(planned.lowers().iter().map(|lower| &lower.verity).eq(listed));
}

fn serial(query: &Query) -> Option<&str> {
    match query {
        Query::Serial(serial) => Some(serial.as_str()),
        _ => None,
    }
}

fn storages(bytes: &[u8]) {
    if let Ok(assembly) = from_storages(bytes) {
        assert!(!assembly.image.sources().is_empty());
    }
}

fn command_line(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(line) = CommandLine::read(text) else { return };
    if let Ok(Some(policy)) = Policy::from_command_line(&line) {
        let again = CommandLine::read(&policy.to_command_line()).expect("what was written");
        assert_eq!(Policy::from_command_line(&again).expect("a policy"), Some(policy));
    }
}

fn policy(bytes: &[u8]) {
    if let Ok(policy) = Policy::read(bytes) {
        let text = serde_json::to_vec(&policy).expect("JSON");
        assert_eq!(Policy::read(&text).expect("what was written"), policy);
    }
}

fn block(bytes: &[u8]) {
    let header: [u8; HEADER_BYTES] = *to_block(bytes).first_chunk().expect("a header");
    assert_eq!(payload_length(&header, bytes.len()), Ok(bytes.len()));
    if let Some(length) = bytes.first_chunk().and_then(|header| payload_length(header, 4096).ok()) {
        assert!(length <= 4096);
    }
}
