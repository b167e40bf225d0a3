//! Commands for operators, compatible with patronictl (contract: patronictl).
//!
//! Where patronictl prints a failure and ends with 0, these end with 1: scripts can rely on it. Under
//! the name `patronictl` they end as that does.

mod args;
mod clock;
mod cluster_role;
mod defaults;
mod diff;
mod dsn;
mod edit;
mod editor;
mod error;
mod explain;
mod explain_config;
mod failover;
mod flush;
mod history;
mod list;
mod loaded;
mod members;
mod not_lower;
mod origin;
mod output;
mod pager;
mod passfile;
mod pause;
mod prompt;
mod query;
mod reinit;
mod reload;
mod remove;
mod restart;
mod rows;
mod session;
mod setting;
mod table;
mod timeline;
mod topology;
mod upgrade;
mod value;
mod version;
mod watch;
mod yaml;

pub use args::*;

use error::CtlError;
use session::Session;
use std::process::ExitCode;

/// The version of Patroni whose commands these are.
pub const PATRONI_VERSION: &str = "4.1.5";

/// Under which name the program was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persona {
    /// `pgherd ctl`: what was refused ends with 1.
    Pgherd,
    /// `patronictl`: what a member refused is printed and ends with 0.
    Patronictl,
}

/// Runs one command; errors go to standard error as `Error: ...` with exit code 1.
pub fn run(args: CtlArgs, persona: Persona) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(execute(args, persona)),
        Err(cause) => Err(CtlError::Told(format!("can not start: {cause}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(CtlError::Aborted) => {
            eprintln!("Aborted!");
            ExitCode::FAILURE
        }
        Err(CtlError::Refused) => match persona {
            Persona::Pgherd => ExitCode::FAILURE,
            Persona::Patronictl => ExitCode::SUCCESS,
        },
        Err(CtlError::Failed) => ExitCode::FAILURE,
        Err(CtlError::Told(text)) => {
            eprintln!("Error: {text}");
            ExitCode::FAILURE
        }
        Err(CtlError::Usage(text)) => {
            eprintln!("Error: {text}");
            ExitCode::from(2)
        }
    }
}

async fn execute(args: CtlArgs, persona: Persona) -> Result<(), CtlError> {
    if args.group.is_some() {
        return Err(CtlError::Usage(
            "Citus is not supported: --group cannot be used".to_owned(),
        ));
    }
    if let Command::Version(VersionArgs { cluster: None, .. }) = &args.command {
        return version::own(persona);
    }
    let session = Session::new(&args, persona);
    if let Command::Timeline(wanted) = &args.command {
        return timeline::run(session, wanted).await;
    }
    let session = session?;
    match &args.command {
        Command::List(list) => list::run(&session, list).await,
        Command::Topology(wanted) => topology::run(&session, wanted).await,
        Command::Dsn(wanted) => dsn::run(&session, wanted).await,
        Command::Query(wanted) => query::run(&session, wanted).await,
        Command::History(wanted) => history::run(&session, wanted).await,
        Command::ShowConfig(wanted) => edit::show(&session, wanted).await,
        Command::EditConfig(wanted) => edit::run(&session, wanted).await,
        Command::ExplainConfig(wanted) => explain_config::run(&session, wanted).await,
        Command::Pause(wanted) => pause::run(&session, wanted, true).await,
        Command::Resume(wanted) => pause::run(&session, wanted, false).await,
        Command::Reload(wanted) => reload::run(&session, wanted).await,
        Command::Restart(wanted) => restart::run(&session, wanted).await,
        Command::Reinit(wanted) => reinit::run(&session, wanted).await,
        Command::Flush(wanted) => flush::run(&session, wanted).await,
        Command::Switchover(wanted) => failover::switchover(&session, wanted).await,
        Command::Failover(wanted) => failover::failover(&session, wanted).await,
        Command::Explain(wanted) => explain::run(&session, wanted).await,
        Command::Timeline(wanted) => timeline::run(Ok(session), wanted).await,
        Command::DemoteCluster(wanted) => cluster_role::demote(&session, wanted).await,
        Command::PromoteCluster(wanted) => cluster_role::promote(&session, wanted).await,
        Command::Remove(wanted) => remove::run(&session, wanted).await,
        Command::UpgradeAgent(wanted) => upgrade::run(&session, wanted).await,
        Command::Version(wanted) => version::run(&session, wanted).await,
    }
}
