//! What a call's metadata says.

use tonic::metadata::MetadataMap;

use crate::error::{Classify, Kind};

/// Names the containerd namespace of a call (containerd `pkg/namespaces`).
const NAMESPACE: &str = "containerd-namespace";
/// Names the lease that keeps what a call creates (containerd `core/leases`).
const LEASE: &str = "containerd-lease";

/// The namespace and the lease of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    /// The caller's namespace. Garbage collection sends none: it works for all of them.
    pub(super) namespace: Option<String>,
    /// The caller's lease.
    pub(super) lease: Option<String>,
}

/// A metadata header that is no text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("metadata header {header} must be printable ASCII")]
pub(super) struct Error {
    header: &'static str,
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

impl Scope {
    /// Reads a call's metadata.
    pub(super) fn of(metadata: &MetadataMap) -> Result<Self, Error> {
        Ok(Self { namespace: text(metadata, NAMESPACE)?, lease: text(metadata, LEASE)? })
    }
}

/// The value of a header; an empty one counts as absent, as it does for containerd.
fn text(metadata: &MetadataMap, header: &'static str) -> Result<Option<String>, Error> {
    let Some(value) = metadata.get(header) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| Error { header })?;
    Ok(Some(text).filter(|text| !text.is_empty()).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataValue;

    use super::*;

    #[test]
    fn headers_are_read() {
        let mut metadata = MetadataMap::new();
        metadata.insert(NAMESPACE, MetadataValue::from_static("k8s.io"));
        metadata.insert(LEASE, MetadataValue::from_static("pull-1"));
        let scope = Scope { namespace: Some("k8s.io".to_owned()), lease: Some("pull-1".to_owned()) };
        assert_eq!(Scope::of(&metadata), Ok(scope));
    }

    #[test]
    fn an_empty_header_counts_as_absent() {
        let scope = Scope { namespace: None, lease: None };
        assert_eq!(Scope::of(&MetadataMap::new()), Ok(scope.clone()));
        let mut metadata = MetadataMap::new();
        metadata.insert(NAMESPACE, MetadataValue::from_static(""));
        metadata.insert(LEASE, MetadataValue::from_static(""));
        assert_eq!(Scope::of(&metadata), Ok(scope));
    }

    #[test]
    fn a_header_that_is_no_text_is_refused() {
        let mut metadata = MetadataMap::new();
        metadata.insert(NAMESPACE, MetadataValue::try_from(b"\xc3\xa9".as_slice()).unwrap());
        assert_eq!(Scope::of(&metadata), Err(Error { header: NAMESPACE }));
    }
}
