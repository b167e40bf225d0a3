//! The postmaster as a process: postmaster.pid, pidfd, and what a killed postmaster leaves behind.
//! A process belongs to the instance when its working directory is the data directory (compared by
//! device and inode) and its program is PostgreSQL's: by its name, or because it calls itself
//! `postgres: ...` or is attached to the shared memory that postmaster.pid names. No process must be
//! overlooked because its program was renamed: its primary would count as down.

use crate::files::blocking;
use crate::{Error, Instance, Result, datadir, program, script};
use pgherd_model::{Postmaster, SERVER_PROGRAMS, SharedMemory};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, AsRawFd as _, OwnedFd};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A living postmaster that cannot be mistaken for another process with the same number.
#[derive(Clone, Debug)]
pub struct PostmasterHandle {
    /// Process id.
    pub pid: u32,
    /// Its pidfd.
    pub pidfd: Arc<OwnedFd>,
}

impl PostmasterHandle {
    /// Takes a handle of a process id. None when there is no such process.
    pub(crate) fn open(pid: u32) -> Option<PostmasterHandle> {
        let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).ok()?;
        Some(PostmasterHandle {
            pid,
            pidfd: Arc::new(pidfd),
        })
    }

    /// Whether it still lives. A zombie does not.
    pub fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(&*self.pidfd, PollFlags::IN)];
        let now = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        !matches!(poll(&mut fds, Some(&now)), Ok(ready) if ready > 0)
    }

    /// Whether a signal (SIGSTOP) or a debugger keeps it from running.
    pub fn is_halted(&self) -> bool {
        process(self.pid).is_some_and(|process| process.halted)
    }

    /// Ends when the process has ended: a zombie counts as ended, and it need not be our child.
    ///
    /// # Errors
    /// When the runtime refuses the descriptor.
    pub async fn wait_exit(&self) -> std::io::Result<()> {
        // A copy of its own, since one descriptor can be watched only once.
        let fd = async_fd(rustix::io::fcntl_dupfd_cloexec(&*self.pidfd, 3)?)?;
        fd.readable().await.map(|_| ())
    }

    /// Sends a signal to exactly this process. Ok when it is gone already.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Err(e) = pidfd_send_signal(&*self.pidfd, signal)
            && e != rustix::io::Errno::SRCH
        {
            tracing::warn!(pid = self.pid, ?signal, error = %e, "cannot signal PostgreSQL");
        }
    }
}

/// Registers a pidfd with the runtime.
#[allow(unsafe_code)]
fn async_fd(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    debug_assert!(fd.as_fd().as_raw_fd() >= 0);
    // SAFETY: an OwnedFd always answers the same open descriptor until it is dropped, and AsyncFd
    // drops it only after deregistering it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}

/// What postmaster.pid says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// No postmaster.
    Down,
    /// Starting, or in crash or archive recovery without being consistent yet.
    Starting,
    /// Accepts connections, read-write.
    Ready,
    /// Accepts read-only connections.
    Standby,
    /// Is being stopped.
    Stopping,
}

/// The postmaster that was seen last.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) handle: PostmasterHandle,
}

/// The lines of postmaster.pid that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PidFile {
    /// None: a single-user server (negative number in the file).
    pub(crate) pid: Option<u32>,
    pub(crate) port: Option<u16>,
    pub(crate) socket_dir: Option<String>,
    /// The first of the addresses that it listens on.
    pub(crate) listen: Option<String>,
    pub(crate) status: String,
}

/// Parses postmaster.pid (PostgreSQL's `utils/pidfile.h`). A half-written one is None.
pub(crate) fn parse_pid_file(text: &str) -> Option<PidFile> {
    let lines: Vec<&str> = text.lines().collect();
    let pid: i64 = lines.first()?.trim().parse().ok()?;
    let some = |at: usize| {
        let line = lines.get(at).map(|line| line.trim().to_owned());
        line.filter(|text| !text.is_empty())
    };
    Some(PidFile {
        pid: u32::try_from(pid).ok().filter(|pid| *pid > 0),
        port: lines.get(3).and_then(|line| line.trim().parse().ok()),
        socket_dir: some(4),
        listen: some(5),
        status: lines.get(7).unwrap_or(&"").trim().to_owned(),
    })
}

