//! Which processes belong to a data directory, from `/proc` (proc(5)), and signals that cannot
//! reach a stranger.
//!
//! A process belongs to it when
//! - its program is PostgreSQL's and its working directory is the data directory (postmaster and
//!   backends change into it and stay), or
//! - it stands there under any name, and calls itself `postgres: ...` or is attached to the shared
//!   memory that `postmaster.pid` names, or
//! - a process that belongs to it is its parent, or a backend leads its session (the shells of
//!   `archive_command`, `restore_command`, `COPY ... PROGRAM`, also after their parent died), or
//! - an earlier look of the same [`Scanner`] found it.
//!
//! A shell that merely stands in the directory has another program and another parent, so it is
//! left alone. `postmaster.pid` is a hint only: the pid in it counts when the process meets one of the
//! first two rules.

use pgherd_ha::fence::{Facts, Postmaster, Process};
use pgherd_model::{SERVER_PROGRAMS, SharedMemory, Span, Time};
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Device and inode.
type Place = (u64, u64);

/// One line of `/proc/PID/stat`, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    process: Process,
    session: u32,
    state: u8,
    name: Name,
}

/// What the kernel keeps of a program's name: 15 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name([u8; 15]);

impl Name {
    fn of(name: &[u8]) -> Name {
        let mut kept = [0; 15];
        let length = name.len().min(kept.len());
        kept[..length].copy_from_slice(&name[..length]);
        Name(kept)
    }
}

impl Stat {
    /// A zombie has ended; only its parent has not looked yet.
    fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// Looks at one data directory's processes, again and again.
#[derive(Debug)]
pub struct Scanner {
    data_dir: PathBuf,
    /// Names of the server program besides the usual ones.
    programs: Vec<String>,
    /// The directory itself; more than one when it was replaced between two looks.
    places: Vec<Place>,
    /// Its paths without links, as the kernel tells a working directory.
    paths: Vec<PathBuf>,
    postmaster: Option<Process>,
    /// Everything found so far, by pid: start time.
    known: BTreeMap<u32, u64>,
    /// Sessions of backends found so far.
    sessions: BTreeSet<u32>,
}

impl Scanner {
    /// For this data directory, which need not exist yet. `programs`: names of the server program
    /// besides the usual ones.
    pub fn new(data_dir: &Path, programs: &[String]) -> Scanner {
        let mut scanner = Scanner {
            data_dir: data_dir.to_path_buf(),
            programs: programs.to_vec(),
            places: Vec::new(),
            paths: Vec::new(),
            postmaster: None,
            known: BTreeMap::new(),
            sessions: BTreeSet::new(),
        };
        // A failure shows at the first look.
        let _ = scanner.locate();
        scanner
    }

    /// Names the postmaster, so that it is recognised without its pid file.
    pub fn expect(&mut self, postmaster: Process) {
        self.postmaster = Some(postmaster);
    }

    /// Looks now; `looked` is the present time. The postmaster is looked at first: when it is
    /// dead or stopped by then, no process that it forked is missing among the others.
    ///
    /// # Errors
    /// When `/proc` or the data directory cannot be inspected.
    pub fn look(&mut self, looked: Time) -> io::Result<Facts> {
        self.locate()?;
        let mut postmaster = self.see_postmaster();
        let all = everybody()?;
        let mut found: BTreeMap<u32, Process> = BTreeMap::new();
        for stat in &all {
            let Process { pid, started, .. } = stat.process;
            if self.known.get(&pid) == Some(&started) || self.is_server(stat) {
                found.insert(pid, stat.process);
            }
        }
        self.add_relatives(&all, &mut found, postmaster);
        if postmaster == Postmaster::Dead
            && let Some(root) = self.guess_postmaster(&all, &found)
        {
            // Found too late to know that it was stopped before the others were counted.
            postmaster = Postmaster::Running(root);
            self.postmaster = Some(root);
        }
        let root = self.postmaster.map(|process| process.pid);
        self.known = found
            .values()
            .map(|process| (process.pid, process.started))
            .collect();
        let others = found.into_values().filter(|it| Some(it.pid) != root);
        Ok(Facts {
            looked,
            postmaster,
            others: others.collect(),
        })
    }

    /// Adds the present place of the data directory to those known.
    fn locate(&mut self) -> io::Result<()> {
        match fs::metadata(&self.data_dir) {
            Ok(found) => {
                let place = (found.dev(), found.ino());
                if !self.places.contains(&place) {
                    self.places.push(place);
                    self.paths.extend(fs::canonicalize(&self.data_dir));
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!("cannot inspect {}: {error}", self.data_dir.display()),
            )),
        }
    }

