//! Another program takes this one's place, in the same process: PostgreSQL, the lock and the guard's
//! deadline do not notice (SIGUSR2, `POST /pgherd/upgrade`, `pgherd ctl upgrade-agent`).
//!
//! What the successor cannot find out by itself is handed over on its command line: the leases, when
//! PostgreSQL must be stopped should etcd be away just then, and the open sockets of the REST API, at which clients
//! wait meanwhile. The guard of before keeps watch until its own is armed.

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::{IntoRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use pgherd_dcs::{Held, Leases};
use pgherd_model::{Span, Time};
use rustix::io::FdFlags;

use crate::called;
use crate::watchdog::Left;

/// The option by which the successor is told.
const OPTION: &str = "--handover=";
/// The option by which it is tried.
const TRY: &str = "--would-start";
/// How long that may take.
const CHECK: Duration = Duration::from_secs(15);

/// How long somebody waits for another program to take over, where it cannot at once.
const WISH: Span = Span::from_secs(60);
/// How long a program is what it was when it was tried.
const TRIED: Span = Span::from_secs(5);

/// Somebody wants another program to take over, and it has been tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// When that was asked.
    pub(crate) asked: Time,
    tried: Time,
}

impl Wish {
    /// Asked then, and tried then with success.
    pub(crate) fn new(asked: Time, tried: Time) -> Wish {
        Wish { asked, tried }
    }

    /// Nobody waits any more.
    pub(crate) fn is_over(self, now: Time) -> bool {
        now.since(self.asked) > WISH
    }

    /// The program need not be tried again.
    pub(crate) fn is_tried(self, now: Time) -> bool {
        now.since(self.tried) <= TRIED
    }
}

/// What is handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handover {
    pub(crate) leases: Leases,
    /// PostgreSQL is a primary, and is killed then unless etcd can be read before.
    pub(crate) stop_at: Option<Time>,
    /// Numbers of the files that are the REST API's sockets.
    pub(crate) sockets: Vec<RawFd>,
    /// The watchdog device, open.
    pub(crate) watchdog: Option<Left>,
}

impl fmt::Display for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lease = |name: &str, held: Option<Held>| {
            held.map(|held| format!("{name}:{}:{}", held.id, held.life.as_millis()))
        };
        let stop = self.stop_at.map(|at| format!("stop:{}", at.0));
        let watchdog = self.watchdog.map(|left| {
            let kept = if left.kept { "kept" } else { "counts" };
            format!("watchdog:{}:{kept}", left.number)
        });
        let parts = [
            lease("leader", self.leases.leader),
            lease("member", self.leases.member),
            stop,
            watchdog,
        ];
        let sockets = self.sockets.iter().map(|number| format!("socket:{number}"));
        let parts: Vec<String> = parts.into_iter().flatten().chain(sockets).collect();
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
                ["watchdog", number, how] => {
                    let kept = *how == "kept";
                    let number = number.parse().ok();
                    handover.watchdog = number.map(|number| Left { number, kept });
                }
                ["stop", at] => handover.stop_at = at.parse().ok().map(Time),
                ["socket", number] => handover.sockets.extend(number.parse::<RawFd>()),
                _ => {}
            }
        }
        handover
    }
}

/// The sockets with these numbers, which the program of before has left open for this one. What is none of them any
/// more, or cannot be taken, is left out: the port is opened anew then.
pub(crate) fn adopt_sockets(numbers: &[RawFd]) -> Vec<TcpListener> {
    let adopt = |number: &RawFd| match adopt_socket(*number) {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!("the REST API's socket {number} was not taken over: {error}");
            None
        }
    };
    numbers.iter().filter_map(adopt).collect()
}

fn adopt_socket(number: RawFd) -> io::Result<TcpListener> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    // A copy that a later `exec` closes, of a number that nothing in this program vouches for.
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    let socket = pidfd_getfd(&this, number, PidfdGetfdFlags::empty())?;
    if !rustix::net::sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::other("it does not listen"));
    }
    nix::unistd::close(number)?;
    Ok(TcpListener::from(socket))
}