pub(crate) fn read_pid_file(data_dir: &Path) -> Option<PidFile> {
    parse_pid_file(&fs::read_to_string(data_dir.join("postmaster.pid")).ok()?)
}

/// One process of /proc, as far as it is needed.
struct Process {
    /// The program's name as the kernel keeps it, at most 15 bytes.
    name: String,
    parent: u32,
    zombie: bool,
    halted: bool,
}

/// Name, parent and state from /proc/PID/stat; the name in brackets may hold anything.
fn parse_stat(text: &str) -> Option<Process> {
    let (before, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    Some(Process {
        name: before.split_once('(')?.1.to_owned(),
        zombie: matches!(state, "Z" | "X"),
        halted: matches!(state, "T" | "t"),
        parent: fields.next()?.parse().ok()?,
    })
}

fn process(pid: u32) -> Option<Process> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Whether signal 0 would find something under this number.
pub(crate) fn exists(pid: u32) -> bool {
    process(pid).is_some()
}

/// Whether the process has ended as a zombie and ran one of these programs. A zombie has neither
/// program nor working directory to look at, only this name.
pub(crate) fn is_zombie_of(pid: u32, programs: &[String]) -> bool {
    process(pid).is_some_and(|process| {
        let name = process.name.as_bytes();
        let same = |program: &String| name == &program.as_bytes()[..program.len().min(15)];
        process.zombie && programs.iter().any(same)
    })
}

/// Base name of a process's program; a program replaced by an upgrade keeps its name.
fn program_name(pid: u32) -> Option<String> {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = exe.file_name()?.to_string_lossy().into_owned();
    Some(name.trim_end_matches(" (deleted)").to_owned())
}

/// Device and inode, which a directory keeps whatever it is called.
pub(crate) fn place(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// Directories in which processes are looked for.
struct Directories<'a> {
    /// With its place and the path without links, as the kernel tells a working directory; empty where
    /// that cannot be found out.
    known: Vec<(&'a Path, (u64, u64), PathBuf)>,
}

impl<'a> Directories<'a> {
    /// Those that are there. Found once per look: it is compared with every process of the machine.
    fn find(paths: impl IntoIterator<Item = &'a Path>) -> Directories<'a> {
        let found = |path: &'a Path| {
            Some((
                path,
                place(path)?,
                fs::canonicalize(path).unwrap_or_default(),
            ))
        };
        Directories {
            known: paths.into_iter().filter_map(found).collect(),
        }
    }

    /// Whether the process works in one of them: it runs one of the programs there, or can only be
    /// PostgreSQL's.
    fn have(&self, pid: u32, programs: &[String]) -> bool {
        let Some(name) = program_name(pid) else {
            return false;
        };
        let cwd = PathBuf::from(format!("/proc/{pid}/cwd"));
        if programs.contains(&name) {
            return place(&cwd).is_some_and(|there| self.known.iter().any(|it| it.1 == there));
        }
        // Any process is asked this, so the path comes first, which the kernel tells without a look
        // at a disk: a stranger may stand on one that hangs.
        fs::read_link(&cwd).is_ok_and(|path| {
            let mut here = self.known.iter().filter(|it| it.2 == path);
            here.any(|it| place(&cwd) == Some(it.1) && (is_titled(pid) || is_attached(pid, it.0)))
        })
    }
}

/// Whether the process calls itself `postgres: ...`, as all children of a postmaster do.
fn is_titled(pid: u32) -> bool {
    let mut start = [0; 10];
    let read = fs::File::open(format!("/proc/{pid}/cmdline"))
        .and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *b"postgres: "
}

/// Whether it is attached to the shared memory of the server that postmaster.pid names.
fn is_attached(pid: u32, data_dir: &Path) -> bool {
    let pid_file = fs::read_to_string(data_dir.join("postmaster.pid")).unwrap_or_default();
    SharedMemory::of_pid_file(&pid_file).is_some_and(|memory| {
        fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| memory.is_in_maps(&maps))
    })
}

/// All process ids of /proc.
fn all_pids() -> Vec<u32> {
    fs::read_dir("/proc")
        .map(|dir| {
            dir.flatten()
                .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                .collect()
        })
        .unwrap_or_default()
}

/// Names under which the server program of this instance may run: those known everywhere, the
/// configured one, and that of the program behind it, which may be a link; also those of before a
/// change of the configuration, since such a server may still run. Looks at files.
pub(crate) fn server_names(instance: &Instance) -> Vec<String> {
    let options = instance.options();
    let configured = options.bin_name.get("postgres").map(PathBuf::from);
    let resolved = program::path(instance, "postgres").and_then(|path| {
        let resolved = fs::canonicalize(&path).map_err(Error::file("look at", &path))?;
        Ok([path, resolved])
    });
    let paths = configured.into_iter().chain(resolved.into_iter().flatten());
    let names = paths.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let usual = SERVER_PROGRAMS.map(str::to_owned).into_iter();
    let names: Vec<String> = usual.chain(names).collect();
    let mut known = known_names(instance);
    for name in names {
        if !known.contains(&name) {
            known.push(name);
        }
    }
    known.clone()
}

/// The same as found out before: who kills must not wait for a disk that holds programs.
pub(crate) fn names_so_far(instance: &Instance) -> Vec<String> {
    let known = known_names(instance).clone();
    if known.is_empty() {
        server_names(instance)
    } else {
        known
    }
}

fn known_names(instance: &Instance) -> MutexGuard<'_, Vec<String>> {
    let names = instance.inner.server_names.lock();
    names.unwrap_or_else(PoisonError::into_inner)
}

