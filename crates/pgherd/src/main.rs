//! The door: picks a body by subcommand.

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// PostgreSQL high availability in one binary.
#[derive(Parser)]
#[command(name = "pgherd", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent of one node, beside its PostgreSQL.
    Agent {
        /// YAML file (or directory of them); without: PATRONI_* variables.
        config: Option<PathBuf>,
        /// Said by the program whose place this one takes.
        #[arg(long, hide = true)]
        handover: Option<String>,
    },
    /// Look at a cluster and operate it.
    Ctl(pgherd_ctl::CtlArgs),
}

fn main() -> ExitCode {
    // The guard comes first: it is small, and needs neither command line parser nor runtime.
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|word| word == "guard") {
        return pgherd_guard::main(args, pgherd_agent::now, pgherd_agent::guard_line);
    }
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("pgherd: the TLS provider is set already");
    }
    match Cli::parse().command {
        Command::Agent { config, handover } => {
            pgherd_agent::run(config.as_deref(), handover.as_deref())
        }
        Command::Ctl(args) => pgherd_ctl::run(args),
    }
}
