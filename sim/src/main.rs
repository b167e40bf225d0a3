//! The simulator's own program: many seeds, one seed, or a scenario.

mod command;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use command::{many, replay, single};
use pgherd_sim::{Bug, Seed};

/// Drives the code that decides through faults, in worlds that one number makes.
#[derive(Parser)]
#[command(
    name = "pgherd-sim",
    bin_name = "cargo xtask sim",
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    many: Many,
    /// One seed, with every line of its story.
    #[arg(long, value_name = "SEED", conflicts_with = "scenario")]
    seed: Option<Seed>,
    /// Play a scenario, and tell when each expectation was met.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Do this wrong on purpose.
    #[arg(long, value_name = "NAME", value_parser = bug)]
    bug: Option<Bug>,
}

#[derive(Subcommand)]
enum Task {
    /// Go through a story step by step, and stop where something occurs.
    Replay(replay::Replay),
}

/// As many seeds as fit.
#[derive(Args)]
struct Many {
    /// Begin none after that long (10 s, where no number of seeds is given).
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// The same in minutes, on every core.
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    minutes: Option<u64>,
    /// Not more than so many.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The first of them; without it others every time.
    #[arg(long, value_name = "SEED")]
    base: Option<u64>,
    /// How many at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    jobs: Option<u64>,
    /// Rough worlds: many faults, also of kinds that are rare.
    #[arg(long)]
    rough: bool,
    /// The failsafe mode is on in all worlds.
    #[arg(long, conflicts_with = "rough")]
    failsafe: bool,
    /// Long worlds: half an hour at least, with 20 faults or more of at least three kinds.
    #[arg(long, conflicts_with_all = ["rough", "failsafe"])]
    long: bool,
    /// In all worlds the cluster is now and then the copy of another one.
    #[arg(long, conflicts_with_all = ["rough", "failsafe", "long"])]
    standby: bool,
    /// Go on after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Fail where something of sim/coverage.toml was not shown.
    #[arg(long)]
    covered: bool,
    /// Only print a number for each story: one line per seed, the same as before where nothing has changed.
    #[arg(long, conflicts_with_all = ["covered", "bug"])]
    digest: bool,
}

fn bug(name: &str) -> Result<Bug, String> {
    Bug::named(name).ok_or_else(|| format!("known are {:?}", Bug::ALL))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Task::Replay(replay)) = &arguments.task {
        return replay::run(replay);
    }
    match (arguments.seed, &arguments.scenario) {
        (Some(seed), _) => single::seed(seed, arguments.bug),
        (None, Some(file)) => single::scenario(file),
        (None, None) => many::run(&arguments.many, arguments.bug),
    }
}
