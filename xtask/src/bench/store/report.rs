//! The result of `cargo xtask bench store` as a section of Markdown.

use std::fmt;
use std::time::Duration;

use super::super::machine::Setting;
use super::BLOCK_PROFILE;
use super::calls::{Call, Route};
use super::samples::{Samples, Summary};

/// Everything that was measured, and on what. Pairs are of the small store and the large one.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) setting: Setting,
    pub(super) sizes: [u32; 2],
    pub(super) rounds: u32,
    pub(super) subjects: Vec<Subject>,
    pub(super) restarts: [Restart; 2],
}

/// One snapshotter over one route.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) route: Route,
    pub(super) samples: [Samples; 2],
}

/// A restart of the daemon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restart {
    /// Until the first answer.
    pub(super) took: Duration,
    /// Resident bytes of the process that ended.
    pub(super) memory_before: u64,
    /// Resident bytes of the process that began.
    pub(super) memory_after: u64,
}

/// At most this many times what it costs in the small store may a call cost in the large one.
const TARGET_RATIO: f64 = 2.0;

/// The most that the daemon may take to prepare a snapshot with a writable block, by its log.
const PREPARE_BLOCK: Duration = Duration::from_millis(1);

const CALLS: [Call; 12] = [
    Call::Stat,
    Call::UsageCommitted,
    Call::UsageActive,
    Call::Prepare,
    Call::PrepareInside,
    Call::Mounts,
    Call::PrepareDeep,
    Call::MountsDeep,
    Call::Remove,
    Call::Cleanup,
    Call::List,
    Call::Collect,
];

const METHOD: &str = "\
`cargo xtask bench store` writes this section. It fills a small store and a large one, each with images of 128 layers
that share 1,024 different ones, and with containers on them, and then makes the same calls to both, in turns. Times are those of a gRPC
call over a unix socket, as the caller sees them, in microseconds. The caller is not optimised: Stat, which only looks into
memory, shows what a call costs at the least. Prepare, Mounts and Remove are about a container
on an image of 32 layers, the same in both stores; one row has an image of 128. Five minutes lie between filling and measuring:
so long ext4 passes over inodes that were deleted, of which filling the large store leaves tens of thousands.

The daemon is asked by its own socket, as containerd asks it: `nexuserofs` writes to directories, `nexuserofs-block` to blocks of
20 GiB, both in one store. containerd's own `overlayfs` has no socket, so it is asked through containerd's snapshot
service (`containerd.services.snapshots.v1.Snapshots`), which adds a transaction of its own to each change and a Stat to
each item of a List; to compare with it, so are we. containerd removes files only when it collects garbage. The last
row is the time of 20 times `Snapshots/Remove` and one `Leases/Delete` with `sync`, divided by 20.
";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [small, large] = self.sizes;
        writeln!(f, "# A store of {large} snapshots, measured\n\n{METHOD}")?;
        self.setting.write(f, format_args!("medians of {}", self.rounds))?;
        for subject in &self.subjects {
            writeln!(f, "\n## {}\n", subject.name)?;
            writeln!(f, "| call | at {small} | p99 | at {large} | p99 | ratio |\n|---|---|---|---|---|---|")?;
            CALLS.iter().filter_map(|call| subject.row(*call)).try_for_each(|row| writeln!(f, "{row}"))?;
        }
        writeln!(f, "\n## Verdict\n\n{}\n", self.verdict())?;
        if let Some(verdict) = self.block_verdict() {
            writeln!(f, "{verdict}\n")?;
        }
        let [small_restart, large_restart] = self.restarts;
        writeln!(f, "The daemon with {small} snapshots: {small_restart}. With {large}: {large_restart}.")
    }
}

impl Report {
    /// What the daemon promises, and whether it held.
    fn verdict(&self) -> String {
        let ours = self.subjects.iter().filter(|subject| subject.route == Route::Daemon);
        let over: Vec<String> = ours
            .flat_map(|subject| CALLS.iter().map(move |call| (subject, *call)))
            .filter(|(subject, call)| subject.ratio(*call).is_some_and(|ratio| ratio > TARGET_RATIO))
            .map(|(subject, call)| format!("{call} ({})", subject.name))
            .collect();
        let [small, large] = self.sizes;
        if over.is_empty() {
            format!(
                "No call to the daemon costs more than {TARGET_RATIO} times as much at {large} as at {small}."
            )
        } else {
            format!(
                "More than {TARGET_RATIO} times as much at {large} as at {small} cost: {}.",
                over.join(", ")
            )
        }
    }
}

