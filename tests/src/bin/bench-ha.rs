//! `cargo xtask bench ha`: see `bench/mod.rs`.

use std::process::ExitCode;

#[path = "../bench/mod.rs"]
mod bench;

fn main() -> ExitCode {
    bench::main()
}
