//! The guard process alone, for tests: the subcommand `guard` of the product, without the rest.

use pgherd_model::Time;
use rustix::time::{ClockId, clock_gettime};
use std::process::ExitCode;

fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let nanos = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    Time(u64::try_from(nanos).unwrap_or(0))
}

fn main() -> ExitCode {
    pgherd_guard::main(std::env::args_os().skip(2), now)
}
