//! The command line of the benchmark.

use super::plan::{EVENTS, Event};
use super::report::System;
use anyhow::{Context as _, Result};
use clap::Parser;
use pgherd_tests::measure::figures;
use std::path::PathBuf;
use std::time::Duration;

/// Measures switchover, failover and the like with pgherd, with Patroni and by hand, in turn.
#[derive(Debug, Parser)]
#[command(name = "bench-ha", bin_name = "cargo xtask bench ha")]
pub(crate) struct Args {
    /// How often each event is run with each system.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) runs: usize,
    /// Only these events, by letter: a switchover, b crash with hand over, c crash with restart,
    /// d postmaster alone (d1 killed, d2 stopped), e node lost (e1 killed, e2 network dropped),
    /// f agent stopped, g three nodes from nothing, h soak (with --soak).
    #[arg(long, value_delimiter = ',', value_name = "LETTERS")]
    only: Vec<String>,
    /// Only these of: hand, patroni, pgherd.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    systems: Vec<String>,
    /// Command that runs Patroni; the node file follows it. Default: installed from PyPI.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) patroni: Option<String>,
    /// The pgherd program. Default: PGHERD_BIN, else a fresh build.
    #[arg(long, value_name = "FILE")]
    pub(crate) pgherd: Option<PathBuf>,
    /// Data directories are made below this one; it should lie on a disk.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) dir: Option<PathBuf>,
    /// After the events, full load of cores and disk for so many minutes (60 for published figures).
    #[arg(long, value_name = "MINUTES")]
    soak: Option<f64>,
    /// Soak: etcd's leader is killed once per so many seconds.
    #[arg(long, default_value_t = 240, value_name = "SECONDS")]
    etcd_every: u64,
    /// Leave out e2, which needs root for a private network.
    #[arg(long)]
    pub(crate) no_network: bool,
    /// Every sample as JSON, rewritten after each run. If the file is there, of this machine and with
    /// the same programs, its runs are kept and only what is missing is measured: a benchmark that
    /// was stopped goes on.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The tables go to this file instead of the standard output; in a file with a heading
    /// "Figures" they replace what is below that.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Keep the agents' logs of every run in this directory.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) logs: Option<PathBuf>,
    /// Measure nothing: print the tables of these JSON files of earlier runs.
    #[arg(long, num_args = 1.., value_name = "FILES")]
    pub(crate) report: Vec<PathBuf>,
    /// Used between the benchmark's own processes.
    #[arg(long, hide = true)]
    pub(crate) verdict: Option<PathBuf>,
}

impl Args {
    /// The wanted events, in the order of the report.
    pub(crate) fn events(&self) -> impl Iterator<Item = (&'static str, Event)> {
        EVENTS.into_iter().filter(|(key, _)| {
            self.only.is_empty()
                || self
                    .only
                    .iter()
                    .any(|o| !o.is_empty() && key.starts_with(o.as_str()))
        })
    }

    /// Whether this system takes part.
    pub(crate) fn takes(&self, system: System) -> bool {
        let name = match system {
            System::Hand => "hand",
            System::Patroni => "patroni",
            System::Pgherd => "pgherd",
        };
        self.systems.is_empty() || self.systems.iter().any(|s| s == name)
    }

    /// Length of the soak, and how far apart etcd's leaders are killed.
    pub(crate) fn soak(&self) -> Option<(Duration, Duration)> {
        let length = Duration::try_from_secs_f64(self.soak? * 60.0).unwrap_or_default();
        Some((length, Duration::from_secs(self.etcd_every)))
    }

    /// Prints the report or writes it to the file that was named.
    pub(crate) fn write_markdown(&self, text: &str) -> Result<()> {
        figures::publish(self.markdown.as_deref(), text)
            .with_context(|| format!("cannot write {:?}", self.markdown))
    }
}
