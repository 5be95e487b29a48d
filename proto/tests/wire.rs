//! Our messages have the bytes that containerd's own messages have.
//!
//! The bytes were made by containerd's Go messages (`github.com/containerd/containerd/api` v1.12.0,
//! deterministic marshalling) filled with the values that stand beside them here.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Debug;

use nexuserofs_proto::containerd::services::{content, diff, introspection, leases, snapshots, version};
use nexuserofs_proto::containerd::types::{Descriptor, Mount, Platform};
use nexuserofs_proto::google;
use prost::Message;
use prost_types::{Any, FieldMask, Timestamp};

#[track_caller]
fn assert_wire<M: Message + Default + PartialEq + Debug>(message: &M, hex: &str) {
    let bytes = from_hex(hex);
    assert_eq!(message.encode_to_vec(), bytes, "{message:?}");
    assert_eq!(M::decode(bytes.as_slice()).unwrap(), *message);
}

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([(text("k"), text("v"))])
}

fn time(seconds: i32) -> Option<Timestamp> {
    Some(Timestamp { seconds: i64::from(seconds), nanos: seconds })
}

fn mounts() -> Vec<Mount> {
    vec![Mount {
        r#type: text("t"),
        source: text("s"),
        target: text("g"),
        options: vec![text("a"), text("b")],
    }]
}

fn descriptor() -> Descriptor {
    Descriptor { media_type: text("m"), digest: text("d"), size: 9, annotations: labels() }
}

fn any() -> Any {
    Any { type_url: text("u"), value: b"w".to_vec() }
}

fn mask() -> Option<FieldMask> {
    Some(FieldMask { paths: vec![text("labels")] })
}

#[test]
fn snapshots_make_and_mount() {
    use snapshots::v1::{
        CommitSnapshotRequest, MountsRequest, MountsResponse, PrepareSnapshotRequest,
        PrepareSnapshotResponse, ViewSnapshotRequest, ViewSnapshotResponse,
    };
    const CREATE: &str = "0a017312016b1a017022060a016b120176";
    const MOUNTS: &str = "0a0f0a01741201731a0167220161220162";
    assert_wire(
        &PrepareSnapshotRequest {
            snapshotter: text("s"),
            key: text("k"),
            parent: text("p"),
            labels: labels(),
        },
        CREATE,
    );
    assert_wire(
        &ViewSnapshotRequest { snapshotter: text("s"), key: text("k"), parent: text("p"), labels: labels() },
        CREATE,
    );
    assert_wire(&PrepareSnapshotResponse { mounts: mounts() }, MOUNTS);
    assert_wire(&ViewSnapshotResponse { mounts: mounts() }, MOUNTS);
    assert_wire(&MountsRequest { snapshotter: text("s"), key: text("k") }, "0a017312016b");
    assert_wire(&MountsResponse { mounts: mounts() }, MOUNTS);
    assert_wire(
        &CommitSnapshotRequest {
            snapshotter: text("s"),
            name: text("n"),
            key: text("k"),
            labels: labels(),
            parent: text("p"),
        },
        "0a017312016e1a016b22060a016b1201762a0170",
    );
}

#[test]
fn snapshots_records() {
    use snapshots::v1::{
        CleanupRequest, Info, Kind, ListSnapshotsRequest, ListSnapshotsResponse, RemoveSnapshotRequest,
        StatSnapshotRequest, StatSnapshotResponse, UpdateSnapshotRequest, UpdateSnapshotResponse,
        UsageRequest, UsageResponse,
    };
    const KEY: &str = "0a017312016b";
    const RECORD: &str = "0a1c0a016e12017018032204080110012a040802100232060a016b120176";
    let info = Info {
        name: text("n"),
        parent: text("p"),
        kind: Kind::Committed.into(),
        created_at: time(1),
        updated_at: time(2),
        labels: labels(),
    };
    assert_wire(&StatSnapshotRequest { snapshotter: text("s"), key: text("k") }, KEY);
    assert_wire(&StatSnapshotResponse { info: Some(info.clone()) }, RECORD);
    assert_wire(
        &UpdateSnapshotRequest { snapshotter: text("s"), info: Some(info.clone()), update_mask: mask() },
        "0a0173121c0a016e12017018032204080110012a040802100232060a016b1201761a080a066c6162656c73",
    );
    assert_wire(&UpdateSnapshotResponse { info: Some(info.clone()) }, RECORD);
    assert_wire(&ListSnapshotsRequest { snapshotter: text("s"), filters: vec![text("f")] }, "0a0173120166");
    assert_wire(&ListSnapshotsResponse { info: vec![info] }, RECORD);
    assert_wire(&UsageRequest { snapshotter: text("s"), key: text("k") }, KEY);
    assert_wire(&UsageResponse { size: 5, inodes: 6 }, "08051006");
    assert_wire(&RemoveSnapshotRequest { snapshotter: text("s"), key: text("k") }, KEY);
    assert_wire(&CleanupRequest { snapshotter: text("s") }, "0a0173");
    for (kind, number) in [(Kind::Unknown, 0), (Kind::View, 1), (Kind::Active, 2), (Kind::Committed, 3)] {
        assert_eq!(i32::from(kind), number);
    }
}

