//! The wire: the parts of containerd's API that we serve or call.
//!
//! The messages are those of containerd (Go module `github.com/containerd/containerd/api`): the names of
//! packages, services, methods and fields, and the field numbers, are facts of that API. The files in
//! `proto/` are our own description of them.
//!
//! The code in `src/gen/` is generated and checked in, so that a build needs no protobuf compiler. After a
//! change of a `.proto` file run
//!
//! ```text
//! NEXUSEROFS_REGENERATE=1 cargo test --package nexuserofs-proto --test generated
//! ```
//!
//! Without the variable that test fails if the code is not what the files say.

/// containerd's packages.
#[allow(clippy::all, missing_docs, unreachable_pub)]
pub mod containerd {
    /// What several services share: mounts, descriptors, platforms.
    pub mod types {
        include!("gen/containerd.types.rs");
    }

    /// The services, each in the version that we speak.
    pub mod services {
        /// The content store: blobs and uploads.
        pub mod content {
            /// Version 1.
            pub mod v1 {
                include!("gen/containerd.services.content.v1.rs");
            }
        }

        /// Layers into snapshots and back. The daemon serves it.
        pub mod diff {
            /// Version 1.
            pub mod v1 {
                include!("gen/containerd.services.diff.v1.rs");
            }
        }

        /// Images: names for what is in the content store.
        pub mod images {
            /// Version 1.
            pub mod v1 {
                include!("gen/containerd.services.images.v1.rs");
            }
        }

        /// What a containerd consists of.
        pub mod introspection {
            /// Version 1.
            pub mod v1 {
                include!("gen/containerd.services.introspection.v1.rs");
            }
        }

        /// Leases, which keep resources from garbage collection.
        pub mod leases {
            /// Version 1.
            pub mod v1 {
                include!("gen/containerd.services.leases.v1.rs");
            }
        }

        /// Snapshots. The daemon serves it.
        pub mod snapshots {
            /// Version 1.
            pub mod v1 {
                include!("gen/containerd.services.snapshots.v1.rs");
            }
        }

        /// Which containerd it is.
        pub mod version {
            /// Version 1.
            pub mod v1 {
                include!("gen/containerd.services.version.v1.rs");
            }
        }
    }
}

/// Google's packages, as far as containerd's messages use them.
#[allow(clippy::all, missing_docs, unreachable_pub)]
pub mod google {
    /// The error model of gRPC.
    pub mod rpc {
        include!("gen/google.rpc.rs");
    }
}
