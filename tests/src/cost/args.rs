//! The command line of the benchmark.

use super::report::Setting;
use anyhow::{Context as _, Result};
use clap::Parser;
use pgherd_tests::measure::figures;
use std::path::PathBuf;
use std::time::Duration;

/// Measures what the agent costs beside Patroni: start, memory, threads, processor time, answers, requests
/// to etcd.
#[derive(Debug, Parser)]
#[command(name = "bench-agent", bin_name = "cargo xtask bench agent")]
pub(crate) struct Args {
    /// How often a start and the answers are measured.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) runs: usize,
    /// Minutes over which the idle agents are watched.
    #[arg(long, default_value_t = 3.0, value_name = "MINUTES")]
    idle: f64,
    /// Seconds for which the clients of one run ask.
    #[arg(long, default_value_t = 4.0, value_name = "SECONDS")]
    answers: f64,
    /// Only these of: pgherd, patroni.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    systems: Vec<String>,
    /// The pgherd program. Default: PGHERD_BIN, else a fresh build.
    #[arg(long, value_name = "FILE")]
    pub(crate) pgherd: Option<PathBuf>,
    /// Data directories are made below this one.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) dir: Option<PathBuf>,
    /// The tables go to this file instead of the standard output; in a file with a heading
    /// "Figures" they replace what is below that.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

impl Args {
    /// Whether this setting takes part.
    pub(crate) fn takes(&self, setting: Setting) -> bool {
        let name = match setting {
            Setting::Patroni => "patroni",
            Setting::Fast | Setting::Defaults => "pgherd",
        };
        self.systems.is_empty() || self.systems.iter().any(|system| system == name)
    }

    /// How long the idle agents are watched.
    pub(crate) fn idle(&self) -> Duration {
        Duration::try_from_secs_f64(self.idle * 60.0).unwrap_or_default()
    }

    /// How long the clients of one run ask.
    pub(crate) fn answers(&self) -> Duration {
        Duration::try_from_secs_f64(self.answers).unwrap_or_default()
    }

    /// Prints the report or writes it to the file that was named.
    pub(crate) fn publish(&self, text: &str) -> Result<()> {
        let file = self.markdown.as_deref();
        figures::publish(file, text).with_context(|| format!("cannot write {file:?}"))
    }
}
