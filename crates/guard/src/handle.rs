//! The agent's handle of its guard process.

use crate::Options;
use crate::message::{Order, Packet, Reply, SIZE, Watched};
use crate::{message, procs, supersede};
use pgherd_model::{Span, Time};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long the guard may take to answer an order. It answers within a millisecond.
const ANSWER_WITHIN: Span = Span::from_secs(2);
/// How long one that was killed may take to be gone.
const GONE_WITHIN: Span = Span::from_millis(500);

/// The last firing of a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fired {
    /// How many processes it killed.
    pub killed: u32,
    /// How many were left after the first 300 ms; zero: PostgreSQL is down.
    pub left: u32,
    /// How long it took.
    pub took: Span,
}

/// What the guard has said, and what it has not answered, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// As [`Guard::silent_since`].
    pub silent_since: Option<Time>,
    /// As [`Guard::confirmed`].
    pub confirmed: Option<Time>,
    /// As [`Guard::fired`].
    pub fired: Option<Fired>,
}

/// A running guard process. All methods take `&self`: one thread may extend the deadline while
/// another arms or disarms.
///
/// Dropping it closes the connection: a disarmed guard exits, an armed one guards until its
/// deadline and then kills.
#[derive(Debug)]
pub struct Guard {
    options: Options,
    clock: fn() -> Time,
    socket: OwnedFd,
    pidfd: OwnedFd,
    pid: u32,
    child: Mutex<Child>,
    /// Never locked while something is waited for.
    orders: Mutex<Orders>,
    heard: Mutex<Heard>,
}

/// What the guard was told.
#[derive(Debug, Default)]
struct Orders {
    /// How many.
    sent: u64,
    /// Those that it has not answered, and when they were sent. As many as the socket holds at most.
    unanswered: VecDeque<(u64, Time)>,
}

/// What the guard has said.
#[derive(Debug, Default)]
struct Heard {
    number: u64,
    deadline: Option<Time>,
    locked: bool,
    fired: Option<Fired>,
}

