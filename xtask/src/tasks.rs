//! The tasks that are a sequence of other programs: test, ci, verify, fix, bench, sim.

use crate::setup::{self, Need};
use crate::{Consent, TestArgs, machine, run, tidy};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::PathBuf;

/// The program under test, for integration tests.
const BINARY_VARIABLE: &str = "PGHERD_BIN";

/// Set-up, build, unit and integration tests of the whole workspace.
pub(crate) fn test(args: &TestArgs) -> Result<()> {
    let mut needs = vec![
        Need::Build,
        Need::Cluster,
        Need::Network,
        Need::Disks,
        Need::Units,
    ];
    if !args.without_patroni {
        needs.push(Need::Patroni);
    }
    setup::ensure(&needs, args.consent.yes)?;
    let binary = build_pgherd(false)?;
    let mut command = if has_nextest() {
        let mut command = run::cargo(&["nextest", "run", "--workspace"]);
        if args.all {
            command.args(["--run-ignored", "all"]);
        }
        command.args(&args.rest);
        command
    } else {
        eprintln!("cargo-nextest is not here: cargo test does, without its limits per test.");
        let mut command = run::cargo(&["test", "--workspace", "--all-targets", "--no-fail-fast"]);
        command.args(&args.rest);
        if args.all {
            command.args(["--", "--include-ignored"]);
        }
        // As `.config/nextest.toml`: bounds of time hold beside one other cluster, not beside one a core.
        if std::env::var_os("RUST_TEST_THREADS").is_none() {
            command.env("RUST_TEST_THREADS", "2");
        }
        command
    };
    command.env(BINARY_VARIABLE, binary);
    if args.without_patroni {
        eprintln!("Tests with genuine Patroni skip themselves where it is not installed.");
    } else {
        setup::offer_patroni(&mut command)?;
        command.env("PGHERD_REQUIRE_ORACLE", "1");
    }
    run::shown(&mut command)
}

fn has_nextest() -> bool {
    run::succeeds(&mut run::cargo(&["nextest", "--version"]))
}

/// Builds pgherd and says where the program is. Of the workspace, not of its package alone: so its
/// dependencies get the features that the tests build them with, and are built once.
pub(crate) fn build_pgherd(release: bool) -> Result<PathBuf> {
    let mut command = run::cargo(&["build", "--workspace", "--bin", "pgherd"]);
    if release {
        command.arg("--release");
    }
    run::shown(&mut command)?;
    let profile = if release { "release" } else { "debug" };
    Ok(run::target_directory()?.join(profile).join("pgherd"))
}

/// `bench ha [arguments]`, `bench agent [arguments]`.
pub(crate) fn bench(consent: Consent, rest: &[OsString]) -> Result<()> {
    let (consent, rest) = with_late_consent(consent, rest);
    let Some((what, arguments)) = rest.split_first() else {
        bail!("say which benchmark: `cargo xtask bench ha` or `cargo xtask bench agent`");
    };
    let mut needs = vec![Need::Build, Need::Cluster];
    let binary = match what.to_str() {
        Some("ha") => {
            needs.push(Need::Network);
            "bench-ha"
        }
        Some("agent") => {
            needs.push(Need::Yardstick);
            "bench-agent"
        }
        _ => bail!("there is no benchmark {what:?}: known are `ha` and `agent`"),
    };
    let mut command = run::cargo(&["run", "--release", "--package", "pgherd-tests"]);
    command.args(["--bin", binary, "--"]).args(arguments);
    if given(arguments, &["--report", "--help", "-h"]) {
        // Only prints: what was measured before, or what it can do.
        setup::ensure(&[Need::Build], consent.yes)?;
        return run::shown(&mut command);
    }
    let with_patroni = measures_patroni(arguments);
    if with_patroni {
        needs.push(Need::Patroni);
    }
    setup::ensure(&needs, consent.yes)?;
    if !given(arguments, &["--pgherd"]) {
        command.env(BINARY_VARIABLE, build_pgherd(true)?);
    }
    if with_patroni {
        setup::offer_patroni(&mut command)?;
    }
    run::shown(&mut command)
}

/// `--yes` counts wherever it stands: behind the benchmark's name it is not the benchmark's.
fn with_late_consent(consent: Consent, rest: &[OsString]) -> (Consent, Vec<OsString>) {
    let is_yes = |word: &&OsString| **word == *"--yes" || **word == *"-y";
    let yes = consent.yes || rest.iter().any(|word| is_yes(&word));
    let rest = rest.iter().filter(|word| !is_yes(word)).cloned().collect();
    (Consent { yes }, rest)
}

/// The soak of the benchmark, short and with the programs of the tests: full load of cores and disk,
/// etcd's leader killed twice, and nothing may happen.
fn soak() -> Result<()> {
    let binary = build_pgherd(false)?;
    let mut command = run::cargo(&[
        "run",
        "--package",
        "pgherd-tests",
        "--bin",
        "bench-ha",
        "--",
    ]);
    command.args(["--only", "h", "--systems", "pgherd"]);
    command.args(["--soak", "1.4", "--etcd-every", "25"]);
    run::shown(command.env(BINARY_VARIABLE, binary))
}

/// Whether the benchmark's arguments leave Patroni in it, and to be found by us.
fn measures_patroni(arguments: &[OsString]) -> bool {
    if given(arguments, &["--patroni"]) {
        return false;
    }
    let words: Vec<_> = arguments.iter().map(|w| w.to_string_lossy()).collect();
    let systems = words
        .iter()
        .enumerate()
        .filter(|(_, word)| is_option(word, "--systems"));
    let named: Vec<_> = systems
        .map(|(at, word)| match word.split_once('=') {
            Some((_, names)) => names,
            None => words.get(at + 1).map_or("", |names| names),
        })
        .collect();
    named.is_empty()
        || named
            .iter()
            .any(|names| names.split(',').any(|name| name == "patroni"))
}

