//! Parts of Firecracker's configuration, as `--config-file` and the API have them.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::tool::devices::disk::{Backing, Disk};

#[derive(Serialize)]
struct Configuration {
    drives: Vec<Drive>,
    #[serde(rename = "machine-config")]
    machine: Machine,
}

#[derive(Serialize)]
struct Machine {
    vcpu_count: u8,
    mem_size_mib: u32,
}

#[derive(Serialize)]
struct Drive {
    drive_id: String,
    is_root_device: bool,
    #[serde(flatten)]
    backing: Source,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Source {
    File {
        path_on_host: PathBuf,
        is_read_only: bool,
        /// With `Unsafe`, its default, a guest's flush is answered and not done.
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_type: Option<&'static str>,
    },
    Socket {
        socket: PathBuf,
    },
}

/// The configuration of a guest with these disks and so many MiB of memory. The kernel is not in it.
pub(super) fn configuration(disks: &[Disk], memory: u32) -> String {
    let drives = disks.iter().map(drive).collect();
    let whole = Configuration { drives, machine: Machine { vcpu_count: 1, mem_size_mib: memory } };
    // Texts and numbers always have a JSON form.
    serde_json::to_string_pretty(&whole).unwrap_or_default()
}

fn drive(disk: &Disk) -> Drive {
    let Disk { serial, read_only, backing } = disk;
    let backing = match backing {
        Backing::Socket(path) => Source::Socket { socket: path.clone() },
        Backing::Raw(path) | Backing::Vmdk(path) => Source::File {
            path_on_host: path.clone(),
            is_read_only: *read_only,
            cache_type: (!read_only).then_some("Writeback"),
        },
    };
    Drive { drive_id: serial.clone(), is_root_device: false, backing }
}