    /// The postmaster that is known or that `postmaster.pid` names, as it is now.
    fn see_postmaster(&mut self) -> Postmaster {
        let known = self.postmaster.and_then(|process| {
            let stat = read_stat(process.pid).ok()?;
            (stat.process.started == process.started).then_some(stat)
        });
        let stat = known.or_else(|| {
            let stat = read_stat(pid_in_file(&self.data_dir)?).ok()?;
            (self.is_server(&stat) && !is_titled(stat.process.pid)).then_some(stat)
        });
        self.postmaster = stat.filter(|it| !it.is_dead()).map(|it| it.process);
        match (self.postmaster, stat) {
            (Some(process), Some(stat)) if stat.state == b'T' => Postmaster::Stopped(process),
            (Some(process), _) => Postmaster::Running(process),
            (None, _) => Postmaster::Dead,
        }
    }

    /// Without a pid file: the one that nobody of the others forked and that is no backend.
    fn guess_postmaster(&self, all: &[Stat], found: &BTreeMap<u32, Process>) -> Option<Process> {
        all.iter()
            .filter(|it| found.contains_key(&it.process.pid))
            .filter(|it| !found.contains_key(&it.process.parent))
            .find(|it| self.is_server(it) && !is_titled(it.process.pid))
            .map(|it| it.process)
    }

    /// Adds the descendants of what was found, and what is left of backends' sessions.
    fn add_relatives(
        &mut self,
        all: &[Stat],
        found: &mut BTreeMap<u32, Process>,
        postmaster: Postmaster,
    ) {
        let root = match postmaster {
            Postmaster::Dead => None,
            Postmaster::Running(process) | Postmaster::Stopped(process) => Some(process.pid),
        };
        // The postmaster's own session may be a person's; a backend's is its own.
        for stat in all {
            let pid = stat.process.pid;
            if found.contains_key(&pid)
                && Some(pid) != root
                && stat.session == pid
                && is_titled(pid)
            {
                self.sessions.insert(pid);
            }
        }
        let me = std::process::id();
        loop {
            let before = found.len();
            for stat in all {
                let Process { pid, parent, .. } = stat.process;
                if pid != me
                    && (found.contains_key(&parent) || self.sessions.contains(&stat.session))
                {
                    found.insert(pid, stat.process);
                }
            }
            if found.len() == before {
                return;
            }
        }
    }

    /// The first two rules: PostgreSQL's program, standing in the data directory, or another one
    /// that can only be PostgreSQL's.
    fn is_server(&self, stat: &Stat) -> bool {
        let pid = stat.process.pid;
        match fs::read_link(format!("/proc/{pid}/exe")) {
            Ok(program) => {
                let name = program.file_name().and_then(|name| name.to_str());
                // So the kernel marks a program that an upgrade has replaced.
                let name = name.map(|name| name.strip_suffix(" (deleted)").unwrap_or(name));
                if name.is_some_and(|name| self.servers().any(|server| server == name)) {
                    self.stands_here(pid)
                } else {
                    self.serves_here(pid)
                }
            }
            // It has begun to exit and may still hold shared memory and sockets, or it is a
            // kernel thread, which stands in no data directory.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut servers = self.servers();
                servers.any(|server| Name::of(server.as_bytes()) == stat.name)
                    && self.stands_here(pid)
            }
            // Somebody else's.
            Err(_) => false,
        }
    }

    fn servers(&self) -> impl Iterator<Item = &str> {
        let told = self.programs.iter().map(String::as_str);
        SERVER_PROGRAMS.into_iter().chain(told)
    }

    fn stands_here(&self, pid: u32) -> bool {
        fs::metadata(format!("/proc/{pid}/cwd"))
            .is_ok_and(|found| self.places.contains(&(found.dev(), found.ino())))
    }

    /// The second rule. Any process is asked this, so the path comes first, which the kernel tells
    /// without a look at a disk: a stranger may stand on one that hangs.
    fn serves_here(&self, pid: u32) -> bool {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|path| self.paths.contains(&path))
            && self.stands_here(pid)
            && (is_titled(pid) || is_attached(pid, &self.data_dir))
    }
}

/// Start time of a process that is a PostgreSQL of this data directory.
///
/// # Errors
/// When it is not, or may not be inspected; the text says so.
pub fn started_in(data_dir: &Path, programs: &[String], pid: u32) -> io::Result<u64> {
    let stat = read_stat(pid)?;
    if stat.is_dead() || !Scanner::new(data_dir, programs).is_server(&stat) {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "process {pid} is not a PostgreSQL server in {} (or runs as another user)",
                data_dir.display()
            ),
        ));
    }
    Ok(stat.process.started)
}

/// The process that has this pid now.
///
/// # Errors
/// When there is none.
pub fn identify(pid: u32) -> io::Result<Process> {
    read_stat(pid).map(|stat| stat.process)
}

/// One look at a data directory, without memory of earlier ones.
///
/// # Errors
/// As [`Scanner::look`].
pub fn look(data_dir: &Path, programs: &[String], now: Time) -> io::Result<Facts> {
    Scanner::new(data_dir, programs).look(now)
}

/// Opens a process, provided that it is still the one that was seen. `None`: it is gone.
///
/// # Errors
/// When there is no pidfd to be had.
pub fn open(process: &Process) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = raw(process.pid) else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        // The pid was this process's when it was seen and is still: so was it in between.
        Ok(pidfd) => Ok(is_same(process).then_some(pidfd)),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends a signal to a process, provided that it is still the one that was seen. Gives its
