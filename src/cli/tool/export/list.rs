//! What the processes that serve disks did.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;

use super::arguments::Exports;
use crate::cli::exit::Exit;
use crate::cli::tool::error::Error;
use crate::cli::tool::report::{Console, Line, Report};
use crate::expose::export::place::{self, Owner};
use crate::expose::export::tally::{self, DiskTally};
use crate::expose::export::{Place, Running};
use crate::expose::vhost_user::OperationCounts;
use crate::store;

/// An export of a daemon.
#[derive(Debug, Serialize)]
struct Served {
    /// Name of its directory, and of the snapshot's.
    id: String,
    #[serde(flatten)]
    owner: Owner,
    /// The process; null if there is none.
    pid: Option<i32>,
    disks: Vec<DiskTally>,
}

/// Lists them.
pub(in crate::cli::tool) fn list(asked: &Exports, console: Console) -> Result<Exit, Error> {
    let directory = asked.root.join(place::DIRECTORY);
    let mut report = Report::default();
    for id in names(&directory)? {
        let place = Place::new(directory.join(&id));
        // One that ended meanwhile is none.
        let Ok(owner) = place.owner() else { continue };
        let pid = Running::find(&place)?.map(|running| running.pid());
        report.add(Served { id, owner, pid, disks: tally::read(&place)?.disks });
    }
    report.print(console)?;
    Ok(Exit::Success)
}

/// In the order of their names. None where nothing was ever exported.
fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(store::Error::io("read", directory))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(store::Error::io("read", directory))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

impl Line for Served {
    fn text(&self) -> String {
        let Self { id, owner: Owner { profile, key }, pid, disks } = self;
        let process = pid.map_or_else(|| "no process".to_owned(), |pid| format!("process {pid}"));
        let head = format!("{profile} {key}: {process}, exports/{id}");
        std::iter::once(head).chain(disks.iter().map(disk)).collect::<Vec<_>>().join("\n")
    }
}

fn disk(disk: &DiskTally) -> String {
    let counts = &disk.counts;
    let kinds = [
        ("reads", &counts.reads),
        ("writes", &counts.writes),
        ("flushes", &counts.flushes),
        ("discards", &counts.discards),
        ("others", &counts.others),
    ];
    let state = if disk.is_connected() { "connected" } else { "idle" };
    let mut text = format!("  {} {state}, connection {}", disk.serial, counts.connections);
    for (name, counts) in kinds.into_iter().filter(|(_, counts)| counts.requests > 0) {
        text.push_str(&format!("\n    {}", operations(name, counts)));
    }
    for (name, count) in [("malformed", counts.malformed), ("damaged", counts.damaged)] {
        if count > 0 {
            text.push_str(&format!("\n    {name} {count}"));
        }
    }
    text
}

fn operations(name: &str, counts: &OperationCounts) -> String {
    let OperationCounts { requests, bytes, errors, latencies } = counts;
    let median = below(latencies, 50);
    let slow = below(latencies, 99);
    format!(
        "{name:<8} {requests} requests, {bytes} bytes, {errors} errors; half below {median}, 99 of 100 below {slow}"
    )
}

/// The end of the class that this many of a hundred requests lie below or in.
fn below(latencies: &[u64], hundredths: u64) -> String {
    let total: u64 = latencies.iter().sum();
    let mut seen = 0;
    let class = latencies.iter().position(|count| {
        seen += count;
        seen.saturating_mul(100) >= total.saturating_mul(hundredths)
    });
    let nanoseconds = 2_u64.saturating_pow(class.map_or(0, |class| class as u32) + 1);
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{} µs", nanoseconds.div_ceil(1_000)),
        _ => format!("{} ms", nanoseconds.div_ceil(1_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_requests_lies_below_the_end_of_its_class() {
        let mut latencies = vec![0; 25];
        latencies[9] = 98;
        latencies[13] = 1;
        latencies[24] = 1;
        assert_eq!(below(&latencies, 50), "2 µs");
        assert_eq!(below(&latencies, 99), "17 µs");
        assert_eq!(below(&latencies, 100), "34 ms");
        assert_eq!(below(&[1], 50), "2 ns");
    }
}
