//! The result of `cargo xtask bench merge` as a section of Markdown.

use std::fmt;
use std::time::Duration;

use super::super::machine::Setting;
use super::mounts::Times;

/// How many times as fast the set-up and the look-up of a missing file are to be.
const FASTER: f64 = 5.0;
/// The most that merging may take, in milliseconds.
const MERGING_MS: f64 = 50.0;

/// Everything that was measured, and on what.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) setting: Setting,
    pub(super) layers: u32,
    pub(super) rounds: u32,
    /// Files of all layers.
    pub(super) entries: u32,
    /// Size of the merged image.
    pub(super) bytes: u64,
    pub(super) samples: Samples,
}

/// One of each for each round.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) first_prepare: Vec<Duration>,
    pub(super) next_prepare: Vec<Duration>,
    pub(super) merging: Vec<Duration>,
    pub(super) mkfs: Vec<Duration>,
    pub(super) separate: Vec<Times>,
    pub(super) merged: Vec<Times>,
}

const METHOD: &str = "\
`cargo xtask bench merge` writes this section. The layers of an image have 100 files each in a directory of their own, and 100 in one
that all of them have. Our daemon unpacks it. In each round the root of a container is mounted both ways, with an overlay and a writable
directory on top, from files and without loop devices; 2,000 names that are not there are looked up in the common directory; everything is
listed and looked at; and all is unmounted again. Medians count.

\"merging\" is what the daemon does when the first container needs the merged image: it reads the metadata of all layers, and makes the image
in memory. The first Prepare includes that, writes it, and waits until it is on the disk. mkfs.erofs makes the same of the same layers
(`mkfs.erofs --ovlfs-strip=1`), and does not wait for the disk.
";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, layers, entries, .. } = self;
        writeln!(f, "# Merged layers, measured\n\n{METHOD}")?;
        let how = format_args!("{layers} layers with {entries} files, medians of {}", self.rounds);
        self.setting.write(f, how)?;
        writeln!(
            f,
            "\n| | one mount for each layer | one merged mount | times as fast |\n|---|---|---|---|"
        )?;
        for (name, part) in PARTS {
            let (separate, merged) = (of(&samples.separate, part), of(&samples.merged, part));
            writeln!(
                f,
                "| {name} | {} | {} | {:.1} |",
                shown(separate),
                shown(merged),
                ratio(separate, merged)
            )?;
        }
        let plain = |samples: &[Duration]| median(samples.to_vec());
        let merging = plain(&samples.merging);
        writeln!(f, "\n| | |\n|---|---|\n| merging | {} |", shown(merging))?;
        writeln!(f, "| the same by mkfs.erofs | {} |", shown(plain(&samples.mkfs)))?;
        writeln!(f, "| first Prepare, with merging | {} |", shown(plain(&samples.first_prepare)))?;
        writeln!(f, "| next Prepare | {} |", shown(plain(&samples.next_prepare)))?;
        writeln!(f, "| size of the merged image | {} KiB |", self.bytes / 1024)?;
        writeln!(
            f,
            "\n## Against what we demand of merged layers\n\n| what | demanded | measured | |\n|---|---|---|---|"
        )?;
        for (name, part) in &PARTS[..2] {
            let measured = ratio(of(&samples.separate, *part), of(&samples.merged, *part));
            writeln!(
                f,
                "| {name}: times as fast | at least {FASTER:.1} | {measured:.1} | {} |",
                met(measured >= FASTER)
            )?;
        }
        let milliseconds = merging.as_secs_f64() * 1e3;
        writeln!(
            f,
            "| merging | at most {MERGING_MS:.0} ms | {milliseconds:.1} ms | {} |",
            met(milliseconds <= MERGING_MS)
        )
    }
}

/// One of the times of a container's life.
type Part = fn(&Times) -> Duration;

/// What is compared. Of the first two something is demanded.
const PARTS: [(&str, Part); 4] = [
    ("set-up", |times| times.setup),
    ("look-up of a missing file", |times| times.missing),
    ("walk", |times| times.walk),
    ("tear-down", |times| times.teardown),
];

fn of(samples: &[Times], part: Part) -> Duration {
    median(samples.iter().map(part).collect())
}

/// Of an even number, the upper of the middle two.
fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

fn ratio(slower: Duration, faster: Duration) -> f64 {
    slower.as_secs_f64() / faster.as_secs_f64()
}

fn shown(duration: Duration) -> String {
    match duration.as_secs_f64() * 1e3 {
        small if small < 0.1 => format!("{:.1} µs", small * 1e3),
        milliseconds => format!("{milliseconds:.1} ms"),
    }
}

const fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "**not met**" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(milliseconds: u64) -> Times {
        let each = Duration::from_millis(milliseconds);
        Times { setup: each, missing: each / 1000, walk: each, teardown: each }
    }

    #[test]
    fn demands_are_judged_by_medians() {
        let samples = Samples {
            merging: vec![Duration::from_millis(51), Duration::from_millis(49), Duration::from_millis(10)],
            separate: vec![times(50), times(900), times(40)],
            merged: vec![times(10)],
            ..Samples::default()
        };
        let report = Report {
            setting: Setting::default(),
            layers: 100,
            rounds: 3,
            entries: 20_000,
            bytes: 4096,
            samples,
        };
        let text = report.to_string();
        assert!(text.contains("| set-up: times as fast | at least 5.0 | 5.0 | met |"), "{text}");
        assert!(text.contains("| merging | at most 50 ms | 49.0 ms | met |"), "{text}");
        assert!(text.contains("| look-up of a missing file | 50.0 µs | 10.0 µs | 5.0 |"), "{text}");
    }
}
