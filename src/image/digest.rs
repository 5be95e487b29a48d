//! Content digests in the form that OCI descriptors carry, `sha256:` and 64 lower-case hex digits. Guests read and
//! write the same in their manifests, so the type is theirs.

pub use nexuserofs_guest::digest::{Digest, InvalidDigest};
