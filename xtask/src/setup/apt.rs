//! The package manager of Debian and Ubuntu: what has a candidate, what an installation would
//! bring, and the installation itself.

use super::agreed;
use super::needs::Lack;
use crate::{machine, run};
use anyhow::{Context, Result, bail};
use std::process::Command;

/// Runs as root: takes the packages, leaves no daemon and no PostgreSQL cluster behind.
const INSTALL: &str = include_str!("install.sh");

/// Says what would be installed, asks, installs.
pub(super) fn install(missing: &[Lack], yes: bool) -> Result<()> {
    let packages = match choose(missing) {
        Ok(packages) => packages,
        Err(_) => {
            // A fresh container has no package lists at all.
            agreed(
                "The package lists know nothing of it. Run `apt-get update` first?",
                yes,
            )?;
            run::shown(&mut as_root(&["apt-get", "update"])?)?;
            choose(missing)?
        }
    };
    let mut everything = simulate(&packages)?;
    everything.sort();
    eprintln!("To be installed with apt-get ({}):", everything.len());
    eprintln!("  {}", everything.join(" "));
    eprintln!("No service is started or left enabled, and no PostgreSQL cluster is made.");
    agreed("Install them?", yes)?;
    if perform(&packages).is_ok() {
        return Ok(());
    }
    // Old lists name files that the mirror no longer has.
    eprintln!("The installation failed; once more with fresh package lists.");
    run::shown(&mut as_root(&["apt-get", "update"])?)?;
    perform(&packages).context("the packages could not be installed, see apt-get's messages above")
}

fn perform(packages: &[&str]) -> Result<()> {
    let mut command = as_root(&["sh", "-c", INSTALL, "install"])?;
    command.args(packages);
    eprintln!(
        "$ apt-get install --no-install-recommends {}",
        packages.join(" ")
    );
    let status = command.status().context("cannot start the installation")?;
    if !status.success() {
        bail!("the installation ended with {status}");
    }
    Ok(())
}

/// For each lack the first set of packages that the distribution has.
fn choose(missing: &[Lack]) -> Result<Vec<&'static str>> {
    let mut packages = Vec::new();
    for lack in missing {
        let set = lack
            .packages
            .iter()
            .find(|set| set.iter().all(|package| has_candidate(package)))
            .with_context(|| {
                let names: Vec<String> = lack.packages.iter().map(|set| set.join(" ")).collect();
                format!(
                    "this distribution has no package for {}: tried {}",
                    lack.what,
                    names.join(", or ")
                )
            })?;
        packages.extend_from_slice(set);
    }
    packages.dedup();
    Ok(packages)
}

fn has_candidate(package: &str) -> bool {
    let mut command = Command::new("apt-cache");
    command.args(["policy", package]).env("LC_ALL", "C");
    run::output(&mut command).is_ok_and(|text| candidate(&text))
}

/// `apt-cache policy` prints nothing for an unknown package, `(none)` for one without a version.
fn candidate(policy: &str) -> bool {
    policy.lines().any(|line| {
        line.trim()
            .strip_prefix("Candidate:")
            .is_some_and(|version| version.trim() != "(none)")
    })
}

/// Every package that an installation would bring, with its dependencies, by a dry run.
fn simulate(packages: &[&str]) -> Result<Vec<String>> {
    let mut command = Command::new("apt-get");
    command
        .args([
            "--simulate",
            "--quiet",
            "--no-install-recommends",
            "install",
        ])
        .args(packages)
        .env("LC_ALL", "C");
    Ok(new_packages(&run::output(&mut command)?))
}

fn new_packages(simulation: &str) -> Vec<String> {
    simulation
        .lines()
        .filter_map(|line| line.strip_prefix("Inst "))
        .filter_map(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// A command that runs as root: directly, or through sudo.
fn as_root(args: &[&str]) -> Result<Command> {
    let mut command = if machine::is_root() {
        Command::new(args[0])
    } else {
        let sudo = machine::find_program("sudo").context(
            "installing packages needs root and there is no sudo here: run the same command as root",
        )?;
        let mut command = Command::new(sudo);
        command.arg(args[0]);
        command
    };
    command.args(&args[1..]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_told_from_their_absence() {
        assert!(candidate(
            "etcd-server:\n  Installed: (none)\n  Candidate: 3.4.23-4+b4\n"
        ));
        assert!(!candidate(
            "etcd:\n  Installed: (none)\n  Candidate: (none)\n"
        ));
        assert!(!candidate(""));
    }

    #[test]
    fn a_dry_run_names_new_packages() {
        let text = "NOTE: This is only a simulation!\nInst libpq5 (15.18 Debian)\n\
                    Inst libc6 [2.36] (2.37 Debian)\nConf libpq5 (15.18 Debian)\n";
        assert_eq!(new_packages(text), ["libpq5", "libc6"]);
    }
}
