//! OCI layer tar streams.