#[test]
fn diff() {
    use diff::v1::{ApplyRequest, ApplyResponse, DiffRequest, DiffResponse};
    assert_wire(
        &ApplyRequest {
            diff: Some(descriptor()),
            mounts: mounts(),
            payloads: BTreeMap::from([(text("y"), any())]),
            sync_fs: true,
        },
        "0a100a016d12016418092a060a016b120176120f0a01741201731a01672201612201621a0b0a017912060a01751201772001",
    );
    assert_wire(&ApplyResponse { applied: Some(descriptor()) }, "0a100a016d12016418092a060a016b120176");
    assert_wire(
        &DiffRequest {
            left: mounts(),
            right: mounts(),
            media_type: text("m"),
            r#ref: text("r"),
            labels: labels(),
            source_date_epoch: time(3),
        },
        "0a0f0a01741201731a0167220161220162120f0a01741201731a01672201612201621a016d2201722a060a016b1201763204\
         08031003",
    );
    assert_wire(&DiffResponse { diff: Some(descriptor()) }, "1a100a016d12016418092a060a016b120176");
}

#[test]
fn content() {
    use content::v1::{
        AbortRequest, Info, InfoRequest, InfoResponse, ReadContentRequest, ReadContentResponse, Status,
        StatusResponse, UpdateRequest, WriteAction, WriteContentRequest, WriteContentResponse,
    };
    let info =
        Info { digest: text("d"), size: 9, created_at: time(1), updated_at: time(2), labels: labels() };
    assert_wire(&InfoRequest { digest: text("d") }, "0a0164");
    assert_wire(
        &InfoResponse { info: Some(info.clone()) },
        "0a190a016410091a04080110012204080210022a060a016b120176",
    );
    assert_wire(
        &UpdateRequest { info: Some(info), update_mask: mask() },
        "0a190a016410091a04080110012204080210022a060a016b12017612080a066c6162656c73",
    );
    assert_wire(&ReadContentRequest { digest: text("d"), offset: 3, size: 4 }, "0a016410031804");
    assert_wire(&ReadContentResponse { offset: 3, data: b"x".as_slice().into() }, "0803120178");
    assert_wire(
        &StatusResponse {
            status: Some(Status {
                started_at: time(1),
                updated_at: time(2),
                r#ref: text("r"),
                offset: 3,
                total: 4,
                expected: text("e"),
            }),
        },
        "0a160a04080110011204080210021a017220032804320165",
    );
    assert_wire(
        &WriteContentRequest {
            action: WriteAction::Commit.into(),
            r#ref: text("r"),
            total: 4,
            expected: text("e"),
            offset: 3,
            data: b"x".as_slice().into(),
            labels: labels(),
        },
        "0802120172180422016528033201783a060a016b120176",
    );
    assert_wire(
        &WriteContentResponse {
            action: WriteAction::Write.into(),
            started_at: time(1),
            updated_at: time(2),
            offset: 3,
            total: 4,
            digest: text("d"),
        },
        "08011204080110011a040802100220032804320164",
    );
    assert_wire(&AbortRequest { r#ref: text("r") }, "0a0172");
}

#[test]
fn leases() {
    use leases::v1::{AddResourceRequest, CreateRequest, CreateResponse, DeleteRequest, Lease, Resource};
    assert_wire(&CreateRequest { id: text("i"), labels: labels() }, "0a01691a060a016b120176");
    assert_wire(
        &CreateResponse { lease: Some(Lease { id: text("i"), created_at: time(1), labels: labels() }) },
        "0a110a01691204080110011a060a016b120176",
    );
    assert_wire(&DeleteRequest { id: text("i"), sync: true }, "0a01691001");
    assert_wire(
        &AddResourceRequest { id: text("i"), resource: Some(Resource { id: text("r"), r#type: text("t") }) },
        "0a016912060a0172120174",
    );
}

#[test]
fn introspection_and_version() {
    use introspection::v1::{DeprecationWarning, Plugin, PluginsRequest, PluginsResponse, ServerResponse};
    assert_wire(&PluginsRequest { filters: vec![text("f")] }, "0a0166");
    let platform = Platform {
        os: text("o"),
        architecture: text("a"),
        variant: text("v"),
        os_version: text("x"),
        os_features: vec![text("f")],
    };
    let plugin = Plugin {
        r#type: text("t"),
        id: text("i"),
        requires: vec![text("r")],
        platforms: vec![platform],
        exports: labels(),
        capabilities: vec![text("c")],
        init_err: Some(google::rpc::Status { code: 1, message: text("m"), details: vec![any()] }),
    };
    assert_wire(
        &PluginsResponse { plugins: vec![plugin] },
        "0a340a01741201691a0172220f0a016f1201611a01762201782a01662a060a016b1201763201633a0d080112016d1a060a01\
         75120177",
    );
    let warning = DeprecationWarning { id: text("i"), message: text("m"), last_occurrence: time(1) };
    assert_wire(
        &ServerResponse { uuid: text("u"), pid: 1, pidns: 2, deprecations: vec![warning] },
        "0a017510011802220c0a016912016d1a0408011001",
    );
    assert_wire(&version::v1::VersionResponse { version: text("v"), revision: text("r") }, "0a0176120172");
}
