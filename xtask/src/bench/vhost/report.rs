//! The result of `cargo xtask bench vhost` as a section of Markdown.

use std::fmt;
use std::path::Path;

use nexuserofs_integration::vhost::storage_daemon::{StorageDaemon, Way};

use super::super::machine::Setting;
use super::contender::{Contender, Role};
use super::guest::InGuest;
use super::image::{Image, LAYERS};
use super::workload::{Sample, WORKLOADS};

/// How many times as fast as qemu-storage-daemon we are to be, on one file and on the layers' files.
const ON_RAW: f64 = 1.0;
const ON_LAYERS: f64 = 1.5;
/// What checking may cost: time of a read with it over one without.
const CHECKED: f64 = 1.15;
/// How much of the speed of QEMU's own disk is still noise.
const NOISE: f64 = 0.95;

/// Everything that was measured, and on what.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) setting: Setting,
    pub(super) rounds: u32,
    pub(super) image: Image,
    pub(super) contenders: Vec<Contender>,
    pub(super) guest: InGuest,
}

const METHOD: &str = "\
`cargo xtask bench vhost` writes this section. One driver, the crate virtio-driver, reads the same disk through the socket of each
exporter, in turns, with one queue of 128 entries and event indexes. An exporter is a process that runs from the first round to the last. Everything is in the
machine's page cache, which all of them use. CPU is that of the exporter alone, for each gigabyte that was read. Memory is what a process has
of its own at the end: no file's, and no guest's. Medians count.

qemu-storage-daemon is told:
";

const GUEST: &str = "\
A guest with two processors, both emulated, reads the merged disk through vhost-user-blk-pci, exported by us from the layers' files, and as
QEMU's own virtio-blk-pci disk with one file of the same bytes. It reads past its own page cache (O_DIRECT); depth is its number of threads.
";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Disks over vhost-user, measured\n\n{METHOD}")?;
        for (format, file) in [("raw", "merged.img"), ("vmdk", "merged.vmdk")] {
            for way in Way::ALL {
                let told = StorageDaemon::arguments(format, Path::new(file), Path::new("SOCKET"), way);
                writeln!(f, "    qemu-storage-daemon {}", told.join(" "))?;
            }
        }
        writeln!(f, "\nAn iothread polls by itself (poll-max-ns is 32768).\n")?;
        let megabytes = self.image.bytes >> 20;
        let how = format_args!("{LAYERS} layers, {megabytes} MiB, medians of {}", self.rounds);
        self.setting.write(f, how)?;
        for (number, workload) in WORKLOADS.iter().enumerate() {
            writeln!(f, "\n## Reading: {}\n", workload.name)?;
            writeln!(f, "| exporter | rate | CPU seconds for each GB |\n|---|---|---|")?;
            for contender in &self.contenders {
                let sample = contender.median(number);
                let rate = shown(&sample, workload.is_random(), workload.request());
                let cpu = sample.cpu_seconds / (sample.bytes / 1e9);
                writeln!(f, "| {} | {rate} | {cpu:.2} |", contender.name)?;
            }
        }
        writeln!(f, "\n## Memory\n\n| exporter | of its own |\n|---|---|")?;
        for contender in &self.contenders {
            writeln!(f, "| {} | {:.1} MiB |", contender.name, mebibytes(contender.own_bytes))?;
        }
        self.in_guest(f)?;
        self.verdict(f)
    }
}

impl Report {
    fn in_guest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n## From inside a guest\n\n{GUEST}\n| | our exporter | QEMU's own disk | ratio |\n|---|---|---|---|"
        )?;
        for row in &self.guest.rows {
            #[expect(clippy::cast_precision_loss, reason = "a request is small")]
            let shown = |sample| shown(sample, row.is_random, row.request as f64);
            let ratio = row.ours.rate() / row.qemu.rate();
            writeln!(f, "| {} | {} | {} | {ratio:.2} |", row.name, shown(&row.ours), shown(&row.qemu))?;
        }
        Ok(())
    }

    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n## Against what we demand of ourselves\n\nThe fastest of the peer's four ways counts.\n"
        )?;
        writeln!(f, "| what | demanded | measured | |\n|---|---|---|---|")?;
        for (number, workload) in WORKLOADS.iter().enumerate() {
            let best = |role| self.best_rate(role, number);
            let name = workload.name;
            let on_raw = best(Role::OurRaw) / best(Role::PeerRaw);
            least(f, &format!("{name}: one file, times as fast"), ON_RAW, on_raw)?;
            let on_layers = best(Role::OurLayers) / best(Role::PeerLayers);
            least(f, &format!("{name}: {LAYERS} layers, times as fast"), ON_LAYERS, on_layers)?;
            let checked = best(Role::OurLayers) / best(Role::OurVerified);
            line(f, &format!("{name}: time with --verify"), "at most", CHECKED, checked, checked <= CHECKED)?;
        }
        for row in &self.guest.rows {
            let ratio = row.ours.rate() / row.qemu.rate();
            least(f, &format!("in a guest, {}: of QEMU's own disk", row.name), NOISE, ratio)?;
        }
        Ok(())
    }

    fn best_rate(&self, role: Role, workload: usize) -> f64 {
        let of_role = self.contenders.iter().filter(|contender| contender.is(role));
        of_role.map(|contender| contender.median(workload).rate()).fold(0.0, f64::max)
    }
}

fn least(f: &mut fmt::Formatter<'_>, what: &str, demanded: f64, measured: f64) -> fmt::Result {
    line(f, what, "at least", demanded, measured, measured >= demanded)
}

fn line(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    limit: &str,
    demanded: f64,
    measured: f64,
    is_met: bool,
) -> fmt::Result {
    let met = if is_met { "met" } else { "**not met**" };
    writeln!(f, "| {what} | {limit} {demanded:.2} | {measured:.2} | {met} |")
}

/// A rate, in requests where each counts.
fn shown(sample: &Sample, is_random: bool, request: f64) -> String {
    if is_random {
        format!("{:.0} requests/s", sample.rate() / request)
    } else {
        format!("{:.0} MB/s", sample.rate() / 1e6)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a size that people read")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_as_people_think_of_them() {
        let sample = Sample { bytes: 8192e3, seconds: 2.0, cpu_seconds: 0.0 };
        assert_eq!(shown(&sample, true, 4096.0), "1000 requests/s");
        assert_eq!(shown(&sample, false, 4096.0), "4 MB/s");
    }
}
