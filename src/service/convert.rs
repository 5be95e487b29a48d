//! Protobuf messages into domain values and back.

use std::collections::BTreeMap;

use nexuserofs_proto::containerd::services::snapshots::v1 as wire;
use nexuserofs_proto::containerd::types;
use prost_types::FieldMask;

use crate::diff;
use crate::error::{Classify, Kind};
use crate::expose::mount::Mount;
use crate::image::digest::{Digest, InvalidDigest};
use crate::image::tree::Timestamp;
use crate::snapshot::{self, Info, LabelChange, Labels, Usage};

/// A message that no valid client sends.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Error {
    #[error("the request lacks the field {field:?}")]
    Missing { field: &'static str },
    #[error("field {path:?} cannot be changed; the update mask may hold \"labels\" and \"labels.KEY\"")]
    Immutable { path: String },
    #[error("size {size} of layer {digest} is negative")]
    NegativeSize { digest: String, size: i64 },
    #[error("layers are identified by SHA-256 only")]
    Digest(#[from] InvalidDigest),
    #[error("a time of {nanoseconds} nanoseconds is none: there are 0 to 999999999 in a second")]
    Time { nanoseconds: i32 },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. }
            | Self::Immutable { .. }
            | Self::NegativeSize { .. }
            | Self::Digest(_)
            | Self::Time { .. } => Kind::InvalidArgument,
        }
    }
}