impl Report {
    /// Whether a writable block is made as fast as is demanded; none if none was.
    fn block_verdict(&self) -> Option<String> {
        let blocks = self.subjects.iter().find(|subject| subject.name.starts_with(BLOCK_PROFILE))?;
        let [small, large] = &blocks.samples;
        let medians = [small, large].map(|samples| samples.of(Call::PrepareInside).map(|times| times.median));
        let [Some(small), Some(large)] = medians else { return None };
        let met = if small.max(large) <= PREPARE_BLOCK { "met" } else { "**not met**" };
        Some(format!(
            "Prepare with a block of 20 GiB, as the daemon's log times it: at most {} µs are demanded, {} and {} measured: {met}.",
            PREPARE_BLOCK.as_micros(),
            small.as_micros(),
            large.as_micros()
        ))
    }
}

impl Subject {
    fn row(&self, call: Call) -> Option<String> {
        let [small, large] = &self.samples;
        let large = large.of(call)?;
        let before = small.of(call).map_or_else(|| " |  |".to_owned(), cells);
        let ratio = self.ratio(call).map(|ratio| format!("{ratio:.1}")).unwrap_or_default();
        Some(format!("| {call} |{before}{} {ratio} |", cells(large)))
    }

    /// Median of the large store over that of the small.
    fn ratio(&self, call: Call) -> Option<f64> {
        let [small, large] = &self.samples;
        Some(large.of(call)?.median.as_secs_f64() / small.of(call)?.median.as_secs_f64())
    }
}

fn cells(summary: Summary) -> String {
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    // Three digits are more than the machine repeats.
    let shown = |duration| match micros(duration) {
        small if small < 10.0 => format!("{small:.1}"),
        large => format!("{large:.0}"),
    };
    format!(" {} | {} |", shown(summary.median), shown(summary.p99))
}

impl fmt::Display for Restart {
    #[expect(clippy::cast_precision_loss, reason = "a size that people read")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            "{:.0} MB resident at the end of the run, a restart in {:.2} s, {:.0} MB after it",
            megabytes(self.memory_before),
            self.took.as_secs_f64(),
            megabytes(self.memory_after)
        )
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stat => "Stat",
            Self::UsageCommitted => "Usage, committed",
            Self::UsageActive => "Usage, active",
            Self::Prepare => "Prepare",
            Self::PrepareInside => "Prepare, as the daemon's log times it",
            Self::Mounts => "Mounts",
            Self::PrepareDeep => "Prepare on 128 layers",
            Self::MountsDeep => "Mounts of 128 layers",
            Self::Remove => "Remove",
            Self::Cleanup => "Cleanup after Remove",
            Self::List => "List, per item",
            Self::Collect => "Remove and garbage collection, per item",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(small: &[(Call, u64)], large: &[(Call, u64)]) -> Subject {
        let samples = [small, large].map(|times| {
            let mut samples = Samples::default();
            times.iter().for_each(|(call, micros)| samples.add(*call, Duration::from_micros(*micros)));
            samples
        });
        Subject { name: "ours".to_owned(), route: Route::Daemon, samples }
    }

    #[test]
    fn a_call_that_costs_too_much_is_named() {
        let subject = subject(&[(Call::Stat, 100), (Call::List, 4)], &[(Call::Stat, 210), (Call::List, 4)]);
        assert_eq!(subject.row(Call::Stat).unwrap(), "| Stat | 100 | 100 | 210 | 210 | 2.1 |");
        let restart = Restart { took: Duration::ZERO, memory_before: 0, memory_after: 0 };
        let report = Report {
            setting: Setting::default(),
            sizes: [100, 10_000],
            rounds: 1,
            subjects: vec![subject],
            restarts: [restart; 2],
        };
        assert_eq!(report.verdict(), "More than 2 times as much at 10000 as at 100 cost: Stat (ours).");
    }

    #[test]
    fn the_demand_on_blocks_holds_in_both_stores() {
        let verdict = |small, large| {
            let inside = |micros| [(Call::PrepareInside, micros)];
            let subject =
                Subject { name: BLOCK_PROFILE.to_owned(), ..subject(&inside(small), &inside(large)) };
            let restart = Restart { took: Duration::ZERO, memory_before: 0, memory_after: 0 };
            let setting = Setting::default();
            let report =
                Report { setting, sizes: [1, 2], rounds: 1, subjects: vec![subject], restarts: [restart; 2] };
            report.block_verdict().unwrap()
        };
        assert!(verdict(900, 1000).ends_with("900 and 1000 measured: met."));
        assert!(verdict(900, 1001).ends_with("**not met**."));
    }

    #[test]
    fn a_call_that_only_the_large_store_can_answer_has_no_ratio() {
        let subject = subject(&[], &[(Call::PrepareDeep, 300)]);
        assert_eq!(subject.row(Call::PrepareDeep).unwrap(), "| Prepare on 128 layers | |  | 300 | 300 |  |");
    }
}
