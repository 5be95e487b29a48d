//! The result of `cargo xtask bench commit` as a section of Markdown.

use std::fmt;
use std::time::Duration;

use nexuserofs_integration::node::SNAPSHOTTER;

use super::super::machine::Setting;
use super::scene::{FILE_SIZE, FILES, PULLS, Sample};

/// One snapshotter.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) snapshotter: &'static str,
    /// Commits with nothing beside.
    pub(super) alone: Vec<Sample>,
    /// Commits with the unpacking beside.
    pub(super) beside: Vec<Sample>,
    /// How long the unpacking took, with the Commits beside.
    pub(super) pulls: Vec<Duration>,
}

/// Everything that was measured, and on what.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) setting: Setting,
    pub(super) rounds: u32,
    /// Ours first.
    pub(super) rows: Vec<Row>,
}

impl Row {
    pub(super) const fn new(snapshotter: &'static str) -> Self {
        Self { snapshotter, alone: Vec::new(), beside: Vec::new(), pulls: Vec::new() }
    }

    /// The medians in the order of the columns.
    fn medians(&self) -> [Option<Duration>; 5] {
        let of =
            |samples: &[Sample], part: fn(&Sample) -> Duration| median(samples.iter().map(part).collect());
        [
            of(&self.alone, |sample| sample.commit),
            of(&self.alone, |sample| sample.usable),
            of(&self.beside, |sample| sample.commit),
            of(&self.beside, |sample| sample.usable),
            median(self.pulls.clone()),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = u64::from(FILES) * FILE_SIZE as u64 / 1_000_000;
        writeln!(
            f,
            "# Commit of what was written, measured\n\n\
             `cargo xtask bench commit` writes this section. Snapshots are made on none, {FILES} files of {megabytes} MB together are\n\
             written into each and brought to the disk; then they are committed one after the other, and a snapshot is made on each. All\n\
             calls go through containerd's snapshot service, which holds the lock of its database during a Commit. \"Beside\" is\n\
             the same while the same snapshotter has {PULLS} layers of 24 MiB unpacked, each by its own differ and all at once. Only\n\
             Commits that ended before the unpacking count. Medians of the samples, in milliseconds.\n\n\
             Ours makes the layer after Commit has answered, and who wants a snapshot on it waits for that; the layer is on the disk\n\
             then. containerd's erofs snapshotter makes it within Commit, by mkfs.erofs and without a sync; its overlayfs snapshotter\n\
             makes none, and syncs nothing.\n"
        )?;
        self.setting.write(f, format_args!("{} rounds", self.rounds))?;
        writeln!(
            f,
            "\n| | Commit | until usable | Commit beside | until usable beside | the {PULLS} layers | Commits beside |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let shown = row.medians().map(milliseconds).join(" | ");
            writeln!(f, "| {} | {shown} | {} |", row.snapshotter, row.beside.len())?;
        }
        writeln!(f, "\nHow many times as long as ours the peers take:\n")?;
        writeln!(
            f,
            "| | Commit | until usable | Commit beside | until usable beside | the {PULLS} layers |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        let ours = self.rows.iter().find(|row| row.snapshotter == SNAPSHOTTER).map(Row::medians);
        let Some(ours) = ours else { return Ok(()) };
        for row in self.rows.iter().filter(|row| row.snapshotter != SNAPSHOTTER) {
            let pairs: Vec<_> =
                row.medians().into_iter().zip(ours).map(|(theirs, ours)| ratio(theirs, ours)).collect();
            writeln!(f, "| {} | {} |", row.snapshotter, pairs.join(" | "))?;
        }
        Ok(())
    }
}

/// Of an even number, the upper of the middle two.
fn median(mut samples: Vec<Duration>) -> Option<Duration> {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied()
}

fn milliseconds(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "none".to_owned(), |duration| format!("{:.1}", duration.as_secs_f64() * 1e3))
}

fn ratio(theirs: Option<Duration>, ours: Option<Duration>) -> String {
    let ratio =
        |(theirs, ours): (Duration, Duration)| format!("{:.1}", theirs.as_secs_f64() / ours.as_secs_f64());
    theirs.zip(ours).map_or_else(|| "none".to_owned(), ratio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexuserofs_integration::node::OVERLAYFS;

    fn row(snapshotter: &'static str, commits: &[u64]) -> Row {
        let samples = commits.iter().map(|&commit| Sample {
            commit: Duration::from_millis(commit),
            usable: Duration::from_millis(10 * commit),
        });
        let alone: Vec<Sample> = samples.collect();
        Row {
            alone: alone.clone(),
            beside: alone,
            pulls: vec![Duration::from_secs(2)],
            ..Row::new(snapshotter)
        }
    }

    #[test]
    fn peers_are_compared_by_medians() {
        let rows = vec![row(SNAPSHOTTER, &[2, 900, 1]), row(OVERLAYFS, &[3])];
        let text = Report { setting: Setting::default(), rounds: 3, rows }.to_string();
        assert!(text.contains("| nexuserofs | 2.0 | 20.0 | 2.0 | 20.0 | 2000.0 | 3 |"), "{text}");
        assert!(text.contains("| overlayfs | 1.5 | 1.5 | 1.5 | 1.5 | 1.0 |"), "{text}");
    }

    #[test]
    fn what_has_no_sample_is_said_to_have_none() {
        let empty = Row::new(SNAPSHOTTER);
        assert_eq!(empty.medians().map(milliseconds), ["none"; 5]);
    }
}