/// The parent that a request names: on the wire the empty text means none.
pub(super) fn parent(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A plan as containerd receives it.
pub(super) fn mounts_to_wire(mounts: Vec<Mount>) -> Vec<types::Mount> {
    let to_wire =
        |Mount { fstype, source, target, options }| types::Mount { r#type: fstype, source, target, options };
    mounts.into_iter().map(to_wire).collect()
}

/// A plan as containerd hands it back.
pub(super) fn mounts_from_wire(mounts: Vec<types::Mount>) -> Vec<Mount> {
    let from_wire =
        |types::Mount { r#type, source, target, options }| Mount { fstype: r#type, source, target, options };
    mounts.into_iter().map(from_wire).collect()
}

/// A snapshot's record. Kind and times are always set: clients read an absent kind as committed.
pub(super) fn info_to_wire(info: Info) -> wire::Info {
    wire::Info {
        name: info.name,
        parent: info.parent.unwrap_or_default(),
        kind: kind_to_wire(info.kind).into(),
        created_at: Some(info.created.into()),
        updated_at: Some(info.updated.into()),
        labels: info.labels,
    }
}

const fn kind_to_wire(kind: snapshot::Kind) -> wire::Kind {
    match kind {
        snapshot::Kind::View => wire::Kind::View,
        snapshot::Kind::Active => wire::Kind::Active,
        snapshot::Kind::Committed => wire::Kind::Committed,
    }
}

/// What a snapshot occupies.
pub(super) fn usage_to_wire(usage: &Usage) -> wire::UsageResponse {
    wire::UsageResponse { size: to_signed(usage.bytes), inodes: to_signed(usage.inodes) }
}

/// The change that an Update request asks for: the whole set of labels without a mask or with `labels` in
/// it, single labels with `labels.KEY`. A label that the mask names and the record lacks is deleted.
pub(super) fn label_change(mut labels: Labels, mask: Option<FieldMask>) -> Result<LabelChange, Error> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    let keys = paths
        .iter()
        .filter(|path| *path != "labels")
        .map(|path| label_key(path))
        .collect::<Result<Vec<_>, _>>()?;
    if paths.is_empty() || keys.len() < paths.len() {
        return Ok(LabelChange::ReplaceAll(labels));
    }
    let value = |key: &str| (key.to_owned(), labels.remove(key).unwrap_or_default());
    Ok(LabelChange::Set(keys.into_iter().map(value).collect()))
}

/// The label that a path of a mask names.
fn label_key(path: &str) -> Result<&str, Error> {
    path.strip_prefix("labels.")
        .filter(|key| !key.is_empty())
        .ok_or_else(|| Error::Immutable { path: path.to_owned() })
}

/// A layer's descriptor.
pub(super) fn descriptor_from_wire(descriptor: types::Descriptor) -> Result<diff::Descriptor, Error> {
    let types::Descriptor { media_type, digest, size, annotations: _ } = descriptor;
    let Ok(bytes) = u64::try_from(size) else {
        return Err(Error::NegativeSize { digest, size });
    };
    Ok(diff::Descriptor { media_type, digest: digest.parse::<Digest>()?, size: bytes })
}

/// What a layer turned out to be.
pub(super) fn applied_to_wire(applied: diff::Applied) -> types::Descriptor {
    types::Descriptor {
        media_type: applied.media_type,
        digest: applied.digest.to_string(),
        size: to_signed(applied.size),
        annotations: BTreeMap::new(),
    }
}

/// A blob that was written.
pub(super) fn descriptor_to_wire(descriptor: diff::Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type,
        digest: descriptor.digest.to_string(),
        size: to_signed(descriptor.size),
        annotations: BTreeMap::new(),
    }
}

/// A point in time.
pub(super) fn timestamp_from_wire(time: prost_types::Timestamp) -> Result<Timestamp, Error> {
    match u32::try_from(time.nanos) {
        Ok(nanoseconds) if nanoseconds < 1_000_000_000 => {
            Ok(Timestamp { seconds: time.seconds, nanoseconds })
        }
        _ => Err(Error::Time { nanoseconds: time.nanos }),
    }
}

/// The wire's numbers are signed. What does not fit is its largest one.
fn to_signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn change(pairs: &[(&str, &str)], paths: &[&str]) -> Result<LabelChange, Error> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        label_change(labels(pairs), Some(FieldMask { paths }))
    }

    #[test]
    fn a_mask_with_labels_or_without_paths_replaces_all() {
        let given = [("a", "1"), ("b", "2")];
        let all = Ok(LabelChange::ReplaceAll(labels(&given)));
        assert_eq!(label_change(labels(&given), None), all);
        assert_eq!(change(&given, &[]), all);
        assert_eq!(change(&given, &["labels"]), all);
        assert_eq!(change(&given, &["labels.a", "labels"]), all);
    }

    #[test]
    fn a_mask_with_keys_sets_these_and_deletes_what_the_record_lacks() {
        let given = [("a", "1"), ("b", "2")];
        let expected = labels(&[("a", "1"), ("dotted.c/d", "")]);
        assert_eq!(change(&given, &["labels.a", "labels.dotted.c/d"]), Ok(LabelChange::Set(expected)));
    }

    #[test]
    fn a_mask_with_anything_else_is_refused() {
        for path in ["parent", "kind", "", "labels.", "labelsx", "Labels"] {
            let expected = Err(Error::Immutable { path: path.to_owned() });
            assert_eq!(change(&[], &["labels", path]), expected);
        }
    }

    #[test]
    fn a_record_keeps_its_kind_and_times_on_the_wire() {
        let info = Info {
            name: "n".to_owned(),
            parent: None,
            kind: snapshot::Kind::View,
            created: SystemTime::UNIX_EPOCH + Duration::new(7, 8),
            updated: SystemTime::UNIX_EPOCH + Duration::new(9, 10),
            labels: labels(&[("a", "1")]),
        };
        let wire = info_to_wire(info);
        assert_eq!(wire.kind(), wire::Kind::View);
        assert_eq!(wire.parent, "");
        assert_eq!(wire.created_at, Some(prost_types::Timestamp { seconds: 7, nanos: 8 }));
        assert_eq!(wire.updated_at, Some(prost_types::Timestamp { seconds: 9, nanos: 10 }));
        assert_eq!(wire.labels, labels(&[("a", "1")]));
    }

    #[test]
    fn mounts_survive_the_wire() {
        let plan = vec![Mount {
            fstype: "format/overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options: vec!["ro".to_owned(), "x={{ mount 0 }}".to_owned()],
        }];
        assert_eq!(mounts_from_wire(mounts_to_wire(plan.clone())), plan);
    }

    #[test]
    fn descriptors_are_checked() {
        let wire = |digest: &str, size| types::Descriptor {
            media_type: "m".to_owned(),
            digest: digest.to_owned(),
            size,
            ..Default::default()
        };
        let digest = Digest::of(b"").to_string();
        let descriptor = descriptor_from_wire(wire(&digest, 5)).unwrap();
        assert_eq!((descriptor.digest, descriptor.size), (Digest::of(b""), 5));
        assert_eq!(
            descriptor_from_wire(wire(&digest, -1)).map(drop).unwrap_err().kind(),
            Kind::InvalidArgument
        );
        let error = descriptor_from_wire(wire("sha512:00", 5)).map(drop).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }

    #[test]
    fn times_have_less_than_a_second_of_nanoseconds() {
        let wire = |nanos| timestamp_from_wire(prost_types::Timestamp { seconds: -7, nanos });
        assert_eq!(wire(999_999_999), Ok(Timestamp { seconds: -7, nanoseconds: 999_999_999 }));
        for nanoseconds in [-1, 1_000_000_000] {
            assert_eq!(wire(nanoseconds), Err(Error::Time { nanoseconds }));
        }
    }
}
