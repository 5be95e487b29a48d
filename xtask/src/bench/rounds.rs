//! Measuring in turns.

use anyhow::Result;
use nexuserofs_integration::command::Run;
use nexuserofs_integration::harness::eventually;
use nexuserofs_integration::images::Layer;
use nexuserofs_integration::node::{Daemon, Node};
use nexuserofs_integration::unpack::{Durability, Unpacker};

/// Who unpacks, and what happens to the file before the commit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contender<'a> {
    /// Where: the layers' content is in its containerd's store.
    pub(super) node: &'a Node,
    /// Name of the snapshotter.
    pub(super) snapshotter: &'static str,
    /// Whether the file is synced in addition.
    pub(super) durability: Durability,
}

/// Seconds of one unpacking, or medians of several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Times {
    /// From the first call to the last answer.
    pub(super) wall: f64,
    /// CPU of containerd, our daemon and their children.
    pub(super) cpu: f64,
}

/// Lets the contenders unpack the same layers in turns, this many times each, and returns their medians in
/// the contenders' order. Every second round goes backwards.
///
/// # Errors
/// An unpacking fails.
pub(super) fn measure<'a>(contenders: &[Contender<'a>], layers: &[Layer], rounds: u32) -> Result<Vec<Times>> {
    let turn = |contender: &Contender<'a>| -> Result<_> {
        let connection = contender.node.containerd.connect(super::unpack::NAMESPACE)?;
        Ok((*contender, Unpacker::new(connection), Vec::new()))
    };
    let mut turns: Vec<(Contender<'a>, Unpacker, Vec<Times>)> =
        contenders.iter().map(turn).collect::<Result<_>>()?;
    for _ in 0..rounds {
        for (contender, unpacker, samples) in &mut turns {
            samples.push(once(*contender, unpacker, layers)?);
        }
        turns.reverse();
    }
    if rounds % 2 == 1 {
        turns.reverse();
    }
    Ok(turns.iter().map(|(_, _, samples)| median(samples)).collect())
}

fn once(contender: Contender<'_>, unpacker: &Unpacker, layers: &[Layer]) -> Result<Times> {
    let node = contender.node;
    settle(node)?;
    let daemon = node.daemon.iter().map(Daemon::pid);
    let processes: Vec<u32> = std::iter::once(node.containerd.pid()).chain(daemon).collect();
    let cost = unpacker.time(contender.snapshotter, layers, contender.durability, &processes)?;
    Ok(Times { wall: cost.wall.as_secs_f64(), cpu: cost.cpu_seconds })
}

/// Waits until nothing of an earlier turn is left: neither what it left in memory, for which the next would pay, nor
/// its layers, which the next would share instead of building them.
pub(super) fn settle(node: &Node) -> Result<()> {
    write_out(node)?;
    node.daemon.as_ref().map_or(Ok(()), |daemon| {
        eventually(|| {
            Ok((!daemon.layers()?.is_empty()).then(|| "layers of an earlier turn are there".to_owned()))
        })
    })
}

/// Writes out what is in memory only of the node's file system.
pub(super) fn write_out(node: &Node) -> Result<()> {
    Run::new("sync").arg("--file-system").arg(node.dir()).run()
}

/// Wall and CPU each by themselves. Of an even number, the upper of the middle two.
fn median(samples: &[Times]) -> Times {
    let middle = |value: fn(&Times) -> f64| {
        let mut values: Vec<f64> = samples.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Times { wall: middle(|times| times.wall), cpu: middle(|times| times.cpu) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_does_not_move_the_median() {
        let samples = [3.0, 1.0, 100.0, 2.0, 2.5].map(|wall| Times { wall, cpu: 10.0 - wall / 10.0 });
        assert_eq!(median(&samples), Times { wall: 2.5, cpu: 9.75 });
    }
}