/// The living processes of these directories: those that work in them, and their descendants.
pub(crate) fn members(directories: &[PathBuf], programs: &[String]) -> BTreeSet<u32> {
    let directories = Directories::find(directories.iter().map(PathBuf::as_path));
    if directories.known.is_empty() {
        return BTreeSet::new();
    }
    let me = std::process::id();
    let living: BTreeMap<u32, u32> = all_pids()
        .into_iter()
        .filter(|pid| *pid != me)
        .filter_map(|pid| Some((pid, process(pid).filter(|p| !p.zombie)?.parent)))
        .collect();
    let mut found: BTreeSet<u32> = living
        .keys()
        .copied()
        .filter(|pid| directories.have(*pid, programs))
        .collect();
    loop {
        let more: Vec<u32> = living
            .iter()
            .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Finds the living postmaster through postmaster.pid. A recycled process id is not one: it must
/// be a server of this directory, and not a child of another such process.
fn find_postmaster(data_dir: &Path, programs: &[String]) -> Option<PostmasterHandle> {
    let pid = read_pid_file(data_dir)?.pid?;
    let handle = PostmasterHandle::open(pid)?;
    let directories = Directories::find([data_dir]);
    let parent = process(pid).filter(|p| !p.zombie)?.parent;
    let genuine = directories.have(pid, programs) && !directories.have(parent, programs);
    // The handle was taken before the checks: what they saw is what it holds, if it still lives.
    (genuine && handle.is_alive()).then_some(handle)
}

/// The handle seen last, if it still lives.
fn remembered(instance: &Instance) -> Option<PostmasterHandle> {
    let watched = instance.inner.watched.lock().ok()?;
    let handle = watched.as_ref()?.handle.clone();
    handle.is_alive().then_some(handle)
}

/// Remembers a postmaster.
pub(crate) fn remember(instance: &Instance, handle: PostmasterHandle) {
    if let Ok(mut watched) = instance.inner.watched.lock() {
        *watched = Some(Watched { handle });
    }
}

pub(crate) async fn handle(instance: &Instance) -> Option<PostmasterHandle> {
    if let Some(handle) = remembered(instance) {
        return Some(handle);
    }
    let looked_at = instance.clone();
    let found = blocking("looking for the postmaster", move || {
        let programs = server_names(&looked_at);
        Ok(find_postmaster(looked_at.path(), &programs))
    })
    .await
    .ok()??;
    remember(instance, found.clone());
    Some(found)
}

pub(crate) async fn postmaster(instance: &Instance) -> Postmaster {
    if let Some(handle) = handle(instance).await {
        return Postmaster::Alive { pid: handle.pid };
    }
    // What cannot be looked at is not known to be gone.
    match leftovers(instance).await.map_or(1, |left| left.len()) {
        0 => Postmaster::Down,
        count => Postmaster::Leftovers(u32::try_from(count).unwrap_or(u32::MAX)),
    }
}

/// How far a stop of PostgreSQL has come, by its processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopping {
    /// The archiver lives. It goes on until nothing is left to be archived: the last WAL is archived by nobody else.
    pub archives: bool,
    /// postmaster.pid says that it is being stopped.
    pub told: bool,
    /// There are WAL senders.
    pub sends: bool,
    /// Sessions, workers and writers, which have to end before WAL senders are told of the stop. Whoever connects now is
    /// turned away by a process among them that was not there before, and ends at once.
    pub others: BTreeSet<u32>,
}

/// To be asked while it stops. What cannot be looked for may be there.
pub(crate) async fn stopping(instance: &Instance) -> Stopping {
    let Some(postmaster) = handle(instance).await else {
        return Stopping::default();
    };
    let data_dir = instance.path().to_owned();
    let looked = blocking("looking at a stop", move || {
        let child =
            |pid: &u32| process(*pid).is_some_and(|it| !it.zombie && it.parent == postmaster.pid);
        let children = all_pids().into_iter().filter(child);
        let titled: Vec<(u32, String)> = children.map(|pid| (pid, title(pid))).collect();
        let told = read_pid_file(&data_dir).is_some_and(|file| file.status == "stopping");
        Ok(stop_of(told, &titled))
    });
    looked.await.unwrap_or(Stopping {
        archives: true,
        ..Stopping::default()
    })
}

/// By what the children of the postmaster call themselves, perhaps with the cluster's name before that.
fn stop_of(told: bool, titled: &[(u32, String)]) -> Stopping {
    const LAST: [&str; 5] = [
        ": checkpointer",
        ": archiver",
        ": logger",
        ": stats collector",
        ": io worker",
    ];
    let sends = |title: &str| title.contains(": walsender ");
    let ends_last = |title: &str| LAST.iter().any(|it| title.contains(it));
    let others = titled
        .iter()
        .filter(|(_, title)| !sends(title) && !ends_last(title));
    Stopping {
        archives: titled.iter().any(|(_, title)| title.contains(": archiver")),
        told,
        sends: titled.iter().any(|(_, title)| sends(title)),
        others: others.map(|(pid, _)| *pid).collect(),
    }
}

fn title(pid: u32) -> String {
    let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&title).into_owned()
}

