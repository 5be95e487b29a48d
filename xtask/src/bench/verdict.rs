//! Whether a measurement reaches what the project demands of itself.

use std::fmt;

use nexuserofs_integration::node::containerd::Peer;

use super::report::{Report, Row};
use super::rounds::Times;

/// How many times as fast as containerd's differ with its default options.
const FASTER_THAN_DEFAULT: f64 = 3.0;
/// How many times as fast as containerd's differ in its best tuning.
const FASTER_THAN_TUNED: f64 = 2.0;
/// The same for a layer of a few big files, where both wait for the decompression.
const FASTER_THAN_TUNED_ON_BIG_FILES: f64 = 1.7;
/// How many times as fast with several layers at once.
const FASTER_TOGETHER: f64 = 1.6;
/// How much less CPU than any peer.
const LESS_CPU: f64 = 1.0;
/// How much the time per entry may grow from the smallest directory to the largest.
const GROWTH: f64 = 1.5;

/// One demand and what was measured.
#[derive(Debug)]
pub(super) struct Verdict {
    what: String,
    demanded: f64,
    measured: f64,
    met: bool,
}

impl Verdict {
    fn at_least(what: String, demanded: f64, measured: f64) -> Self {
        Self { what, demanded, measured, met: measured >= demanded }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, demanded, measured, met } = self;
        write!(f, "| {what} | {demanded:.1} | {measured:.2} | {} |", if *met { "met" } else { "**not met**" })
    }
}

/// The verdict on each demand.
pub(super) fn of(report: &Report) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for row in &report.single {
        let [ours, peer, ..] = row.times.as_slice() else { continue };
        let name = row.title();
        verdicts.push(Verdict::at_least(format!("{name}: wall"), single(row), peer.wall / ours.wall));
        verdicts.push(Verdict::at_least(format!("{name}: CPU"), LESS_CPU, peer.cpu / ours.cpu));
    }
    for row in &report.together {
        let [ours, _, synced] = row.times.as_slice() else { continue };
        let what = format!("{}: wall", row.title());
        verdicts.push(Verdict::at_least(what, FASTER_TOGETHER, synced.wall / ours.wall));
    }
    verdicts.extend(growth(&report.entries));
    verdicts
}

fn single(row: &Row) -> f64 {
    match row.peer {
        Peer::Default => FASTER_THAN_DEFAULT,
        Peer::Tuned if row.name.ends_with("big-files") => FASTER_THAN_TUNED_ON_BIG_FILES,
        Peer::Tuned => FASTER_THAN_TUNED,
    }
}

/// Our time per entry in the largest directory over that in the smallest.
fn growth(rows: &[Row]) -> Option<Verdict> {
    let per_entry = |row: &Row| {
        let entries: f64 = row.name.rsplit('-').next()?.strip_suffix('k')?.parse().ok()?;
        row.times.first().map(|Times { wall, .. }| wall / entries)
    };
    let tuned = || rows.iter().filter(|row| row.peer == Peer::Tuned);
    let measured = per_entry(tuned().next_back()?)? / per_entry(tuned().next()?)?;
    let what = "growth of the time per entry".to_owned();
    Some(Verdict { what, demanded: GROWTH, measured, met: measured <= GROWTH })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, peer: Peer, walls: &[f64]) -> Row {
        let times = walls.iter().map(|&wall| Times { wall, cpu: wall }).collect();
        Row { name, peer, bytes: 0, rounds: 5, times }
    }

    #[test]
    fn each_peer_has_its_own_demand() {
        let demands = [
            ("bench-x", Peer::Default, 3.0),
            ("bench-x", Peer::Tuned, 2.0),
            ("bench-big-files", Peer::Tuned, 1.7),
        ];
        for (name, peer, demanded) in demands {
            assert!((single(&row(name, peer, &[])) - demanded).abs() < f64::EPSILON);
        }
    }

    #[test]
    fn growth_compares_time_per_entry() {
        let rows = |last| [row("a-5k", Peer::Tuned, &[1.0]), row("a-50k", Peer::Tuned, &[last])];
        assert!(growth(&rows(9.0)).is_some_and(|verdict| verdict.met));
        assert!(growth(&rows(40.0)).is_some_and(|verdict| !verdict.met));
    }
}
