//! What the daemon mounts itself: layers, once for the whole node, one by one or merged, and writable blocks.
//!
//! Whoever cannot follow a mount plan with templates is given plain paths instead: containerd before
//! 2.2, nerdctl's commit and cp, BuildKit, the CRI's image volumes. All layers are mounted in one
//! directory, under names of four characters: containerd shortens the paths of an overlay's lower
//! directories by what they have in common (`core/mount/mount_linux.go`).
//!
//! Nothing counts mounts. A layer is mounted when the first plan needs it and unmounted when the
//! layer is removed; what is mounted is asked of the kernel.
//!
//! * [`shifted`]: layers with the owners of a user namespace.
//! * [`LayerMounts`]: which layer is mounted under which name.
//! * [`integrity`]: layers that dm-verity checks while they are read.
//! * [`corruption`]: what the kernel says when it finds a changed byte.
//! * [`mounting`]: one mount, and its end.
//! * [`visibility`]: whether containerd sees what we mount.
//! * `subject`: what is mounted once; `devices`: merged layers with the files that their data is in.
//! * `name`: the name of a mounted layer; `mountinfo`: what the kernel says is mounted.

pub mod corruption;
mod devices;
pub mod integrity;
mod layers;
pub(super) mod mountinfo;
pub mod mounting;
mod name;
pub mod shifted;
mod subject;
pub mod visibility;

pub use integrity::Integrity;
pub use layers::{Adoption, Known, LayerMounts, Wanted, What};
pub use mounting::Error;
pub use name::{InvalidMountName, MountName};
pub use subject::Subject;
