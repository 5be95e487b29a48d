//! The result of `cargo xtask bench unpack` as a section of Markdown.

use std::fmt;

use nexuserofs_integration::node::containerd::Peer;

use super::machine::Setting;
use super::rounds::Times;
use super::verdict;

/// One measurement: we first, then containerd's differ, then perhaps containerd's differ with a sync.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) peer: Peer,
    /// Compressed size of the layers.
    pub(super) bytes: u64,
    pub(super) rounds: u32,
    pub(super) times: Vec<Times>,
}

/// Everything that was measured, and on what.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) setting: Setting,
    pub(super) rounds: u32,
    pub(super) single: Vec<Row>,
    pub(super) together: Vec<Row>,
    pub(super) entries: Vec<Row>,
}

const METHOD: &str = "\
`cargo xtask bench unpack` writes this section. Both differs unpack the same layers (tar with gzip, level 6) through the
same containerd 2.3.4, in turns. The content is in containerd's store before. The time is that of Prepare, Apply and
Commit, called as containerd's own unpacker calls them; CPU is that of containerd, our daemon and all their children.
Before each turn the file system is synced, after it everything is removed again. Medians count.

Our layer file is on disk before Apply answers. containerd's erofs differ never syncs what it wrote; the column
\"+ sync\" adds an fsync of its file before Commit, the others leave it as it is.

What containerd's erofs differ runs for a layer, with the tar on standard input:

    default  CONTAINERD_DISABLE_IGZIP=1 CONTAINERD_DISABLE_PIGZ=1 (gzip in Go)
             mkfs.erofs --tar=f --aufs --quiet -Enoinline_data -b4096 -U UUID layer.erofs
    tuned    igzip -d -c (from the package isal)
             mkfs.erofs --tar=f --aufs --quiet -Enoinline_data -b4096 -T0 --mkfs-time --sort=none -U UUID layer.erofs
";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Unpacking, measured\n\n{METHOD}")?;
        self.setting.write(f, format_args!("medians of {}", self.rounds))?;
        writeln!(f, "\n## One layer at a time\n\nSeconds of wall time, in brackets of CPU.\n")?;
        synced_table(f, &self.single)?;
        writeln!(f, "\n## Three layers at once\n")?;
        synced_table(f, &self.together)?;
        writeln!(f, "\n## One directory of many entries\n")?;
        plain_table(f, &self.entries)?;
        writeln!(f, "\n## Against what we demand of ourselves\n\n{AIMS}")?;
        writeln!(f, "| what | at least | measured | |\n|---|---|---|---|")?;
        verdict::of(self).iter().try_for_each(|verdict| writeln!(f, "{verdict}"))
    }
}

const AIMS: &str = "\
Wall time of a single layer counts against containerd's differ as it is, which does not sync. Several layers at once
count at equal durability, against the column \"+ sync\". Growth is time per entry with 50,000 entries over that with 5,000,
which must stay below the number.
";

fn synced_table(f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
    writeln!(
        f,
        "| layer | MB | peer | ours | peer | peer + sync | wall ratio | CPU ratio | ratio to + sync |"
    )?;
    writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
    rows.iter().try_for_each(|row| writeln!(f, "{}", row.with_sync()))
}

fn plain_table(f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
    writeln!(f, "| layer | MB | peer | ours | peer | wall ratio | CPU ratio | rounds |")?;
    writeln!(f, "|---|---|---|---|---|---|---|---|")?;
    rows.iter().try_for_each(|row| writeln!(f, "{}", row.plain()))
}

impl Row {
    fn plain(&self) -> String {
        let [ours, peer, ..] = self.times.as_slice() else { return String::new() };
        format!(
            "{} | {} | {} | {:.1} | {:.1} | {} |",
            self.head(),
            shown(ours),
            shown(peer),
            peer.wall / ours.wall,
            peer.cpu / ours.cpu,
            self.rounds
        )
    }

    fn with_sync(&self) -> String {
        let [ours, peer, synced] = self.times.as_slice() else { return String::new() };
        format!(
            "{} | {} | {} | {} | {:.1} | {:.1} | {:.1} |",
            self.head(),
            shown(ours),
            shown(peer),
            shown(synced),
            peer.wall / ours.wall,
            peer.cpu / ours.cpu,
            synced.wall / ours.wall
        )
    }

    /// Layer and peer, as people read them.
    pub(super) fn title(&self) -> String {
        format!("{}, {}", self.layer(), self.peer_name())
    }

    fn layer(&self) -> &str {
        self.name.trim_start_matches("bench-")
    }

    fn peer_name(&self) -> &'static str {
        match self.peer {
            Peer::Default => "default",
            Peer::Tuned => "tuned",
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a size that people read")]
    fn head(&self) -> String {
        format!("| {} | {:.0} | {}", self.layer(), self.bytes as f64 / 1e6, self.peer_name())
    }
}

fn shown(times: &Times) -> String {
    format!("{:.2} [{:.2}]", times.wall, times.cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_peer_over_ours() {
        let times = [(1.0, 2.0), (3.0, 5.0), (4.0, 5.0)].map(|(wall, cpu)| Times { wall, cpu }).to_vec();
        let row = Row { name: "bench-x", peer: Peer::Tuned, bytes: 12_000_000, rounds: 5, times };
        assert_eq!(
            row.with_sync(),
            "| x | 12 | tuned | 1.00 [2.00] | 3.00 [5.00] | 4.00 [5.00] | 3.0 | 2.5 | 4.0 |"
        );
    }
}
