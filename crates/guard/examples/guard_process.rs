//! The guard process alone, for tests: the subcommand `guard` of the product without the rest.
//! `agent DATA_DIR PID MILLISECONDS` plays an agent that waits for a line, arms a guard and then
//! hangs;
//! `kill DATA_DIR` kills and tells the result.

use pgherd_guard::{Guard, Options, RUNNING_PROGRAM};
use pgherd_model::{Span, Time};
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let nanos = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    Time(u64::try_from(nanos).unwrap_or(0))
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|word| word == "guard") {
        return pgherd_guard::main(args, now, |_, level, what| {
            format!("{} {level}: {what}\n", now())
        });
    }
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match play(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(args: &[OsString]) -> Result<(), Box<dyn Error>> {
    let words: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    match words[..] {
        ["kill", data_dir] => {
            let killed = pgherd_guard::kill(Path::new(data_dir), &[], Span::from_secs(5), now)?;
            println!(
                "killed {} in {} us",
                killed.processes,
                killed.took.as_micros()
            );
            Ok(())
        }
        ["agent", data_dir, pid, milliseconds] => {
            std::io::stdin().read_line(&mut String::new())?;
            let options = Options {
                data_dir: data_dir.into(),
                ..Options::default()
            };
            let guard = Guard::spawn(Path::new(RUNNING_PROGRAM), options, now)?;
            let deadline = now() + Span::from_millis(milliseconds.parse()?);
            guard.arm(Some(pid.parse()?), deadline)?;
            println!("armed {}", guard.pid());
            loop {
                std::thread::park();
            }
        }
        _ => Err("usage: guard_process guard|agent|kill ...".into()),
    }
}