/// The file of the program: the one to which the path leads now by which this one was called, or that has
/// replaced the running one, if that was replaced. The successor is called by the same name, and so finds the same path.
fn program() -> Result<PathBuf> {
    if let Some(path) = called::path() {
        return Ok(path.to_owned());
    }
    let running = std::env::current_exe().context("the running program cannot be found")?;
    let name = running.as_os_str().as_bytes();
    Ok(match name.strip_suffix(b" (deleted)") {
        Some(path) => PathBuf::from(OsStr::from_bytes(path)),
        None => running,
    })
}

/// Whether the program that is to take over would start, with the configuration as it is now: its version.
///
/// # Errors
/// It would not, and why: nothing was changed.
pub(crate) async fn check() -> Result<String> {
    let program = program()?;
    let place = program.display();
    let words = with_option(std::env::args_os(), TRY.into());
    let version = tokio::process::Command::new(&program)
        .args(words.iter().skip(1))
        .arg0(words.first().map_or(OsStr::new("pgherd"), |word| word))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(CHECK, version).await {
        Ok(output) => output.with_context(|| format!("{place} cannot be run"))?,
        Err(_) => bail!("{place} gives no answer within {} s", CHECK.as_secs()),
    };
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || !text.starts_with("pgherd ") {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().last().unwrap_or_default();
        bail!("{place} would not start ({}): {said}", output.status);
    }
    Ok(text)
}

/// Whether this program was told to end, by SIGTERM or SIGINT, also when nobody listens any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToldToEnd(Arc<AtomicBool>);

impl ToldToEnd {
    /// Notes it from now on. Whoever calls this must be sure that somebody else listens to these signals too.
    pub(crate) fn watch(&self) -> io::Result<()> {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            signal_hook::flag::register(signal as i32, self.0.clone())?;
        }
        Ok(())
    }
}

/// Puts the program in this one's place; comes back only if neither it nor the running one can be
/// started again. `sockets`: at which clients may wait; and the watchdog device.
pub(crate) fn exec(
    mut handover: Handover,
    (sockets, watchdog): (Vec<TcpListener>, Option<OwnedFd>),
    told: &ToldToEnd,
) -> io::Error {
    if let Some(device) = &watchdog
        && let Err(error) = rustix::io::fcntl_setfd(device, FdFlags::empty())
    {
        tracing::error!("the watchdog cannot be handed over, and may reset this machine: {error}");
    }
    // They would end the successor before it listens; it takes them up then.
    if let Err(error) = early_signals().thread_block() {
        return error.into();
    }
    // One that came while nobody listened here any more is the successor's business.
    if told.0.load(Ordering::Relaxed)
        && let Err(error) = nix::sys::signal::raise(Signal::SIGTERM)
    {
        return error.into();
    }
    // Copies that `exec` does not close. Nothing is started any more that would get them as well.
    let copies = sockets
        .iter()
        .filter_map(|socket| rustix::io::dup(socket).ok());
    handover.sockets = copies.map(|copy| copy.into_raw_fd()).collect();
    let arguments = with_option(std::env::args_os(), format!("{OPTION}{handover}").into());
    let running = PathBuf::from("/proc/self/exe");
    let programs = [program().unwrap_or_else(|_| running.clone()), running];
    let mut last = io::Error::other("no program");
    for program in programs {
        last = replace(&program, &arguments);
        tracing::error!("{} cannot take over: {last}", program.display());
    }
    last
}

/// Signals that somebody may send at any time, and to which an agent does what its program says.
fn early_signals() -> SigSet {
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGUSR2,
        Signal::SIGHUP,
        Signal::SIGTERM,
        Signal::SIGINT,
    ] {
        signals.add(signal);
    }
    signals
}

/// Signals are listened to: those that came since the program of before ended arrive now.
pub(crate) fn listens() -> io::Result<()> {
    Ok(early_signals().thread_unblock()?)
}

/// As `exec` of the standard library, which would let the signals through.
fn replace(program: &Path, arguments: &[OsString]) -> io::Error {
    let text = |word: &OsStr| CString::new(word.as_bytes());
    let words: Result<Vec<CString>, _> = arguments.iter().map(|word| text(word)).collect();
    match (text(program.as_os_str()), words) {
        (Ok(program), Ok(words)) => match nix::unistd::execv(&program, &words) {
            Ok(never) => match never {},
            Err(error) => error.into(),
        },
        (Err(error), _) | (_, Err(error)) => error.into(),
    }
}

