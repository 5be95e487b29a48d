//! What containerd is given for a snapshot: a mount plan, and the files that the plan names.
//!
//! * [`mount`]: one entry of a plan.
//! * [`plan`]: the entries that a snapshot gets, as a pure function of its record.
//! * [`overlay`]: the directories that a snapshot writes to.
//! * [`block`]: the ext4 file that a snapshot writes to, with such directories in it.
//! * [`device`]: an image as one block device, for virtual machines.
//! * [`export`]: the process that serves a snapshot's disks to a virtual machine.
//! * [`quota`]: limits for such directories.
//! * [`idmap`]: mappings of user namespaces.
//! * [`host`]: what the daemon mounts itself, for those who cannot follow a plan with templates.
//! * [`probe`]: what the kernel and a file system can do of all this.
//! * [`vhost_user`]: an image, or a writable block, as a disk that a virtual machine monitor connects to.
//! * [`view`]: layers on a directory, for somebody to look at.

pub mod block;
pub mod device;
pub mod export;
pub mod host;
pub mod idmap;
pub mod mount;
pub mod overlay;
pub mod plan;
pub mod probe;
pub mod quota;
pub mod vhost_user;
pub mod view;
