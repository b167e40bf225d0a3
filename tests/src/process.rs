//! Processes of this machine: who they are, signals, the unprivileged user, reaping of orphans.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, Once};
use std::time::Duration;

/// One process as `/proc` shows it.
#[derive(Clone, Debug)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Parent's process id.
    pub ppid: i32,
    /// Short name (`postgres`).
    pub comm: String,
    /// `Z` zombie, `T` stopped, `R` `S` `D` alive.
    pub state: char,
    /// Current directory; empty for zombies.
    pub cwd: PathBuf,
    /// Arguments, separated by spaces.
    pub cmdline: String,
}

/// All processes, zombies included.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|e| e.file_name().to_str().and_then(|n| n.parse().ok()))
        .filter_map(of)
        .collect()
}

/// One process; `None` when there is none of this id.
pub fn of(pid: i32) -> Option<Process> {
    let base = PathBuf::from(format!("/proc/{pid}"));
    let stat = fs::read_to_string(base.join("stat")).ok()?;
    // The name is in parentheses and may itself contain any of them.
    let (head, tail) = stat.rsplit_once(')')?;
    let mut rest = tail.split_ascii_whitespace();
    let state = rest.next()?.chars().next()?;
    let ppid = rest.next()?.parse().ok()?;
    let raw = fs::read(base.join("cmdline")).unwrap_or_default();
    let cmdline = String::from_utf8_lossy(&raw).replace('\0', " ");
    Some(Process {
        pid,
        ppid,
        comm: head.split_once('(')?.1.to_owned(),
        state,
        cwd: fs::read_link(base.join("cwd")).unwrap_or_default(),
        cmdline,
    })
}

/// Whether a process of this id runs (a zombie does not).
pub fn alive(pid: i32) -> bool {
    of(pid).is_some_and(|p| p.state != 'Z' && p.state != 'X')
}

/// Sends a signal; `false` when there is no such process.
pub fn signal(pid: i32, signal: Signal) -> bool {
    Pid::from_raw(pid).is_some_and(|p| rustix::process::kill_process(p, signal).is_ok())
}

/// Live processes that work in `dir` or below, or name it in their arguments; never this process.
pub fn of_dir(dir: &Path) -> Vec<Process> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let text = dir.to_string_lossy().into_owned();
    all()
        .into_iter()
        .filter(|p| p.pid != own && p.state != 'Z')
        .filter(|p| p.cwd.starts_with(dir) || p.cmdline.contains(&text))
        .collect()
}

