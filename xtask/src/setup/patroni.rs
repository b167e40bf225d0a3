//! Genuine Patroni for the tests that put it beside pgherd: a virtual environment in the user's
//! cache, from PyPI. The product never uses it.

use super::agreed;
use crate::{machine, run};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

/// What is installed, by exact version: tests compare behaviour.
const PACKAGES: [&str; 2] = ["patroni[etcd3]==4.1.5", "psycopg[binary]==3.3.9"];

/// Names a directory with the programs `patroni` and `patronictl`; tests read it, and a user who
/// has them already can set it.
pub(crate) const VARIABLE: &str = "PGHERD_TEST_PATRONI";

/// The directory with `patroni` and `patronictl`.
pub(crate) fn bin_dir() -> PathBuf {
    match std::env::var_os(VARIABLE) {
        Some(folder) => PathBuf::from(folder),
        None => environment().join("bin"),
    }
}

/// As root the environment must be readable by the unprivileged user that PostgreSQL runs as, so
/// not below root's home.
fn environment() -> PathBuf {
    let cache = if machine::is_root() {
        PathBuf::from("/var/cache")
    } else {
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
        std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from)
    };
    cache.join("pgherd-xtask").join("patroni-4.1.5")
}

pub(super) fn is_there() -> bool {
    let folder = bin_dir();
    ["patroni", "patronictl"]
        .iter()
        .all(|program| folder.join(program).is_file())
}

pub(super) fn what() -> String {
    format!(
        "genuine Patroni for comparison: {} from PyPI into {}",
        PACKAGES.join(", "),
        environment().display()
    )
}

/// Creates the environment; it appears under its name only when it is whole.
pub(super) fn install(yes: bool) -> Result<()> {
    agreed("Install Patroni from PyPI?", yes)?;
    let folder = environment();
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove the incomplete {}", folder.display()))?;
    }
    let made = create(&folder);
    if made.is_err() {
        // An incomplete environment would be taken for a whole one the next time.
        let _ = std::fs::remove_dir_all(&folder);
    }
    made.with_context(|| {
        format!(
            "genuine Patroni could not be installed; where there is no PyPI, set {VARIABLE} to a \
             directory that has it, or run with --without-patroni"
        )
    })
}

fn create(folder: &std::path::Path) -> Result<()> {
    run::shown(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let pip = folder.join("bin").join("pip");
    run::shown(
        Command::new(pip)
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(PACKAGES),
    )
}
