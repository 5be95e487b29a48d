//! The result of `cargo xtask bench verity` as a section of Markdown.

use std::fmt;

use super::super::machine::Setting;
use super::super::rounds::Times;

/// How much longer the pass may take with a tree.
const SLOWER_WITH_TREE: f64 = 1.2;
/// How many times as fast as containerd's differ in its best tuning, both with trees.
const FASTER_THAN_TUNED: f64 = 2.3;

/// The times of one layer.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// Compressed size of the layer.
    pub(super) bytes: u64,
    /// Ours without a tree and without the immutable attribute.
    pub(super) plain: Times,
    /// Ours with a tree.
    pub(super) verity: Times,
    /// Ours with the immutable attribute.
    pub(super) immutable: Times,
    /// containerd's with its default options, and a tree.
    pub(super) default: Times,
    /// containerd's in its best tuning, and a tree.
    pub(super) tuned: Times,
}

/// Everything that was measured, and on what.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) setting: Setting,
    pub(super) rounds: u32,
    pub(super) rows: Vec<Row>,
}

const METHOD: &str = "\
`cargo xtask bench verity` writes this section. It measures as `bench unpack` does: the same layers, Prepare, Apply and
Commit through containerd 2.3.4, in turns, medians. Each way of ours has a daemon of its own:

    plain      set_immutable = false
    + tree     set_immutable = false, verity = \"auto\"
    + flag     set_immutable = true

containerd's erofs differ has `enable_dmverity = true` in both tunings, which are those of `bench unpack`. It reads the finished
file again and hashes it, and never syncs it; ours is on disk with its tree before Apply answers. Where the kernel has no dm-verity,
containerd is made to believe that it has: to write a tree takes none.
";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Trees and flags, measured\n\n{METHOD}")?;
        self.setting.write(f, format_args!("medians of {}", self.rounds))?;
        writeln!(f, "\n## One layer at a time\n\nSeconds of wall time, in brackets of CPU.\n")?;
        writeln!(f, "| layer | MB | plain | + tree | + flag | peer default + tree | peer tuned + tree |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{}", row.times()))?;
        writeln!(f, "\n## Against what we demand of ourselves\n")?;
        writeln!(f, "| what | demanded | measured | |\n|---|---|---|---|")?;
        self.rows.iter().try_for_each(|row| write!(f, "{}", row.verdict()))?;
        writeln!(f, "\nThe immutable attribute has no demand; it costs:\n")?;
        self.rows.iter().try_for_each(|row| {
            writeln!(f, "- {}: {:+.1} %", row.layer(), 100.0 * (row.immutable.wall / row.plain.wall - 1.0))
        })
    }
}

impl Row {
    #[expect(clippy::cast_precision_loss, reason = "a size that people read")]
    fn times(&self) -> String {
        let times = [self.plain, self.verity, self.immutable, self.default, self.tuned];
        let shown = times.map(|times| format!("{:.2} [{:.2}]", times.wall, times.cpu));
        format!("| {} | {:.0} | {} |", self.layer(), self.bytes as f64 / 1e6, shown.join(" | "))
    }

    /// A line of the table for each demand.
    fn verdict(&self) -> String {
        let slower = self.verity.wall / self.plain.wall;
        let faster = self.tuned.wall / self.verity.wall;
        let met = |met: bool| if met { "met" } else { "**not met**" };
        format!(
            "| {0}: wall with tree over wall without | at most {SLOWER_WITH_TREE:.1} | {slower:.2} | {1} |\n\
             | {0}: tuned peer over ours, both with tree | at least {FASTER_THAN_TUNED:.1} | {faster:.2} | {2} |\n",
            self.layer(),
            met(slower <= SLOWER_WITH_TREE),
            met(faster >= FASTER_THAN_TUNED),
        )
    }

    fn layer(&self) -> &str {
        self.name.trim_start_matches("bench-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_both_demands_against_the_times() {
        let times = |wall| Times { wall, cpu: 2.0 * wall };
        let row = |verity| Row {
            name: "bench-x",
            bytes: 12_000_000,
            plain: times(1.0),
            verity: times(verity),
            immutable: times(1.0),
            default: times(5.0),
            tuned: times(3.0),
        };
        assert_eq!(
            row(1.1).verdict(),
            "| x: wall with tree over wall without | at most 1.2 | 1.10 | met |\n\
             | x: tuned peer over ours, both with tree | at least 2.3 | 2.73 | met |\n"
        );
        assert_eq!(row(1.5).verdict().matches("**not met**").count(), 2);
        assert_eq!(
            row(1.5).times(),
            "| x | 12 | 1.00 [2.00] | 1.50 [3.00] | 1.00 [2.00] | 5.00 [10.00] | 3.00 [6.00] |"
        );
    }
}