/// The words of this process with one option more, where it is no operand, and without an earlier one.
fn with_option(own: impl Iterator<Item = OsString>, option: OsString) -> Vec<OsString> {
    let earlier = |word: &OsString| word.as_bytes().starts_with(OPTION.as_bytes());
    let mut words: Vec<OsString> = own.filter(|word| !earlier(word)).collect();
    // `pgherd agent n1.yml`, or `patroni n1.yml`.
    let at = if words.get(1).is_some_and(|word| word == "agent") {
        2
    } else {
        1
    };
    words.insert(at.min(words.len()), option);
    words
}

/// Children of the program of before (its guard, the postmaster) are this process's, and nobody else
/// waits for their end.
pub(crate) fn adopt_children() {
    let me = std::process::id();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in numbers.filter(|pid| parent(*pid) == Some(me)) {
        reap(pid);
    }
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn reap(pid: u32) {
    let number = i32::try_from(pid).ok();
    let Some(pid) = number.and_then(rustix::process::Pid::from_raw) else {
        return;
    };
    // As long as that lives: nobody waits for this thread, and it ends with the process.
    let wait = move || {
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).ok();
    };
    let started = std::thread::Builder::new()
        .name("reaper".into())
        .spawn(wait);
    if let Err(error) = started {
        tracing::debug!("a child of the program before is not reaped: {error}");
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
            stop_at: Some(Time(4711)),
            sockets: vec![9, 12],
            watchdog: Some(Left {
                number: 9,
                kept: true,
            }),
        };
        let text = handover.to_string();
        assert_eq!(
            text,
            "leader:7587869116538823428:5000,member:-3:30000,stop:4711,watchdog:9:kept,socket:9,socket:12"
        );
        assert_eq!(Handover::read(&text), handover);
        let nothing = Handover::default();
        assert_eq!(Handover::read(&nothing.to_string()), nothing);
        // Of another version, or by hand.
        let odd = "leader:x:5000,member:7,socket:x,socket:,stop:-1,watchdog:x:kept,,stop:5";
        let five = Handover {
            stop_at: Some(Time(5)),
            ..nothing
        };
        assert_eq!(Handover::read(odd), five);
    }

    #[test]
    fn a_socket_is_taken_over_and_nothing_else_is_touched() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let other = std::fs::File::open("/dev/null").unwrap();
        let other_number = other.into_raw_fd();
        let numbers = [socket.into_raw_fd(), other_number, 1_000_000];
        let taken = adopt_sockets(&numbers);
        let addresses: Vec<_> = taken.iter().map(|it| it.local_addr().unwrap()).collect();
        assert_eq!(addresses, [address]);
        let still = std::fs::read_link(format!("/proc/self/fd/{other_number}"));
        assert_eq!(still.unwrap(), Path::new("/dev/null"));
        // The number of before holds the port no longer.
        drop(taken);
        TcpListener::bind(address).unwrap();
    }

    #[test]
    fn the_command_line_stays_but_for_the_handover() {
        for (own, expected) in [
            ("pgherd agent n1.yml", "pgherd agent --handover=new n1.yml"),
            (
                "pgherd agent --handover=old n1.yml",
                "pgherd agent --handover=new n1.yml",
            ),
            (
                "pgherd agent -- n1.yml",
                "pgherd agent --handover=new -- n1.yml",
            ),
            ("pgherd agent", "pgherd agent --handover=new"),
            ("/opt/patroni n1.yml", "/opt/patroni --handover=new n1.yml"),
            ("patroni", "patroni --handover=new"),
        ] {
            let words =
                |line: &str| -> Vec<OsString> { line.split(' ').map(OsString::from).collect() };
            let found = with_option(words(own).into_iter(), "--handover=new".into());
            assert_eq!(found, words(expected), "{own}");
        }
    }

    #[test]
    fn children_are_found_by_their_parent() {
        let me = std::process::id();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        assert_eq!(parent(child.id()), Some(me));
        assert_eq!(parent(u32::MAX), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
