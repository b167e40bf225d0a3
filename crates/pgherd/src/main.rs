//! The door: picks a body by subcommand, or by the name that the program was called by: a link
//! `patronictl` or `patroni` to it takes the place of those.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
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
    /// Have a service manager run something.
    #[command(subcommand)]
    Install(Install),
}

#[derive(Subcommand)]
enum Install {
    /// Write a systemd unit for the agent of one node; nothing is started without --now.
    Agent(InstallArgs),
}

#[derive(clap::Args)]
struct InstallArgs {
    /// The node's YAML file (or directory of them).
    config: PathBuf,
    /// Print the unit and write nothing.
    #[arg(long)]
    print: bool,
    /// Where the unit is written.
    #[arg(long, value_name = "DIR", default_value = pgherd_agent::UNIT_DIR)]
    unit_dir: PathBuf,
    /// Who runs the agent and PostgreSQL; without: the owner of the data directory, else postgres.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Overwrite a unit that differs, and write one that would not start.
    #[arg(long)]
    force: bool,
    /// Start it, now and at every boot.
    #[arg(long, conflicts_with = "print")]
    now: bool,
}

impl From<InstallArgs> for pgherd_agent::InstallOptions {
    fn from(args: InstallArgs) -> Self {
        pgherd_agent::InstallOptions {
            config: args.config,
            print: args.print,
            unit_dir: args.unit_dir,
            user: args.user,
            force: args.force,
            now: args.now,
        }
    }
}

#[derive(clap::Args)]
struct AgentArgs {
    /// YAML file (or directory of them); without: PATRONI_* variables. With --generate-...: the
    /// file to be made; without: standard output, and no passwords in it.
    config: Option<PathBuf>,
    /// Write a configuration for a running PostgreSQL, which is only read, and exit. PATRONI_*
    /// variables are taken over; passwords are asked for at a terminal.
    #[arg(long, conflicts_with = "validate_config")]
    generate_config: bool,
    /// Where that PostgreSQL is, and a superuser; without: PGHOST, PGPORT, PGUSER, PGPASSWORD and
    /// the usual places.
    #[arg(long)]
    dsn: Option<String>,
    /// Write a configuration for a new cluster, and exit.
    #[arg(long, conflicts_with_all = ["validate_config", "generate_config"])]
    generate_sample_config: bool,
    /// Check the configuration and exit: one line for each problem and status 1, or silence and 0.
    #[arg(long)]
    validate_config: bool,
    /// A port of `listen` that is in use is no problem; only with --validate-config.
    #[arg(long, short)]
    ignore_listen_port: bool,
    /// Print the configuration with what the environment changes in it, passwords hidden; only with
    /// --validate-config.
    #[arg(long, short)]
    print: bool,
    /// Said by the program whose place this one takes.
    #[arg(long, hide = true)]
    handover: Option<String>,
    /// Asked by the program whose place this one would take.
    #[arg(long, hide = true)]
    would_start: bool,
}

impl AgentArgs {
    /// An option without the one that it belongs to. Patroni takes no notice of it, and so does the link `patroni`;
    /// who types `pgherd agent -p` does not want an agent to start.
    fn alone(&self) -> Option<&'static str> {
        match self {
            AgentArgs {
                generate_config: false,
                dsn: Some(_),
                ..
            } => Some("--dsn can be used only with --generate-config"),
            AgentArgs {
                validate_config: false,
                ignore_listen_port: true,
                ..
            } => Some("--ignore-listen-port can be used only with --validate-config"),
            AgentArgs {
                validate_config: false,
                print: true,
                ..
            } => Some("--print can be used only with --validate-config"),
            _ => None,
        }
    }
}

fn agent(args: &AgentArgs) -> ExitCode {
    let config = args.config.as_deref();
    if args.would_start {
        return pgherd_agent::would_start(config);
    }
    if args.validate_config {
        let options = pgherd_agent::ValidateOptions {
            ignore_listen_port: args.ignore_listen_port,
            print: args.print,
        };
        return pgherd_agent::validate(config, options);
    }
    if args.generate_sample_config {
        return pgherd_agent::generate(config, &pgherd_agent::Origin::Sample);
    }
    if args.generate_config {
        let running = pgherd_agent::Origin::Running(args.dsn.clone());
        return pgherd_agent::generate(config, &running);
    }
    pgherd_agent::run(config, args.handover.as_deref())
}

/// `patroni CONFIG`.
#[derive(Parser)]
#[command(
    name = "patroni",
    // Scripts judge by it what the program can do.
    version = pgherd_ctl::PATRONI_VERSION,
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

/// The command line, read as the program is used to whose place is taken.
fn parsed<T: Parser>(adapted: fn(clap::Command) -> clap::Command) -> T {
    let mut matches = adapted(T::command()).get_matches();
    T::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
}

/// As argparse, by which Patroni reads it: of an option that is given twice the last one counts.
fn repeatable(command: clap::Command) -> clap::Command {
    command.args_override_self(true)
}

/// Each subcommand as the program whose commands it has.
fn as_those(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|subcommand| {
        if subcommand.get_name() == "ctl" {
            return pgherd_ctl::like_click(subcommand);
        }
        repeatable(subcommand)
    })
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
    match Path::new(&called).file_name().and_then(OsStr::to_str) {
        Some("patronictl") => {
            let line: AsPatronictl = parsed(pgherd_ctl::like_click);
            pgherd_ctl::run(line.args, Persona::Patronictl)
        }
        Some("patroni") => {
            let line: AsPatroni = parsed(repeatable);
            agent(&line.args)
        }
        _ => match parsed::<Cli>(as_those).command {
            Command::Agent(args) => match args.alone() {
                Some(text) => Cli::command()
                    .error(ErrorKind::MissingRequiredArgument, text)
                    .exit(),
                None => agent(&args),
            },
            Command::Ctl(args) => pgherd_ctl::run(*args, Persona::Pgherd),
            Command::Install(Install::Agent(args)) => pgherd_agent::install(&args.into()),
        },
    }
}