/// Kills everything that [`of_dir`] finds, again and again until nothing is left (at most 10 s).
pub fn kill_of_dir(dir: &Path) {
    for _ in 0..1000 {
        let left = of_dir(dir);
        if left.is_empty() {
            return;
        }
        for process in left {
            signal(process.pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The user who runs PostgreSQL: `postgres` if this process is root, else nobody in particular.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Whom to become, if this process is root (PostgreSQL refuses root).
///
/// # Panics
/// When root finds no user `postgres`.
pub fn account() -> Option<Account> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = nix::unistd::User::from_name("postgres").ok().flatten();
    let user = user.expect("root needs a system user postgres: install the PostgreSQL packages");
    Some(Account {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
    })
}

/// Gives a file or directory to the unprivileged user.
///
/// # Panics
/// When the system refuses.
pub fn give(path: &Path) {
    if let Some(a) = account() {
        std::os::unix::fs::chown(path, Some(a.uid), Some(a.gid)).expect("chown");
    }
}

/// From now on this whole process is the unprivileged user, for tests that use hands of the product
/// which start PostgreSQL. Files of root are closed to it: what is in them is read before.
///
/// # Panics
/// When the system refuses.
pub fn become_account() {
    let Some(a) = account() else {
        return;
    };
    let gid = nix::unistd::Gid::from_raw(a.gid);
    nix::unistd::setgroups(&[gid]).expect("leave root's groups");
    nix::unistd::setgid(gid).expect("change the group");
    nix::unistd::setuid(nix::unistd::Uid::from_raw(a.uid)).expect("change the user");
    std::env::set_current_dir("/").expect("work in /");
}

/// A command that runs as the unprivileged user, in `netns` if given, with a small clean environment.
pub fn command(program: &Path, netns: Option<&str>) -> Command {
    let account = account();
    let mut command = match (netns, account) {
        (Some(ns), Some(a)) => {
            let mut c = Command::new("ip");
            c.args(["netns", "exec", ns, "setpriv", "--clear-groups"]);
            c.arg(format!("--reuid={}", a.uid))
                .arg(format!("--regid={}", a.gid));
            c.arg("--").arg(program);
            c
        }
        _ => {
            let mut c = Command::new(program);
            if let Some(a) = account {
                c.uid(a.uid).gid(a.gid);
            }
            c
        }
    };
    command
        .env_clear()
        .env("LANG", "C.UTF-8")
        .env("PYTHONUNBUFFERED", "1");
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    for name in ["RUST_LOG", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Directory for short-lived data: `PGHERD_TEST_DIR`, else memory (`/dev/shm`) with 4 GB free, else
/// the system's temporary directory.
pub fn scratch_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("PGHERD_TEST_DIR") {
        return dir.into();
    }
    let shm = PathBuf::from("/dev/shm");
    let free = rustix::fs::statvfs(&shm).map_or(0, |s| s.f_bavail * s.f_frsize);
    if free > 4 << 30 {
        shm
    } else {
        std::env::temp_dir()
    }
}

/// `bin_dir` of the newest PostgreSQL of this machine (`PGHERD_PG_BIN` overrides).
///
/// # Panics
/// When there is none.
pub fn pg_bin() -> PathBuf {
    if let Some(dir) = std::env::var_os("PGHERD_PG_BIN") {
        return dir.into();
    }
    let newest = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|e| e.file_name().to_str().and_then(|n| n.parse::<u32>().ok()))
        .filter(|v| Path::new(&format!("/usr/lib/postgresql/{v}/bin/initdb")).exists())
        .max();
    let newest = newest.expect("PostgreSQL below /usr/lib/postgresql, or PGHERD_PG_BIN");
    format!("/usr/lib/postgresql/{newest}/bin").into()
}

static OWN: Mutex<Option<HashSet<i32>>> = Mutex::new(None);

/// Spawns a process whose exit the caller will collect; orphans are collected by a thread.
///
/// This process becomes a subreaper first: a killed postmaster whose parent is gone must not stay a
/// zombie until a slow pid 1 looks (a check by pid sees a zombie alive).
///
/// # Errors
/// Those of `Command::spawn`.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    start_reaper();
    let mut own = OWN.lock().expect("no panic while held");
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).unwrap_or(0);
    own.get_or_insert_default().insert(pid);
    Ok(child)
}

/// Runs a program to its end and collects what it says: `Command::output`, from which the reaper would
/// take the exit of a program that has PostgreSQL's or an agent's name.
///
/// # Errors
/// Those of `Command::output`.
pub fn output(command: &mut Command) -> io::Result<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command)?.wait_with_output()
}

fn start_reaper() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustix::process::set_child_subreaper(Pid::from_raw(1)).expect("become a subreaper");
        std::thread::spawn(|| {
            loop {
                let peek = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                let pause = match rustix::process::waitid(WaitId::All, peek) {
                    Ok(_) => reap_orphans(),
                    Err(_) => Duration::from_millis(20),
                };
                std::thread::sleep(pause);
            }
        });
    });
}

/// Collects dead children that nobody in this process started: only programs which PostgreSQL
/// agents leave behind, so that a `Command::output` elsewhere keeps its child.
fn reap_orphans() -> Duration {
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let own = OWN.lock().expect("no panic while held");
    let known = |pid: &i32| own.as_ref().is_some_and(|set| set.contains(pid));
    for child in all()
        .iter()
        .filter(|p| p.ppid == me && p.state == 'Z' && !known(&p.pid))
    {
        let orphan = ["postgres", "pg_", "pgherd", "patroni", "python", "initdb"];
        if orphan.iter().any(|o| child.comm.starts_with(o)) {
            let options = rustix::process::WaitOptions::NOHANG;
            let _ = rustix::process::waitpid(Pid::from_raw(child.pid), options);
        }
    }
    Duration::from_millis(2)
}

/// Bytes of a path, for places that need C strings.
pub fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
