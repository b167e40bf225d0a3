//! `cargo xtask up`: a private etcd and a PostgreSQL cluster on this machine, made to be broken.
//!
//! Everything runs as an unprivileged user, on the loopback address, on ports that the system
//! chose. A program that dies is started again after a few seconds, as a service manager would.

mod account;
mod config;
mod etcd;
mod family;
mod interrupted;
mod ports;
mod process;
mod rest;
mod screen;
mod stage;
mod stop;

use crate::setup::{self, Need};
use crate::{UpArgs, tasks};
use anyhow::{Context, Result, bail};
use stage::{Programs, Stage};
use std::time::{Duration, Instant};

/// Until the whole cluster streams.
const FORMING: Duration = Duration::from_secs(180);
/// Between two looks at the cluster.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Sets up, builds, starts, follows until Ctrl-C, stops.
pub(crate) fn up(args: &UpArgs) -> Result<()> {
    let needs: &[Need] = match args.patroni {
        Some(_) => &[Need::Cluster],
        None => &[Need::Build, Need::Cluster],
    };
    setup::ensure(needs, args.consent.yes)?;
    let programs = match &args.patroni {
        Some(folder) => Programs::Patroni(folder.clone()),
        None => Programs::Pgherd(tasks::build_pgherd(args.release)?),
    };
    interrupted::listen()?;
    family::adopt_orphans().context("cannot become the parent of orphans")?;
    let mut stage = Stage::build(args.nodes, args.data_dir.as_deref(), &programs)?;
    let result = perform(&mut stage, args.once);
    if result.is_err() {
        screen::last_words(&stage);
    }
    screen::say("stopping everything that was started (Ctrl-C again kills the rest at once)");
    let left = stage.stop();
    if !left.is_empty() {
        bail!("these processes could not be ended: {}", left.join(", "));
    }
    screen::say("stopped");
    result
}

fn perform(stage: &mut Stage, once: bool) -> Result<()> {
    stage.start_etcd()?;
    stage.start_agents()?;
    screen::say(&format!(
        "{} agents started, the cluster forms",
        stage.nodes.len()
    ));
    form(stage)?;
    if interrupted::requested() {
        return Ok(());
    }
    stage.list();
    if once {
        return Ok(());
    }
    screen::introduce(stage);
    while !interrupted::requested() {
        stage.keep_running()?;
        for event in stage.look() {
            screen::event(&event);
        }
        crate::run::pause(LOOK_EVERY);
    }
    Ok(())
}

/// Until one leads and all others stream.
fn form(stage: &mut Stage) -> Result<()> {
    let deadline = Instant::now() + FORMING;
    while !rest::healthy(&stage.table, stage.nodes.len()) {
        if interrupted::requested() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "the cluster did not become healthy within {} s",
                FORMING.as_secs()
            );
        }
        stage.keep_running()?;
        for event in stage.look() {
            screen::event(&event);
        }
        crate::run::pause(LOOK_EVERY);
    }
    Ok(())
}
