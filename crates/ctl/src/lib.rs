//! Commands for operators, compatible with patronictl (contract: patronictl).

mod args;

pub use args::{Command, CtlArgs, Format};

use std::process::ExitCode;

/// Runs one command; errors go to standard error as `Error: ...` with exit code 1.
pub fn run(args: CtlArgs) -> ExitCode {
    let _ = args;
    ExitCode::FAILURE
}