/// Children of the postmaster that call themselves `postgres: walsender ...`, out of these.
pub(crate) async fn end_senders(instance: &Instance, pids: &[u32]) -> Result<()> {
    let Some(postmaster) = handle(instance).await else {
        return Ok(());
    };
    let pids = pids.to_vec();
    blocking("looking for WAL senders", move || {
        // The handle is taken before the look: what that sees is what gets the signal.
        for handle in pids.into_iter().filter_map(PostmasterHandle::open) {
            let child = process(handle.pid).is_some_and(|it| it.parent == postmaster.pid);
            if child && title(handle.pid).contains(": walsender ") {
                handle.signal(Signal::TERM);
            }
        }
        Ok(())
    })
    .await
}

/// All living server processes of the data directory.
///
/// # Errors
/// When `/proc` cannot be read, or not in time.
pub(crate) async fn leftovers(instance: &Instance) -> Result<BTreeSet<u32>> {
    let instance = instance.clone();
    blocking("looking for server processes", move || {
        if all_pids().is_empty() {
            return Err(Error::Unexpected {
                what: "looking for server processes",
                reason: "/proc cannot be read".to_owned(),
            });
        }
        // What works on an unfinished cluster in its own folder is no server of this one.
        let programs = server_names(&instance);
        Ok(members(&[instance.path().to_owned()], &programs))
    })
    .await
}

