//! The door: picks a body by subcommand, or by the name that the program was called by: a link
//! `patronictl` or `patroni` to it takes the place of those.

use clap::{Parser, Subcommand};
use pgherd_ctl::Persona;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
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
    Agent(AgentArgs),
    /// Look at a cluster and operate it.
    Ctl(Box<pgherd_ctl::CtlArgs>),
}

#[derive(clap::Args)]
struct AgentArgs {
    /// YAML file (or directory of them); without: PATRONI_* variables.
    config: Option<PathBuf>,
    /// Said by the program whose place this one takes.
    #[arg(long, hide = true)]
    handover: Option<String>,
}

/// `patroni CONFIG`.
#[derive(Parser)]
#[command(
    name = "patroni",
    version,
    about = "The agent of one node (pgherd agent)"
)]
struct AsPatroni {
    #[command(flatten)]
    args: AgentArgs,
}

/// `patronictl COMMAND`.
#[derive(Parser)]
#[command(name = "patronictl", about = "Commands for operators (pgherd ctl)")]
struct AsPatronictl {
    #[command(flatten)]
    args: pgherd_ctl::CtlArgs,
}

fn main() -> ExitCode {
    // The guard comes first: it is small, and needs neither command line parser nor runtime.
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    if args.next().is_some_and(|word| word == "guard") {
        return pgherd_guard::main(args, pgherd_agent::now, pgherd_agent::guard_line);
    }
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("pgherd: the TLS provider is set already");
    }
    let agent =
        |args: AgentArgs| pgherd_agent::run(args.config.as_deref(), args.handover.as_deref());
    match Path::new(&called).file_name().and_then(OsStr::to_str) {
        Some("patronictl") => pgherd_ctl::run(AsPatronictl::parse().args, Persona::Patronictl),
        Some("patroni") => agent(AsPatroni::parse().args),
        _ => match Cli::parse().command {
            Command::Agent(args) => agent(args),
            Command::Ctl(args) => pgherd_ctl::run(*args, Persona::Pgherd),
        },
    }
}
