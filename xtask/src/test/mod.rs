//! `cargo xtask test`: the tiers, quick ones first, up to the first that fails.

mod count;
mod tiers;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use nexuserofs_integration::cache::Cache;

pub(crate) use count::Count;
use tiers::{TIERS, Tier};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Run only these tiers, in their usual order. May be given several times.
    #[arg(long = "tier", value_name = "NAME", value_parser = tier_names())]
    tiers: Vec<String>,
    /// Only list the tiers.
    #[arg(long)]
    list: bool,
    /// How often the crash tier kills the daemon.
    #[arg(long, value_name = "N", default_value_t = 50)]
    crashes: u32,
    /// How long the soak tier runs, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    seconds: u32,
    /// How long each target of the fuzz tier runs, and the hostile front-ends of the vhost tier, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    fuzz: u32,
    /// Build the programs for debugging only. What compares builds is skipped, by name.
    #[arg(long)]
    debug_only: bool,
}

fn tier_names() -> Vec<&'static str> {
    TIERS.iter().map(|tier| tier.name).collect()
}

/// What the tiers are given.
#[derive(Debug)]
pub(crate) struct Context {
    /// The cache folder.
    pub cache: Cache,
    /// How often the crash tier kills the daemon.
    pub crashes: u32,
    /// How long the soak tier runs, in seconds.
    pub soak_seconds: u32,
    /// How long each target of the fuzz tier runs, and hostile front-ends, in seconds.
    pub fuzz_seconds: u32,
    /// Whether the programs are built for debugging only.
    pub debug_only: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.list {
        TIERS.iter().for_each(|tier| println!("{:<12} {}", tier.name, tier.about));
        return Ok(ExitCode::SUCCESS);
    }
    let context = Context {
        cache: Cache::open()?,
        crashes: arguments.crashes,
        soak_seconds: arguments.seconds,
        fuzz_seconds: arguments.fuzz,
        debug_only: arguments.debug_only,
    };
    let wanted: Vec<&Tier> = TIERS
        .iter()
        .filter(|tier| arguments.tiers.is_empty() || arguments.tiers.iter().any(|name| name == tier.name))
        .collect();
    let mut total = Count::default();
    for (index, tier) in wanted.iter().enumerate() {
        let count = run_tier(tier, &context)?;
        total += count;
        if count.failed > 0 {
            let not_run: Vec<&str> = wanted.iter().skip(index + 1).map(|tier| tier.name).collect();
            println!("tier {} failed; not run after it: {}", tier.name, list(&not_run));
            break;
        }
    }
    println!("{total}");
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one tier. What keeps it from running at all counts as a failure of the tier.
fn run_tier(tier: &Tier, context: &Context) -> Result<Count> {
    println!("\n== tier {}: {}", tier.name, tier.about);
    let begun = Instant::now();
    let count = (tier.run)(context).unwrap_or_else(|error| {
        println!("{error:#}");
        Count::FAILED
    });
    println!("== tier {}: {count} ({:.0} s)", tier.name, begun.elapsed().as_secs_f64());
    Ok(count)
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
