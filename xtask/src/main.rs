//! Every task of a developer, and the first command of a user: `cargo xtask up` and `cargo xtask test`
//! do all of their own set-up.
//!
//! Builds without PostgreSQL, etcd and protoc, so that it can install them.

mod machine;
mod run;
mod setup;
mod tasks;
mod tidy;
mod up;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Tasks of pgherd: try it, test it, measure it, keep it tidy.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start etcd and a three-node PostgreSQL cluster on this machine, follow it until Ctrl-C,
    /// stop everything.
    Up(UpArgs),
    /// Install what is missing, build, run the unit and integration tests of the whole workspace.
    Test(TestArgs),
    /// Measure: `bench ha` or `bench agent`, with the benchmark's own arguments behind it.
    Bench(PassedOn),
    /// Run the simulator; its arguments are passed on.
    Sim(PassedOn),
    /// Everything that must be green: verify, supply chain, documentation, simulator, a short soak,
    /// test.
    Ci(Consent),
    /// Only read: format, lints, tidy rules.
    Verify(Consent),
    /// Rewrite what can be repaired: lints, format.
    Fix(Consent),
    /// The rules of the architecture: layers, names, sizes, coverage of rules and actions.
    Tidy,
}

/// May this run install packages without asking?
#[derive(clap::Args, Clone, Copy)]
struct Consent {
    /// Install missing packages without asking.
    #[arg(long, short)]
    yes: bool,
}

#[derive(clap::Args)]
struct UpArgs {
    #[command(flatten)]
    consent: Consent,
    /// Build and run the optimised program (takes minutes to build the first time).
    #[arg(long)]
    release: bool,
    /// Keep the data of etcd and PostgreSQL in this new or empty directory, also after the end.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Number of members.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Stop again as soon as the cluster is healthy: proves that it forms here.
    #[arg(long)]
    once: bool,
    /// Run `patroni` and `patronictl` of this directory instead of pgherd, for comparison.
    #[arg(long, value_name = "BIN_DIR", hide = true)]
    patroni: Option<PathBuf>,
}

#[derive(clap::Args)]
struct TestArgs {
    #[command(flatten)]
    consent: Consent,
    /// Do not require genuine Patroni (from PyPI): tests that need it skip themselves.
    #[arg(long)]
    without_patroni: bool,
    /// Also what is too long for every change: all scenarios with real processes (a quarter of an hour).
    #[arg(long)]
    all: bool,
    /// Passed on to the test runner, for example a part of a test's name.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

#[derive(clap::Args)]
struct PassedOn {
    #[command(flatten)]
    consent: Consent,
    /// Passed on.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

fn main() -> ExitCode {
    match perform(Args::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    match task {
        Task::Up(args) => up::up(&args),
        Task::Test(args) => tasks::test(&args),
        Task::Bench(args) => tasks::bench(args.consent, &args.rest),
        Task::Sim(args) => tasks::sim(&args.rest),
        Task::Ci(consent) => tasks::ci(consent),
        Task::Verify(consent) => tasks::verify(consent),
        Task::Fix(consent) => tasks::fix(consent),
        Task::Tidy => tasks::tidy(),
    }
}
