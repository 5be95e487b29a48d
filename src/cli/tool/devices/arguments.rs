//! What can be asked for about the disks of a snapshot.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::config::defaults;

pub(in crate::cli::tool) const DEVICES_EXAMPLES: &str = "Examples:
  nexuserofs devices web
  nexuserofs devices --transport merged --output disk --format cloud-hypervisor web
  nexuserofs --json devices sha256:7173b809ca12ec5dee4506cd86be934c4596dd234ee82c0662eac04a8c2c71dc";

pub(in crate::cli::tool) const RUN_EXAMPLES: &str = "Examples:
  nexuserofs run-vm --kernel vmlinuz --append 'root=/dev/vda rootfstype=erofs ro init=/bin/sh' web
  nexuserofs run-vm --kernel vmlinuz --initrd initrd.img --memory 1024 web
  nexuserofs run-vm --kernel vmlinuz web -- -smp 2";

/// The snapshot whose disks are meant.
#[derive(Clone, Debug, Args)]
pub(in crate::cli::tool) struct Which {
    /// Key of the snapshot, with containerd's namespace and number in front or without
    #[arg(value_name = "SNAPSHOT")]
    pub(in crate::cli::tool) snapshot: String,
    /// The snapshotter's name, where several have a snapshot of this key
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli::tool) snapshotter: Option<String>,
    /// Data of the daemon
    #[arg(long, value_name = "DIRECTORY", default_value = defaults::ROOT)]
    pub(in crate::cli::tool) root: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli::tool) struct Devices {
    #[command(flatten)]
    pub(in crate::cli::tool) which: Which,
    /// Tell of this way only
    #[arg(long, value_enum)]
    pub(in crate::cli::tool) transport: Option<Transport>,
    /// Make the disk of --transport here if it is nowhere yet, as `nexuserofs device` does
    #[arg(long, short, value_name = "DIRECTORY", requires = "transport")]
    pub(in crate::cli::tool) output: Option<PathBuf>,
    /// Print what this monitor is told, to be pasted
    #[arg(long, value_enum, conflicts_with = "json")]
    pub(in crate::cli::tool) format: Option<Monitor>,
    /// Memory of the guest in MiB, for --format
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(16..))]
    pub(in crate::cli::tool) memory: u32,
}

#[derive(Debug, Args)]
pub(in crate::cli::tool) struct RunVm {
    #[command(flatten)]
    pub(in crate::cli::tool) which: Which,
    /// The guest's kernel
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli::tool) kernel: PathBuf,
    /// Its initial file system
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli::tool) initrd: Option<PathBuf>,
    /// Words for the kernel's command line, behind console=ttyS0. Without any, and without --initrd, the image is
    /// its root
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub(in crate::cli::tool) append: Option<String>,
    /// How the disks reach the guest. Without it, over the daemon's exports if there are some, and else merged
    #[arg(long, value_enum)]
    pub(in crate::cli::tool) transport: Option<Transport>,
    /// Memory of the guest in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(16..))]
    pub(in crate::cli::tool) memory: u32,
    /// The program
    #[arg(long, value_name = "PROGRAM", default_value = super::run::QEMU)]
    pub(in crate::cli::tool) qemu: PathBuf,
    /// Arguments for QEMU besides
    #[arg(last = true, value_name = "ARGUMENT")]
    pub(in crate::cli::tool) rest: Vec<String>,
}

/// How an image reaches a virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli::tool) enum Transport {
    /// Over sockets that the daemon's export process serves
    VhostUser,
    /// One file system of all layers, as a VMDK descriptor of their files
    Merged,
    /// A partition for each layer, as a VMDK descriptor of their files
    Gpt,
    /// One file system of all layers, in one file
    Flat,
    /// Every layer's own file, as a disk of its own
    Files,
}

impl Transport {
    /// All, the preferred first.
    pub(super) const ALL: [Self; 5] = [Self::VhostUser, Self::Merged, Self::Gpt, Self::Flat, Self::Files];

    /// As the command line has it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::VhostUser => "vhost-user",
            Self::Merged => "merged",
            Self::Gpt => "gpt",
            Self::Flat => "flat",
            Self::Files => "files",
        }
    }
}

/// A virtual machine monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli::tool) enum Monitor {
    /// Arguments of qemu-system-*
    Qemu,
    /// Arguments of cloud-hypervisor
    CloudHypervisor,
    /// Parts of a configuration file, which the API takes one by one too
    Firecracker,
}

impl Monitor {
    pub(super) const ALL: [Self; 3] = [Self::Qemu, Self::CloudHypervisor, Self::Firecracker];

    /// As the command line has it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::CloudHypervisor => "cloud-hypervisor",
            Self::Firecracker => "firecracker",
        }
    }
}
