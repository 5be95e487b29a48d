//! Who exports the image, and what was measured of them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nexuserofs_integration::vhost::exporter::Exporter;
use nexuserofs_integration::vhost::ours::{self, Disk};
use nexuserofs_integration::vhost::storage_daemon::{StorageDaemon, Way};

use super::image::Image;
use super::workload::{Sample, WORKLOADS, Workload};

/// What a contender is compared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Our exporter on one file.
    OurRaw,
    /// Our exporter on the layers' files.
    OurLayers,
    /// The same, which checks what it reads.
    OurVerified,
    /// qemu-storage-daemon on one file.
    PeerRaw,
    /// qemu-storage-daemon on a VMDK of the layers' files.
    PeerLayers,
}

/// A running exporter with its samples.
#[derive(Debug)]
pub(super) struct Contender {
    pub(super) name: String,
    role: Role,
    exporter: Exporter,
    samples: [Vec<Sample>; WORKLOADS.len()],
    /// Memory of its own at the end, in bytes.
    pub(super) own_bytes: u64,
}

/// All of them, running.
pub(super) fn all(
    programs: &Path,
    daemon: &StorageDaemon,
    image: &Image,
    directory: &Path,
) -> Result<Vec<Contender>> {
    let socket = |name: &str| directory.join(format!("{name}.sock"));
    let (flat, metadata) = (image.flat(), image.metadata());
    let layers = Disk::Layers { metadata: &metadata, layers: &image.layers };
    let ours = |role, name: &str, disk: Disk<'_>, verify| -> Result<Contender> {
        let exporter = ours::export(programs, &disk, &directory.join(format!("{role:?}")), verify)?;
        Ok(Contender::new(role, name.to_owned(), exporter))
    };
    let mut all = vec![
        ours(Role::OurRaw, "ours, one file", Disk::File(&flat), ours::Verify::No)?,
        ours(Role::OurLayers, "ours, layers", layers, ours::Verify::No)?,
        ours(
            Role::OurVerified,
            "ours, layers, --verify",
            layers,
            ours::Verify::Merged { root: &image.root },
        )?,
    ];
    for (role, format, file) in
        [(Role::PeerRaw, "raw", flat.clone()), (Role::PeerLayers, "vmdk", image.vmdk())]
    {
        for (number, way) in Way::ALL.into_iter().enumerate() {
            let socket = socket(&format!("peer-{format}-{number}"));
            let exporter = daemon.export(format, &file, &socket, way)?;
            let name = format!("qemu-storage-daemon, {format}, {}", way.name());
            all.push(Contender::new(role, name, exporter));
        }
    }
    Ok(all)
}

impl Contender {
    fn new(role: Role, name: String, exporter: Exporter) -> Self {
        Self { name, role, exporter, samples: Default::default(), own_bytes: 0 }
    }

    pub(super) fn is(&self, role: Role) -> bool {
        self.role == role
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.exporter.socket().to_owned()
    }

    /// Takes one sample of the workload with this number.
    pub(super) fn measure(&mut self, number: usize, workload: &Workload) -> Result<()> {
        let before = self.exporter.usage()?.cpu_seconds;
        let sample = workload.read(self.exporter.socket()).with_context(|| self.name.clone())?;
        let cpu_seconds = self.exporter.usage()?.cpu_seconds - before;
        let samples = self.samples.get_mut(number).context("a workload has a number")?;
        samples.push(Sample { cpu_seconds, ..sample });
        Ok(())
    }

    /// Looks at its memory.
    pub(super) fn weigh(&mut self) -> Result<()> {
        self.own_bytes = self.exporter.usage()?.own_bytes;
        Ok(())
    }

    /// The medians for the workload with this number.
    pub(super) fn median(&self, number: usize) -> Sample {
        self.samples.get(number).map(|samples| median(samples)).unwrap_or_default()
    }
}

/// Each value by itself. Of an even number, the upper of the middle two.
pub(super) fn median(samples: &[Sample]) -> Sample {
    let middle = |value: fn(&Sample) -> f64| {
        let mut values: Vec<f64> = samples.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Sample {
        bytes: middle(|sample| sample.bytes),
        seconds: middle(|sample| sample.seconds),
        cpu_seconds: middle(|sample| sample.cpu_seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_does_not_move_the_median() {
        let samples = [3.0, 1.0, 100.0, 2.0, 2.5].map(|seconds| Sample {
            bytes: 1e9,
            seconds,
            cpu_seconds: seconds / 2.0,
        });
        assert_eq!(median(&samples), Sample { bytes: 1e9, seconds: 2.5, cpu_seconds: 1.25 });
    }
}