/// pidfd, to wait for its end; `None`: it is gone, or no descriptor was left to wait with.
///
/// # Errors
/// When the signal is not permitted.
pub fn signal(process: &Process, signal: Signal) -> io::Result<Option<OwnedFd>> {
    let sent = match open(process) {
        Ok(None) => return Ok(None),
        Ok(Some(pidfd)) => pidfd_send_signal(&pidfd, signal).map(|()| Some(pidfd)),
        // No descriptor left: the race against reuse of the pid is then a few microseconds long.
        Err(_) => match raw(process.pid).filter(|_| is_same(process)) {
            Some(pid) => rustix::process::kill_process(pid, signal).map(|()| None),
            None => Ok(None),
        },
    };
    match sent {
        Ok(pidfd) => Ok(pidfd),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(io::Error::new(
            io::Error::from(error).kind(),
            format!("cannot signal process {}: {error}", process.pid),
        )),
    }
}

/// As poll(2) wants it.
pub(crate) fn timespec(span: Span) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(span.subsec_nanos()),
    }
}

/// Whether the pid still is that process's, and it lives.
pub(crate) fn is_same(process: &Process) -> bool {
    read_stat(process.pid)
        .is_ok_and(|stat| !stat.is_dead() && stat.process.started == process.started)
}

/// Every process that lives.
fn everybody() -> io::Result<Vec<Stat>> {
    Ok(pids()?
        .filter_map(|pid| read_stat(pid).ok())
        .filter(|stat| !stat.is_dead())
        .collect())
}

/// All pids in `/proc`.
pub(crate) fn pids() -> io::Result<impl Iterator<Item = u32>> {
    let entries = fs::read_dir("/proc")
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read /proc: {error}")))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

fn read_stat(pid: u32) -> io::Result<Stat> {
    // Long enough for every field up to the start time.
    let mut buffer = [0; 512];
    let size = fs::File::open(format!("/proc/{pid}/stat"))?.read(&mut buffer)?;
    parse_stat(&buffer[..size])
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has an unknown form")))
}

/// `pid (name) state ppid pgrp session ... starttime ...`; the name may hold anything.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let open = line.iter().position(|byte| *byte == b'(')?;
    let name = line.get(open + 1..close)?;
    let pid = str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?;
    let mut fields = str::from_utf8(&line[close + 1..])
        .ok()?
        .split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(15)?.parse().ok()?;
    Some(Stat {
        process: Process {
            pid: pid.parse().ok()?,
            parent,
            started,
        },
        session,
        state,
        name: Name::of(name),
    })
}

/// First line of `postmaster.pid`; negative for a stand-alone backend.
fn pid_in_file(data_dir: &Path) -> Option<u32> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid: i64 = text.lines().next()?.trim().parse().ok()?;
    u32::try_from(pid.unsigned_abs()).ok()
}

/// Whether the process calls itself `postgres: ...`, as all children of a postmaster do.
fn is_titled(pid: u32) -> bool {
    let mut start = [0; 10];
    let read = fs::File::open(format!("/proc/{pid}/cmdline"))
        .and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *b"postgres: "
}

/// Whether it is attached to the shared memory of the server that `postmaster.pid` names.
fn is_attached(pid: u32, data_dir: &Path) -> bool {
    let pid_file = fs::read_to_string(data_dir.join("postmaster.pid")).unwrap_or_default();
    SharedMemory::of_pid_file(&pid_file).is_some_and(|memory| {
        fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| memory.is_in_maps(&maps))
    })
}

fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_line_with_a_hostile_name() {
        let line =
            b"4711 (a) S 1 (b) R 12 4700 4699 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 9 9\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!(
            stat.process,
            Process {
                pid: 4711,
                parent: 12,
                started: 987_654
            }
        );
        assert_eq!((stat.session, stat.state), (4699, b'R'));
        assert_eq!(stat.name, Name::of(b"a) S 1 (b"));
        assert_eq!(parse_stat(b"4711 (a"), None);
        assert_eq!(parse_stat(b")("), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn a_reused_pid_is_not_the_same_process() {
        let me = read_stat(std::process::id()).unwrap().process;
        assert!(is_same(&me));
        let other = Process {
            started: me.started - 1,
            ..me
        };
        assert!(!is_same(&other));
        assert!(open(&me).unwrap().is_some());
        // A live process with our pid but another start time gets no signal (this test would die).
        assert!(signal(&other, Signal::KILL).unwrap().is_none());
    }

    #[test]
    fn nobody_is_found_in_a_directory_without_postgres() {
        let here = std::env::current_dir().unwrap();
        // This test process stands there, as an operator's shell may.
        let facts = look(&here, &[], Time::ZERO).unwrap();
        assert_eq!(facts.postmaster, Postmaster::Dead);
        assert_eq!(facts.others, []);
    }
}
