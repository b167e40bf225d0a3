//! Another program takes this one's place, in the same process: PostgreSQL, the lock and the guard's
//! deadline do not notice (SIGUSR2, `POST /pgherd/upgrade`, `pgherd ctl upgrade-agent`).
//!
//! What the successor cannot find out by itself is handed over on its command line: the leases, and the
//! number of the guard, which it ends once its own is armed. Until then the old guard keeps watch.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pgherd_dcs::{Held, Leases};
use pgherd_model::Span;

/// The option by which the successor is told.
const OPTION: &str = "--handover=";
/// How long the new program may take to say its version.
const CHECK: Duration = Duration::from_secs(5);

/// What is handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handover {
    pub(crate) leases: Leases,
    /// Process id of the guard.
    pub(crate) guard: Option<u32>,
}

impl fmt::Display for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lease = |name: &str, held: Option<Held>| {
            held.map(|held| format!("{name}:{}:{}", held.id, held.life.as_millis()))
        };
        let guard = self.guard.map(|pid| format!("guard:{pid}"));
        let parts = [
            lease("leader", self.leases.leader),
            lease("member", self.leases.member),
            guard,
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(","))
    }
}

impl Handover {
    /// Reads what a predecessor wrote, perhaps of another version: what is not understood is left out,
    /// since everything can be found out or made anew.
    pub(crate) fn read(text: &str) -> Handover {
        let mut handover = Handover::default();
        for part in text.split(',') {
            let words: Vec<&str> = part.split(':').collect();
            let held = |id: &str, life: &str| {
                let (id, life) = (id.parse().ok()?, life.parse().ok()?);
                Some(Held {
                    id,
                    life: Span::from_millis(life),
                })
            };
            match words.as_slice() {
                ["leader", id, life] => handover.leases.leader = held(id, life),
                ["member", id, life] => handover.leases.member = held(id, life),
                ["guard", pid] => handover.guard = pid.parse().ok(),
                _ => {}
            }
        }
        handover
    }
}

/// The file of the program: the one that has replaced the running one, if that was replaced.
fn program() -> Result<PathBuf> {
    let running = std::env::current_exe().context("the running program cannot be found")?;
    let name = running.as_os_str().as_bytes();
    Ok(match name.strip_suffix(b" (deleted)") {
        Some(path) => PathBuf::from(OsStr::from_bytes(path)),
        None => running,
    })
}

/// Whether the program that is to take over can be run at all: its version.
///
/// # Errors
/// It cannot, and why: nothing was changed.
pub(crate) async fn check() -> Result<String> {
    let program = program()?;
    let place = program.display();
    let version = tokio::process::Command::new(&program)
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(CHECK, version).await {
        Ok(output) => output.with_context(|| format!("{place} cannot be run"))?,
        Err(_) => bail!(
            "{place} --version gives no answer within {} s",
            CHECK.as_secs()
        ),
    };
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || !text.starts_with("pgherd ") {
        bail!(
            "{place} --version says {text:?} ({}), expected `pgherd` and a version",
            output.status
        );
    }
    Ok(text)
}

/// Puts the program in this one's place; comes back only if neither it nor the running one can be
/// started again.
pub(crate) fn exec(handover: &Handover) -> std::io::Error {
    let arguments = arguments(std::env::args_os(), handover);
    let running = PathBuf::from("/proc/self/exe");
    let programs = [program().unwrap_or_else(|_| running.clone()), running];
    let mut last = std::io::Error::other("no program");
    for program in programs {
        last = replace(&program, &arguments);
        tracing::error!("{} cannot take over: {last}", program.display());
    }
    last
}

fn replace(program: &Path, arguments: &[OsString]) -> std::io::Error {
    let mut command = Command::new(program);
    if let Some((name, rest)) = arguments.split_first() {
        command.arg0(name).args(rest);
    }
    command.exec()
}

/// Those of this process, with its own handover in place of an earlier one.
fn arguments(own: impl Iterator<Item = OsString>, handover: &Handover) -> Vec<OsString> {
    let earlier = |word: &OsString| word.as_bytes().starts_with(OPTION.as_bytes());
    let mut arguments: Vec<OsString> = own.filter(|word| !earlier(word)).collect();
    arguments.push(format!("{OPTION}{handover}").into());
    arguments
}

/// A guard of the predecessor is a child of this process, and ends once it is superseded.
pub(crate) fn reap(guard: u32) {
    let pid = i32::try_from(guard)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let Some(pid) = pid else { return };
    // As long as the guard lives: nobody waits for this thread, and it ends with the process.
    let wait = move || {
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).ok();
    };
    let started = std::thread::Builder::new()
        .name("reaper".into())
        .spawn(wait);
    if let Err(error) = started {
        tracing::debug!("the guard of before is not reaped: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_arrives() {
        let held = |id, secs| {
            Some(Held {
                id,
                life: Span::from_secs(secs),
            })
        };
        let handover = Handover {
            leases: Leases {
                leader: held(7_587_869_116_538_823_428, 5),
                member: held(-3, 30),
            },
            guard: Some(4711),
        };
        let text = handover.to_string();
        assert_eq!(
            text,
            "leader:7587869116538823428:5000,member:-3:30000,guard:4711"
        );
        assert_eq!(Handover::read(&text), handover);
        let nothing = Handover::default();
        assert_eq!(Handover::read(&nothing.to_string()), nothing);
        // Of another version, or by hand.
        let odd = "leader:x:5000,member:7,socket:4,guard:-1,,guard:5";
        let five = Handover {
            guard: Some(5),
            ..nothing
        };
        assert_eq!(Handover::read(odd), five);
    }

    #[test]
    fn the_command_line_stays_but_for_the_handover() {
        let words = ["pgherd", "agent", "--handover=guard:1", "n1.yml"].map(OsString::from);
        let handover = Handover {
            guard: Some(2),
            ..Handover::default()
        };
        let expected = ["pgherd", "agent", "n1.yml", "--handover=guard:2"].map(OsString::from);
        assert_eq!(arguments(words.into_iter(), &handover), expected);
    }
}
