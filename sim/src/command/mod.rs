//! What the simulator's program can be told to do.

pub(crate) mod many;
pub(crate) mod replay;
pub(crate) mod single;

use std::io::Write;
use std::process::Command;

use pgherd_sim::{Bug, Seed};

/// One line of a long story; whoever reads no further (`| head`) ends it.
fn say(line: &str) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(1);
    }
}

/// Of which code this is: a seed tells its story again only there.
fn commit() -> String {
    let mut git = Command::new("git");
    let told = git
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let text = told.ok().filter(|it| it.status.success());
    match text.and_then(|it| String::from_utf8(it.stdout).ok()) {
        Some(text) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// What to type to see a seed again.
fn repeat(seed: Seed, bug: Option<Bug>) -> String {
    let bug = bug.map_or_else(String::new, |bug| format!(" --bug {bug:?}"));
    format!("cargo xtask sim replay {seed} --until broken{bug}")
}
