//! Genuine Patroni for the tests and the benchmark that put it beside pgherd: a virtual environment
//! in the user's cache, from PyPI. The product never uses it. Nothing else installs it: tests that
//! are run by themselves find it by the link that is left in the build directory.

use super::agreed;
use crate::{machine, run};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is installed, by exact version: tests compare behaviour.
const PACKAGES: [&str; 2] = ["patroni[etcd3]==4.1.5", "psycopg[binary]==3.3.9"];

/// Names the virtual environment; tests read it, and a user who has one already can set it.
const VARIABLE: &str = "PGHERD_ORACLE";
/// Link to it in the build directory, for tests that are run without `cargo xtask`.
const LINK: &str = "patroni";

/// The virtual environment with `bin/patroni` and `bin/patronictl`.
fn folder() -> PathBuf {
    std::env::var_os(VARIABLE).map_or_else(environment, PathBuf::from)
}

/// Tells a program where Patroni is, and those that are started by hand later.
pub(crate) fn offer(command: &mut Command) -> Result<()> {
    let folder = folder();
    link(&folder, &run::target_directory()?.join(LINK))?;
    command.env(VARIABLE, folder);
    Ok(())
}

/// Makes or changes the link. Made beside it and renamed over it: whoever looks meanwhile finds the one or
/// the other.
fn link(folder: &Path, link: &Path) -> Result<()> {
    if std::fs::read_link(link).is_ok_and(|there| there == folder) {
        return Ok(());
    }
    let new = link.with_extension(std::process::id().to_string());
    std::os::unix::fs::symlink(folder, &new)
        .and_then(|()| std::fs::rename(&new, link))
        .with_context(|| format!("cannot make the link {}", link.display()))
}

/// The interpreter. As root the system's own: another one may live in root's home, which is closed
/// to the unprivileged user that Patroni runs as.
pub(super) fn python() -> &'static str {
    let system = "/usr/bin/python3";
    if machine::is_root() && Path::new(system).exists() {
        return system;
    }
    "python3"
}

/// As root not below root's home, for the same reason.
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
    let folder = folder().join("bin");
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
             virtual environment that has it, or run with --without-patroni"
        )
    })
}

fn create(folder: &Path) -> Result<()> {
    run::shown(Command::new(python()).args(["-m", "venv"]).arg(folder))?;
    let pip = folder.join("bin").join("pip");
    run::shown(
        Command::new(pip)
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(PACKAGES),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_made_and_follows() {
        let dir = std::env::temp_dir().join(format!("pgherd-link-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let place = dir.join(LINK);
        for folder in ["/one", "/one", "/another"].map(Path::new) {
            link(folder, &place).unwrap();
            assert_eq!(std::fs::read_link(&place).unwrap(), folder);
        }
        assert_eq!(
            std::fs::read_dir(&dir).unwrap().count(),
            1,
            "nothing else is left"
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
