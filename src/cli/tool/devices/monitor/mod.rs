//! What each monitor can open, and what it is told.
//!
//! * `qemu`, `cloud_hypervisor`, `firecracker`: arguments or configuration, one module for each monitor.

mod cloud_hypervisor;
mod firecracker;
pub(super) mod qemu;

use super::arguments::{Monitor, Transport};
use super::disk::Disk;

/// Why this monitor cannot take disks that come in this way. None if it can. docs/block-devices.md has more.
pub(super) const fn obstacle(monitor: Monitor, transport: Transport) -> Option<&'static str> {
    match (monitor, transport) {
        (Monitor::Qemu, _) | (_, Transport::VhostUser | Transport::Flat | Transport::Files) => None,
        (Monitor::CloudHypervisor, Transport::Merged | Transport::Gpt) => {
            Some("only builds since August 2026 read VMDK, and those open every layer for writing")
        }
        (Monitor::Firecracker, Transport::Merged | Transport::Gpt) => Some("it reads no VMDK"),
    }
}

/// What the monitor is told, without an end of line. `memory` is that of the guest in MiB.
pub(super) fn text(monitor: Monitor, disks: &[Disk], memory: u32) -> String {
    match monitor {
        Monitor::Qemu => lines(&qemu::arguments(disks, memory)),
        Monitor::CloudHypervisor => lines(&cloud_hypervisor::arguments(disks, memory)),
        Monitor::Firecracker => firecracker::configuration(disks, memory),
    }
}

/// Arguments for a shell: one option with its value on each line.
fn lines(arguments: &[String]) -> String {
    let mut text = String::new();
    for argument in arguments {
        match text.is_empty() {
            true => {}
            false if argument.starts_with('-') => text.push_str(" \\\n"),
            false => text.push(' '),
        }
        text.push_str(&quoted(argument));
    }
    text
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:+%@".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::cli::tool::devices::disk::Backing;

    /// One disk of each kind.
    fn disks() -> Vec<Disk> {
        let disk = |serial: &str, read_only, backing| Disk { serial: serial.to_owned(), read_only, backing };
        vec![
            disk("image", true, Backing::Vmdk(PathBuf::from("/d/merged.vmdk"))),
            disk("writable", false, Backing::Raw(PathBuf::from("/d/rw, a.img"))),
            disk("more", true, Backing::Socket(PathBuf::from("/d/image.sock"))),
        ]
    }

    #[test]
    fn qemu_gets_drives_and_shared_memory_for_sockets() {
        assert_eq!(
            text(Monitor::Qemu, &disks(), 256),
            "-m 256M \\\n\
             -object memory-backend-memfd,id=memory,size=256M,share=on \\\n\
             -machine memory-backend=memory \\\n\
             -drive if=none,id=image,format=vmdk,readonly=on,file=/d/merged.vmdk \\\n\
             -device virtio-blk-pci,drive=image,serial=image \\\n\
             -drive 'if=none,id=writable,format=raw,discard=unmap,file=/d/rw,, a.img' \\\n\
             -device virtio-blk-pci,drive=writable,serial=writable \\\n\
             -chardev socket,id=more,reconnect-ms=1000,path=/d/image.sock \\\n\
             -device vhost-user-blk-pci,chardev=more"
        );
        let alone = text(Monitor::Qemu, &disks()[..1], 256);
        assert!(!alone.contains("memfd"), "{alone}");
    }

    #[test]
    fn cloud_hypervisor_gets_one_option_with_all_disks() {
        assert_eq!(
            text(Monitor::CloudHypervisor, &disks()[1..], 256),
            "--memory size=256M,shared=on \\\n\
             --disk 'path=\"/d/rw, a.img\",serial=writable,image_type=raw' vhost_user=on,socket=/d/image.sock"
        );
    }

    #[test]
    fn firecracker_gets_drives_as_its_configuration_has_them() {
        let text = text(Monitor::Firecracker, &disks()[1..], 256);
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            parsed,
            serde_json::json!({
                "drives": [
                    {
                        "drive_id": "writable", "is_root_device": false, "is_read_only": false,
                        "path_on_host": "/d/rw, a.img", "cache_type": "Writeback"
                    },
                    { "drive_id": "more", "is_root_device": false, "socket": "/d/image.sock" }
                ],
                "machine-config": { "vcpu_count": 1, "mem_size_mib": 256 }
            })
        );
    }

    #[test]
    fn a_shell_reads_words_back() {
        for (word, expected) in [("a=b,c", "a=b,c"), ("", "''"), ("a b", "'a b'"), ("it's", "'it'\\''s'")] {
            assert_eq!(quoted(word), expected);
        }
    }
}
