//! The tasks that are a sequence of other programs: test, ci, verify, fix, bench, sim.

use crate::setup::{self, Need};
use crate::{Consent, machine, run, tidy};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::PathBuf;

/// The program under test, for integration tests.
const BINARY_VARIABLE: &str = "PGHERD_BIN";

/// Set-up, build, unit and integration tests of the whole workspace.
pub(crate) fn test(consent: Consent, without_patroni: bool, rest: &[OsString]) -> Result<()> {
    let mut needs = vec![Need::Build, Need::Cluster, Need::Network];
    if !without_patroni {
        needs.push(Need::Patroni);
    }
    setup::ensure(&needs, consent.yes)?;
    let binary = build_pgherd(false)?;
    let mut command = if has_nextest() {
        run::cargo(&["nextest", "run", "--workspace"])
    } else {
        eprintln!("cargo-nextest is not here: cargo test does, without its limits per test.");
        run::cargo(&["test", "--workspace", "--all-targets", "--no-fail-fast"])
    };
    command.args(rest).env(BINARY_VARIABLE, binary);
    if without_patroni {
        eprintln!("Tests with genuine Patroni skip themselves where it cannot be had.");
    } else {
        command.env(setup::PATRONI_VARIABLE, setup::patroni_folder());
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
    let metadata = run::output(&mut run::cargo(&[
        "metadata",
        "--no-deps",
        "--format-version=1",
    ]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let target = metadata["target_directory"]
        .as_str()
        .context("cargo metadata does not name the target directory")?;
    let profile = if release { "release" } else { "debug" };
    Ok(PathBuf::from(target).join(profile).join("pgherd"))
}

/// `bench ha [arguments]`.
pub(crate) fn bench(consent: Consent, rest: &[OsString]) -> Result<()> {
    let Some((what, arguments)) = rest.split_first() else {
        bail!("say which benchmark: `cargo xtask bench ha`");
    };
    if what != "ha" {
        bail!("there is no benchmark {what:?}: known is `ha`");
    }
    setup::ensure(&[Need::Build, Need::Cluster, Need::Network], consent.yes)?;
    let binary = build_pgherd(true)?;
    let mut command = run::cargo(&["run", "--release", "--package", "pgherd-tests"]);
    command.args(["--bin", "bench-ha", "--"]).args(arguments);
    run::shown(command.env(BINARY_VARIABLE, binary))
}

/// The simulator with its own arguments.
pub(crate) fn sim(rest: &[OsString]) -> Result<()> {
    let mut command = run::cargo(&["run", "--release", "--package", "pgherd-sim", "--"]);
    run::shown(command.args(rest))
}

/// Everything that must be green.
pub(crate) fn ci(consent: Consent) -> Result<()> {
    // One question for all of it, before anything is built.
    let needs = [Need::Build, Need::Cluster, Need::Network, Need::Patroni];
    setup::ensure(&needs, consent.yes)?;
    lock_file_is_current()?;
    verify(consent)?;
    supply_chain()?;
    run::shown(&mut run::cargo(&["test", "--workspace", "--doc"]))?;
    // The same seeds every time: what is new is looked for by `cargo xtask sim`.
    sim(&["--seconds", "60", "--base", "1"].map(Into::into))?;
    test(consent, false, &[])
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
