//! A virtual machine with a kernel of our choice: for what the machine's own kernel lacks, dm-verity and fs-verity
//! among it, and for what a guest sees of disks that we make.
//!
//! QEMU emulates the processor (`-accel tcg`), so nothing of the machine's virtualisation is needed, and everything
//! in the guest is 10 to 20 times as slow. A boot takes 5 to 10 s.
//!
//! A test program in `tests/` calls [`harness::main`] and runs three times, as with [`crate::stage`]:
//!
//! 1. on the machine, where it makes disks ([`Workshop`]), boots, and relays what comes back ([`qemu::Boot`]);
//! 2. as the guest's first process ([`init`]), from an initramfs with nothing else in it: it loads modules, mounts
//!    the disks and moves into the test host, the same Debian root that [`crate::host`] makes for tests without a guest;
//! 3. inside, where it runs the named tests. [`crate::node`] works there as it does on the machine.
//!
//! To add a test of disks, put them into [`harness::Needs::disks`], each with a serial number, and find them inside
//! by [`init::device`]. Each test program is one boot, whatever the number of its tests:
//!
//! ```no_run
//! # use std::process::ExitCode;
//! # use anyhow::{Result, ensure};
//! # use nexuserofs_integration::guest::disk::Disk;
//! # use nexuserofs_integration::guest::harness::{self, Needs, Test};
//! # use nexuserofs_integration::guest::init::device;
//! const TESTS: &[Test] = &[Test {
//!     name: "a_disk_shows_its_file",
//!     run: |_| {
//!         ensure!(std::fs::read(device("example")?)?.starts_with(b"content"));
//!         Ok(())
//!     },
//! }];
//!
//! fn main() -> Result<ExitCode> {
//!     let disks = |workshop: &harness::Workshop<'_>| {
//!         let file = workshop.directory.join("example.raw");
//!         std::fs::write(&file, [b"content".as_slice(), &[0; 505]].concat())?;
//!         Ok(vec![Disk::raw("example", file)])
//!     };
//!     harness::main(Needs { disks, ..Needs::default() }, TESTS)
//! }
//! ```
//!
//! A test that acts on the machine while its guest runs, as one that cuts its power, is a [`scenario::Scenario`] with
//! a boot of its own.
//!
//! What [`harness::Workshop::payload`] holds is there inside as [`init::PAYLOAD`], read-only. A disk in
//! another format that QEMU reads is [`disk::Disk::of`].

pub mod disk;
pub mod harness;
pub mod image_init;
pub mod init;
mod initramfs;
pub(crate) mod kernel;
pub mod passed_through;
pub mod qemu;
pub mod scenario;
pub mod signer;
pub mod snapshot;
mod system;

pub use harness::Workshop;
pub use kernel::Release;
