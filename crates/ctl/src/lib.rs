//! Commands for operators, compatible with patronictl (contract: patronictl).
//!
//! Where patronictl prints a failure and ends with 0, these end with 1: scripts can rely on it.

mod args;
mod clock;
mod error;
mod explain;
mod failover;
mod list;
mod prompt;
mod session;
mod table;
mod timeline;
mod yaml;

pub use args::{
    Command, CtlArgs, ExplainArgs, ExplainFormat, FailoverArgs, Format, ListArgs, SwitchoverArgs,
    TimelineArgs, TimelineFormat,
};

use error::CtlError;
use session::Session;
use std::process::ExitCode;

/// Runs one command; errors go to standard error as `Error: ...` with exit code 1.
pub fn run(args: CtlArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(execute(args)),
        Err(cause) => Err(CtlError::Told(format!("can not start: {cause}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(CtlError::Aborted) => {
            eprintln!("Aborted!");
            ExitCode::FAILURE
        }
        Err(CtlError::Refused) => ExitCode::FAILURE,
        Err(CtlError::Told(text)) => {
            eprintln!("Error: {text}");
            ExitCode::FAILURE
        }
    }
}

async fn execute(args: CtlArgs) -> Result<(), CtlError> {
    let session = Session::new(&args);
    if let Command::Timeline(wanted) = &args.command {
        return timeline::run(session, wanted).await;
    }
    let session = session?;
    match &args.command {
        Command::List(list) => list::run(&session, list).await,
        Command::Switchover(wanted) => failover::switchover(&session, wanted).await,
        Command::Failover(wanted) => failover::failover(&session, wanted).await,
        Command::Explain(wanted) => explain::run(&session, wanted).await,
        Command::Timeline(wanted) => timeline::run(Ok(session), wanted).await,
    }
}
