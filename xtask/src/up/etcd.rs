//! A private etcd of one member.

use super::account::Account;
use super::process::Process;
use super::{interrupted, ports, rest};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for its first answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often other ports are tried, when somebody else was quicker to take one.
const TRIES: u32 = 3;

/// Starts it with its data below `data`, answers it and its client port.
pub(super) fn start(account: &Account, home: &Path, data: &Path) -> Result<(Process, u16)> {
    let program = crate::machine::find_program("etcd").context("etcd is not installed")?;
    let mut last = None;
    for attempt in 0..TRIES {
        let free = ports::free(2)?;
        let data = data.join(format!("member{attempt}"));
        account.make_dir(&data)?;
        let mut etcd = process(&program, home, &data, free[0], free[1]);
        etcd.start(account)?;
        match wait(&mut etcd, free[0]) {
            Ok(()) => return Ok((etcd, free[0])),
            Err(error) => last = Some(error),
        }
        interrupted::check()?;
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("etcd was not tried")))
}

fn process(program: &Path, home: &Path, data: &Path, client: u16, peer: u16) -> Process {
    let client = format!("http://127.0.0.1:{client}");
    let peer = format!("http://127.0.0.1:{peer}");
    Process::new("etcd", program, home, home.join("etcd.log"))
        .arg("--name=up")
        .arg("--data-dir")
        .arg(data)
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=up={peer}"))
        .arg("--logger=zap")
        .arg("--log-level=warn")
}

/// Until it says that it is healthy. If its port was taken it has died, and whoever answers there
/// is not ours.
fn wait(etcd: &mut Process, port: u16) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = etcd.just_died() {
            bail!("etcd ended with {status}:\n{}", etcd.last_words(10));
        }
        if rest::get(port, "/health").is_ok_and(|body| body.contains("true")) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "etcd did not become healthy within {} s:\n{}",
                PATIENCE.as_secs(),
                etcd.last_words(10)
            );
        }
        interrupted::check()?;
        crate::run::pause(Duration::from_millis(50));
    }
}
