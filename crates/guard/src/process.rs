//! The guard process: waits for orders, the deadline and the end of the postmaster.

use crate::Options;
use crate::harden;
use crate::keeper::Keeper;
use crate::kill::{self, KillError};
use crate::message::{Order, Packet, Reply, SIZE};
use crate::procs::{self, Scanner};
use pgherd_ha::fence::{Plan, Postmaster, Process};
use pgherd_model::{Span, Time};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::Signal;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// One round of killing; after it, what is left is reported and the next round begins. 0.15 L
/// of the shortest L.
const ROUND: Span = Span::from_millis(300);

/// How often a guard without agent looks whether leftovers of a dead postmaster are still there.
const LEFTOVERS_EVERY: Span = Span::from_millis(50);

/// Makes a line of what the agent said of its form ([`Options::form`]), level and sentence. It may
/// need no file after its first call: it is called when the disk may hang.
pub type Compose = fn(form: Option<&str>, level: &str, sentence: &str) -> String;

/// Body of the hidden subcommand `pgherd guard --data-dir=DIR`. `args`: what follows the word
/// `guard`. `clock` reads CLOCK_BOOTTIME. Standard input must be the socket that
/// [`Guard::spawn`](crate::Guard::spawn) gives. Call it before any thread or runtime exists.
///
/// Exit code 0: not needed any more; 1: cannot guard; 2: called in another way.
pub fn main(
    args: impl IntoIterator<Item = OsString>,
    clock: fn() -> Time,
    compose: Compose,
) -> ExitCode {
    harden::close_inherited();
    let Some(options) = Options::from_args(args) else {
        eprintln!("usage: pgherd guard --data-dir=DIR (started by the agent only)");
        return ExitCode::from(2);
    };
    harden::stand_apart();
    rehearse(&options, clock);
    let voice = Voice::new(options, compose);
    let locked = harden::lock_memory();
    if let Err(why) = &locked {
        voice.say("WARNING", why);
    }
    let sentry = Sentry::new(voice.clone(), locked.is_ok(), clock);
    match sentry.and_then(|mut sentry| sentry.serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            voice.say("ERROR", &format!("cannot go on: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs most of what firing runs, harming nobody: then memory and program are there when they
/// are locked, and need no disk later.
fn rehearse(options: &Options, clock: fn() -> Time) {
    let (data_dir, programs) = (&options.data_dir, &options.programs);
    let _ = procs::look(data_dir, programs, clock());
    let _ = kill::kill(&data_dir.join("no such directory"), programs, ROUND, clock);
    if let Ok(me) = procs::identify(std::process::id()) {
        // Its own pid with another start time: found out before anything is sent.
        let stranger = Process {
            started: me.started.wrapping_add(1),
            ..me
        };
        let _ = procs::signal(&stranger, Signal::CONT);
    }
}

/// The running guard.
struct Sentry {
    voice: Voice,
    clock: fn() -> Time,
    locked: bool,
    keeper: Keeper,
    scanner: Scanner,
    timer: OwnedFd,
    /// The watched postmaster. Without one, only the deadline or the agent ends the guarding.
    postmaster: Option<OwnedFd>,
    /// The agent's end of the socket is open.
    agent: bool,
}

impl Sentry {
    fn new(voice: Voice, locked: bool, clock: fn() -> Time) -> io::Result<Sentry> {
        // It must be our socket, and not somebody's terminal.
        let mut nothing = [0u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match rustix::net::recv(io::stdin(), &mut nothing, flags) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(error) => {
                let text = format!("standard input is not the agent's socket ({error})");
                return Err(io::Error::other(text));
            }
        }
        let timer = timerfd_create(
            TimerfdClockId::Boottime,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        Ok(Sentry {
            clock,
            locked,
            keeper: Keeper::default(),
            scanner: voice.options.scanner(),
            voice,
            timer,
            postmaster: None,
            agent: true,
        })
    }

    /// Until it is not needed any more. The clock is read first, and orders taken after that: an
    /// extension that waited while this process was stopped counts, wherever it was stopped.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let now = (self.clock)();
            self.take_orders()?;
            if self.keeper.is_due(now) {
                self.fire();
                continue;
            }
            if self.keeper.deadline().is_none() && !self.agent {
                return Ok(());
            }
            let dead = self.postmaster.as_ref().is_some_and(ended);
            if dead && self.agent {
                // The agent may start another one: no death ends the guarding early any more.
                self.postmaster = None;
            } else if dead && self.is_down() {
                return Ok(());
            }
            self.sleep(dead)?;
        }
    }

    /// Applies and answers everything that the agent has said.
    fn take_orders(&mut self) -> io::Result<()> {
        let mut bytes = [0u8; SIZE];
        while self.agent {
            match rustix::net::recv(io::stdin(), &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(Errno::CONNRESET) => self.agent = false,
                Ok((size, _)) => match Packet::<Order>::from_bytes(&bytes[..size]) {
                    Some(packet) => self.obey(packet),
                    None => self
                        .voice
                        .say("WARNING", "ignores a message of unknown form"),
                },
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn obey(&mut self, packet: Packet<Order>) {
        let reply = self.keeper.apply(packet.body);
        if let Order::Arm { watched, .. } = packet.body {
            self.scanner = self.voice.options.scanner();
            self.postmaster = None;
            if let Some(watched) = watched {
                let process = Process {
                    pid: watched.pid,
                    parent: 0,
                    started: watched.started,
                };
                self.scanner.expect(process);
                self.postmaster = procs::open(&process).ok().flatten();
            }
        }
        if packet.body == Order::Disarm {
            self.postmaster = None;
        }
        self.answer(packet.number, reply);
    }

    /// An answer that finds no room is dropped: the agent has not read hundreds before it.
    fn answer(&self, number: u64, body: Reply) {
        let packet = Packet {
            number,
            locked: self.locked,
            body,
        };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = rustix::net::send(io::stdin(), &packet.to_bytes(), flags);
    }

    /// The deadline has passed: kills until nothing is left, however long that takes.
    fn fire(&mut self) {
        let begun = (self.clock)();
        let late = begun.since(self.keeper.deadline().unwrap_or(begun));
        let mut killed = 0;
        let mut rounds = 0u32;
        loop {
            rounds += 1;
            let plan = Plan::starting((self.clock)(), ROUND);
            let trouble = match kill::run(&mut self.scanner, &plan, self.clock) {
                Ok(done) => {
                    killed += done.processes;
                    break;
                }
                Err(error) => error,
            };
            let left = match &trouble {
                KillError::NotGone {
                    pids, killed: done, ..
                } => {
                    killed += done;
                    pids.len()
                }
                KillError::Look(_) => {
                    std::thread::sleep(Span::from_millis(50));
                    1
                }
            };
            // The first round, and then about twice a minute.
            if rounds % 100 == 1 {
                self.report(killed, left, begun);
                let text = format!("fired, but {trouble}; goes on");
                self.voice.say("ERROR", &text);
            }
        }
        self.report(killed, 0, begun);
        self.keeper.fired();
        self.postmaster = None;
        let took = (self.clock)().since(begun);
        let text = format!(
            "the lock ran out: killed {killed} processes, all gone after {} us \
             (began {} us after the deadline)",
            took.as_micros(),
            late.as_micros()
        );
        self.voice.say("WARNING", &text);
    }

    fn report(&self, killed: usize, left: usize, begun: Time) {
        let took = (self.clock)().since(begun).as_micros();
        let reply = Reply::Fired {
            killed: u32::try_from(killed).unwrap_or(u32::MAX),
            left: u32::try_from(left).unwrap_or(u32::MAX),
            took: u64::try_from(took).unwrap_or(u64::MAX),
        };
        self.answer(0, reply);
    }

    /// Whether no process of the data directory is left.
    fn is_down(&mut self) -> bool {
        let now = (self.clock)();
        self.scanner
            .look(now)
            .is_ok_and(|facts| facts.postmaster == Postmaster::Dead && facts.others.is_empty())
    }

    /// Until an order, the deadline, or the end of the postmaster, whose end is old news if
    /// `dead`.
    fn sleep(&self, dead: bool) -> io::Result<()> {
        let at = self.keeper.deadline().unwrap_or(Time::ZERO);
        let timer = Itimerspec {
            it_interval: procs::timespec(Span::ZERO),
            it_value: procs::timespec(at.since(Time::ZERO)),
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &timer)?;
        let stdin = io::stdin();
        let mut fds = vec![PollFd::new(&self.timer, PollFlags::IN)];
        if self.agent {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        let mut timeout: Option<Timespec> = None;
        match &self.postmaster {
            Some(_) if dead => timeout = Some(procs::timespec(LEFTOVERS_EVERY)),
            Some(pidfd) => fds.push(PollFd::new(pidfd, PollFlags::IN)),
            None => {}
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the process behind a pidfd has ended.
fn ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&procs::timespec(Span::ZERO))), Ok(1))
}

/// Speaks to the agent's standard error, in lines like the agent's.
#[derive(Clone)]
struct Voice {
    options: Options,
    compose: Compose,
}

impl Voice {
    fn new(options: Options, compose: Compose) -> Voice {
        let voice = Voice { options, compose };
        // Whatever it has to read, it reads now.
        voice.line("INFO", "");
        voice
    }

    /// One line, unless that would block: nobody may read it any more.
    fn say(&self, level: &str, what: &str) {
        let stderr = io::stderr();
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        if !matches!(poll(&mut fds, Some(&procs::timespec(Span::ZERO))), Ok(1)) {
            return;
        }
        let line = self.line(level, what);
        let _ = stderr.lock().write_all(line.as_bytes());
    }

    fn line(&self, level: &str, what: &str) -> String {
        let data_dir = self.options.data_dir.display();
        let message = format!("guard {} of {data_dir}: {what}", std::process::id());
        (self.compose)(self.options.form.as_deref(), level, &message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_the_process_and_its_directory() {
        let options = Options {
            data_dir: "/data".into(),
            form: Some("form".to_owned()),
            ..Options::default()
        };
        let compose: Compose = |form, level, what| format!("{form:?} {level} {what}");
        let me = std::process::id();
        let expected = format!("Some(\"form\") WARNING guard {me} of /data: fired");
        assert_eq!(
            Voice::new(options, compose).line("WARNING", "fired"),
            expected
        );
    }
}