/// Ends initdb, pg_basebackup, pg_rewind and their children that an agent before us left at work in our
/// unfinished data directory. Only our own programs ever work in there.
pub(crate) async fn end_programs(instance: &Instance) -> Result<()> {
    let looked_at = instance.clone();
    let naming = blocking("looking at programs", move || Ok(server_names(&looked_at)));
    let mut programs = naming.await?;
    programs.extend(["initdb", "pg_basebackup", "pg_rewind"].map(str::to_owned));
    for named in instance.options().bin_name.values() {
        if let Some(name) = Path::new(named).file_name() {
            programs.push(name.to_string_lossy().into_owned());
        }
    }
    let data_dir = instance.path().to_owned();
    for _ in 0..500 {
        let directories = [data_dir.clone(), data_dir.join(datadir::NEW)];
        let programs = programs.clone();
        let left = blocking("looking for programs at work", move || {
            let mut left = members(&directories, &programs);
            left.extend(script::left_at_work(&directories[0]));
            for handle in left.iter().filter_map(|pid| PostmasterHandle::open(*pid)) {
                handle.signal(Signal::KILL);
            }
            Ok(left)
        })
        .await?;
        if left.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(Error::StillRunning(data_dir))
}

pub(crate) async fn readiness(instance: &Instance) -> Readiness {
    let Some(_handle) = handle(instance).await else {
        return Readiness::Down;
    };
    let data_dir: PathBuf = instance.path().to_owned();
    let file = blocking("reading postmaster.pid", move || {
        Ok(read_pid_file(&data_dir))
    })
    .await;
    match file
        .ok()
        .flatten()
        .as_ref()
        .map(|file| file.status.as_str())
    {
        Some("ready") => Readiness::Ready,
        Some("standby") => Readiness::Standby,
        Some("stopping") => Readiness::Stopping,
        _ => Readiness::Starting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postmaster_pid_lines() {
        let text = "4711\n/data\n1795228871\n5433\n/run/pg\nlocalhost\n  123  456\nready   \n";
        let file = parse_pid_file(text).unwrap();
        assert_eq!((file.pid, file.port), (Some(4711), Some(5433)));
        assert_eq!(file.socket_dir.as_deref(), Some("/run/pg"));
        assert_eq!(file.status, "ready");
        assert_eq!(parse_pid_file("-12\n/data\n").unwrap().pid, None);
        assert_eq!(parse_pid_file(""), None);
    }

    #[test]
    fn a_stop_by_the_titles_of_processes() {
        let of = |names: &[&str]| {
            let titled = names.iter().zip(1..);
            let titled: Vec<(u32, String)> = titled
                .map(|(name, pid)| (pid, format!("postgres: main: {name} ")))
                .collect();
            let stop = stop_of(true, &titled);
            (
                stop.sends,
                stop.archives,
                stop.others.into_iter().collect::<Vec<_>>(),
            )
        };
        let sender = "walsender replicator 10.0.0.3(5432) streaming 0/3040000";
        for (names, expected) in [
            (
                &["checkpointer", sender, "logger", "archiver last was 00"][..],
                (true, true, vec![]),
            ),
            (
                &["checkpointer", sender, "app app 10.0.0.9(4711) COMMIT"],
                (true, false, vec![3]),
            ),
            (&["walwriter", "checkpointer"], (false, false, vec![1])),
            (&[], (false, false, vec![])),
        ] {
            assert_eq!(of(names), expected, "{names:?}");
        }
    }

    #[test]
    fn stat_with_a_nasty_name() {
        let stat = parse_stat("12 (a) Z (b) S 7 12 12 0").unwrap();
        assert_eq!((stat.parent, stat.zombie), (7, false));
        assert_eq!(stat.name, "a) Z (b");
        assert!(parse_stat("12 (postgres) Z 7 12").unwrap().zombie);
        for (state, halted) in [("T", true), ("t", true), ("S", false), ("Z", false)] {
            let stat = parse_stat(&format!("12 (postgres) {state} 7 12")).unwrap();
            assert_eq!(stat.halted, halted, "{state}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_zombie_has_ended() {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let handle = PostmasterHandle::open(child.id()).unwrap();
        assert!(handle.is_alive());
        child.kill().unwrap();
        tokio::time::timeout(Duration::from_secs(10), handle.wait_exit())
            .await
            .unwrap()
            .unwrap();
        assert!(!handle.is_alive());
        handle.signal(Signal::TERM);
        child.wait().unwrap();
    }
}
