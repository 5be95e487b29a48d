//! What containerd is given for a snapshot: a mount plan, and the files that the plan names.
//!
//! * [`mount`]: one entry of a plan.
//! * [`plan`]: the entries that a snapshot gets, as a pure function of its record.
//! * [`overlay`]: the directories that a snapshot writes to.
//! * [`block`]: the ext4 file that a snapshot writes to, with such directories in it.
//! * [`device`]: an image as one block device, for virtual machines.
//! * [`quota`]: limits for such directories.
//! * [`idmap`]: mappings of user namespaces.
//! * [`host`]: what the daemon mounts itself, for those who cannot follow a plan with templates.
//! * [`vhost_user`]: an image, or a writable block, as a disk that a virtual machine monitor connects to.
//! * [`view`]: layers on a directory, for somebody to look at.

pub mod block;
pub mod device;
pub mod host;
pub mod idmap;
pub mod mount;
pub mod overlay;
pub mod plan;
pub mod quota;
pub mod vhost_user;
pub mod view;
