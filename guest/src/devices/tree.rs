//! A directory that looks like sysfs, for tests.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::Sysfs;

pub(crate) struct Tree {
    root: TempDir,
}

impl Tree {
    /// Size of every device in it, in bytes.
    pub(crate) const BYTES: u64 = 2048 * 512;

    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("class/block")).unwrap();
        Self { root }
    }

    pub(crate) fn sysfs(&self) -> Sysfs {
        Sysfs::new(self.root.path())
    }

    /// A virtio disk in these PCI slots.
    pub(crate) fn virtio(&self, name: &str, minor: u32, slots: &str, serial: Option<&str>) {
        let slots: String = slots.split('/').map(|slot| format!("0000:00:{slot}.0/")).collect();
        let folder = format!("devices/pci0000:00/{slots}virtio1/block/{name}");
        self.device(&folder, name, minor);
        if let Some(serial) = serial {
            self.write(&format!("{folder}/serial"), serial.as_bytes());
        }
    }

    pub(crate) fn scsi(&self, name: &str, minor: u32, address: &str, serial: &str) {
        let folder = format!("devices/pci0000:00/0000:00:05.0/host2/target2:0:0/{address}/block/{name}");
        self.device(&folder, name, minor);
        let page = [&[0, 0x80, 0, serial.len() as u8], serial.as_bytes()].concat();
        fs::create_dir_all(self.root.path().join(&folder).join("device")).unwrap();
        self.write(&format!("{folder}/device/vpd_pg80"), &page);
    }

    pub(crate) fn partition(&self, disk: &str, number: u32, minor: u32, label: Option<&str>) {
        let link = self.root.path().join("class/block").join(disk);
        let folder = fs::canonicalize(link).unwrap();
        let folder = folder.strip_prefix(fs::canonicalize(self.root.path()).unwrap()).unwrap();
        let name = format!("{disk}{number}");
        let folder = format!("{}/{name}", folder.display());
        self.device(&folder, &name, minor);
        self.write(&format!("{folder}/partition"), format!("{number}\n").as_bytes());
        let label = label.map(|label| format!("PARTNAME={label}\n")).unwrap_or_default();
        self.write(&format!("{folder}/uevent"), format!("DEVTYPE=partition\n{label}").as_bytes());
    }

    fn device(&self, folder: &str, name: &str, minor: u32) {
        fs::create_dir_all(self.root.path().join(folder)).unwrap();
        self.write(&format!("{folder}/dev"), format!("253:{minor}\n").as_bytes());
        self.write(&format!("{folder}/size"), format!("{}\n", Self::BYTES / 512).as_bytes());
        symlink(format!("../../{folder}"), self.root.path().join("class/block").join(name)).unwrap();
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.root.path().join(file), bytes).unwrap();
    }
}
