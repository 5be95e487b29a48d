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
    /// The caller's namespace. Garbage collection sends none; then it is the configured one.
    pub(super) namespace: String,
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
    pub(super) fn of(metadata: &MetadataMap, default_namespace: &str) -> Result<Self, Error> {
        Ok(Self {
            namespace: text(metadata, NAMESPACE)?.unwrap_or_else(|| default_namespace.to_owned()),
            lease: text(metadata, LEASE)?,
        })
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
        let scope = Scope { namespace: "k8s.io".to_owned(), lease: Some("pull-1".to_owned()) };
        assert_eq!(Scope::of(&metadata, "default"), Ok(scope));
    }

    #[test]
    fn without_headers_the_configured_namespace_holds() {
        let scope = Scope { namespace: "default".to_owned(), lease: None };
        assert_eq!(Scope::of(&MetadataMap::new(), "default"), Ok(scope.clone()));
        let mut metadata = MetadataMap::new();
        metadata.insert(NAMESPACE, MetadataValue::from_static(""));
        metadata.insert(LEASE, MetadataValue::from_static(""));
        assert_eq!(Scope::of(&metadata, "default"), Ok(scope));
    }

    #[test]
    fn a_header_that_is_no_text_is_refused() {
        let mut metadata = MetadataMap::new();
        metadata.insert(NAMESPACE, MetadataValue::try_from(b"\xc3\xa9".as_slice()).unwrap());
        assert_eq!(Scope::of(&metadata, "default"), Err(Error { header: NAMESPACE }));
    }
}