/// Whether one of these options is among the benchmark's arguments.
fn given(arguments: &[OsString], options: &[&str]) -> bool {
    let wanted = |word: &OsString| {
        let word = word.to_string_lossy();
        options.iter().any(|option| is_option(&word, option))
    };
    arguments.iter().any(wanted)
}

fn is_option(word: &str, option: &str) -> bool {
    let rest = word.strip_prefix(option);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

/// The simulator with its own arguments.
pub(crate) fn sim(rest: &[OsString]) -> Result<()> {
    let mut command = run::cargo(&["run", "--release", "--package", "pgherd-sim", "--"]);
    run::shown(command.args(rest))
}

/// Everything that must be green.
pub(crate) fn ci(consent: Consent) -> Result<()> {
    // One question for all of it, before anything is built.
    let needs = [
        Need::Build,
        Need::Cluster,
        Need::Network,
        Need::Disks,
        Need::Units,
        Need::Patroni,
    ];
    setup::ensure(&needs, consent.yes)?;
    who_runs_this()?;
    lock_file_is_current()?;
    verify(consent)?;
    supply_chain()?;
    run::shown(&mut run::cargo(&["test", "--workspace", "--doc"]))?;
    // The same seeds every time: a change is not judged by what chance finds in what was there before. The plain ones must
    // lead each rule to the faults of sim/coverage.toml.
    sim(&["--seeds", "1500", "--base", "1", "--covered"].map(Into::into))?;
    sim(&["--rough", "--seeds", "300", "--base", "1"].map(Into::into))?;
    sim(&["--standby", "--seeds", "300", "--base", "1"].map(Into::into))?;
    first_command()?;
    // Not among the tests: it needs the cores and the disk for itself.
    soak()?;
    test(&TestArgs {
        consent,
        without_patroni: false,
        all: false,
        rest: Vec::new(),
    })
}

/// Some tests need root. Where nobody watches, a test that skips itself fails: said before an hour of
/// them has passed.
fn who_runs_this() -> Result<()> {
    if machine::is_root() {
        return Ok(());
    }
    let required = std::env::var("PGHERD_REQUIRE_ROOT").map(|value| value != "0");
    if required.unwrap_or(std::env::var_os("CI").is_some()) {
        bail!(
            "tests that cut networks, fill disks and change owners need root: run this as root, or \
             set PGHERD_REQUIRE_ROOT=0 to leave them out"
        );
    }
    eprintln!(
        "Tests that cut networks, fill disks and change owners skip themselves: they need root."
    );
    Ok(())
}

/// The first command of the README. In a process of its own, as people run it: it becomes the parent
/// of orphans and takes Ctrl-C for itself.
fn first_command() -> Result<()> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    run::shown(std::process::Command::new(own).args(["up", "--once", "--yes"]))
}

fn lock_file_is_current() -> Result<()> {
    let mut command = run::cargo(&["metadata", "--locked", "--format-version=1"]);
    run::output(&mut command)
        .context("Cargo.lock does not fit the manifests: run `cargo check` and commit it")?;
    Ok(())
}

fn supply_chain() -> Result<()> {
    if machine::find_program("cargo-deny").is_none() {
        eprintln!("skipped: cargo deny (`cargo install --locked cargo-deny` brings it)");
        return Ok(());
    }
    run::shown(&mut run::cargo(&[
        "deny", "check", "bans", "licenses", "sources",
    ]))
}

/// Format, lints and tidy rules; changes nothing.
pub(crate) fn verify(consent: Consent) -> Result<()> {
    setup::ensure(&[Need::Build], consent.yes)?;
    run::shown(&mut run::cargo(&["fmt", "--all", "--", "--check"]))?;
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    run::shown(&mut run::cargo(&lints))?;
    tidy()
}

/// Repairs what the tools can repair.
pub(crate) fn fix(consent: Consent) -> Result<()> {
    setup::ensure(&[Need::Build], consent.yes)?;
    let lints = [
        "clippy",
        "--fix",
        "--allow-dirty",
        "--allow-staged",
        "--workspace",
    ];
    run::shown(run::cargo(&lints).arg("--all-targets"))?;
    run::shown(&mut run::cargo(&["fmt", "--all"]))
}

/// Prints every broken rule of the architecture, fails if there is one.
pub(crate) fn tidy() -> Result<()> {
    let broken = tidy::check(&run::root())?;
    for complaint in &broken {
        eprintln!("{complaint}");
    }
    if !broken.is_empty() {
        bail!("tidy: {} broken rules", broken.len());
    }
    eprintln!("tidy: every rule holds");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patroni_is_asked_for_where_the_benchmark_measures_it() {
        let measured = |line: &str| {
            let words: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
            measures_patroni(&words)
        };
        assert!(measured(""));
        assert!(measured("--only a,b --runs 3"));
        assert!(measured("--systems hand,patroni"));
        assert!(measured("--systems=pgherd --systems=patroni"));
        assert!(!measured("--systems pgherd,hand"));
        assert!(!measured("--systems=pgherd"));
        assert!(!measured("--patroni /opt/bin/patroni"));
    }

    #[test]
    fn consent_counts_behind_the_benchmark_too() {
        let words: Vec<OsString> = ["ha", "--runs", "3", "--yes"].map(Into::into).to_vec();
        let (consent, rest) = with_late_consent(Consent { yes: false }, &words);
        assert!(consent.yes);
        assert_eq!(rest, words[..3]);
        let (consent, rest) = with_late_consent(Consent { yes: false }, &words[..3]);
        assert!(!consent.yes && rest == words[..3]);
    }
}
