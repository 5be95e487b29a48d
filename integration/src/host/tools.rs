//! What the test host has besides its own packages: clients and servers of other versions, built or unpacked.

use std::path::PathBuf;

use anyhow::Result;

use super::Recipe;
use super::go::{Module, Product};
use crate::cache::Cache;
use crate::guest::kernel;
use crate::progress::Outcome;

/// containerd 2.3, its client and its runc shim, and our own clients: one that mounts images, one for the CRI.
pub const CONTAINERD: Module = Module {
    name: "containerd-tools",
    product: Product::Programs(&[
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/ctr",
        "./cmd/cri-call",
        "./cmd/image-mount",
        "./cmd/pause",
    ]),
};

/// A part of the test host that only some tests use.
#[derive(Clone, Copy, Debug)]
pub enum Extra {
    /// A Go module.
    Go(&'static Module),
    /// Debian packages.
    Debian(&'static Recipe),
}

/// containerd's suite for snapshotters, as a program.
pub const CONFORMANCE: Extra = Extra::Go(&Module { name: "conformance", product: Product::Tests });

/// containerd 2.4, its client and its runc shim.
pub const CONTAINERD_2_4: Extra = Extra::Go(&Module {
    name: "containerd-2.4",
    product: Product::Programs(&[
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/ctr",
    ]),
});

/// containerd 1.7 as Debian 13 has it. It is unpacked only: its programs run in the test host.
pub const CONTAINERD_1_7: Extra = Extra::Debian(&Recipe {
    name: "containerd-1.7",
    suite: "trixie",
    variant: "extract",
    packages: &["containerd"],
});

/// containerd 2.2, the first release with a mount manager.
pub const CONTAINERD_2_2: Extra = Extra::Go(&Module {
    name: "containerd-2.2",
    product: Product::Programs(&["github.com/containerd/containerd/v2/cmd/containerd"]),
});

/// The kernel of the guests, with its list of options.
pub const GUEST_KERNEL: Extra = Extra::Debian(&kernel::PACKAGE);

/// nerdctl, a client of containerd that mounts snapshots itself.
pub const NERDCTL: Extra = Extra::Go(&Module {
    name: "nerdctl",
    product: Product::Programs(&["github.com/containerd/nerdctl/v2/cmd/nerdctl"]),
});

/// BuildKit's daemon and its client.
pub const BUILDKIT: Extra = Extra::Go(&Module {
    name: "buildkit",
    product: Product::Programs(&[
        "github.com/moby/buildkit/cmd/buildctl",
        "github.com/moby/buildkit/cmd/buildkitd",
    ]),
});

impl Extra {
    /// The name by which tests ask for its directory.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Go(module) => module.name,
            Self::Debian(recipe) => recipe.name,
        }
    }

    /// Makes it, unless the cache has it, and returns its directory.
    ///
    /// # Errors
    /// The build fails, or mmdebstrap does.
    pub fn make(&self, cache: &Cache) -> Result<(PathBuf, Outcome)> {
        match self {
            Self::Go(module) => module.build(cache),
            Self::Debian(recipe) => recipe.in_cache(cache),
        }
    }
}
