//! VMDK descriptors: a text that says which files a disk is made of.
//!
//! VMware's "Virtual Disk Format 5.0" is the format's source. What is written here, and the only thing that is read,
//! is the part of it that all readers agree on (QEMU, Cloud Hypervisor, libkrun's imago):
//!
//! * Every line is `RW SECTORS FLAT "PATH" 0`: a whole file, or its beginning, also above 2 GiB. QEMU passes over
//!   lines with `RDONLY` and `ZERO`, so that what follows moves; Cloud Hypervisor takes no disk with a line that is not
//!   `FLAT`; imago before 0.2.6 reads the number at the end as bytes, the others as sectors.
//! * Paths are absolute, and without what some reader ends a word at ([`ExtentPath`]).
//! * Comments are those that Cloud Hypervisor looks for, and no others.
//!
//! `path`: names of files. `descriptor`: the text, both ways.

mod descriptor;
mod path;

pub use descriptor::{Descriptor, Error, Extent, ParseError};
pub use path::{ExtentPath, InvalidPath, Reason};
