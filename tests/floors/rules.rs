//! The floors of `src/`, as data, and the check of one file against them.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{self, Source};

/// Rooms by floor, from the top. A room may use those on floors below it.
const FLOORS: [&[&str]; 9] = [
    &["bin"],
    &["cli"],
    &["app"],
    &["service"],
    &["snapshot", "diff"],
    &["layer", "store", "expose", "trust", "client"],
    &["config", "error", "telemetry", "sys"],
    &["image"],
    // What tests of every room share: how they say that they did not run, and how they unmount.
    &["skipped", "unmounting"],
];

/// Rooms that not every room above may use, and those that may.
const RESERVED: [(&str, &[&str]); 1] = [("sys", &["snapshot", "layer", "expose"])];

/// The only room with unsafe code.
const UNSAFE_ROOM: &str = "sys";

/// Crates and parts of the standard library that only some rooms may use. `app` serves, so it
/// knows tonic's transport, but no message.
const OUTSIDE: [(&[&str], &[&str]); 4] = [
    (&["nexuserofs_proto"], &["service", "diff", "client"]),
    (&["prost"], &["service", "diff", "client"]),
    (&["prost_types"], &["service", "diff", "client"]),
    (&["tonic"], &["service", "diff", "client", "app"]),
];

/// What would make `image` more than functions over bytes. Its tests may use files.
const NOT_IN_IMAGE: [&[&str]; 8] = [
    &["std", "fs"],
    &["std", "net"],
    &["std", "process"],
    &["std", "env"],
    &["tokio"],
    &["rustix"],
    &["redb"],
    &["tracing"],
];

/// Longest file in lines.
pub(crate) const LONGEST: usize = 600;

/// What is wrong with a file, and which rooms of its own floor it uses.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// One sentence for each violation, with file and line.
    pub(crate) violations: Vec<String>,
    /// Pairs of rooms on one floor, user first.
    pub(crate) sideways: BTreeSet<(String, String)>,
}

impl Findings {
    /// Adds what another file has.
    pub(crate) fn add(&mut self, other: Self) {
        self.violations.extend(other.violations);
        self.sideways.extend(other.sideways);
    }

    /// The violations, among them rooms of one floor that use each other in a circle.
    pub(crate) fn into_violations(mut self) -> Vec<String> {
        let circles = circles(&self.sideways);
        self.violations
            .extend(circles.iter().map(|room| format!("{room} uses itself by way of its neighbours")));
        self.violations
    }
}

/// Checks the file at `path`, relative to `src/`, against every rule.
pub(crate) fn check(path: &str, text: &str) -> Findings {
    let module = module_of(path);
    let Some((&room, inner)) = module.split_first() else {
        return Findings::default();
    };
    // A program is the root of its own crate.
    let module = if room == "bin" { inner } else { &module };
    match source::read(text, module) {
        Ok(source) => check_source(path, room, &source),
        Err(error) => {
            Findings { violations: vec![format!("{path}: not Rust: {error}")], ..Findings::default() }
        }
    }
}

/// Says so when a file is too long to have one job.
pub(crate) fn check_length(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LONGEST).then(|| format!("{path}: {lines} lines, more than {LONGEST}: split it"))
}

fn check_source(path: &str, room: &str, source: &Source) -> Findings {
    let mut findings = Findings::default();
    for used in &source.paths {
        let place = format!("{path}:{}", used.line);
        if let Some(target) = room_of(&used.segments) {
            check_room(&place, room, target, &mut findings);
        } else if let Some(name) = forbidden_outside(room, &used.segments, used.in_tests) {
            findings.violations.push(format!("{place}: {room} must not use {name}"));
        }
    }
    if room != UNSAFE_ROOM {
        let lines = source.unsafe_lines.iter();
        findings.violations.extend(lines.map(|line| format!("{path}:{line}: unsafe outside {UNSAFE_ROOM}")));
    }
    findings
}

fn check_room(place: &str, user: &str, used: &str, findings: &mut Findings) {
    let (Some(from), Some(to)) = (floor(user), floor(used)) else {
        findings.violations.push(format!("{place}: {user} or {used} has no floor: give it one"));
        return;
    };
    let reserved = RESERVED.iter().find(|(room, _)| *room == used);
    if user == used {
        return;
    }
    if to < from {
        findings.violations.push(format!("{place}: {user} uses {used}, which is above it"));
    } else if reserved.is_some_and(|(_, users)| !users.contains(&user)) {
        findings.violations.push(format!("{place}: {used} is not for {user}"));
    } else if to == from {
        findings.sideways.insert((user.to_owned(), used.to_owned()));
    }
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// The room that a path leads to, if it is one of this crate.
fn room_of(segments: &[String]) -> Option<&str> {
    match segments {
        [root, room, ..] if root == "crate" || root == "nexuserofs" => Some(room),
        _ => None,
    }
}

/// The rule's name for what `room` uses although it must not.
fn forbidden_outside(room: &str, segments: &[String], in_tests: bool) -> Option<String> {
    let matches =
        |prefix: &&[&str]| segments.iter().map(String::as_str).take(prefix.len()).eq(prefix.iter().copied());
    let by_crate = OUTSIDE.iter().filter(|(_, rooms)| !rooms.contains(&room)).map(|(prefix, _)| *prefix);
    let by_image = NOT_IN_IMAGE.into_iter().filter(|_| room == "image" && !in_tests);
    by_crate.chain(by_image).find(matches).map(|prefix| prefix.join("::"))
}

/// The modules from the crate's root to the file at `path`.
fn module_of(path: &str) -> Vec<&str> {
    let mut module: Vec<_> = path.trim_end_matches(".rs").split('/').collect();
    if matches!(module.last(), Some(&("mod" | "lib"))) {
        module.pop();
    }
    module
}

/// Rooms from which a walk along `edges` comes back.
fn circles(edges: &BTreeSet<(String, String)>) -> BTreeSet<&str> {
    let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for _ in 0..=edges.len() {
        for (from, to) in edges {
            let further = reach.get(to.as_str()).cloned().unwrap_or_default();
            let reached = reach.entry(from).or_default();
            reached.insert(to);
            reached.extend(further);
        }
    }
    reach.into_iter().filter(|(room, reached)| reached.contains(room)).map(|(room, _)| room).collect()
}