impl Guard {
    /// Starts `exe guard ...` and waits until it answers. `clock` reads CLOCK_BOOTTIME. Blocks for
    /// some milliseconds, 2 s at most. The agent gives [`RUNNING_PROGRAM`](crate::RUNNING_PROGRAM).
    ///
    /// # Errors
    /// When the process cannot be started or does not answer; the text says which.
    pub fn spawn(exe: &Path, options: Options, clock: fn() -> Time) -> io::Result<Guard> {
        let options = Options {
            data_dir: std::path::absolute(&options.data_dir)?,
            ..options
        };
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let child = Command::new(exe)
            // The running program has a path that says nothing to people.
            .arg0(OsStr::from_bytes(crate::NAME.to_bytes()))
            .args(options.to_args())
            // Nothing of the agent's environment (it may hold passwords) is needed.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| told(&error, &format!("cannot start the guard {}", exe.display())))?;
        // Not reaped yet, so the pid is still this child's.
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|error| told(&error.into(), "cannot watch the guard (pidfd_open)"))?;
        let guard = Guard {
            options,
            clock,
            socket: ours,
            pidfd,
            pid: child.id(),
            child: Mutex::new(child),
            orders: Mutex::new(Orders::default()),
            heard: Mutex::new(Heard::default()),
        };
        match guard.ask(Order::Ping) {
            Ok(_) => Ok(guard),
            Err(error) => {
                // Nobody will ever talk to it, nor reap it.
                guard.end();
                Err(error)
            }
        }
    }

    /// Arms it: unless told otherwise, everything of the data directory is killed at `deadline`
    /// (earlier or later than a previous one). Returns when the guard has said that it is armed.
    /// `postmaster`: its pid, if one runs already; the guard guards the directory in any case.
    ///
    /// # Errors
    /// When `postmaster` is not a PostgreSQL of this directory (or may not be inspected), or the
    /// guard is dead or does not answer within 2 s: there is no protection then.
    pub fn arm(&self, postmaster: Option<u32>, deadline: Time) -> io::Result<()> {
        let watched = match postmaster {
            None => None,
            Some(pid) => Some(Watched {
                pid,
                started: procs::started_in(&self.options.data_dir, &self.options.programs, pid)?,
            }),
        };
        match self.ask(Order::Arm { watched, deadline })? {
            Some(confirmed) if confirmed >= deadline => Ok(()),
            _ => Err(io::Error::other(format!(
                "guard {} did not take the deadline {deadline}",
                self.pid
            ))),
        }
    }

    /// Moves the deadline later; an earlier one, or one for a guard that is not armed, is ignored.
    /// Does not wait: [`Guard::silent_since`] shows later whether the guard took it.
    ///
    /// # Errors
    /// When the guard is dead, or so many orders are unread that it must be hanging. It is killed then:
    /// should it wake up, it would fire at a deadline that has been moved since.
    pub fn extend(&self, deadline: Time) -> io::Result<()> {
        if let Err(error) = self.send(Order::Extend { deadline }) {
            self.kill()?;
            return Err(error);
        }
        if let Ok(mut heard) = self.heard.try_lock() {
            self.listen(&mut heard)?;
        }
        Ok(())
    }

    /// Disarms it. Returns when the guard has said so.
    ///
    /// # Errors
    /// When the guard is dead or does not answer within 2 s. A guard that does not answer may
    /// still fire.
    pub fn disarm(&self) -> io::Result<()> {
        self.ask(Order::Disarm).map(|_| ())
    }

    /// Ends it, whatever it does or waits for: a stopped process dies of SIGKILL without running again.
    /// Does not wait for that. Arm another one before, where a primary has to be guarded.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(told(
                &error.into(),
                &format!("cannot kill guard {}", self.pid),
            )),
        }
    }

    /// All of the following, for the price of one.
    pub fn said(&self) -> Said {
        let (confirmed, fired) = {
            let heard = self.hear();
            (heard.deadline, heard.fired)
        };
        let orders = lock(&self.orders);
        Said {
            silent_since: orders.unanswered.front().map(|(_, sent)| *sent),
            confirmed,
            fired,
        }
    }

    /// Since when an order waits for its answer, which takes a millisecond; `None`: everything is
    /// answered, and [`Guard::confirmed`] is what was asked for. One that is silent for long hangs.
    pub fn silent_since(&self) -> Option<Time> {
        drop(self.hear());
        let orders = lock(&self.orders);
        orders.unanswered.front().map(|(_, sent)| *sent)
    }

    /// The deadline that the guard has confirmed last; `None`: not armed, as far as it has said.
    pub fn confirmed(&self) -> Option<Time> {
        self.hear().deadline
    }

    /// Whether its pages are locked in memory. If not, it may be late when memory is short;
    /// raising `LimitMEMLOCK` of the service helps.
    pub fn memory_locked(&self) -> bool {
        self.hear().locked
    }

    /// The last firing, if it fired since it was last armed.
    pub fn fired(&self) -> Option<Fired> {
        self.hear().fired
    }

    /// Whether the process lives. Reaps it when it has died.
    pub fn alive(&self) -> bool {
        let mut child = lock(&self.child);
        matches!(child.try_wait(), Ok(None))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A descriptor that becomes readable when the guard process dies.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn pidfd(&self) -> io::Result<OwnedFd> {
        self.pidfd.try_clone()
    }

    /// A descriptor that becomes readable when the guard has said something: look at
    /// [`Guard::fired`] then.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn news(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Ends the guards that earlier agents left for the same data directory, and says how many.
    /// Call it after arming this one. Blocks until they are gone, 500 ms at most for each.
    ///
    /// # Errors
    /// When `/proc` cannot be read or one of them cannot be ended.
    pub fn supersede_others(&self) -> io::Result<usize> {
        supersede::end_others(&self.options.data_dir, self.pid, self.clock)
    }

    /// Sends an order and waits for its answer: the deadline then in force.
    fn ask(&self, order: Order) -> io::Result<Option<Time>> {
        let mut heard = lock(&self.heard);
        if matches!(order, Order::Arm { .. }) {
            self.listen(&mut heard)?;
            heard.fired = None;
        }
        let number = self.send(order)?;
        let end = (self.clock)() + ANSWER_WITHIN;
        loop {
            self.listen(&mut heard)?;
            if heard.number >= number {
                return Ok(heard.deadline);
            }
            let now = (self.clock)();
            if now >= end {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("guard {} does not answer", self.pid),
                ));
            }
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut fds, Some(&procs::timespec(end.since(now)))) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn send(&self, body: Order) -> io::Result<u64> {
        // Held over the sending: no answer may be there before its order is noted.
        let mut orders = lock(&self.orders);
        let number = orders.sent + 1;
        let packet = Packet {
            number,
            locked: false,
            body,
        };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::send(&self.socket, &packet.to_bytes(), flags)
            .map_err(|error| told(&error.into(), &format!("cannot reach guard {}", self.pid)))?;
        orders.sent = number;
        orders.unanswered.push_back((number, (self.clock)()));
        Ok(number)
    }

    /// Kills and reaps it.
    fn end(&self) {
        if self.kill().is_ok() {
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            let _ = poll(&mut fds, Some(&procs::timespec(GONE_WITHIN)));
        }
        self.alive();
    }

    /// Takes in what the guard has said, without waiting.
    fn listen(&self, heard: &mut Heard) -> io::Result<()> {
        let mut bytes = [0u8; SIZE];
        loop {
            match rustix::net::recv(self.socket.as_fd(), &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    heard.deadline = None;
                    return Err(io::Error::new(
                        io::ErrorKind::BrokenPipe,
                        format!("guard {} is gone", self.pid),
                    ));
                }
                Ok((size, _)) => {
                    if let Some(packet) = Packet::<Reply>::from_bytes(&bytes[..size]) {
                        heard.take(packet);
                        lock(&self.orders).answered(heard.number);
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn hear(&self) -> MutexGuard<'_, Heard> {
        let mut heard = lock(&self.heard);
        // A dead guard confirms nothing; `listen` has noted that.
        let _ = self.listen(&mut heard);
        heard
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // No zombie, if it has ended already.
        let _ = lock(&self.child).try_wait();
    }
}

impl Orders {
    /// It has answered them up to this one.
    fn answered(&mut self, number: u64) {
        while self.unanswered.front().is_some_and(|it| it.0 <= number) {
            self.unanswered.pop_front();
        }
    }
}

impl Heard {
    fn take(&mut self, packet: Packet<message::Reply>) {
        self.number = self.number.max(packet.number);
        self.locked = packet.locked;
        match packet.body {
            Reply::Armed { deadline } => self.deadline = Some(deadline),
            Reply::Disarmed => self.deadline = None,
            Reply::Fired { killed, left, took } => {
                self.deadline = None;
                self.fired = Some(Fired {
                    killed,
                    left,
                    took: Span::from_micros(took),
                });
            }
        }
    }
}

/// A panic elsewhere does not make what was heard untrue.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error, with what was tried in front.
fn told(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
