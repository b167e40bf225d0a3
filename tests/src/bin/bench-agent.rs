//! `cargo xtask bench agent`: see `cost/mod.rs`.

use std::process::ExitCode;

#[path = "../cost/mod.rs"]
mod cost;

fn main() -> ExitCode {
    cost::main()
}
