//! The guard process on plain processes that look like PostgreSQL's: a shell under the name
//! `postgres`, standing in a data directory, with children.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use pgherd_guard::{Guard, Options};
use pgherd_model::{Span, Time};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::{PATIENCE, Running, ends_within, guard_program, now, pidfd_of, ready, until};
use tempfile::TempDir;

/// How much later than its deadline a guard may be here: a busy machine, not the product's goal.
const LATE: Span = Span::from_secs(1);

/// A data directory with a process that takes itself for its postmaster.
struct Fake {
    dir: TempDir,
    postmaster: Running,
    child: u32,
}

impl Fake {
    fn start() -> Fake {
        Fake::start_as("postgres", "edb-postgres")
    }

    /// Its child is a server as well, and found as such when the postmaster is dead.
    fn start_as(postmaster: &str, child: &str) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let server = dir.path().join(postmaster);
        std::fs::copy("/bin/sh", &server).unwrap();
        std::fs::copy("/bin/sleep", dir.path().join(child)).unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let mut child = Command::new(&server)
            .args(["-c", &format!("../{child} 1000 & echo $!; wait; read x")])
            .current_dir(dir.path().join("data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Fake {
            dir,
            postmaster: Running(child),
            child: line.trim().parse().unwrap(),
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn guard(&self) -> Guard {
        self.guard_of(&[])
    }

    fn guard_of(&self, programs: &[&str]) -> Guard {
        let options = options(&self.data(), programs);
        Guard::spawn(&guard_program(), options, now).unwrap()
    }

    /// Kills the child, unless it is dead already.
    fn end_child(&self) {
        if !is_gone(self.child) {
            kill_process(raw(self.child), Signal::KILL).unwrap();
        }
    }

    fn pid(&self) -> Option<u32> {
        Some(self.postmaster.pid())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.end_child();
    }
}

fn options(data_dir: &Path, programs: &[&str]) -> Options {
    Options {
        data_dir: data_dir.to_owned(),
        programs: programs.iter().map(|name| name.to_string()).collect(),
        form: None,
    }
}

fn after(milliseconds: u64) -> Time {
    now() + Span::from_millis(milliseconds)
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

fn is_gone(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(')').next().unwrap().starts_with(" Z"),
        Err(_) => true,
    }
}

#[test]
fn fires_at_the_deadline_and_kills_everything() {
    let fake = Fake::start();
    let child = pidfd_of(fake.child);
    let guard = fake.guard();
    let deadline = after(300);
    guard.arm(fake.pid(), deadline).unwrap();
    assert_eq!(guard.confirmed(), Some(deadline));
    assert!(ends_within(&fake.postmaster.pidfd(), PATIENCE));
    let late = now().since(deadline);
    println!("postmaster gone {late:?} after the deadline");
    assert!(now() >= deadline, "fired early");
    assert!(late < LATE);
    assert!(
        ends_within(&child, Span::ZERO),
        "its child was killed first"
    );
    until("the guard reports", || guard.fired().is_some());
    let fired = guard.fired().unwrap();
    assert_eq!((fired.killed, fired.left), (2, 0));
    println!("killing took {:?}", fired.took);
    assert_eq!(guard.confirmed(), None);
    assert!(guard.alive(), "it goes on serving");
    // It can be armed again, and what it said about the past is forgotten then.
    guard.arm(None, after(60_000)).unwrap();
    assert_eq!(guard.fired(), None);
    guard.disarm().unwrap();
}

#[test]
fn a_deadline_in_the_past_fires_at_once() {
    let fake = Fake::start();
    let guard = fake.guard();
    guard.arm(fake.pid(), now()).unwrap();
    assert!(ends_within(&fake.postmaster.pidfd(), PATIENCE));
}

#[test]
fn extending_and_disarming_keep_it_quiet() {
    let fake = Fake::start();
    let guard = fake.guard();
    let first = after(400);
    guard.arm(fake.pid(), first).unwrap();
    let second = first + Span::from_secs(60);
    guard.extend(second).unwrap();
    until("the guard took it", || guard.confirmed() == Some(second));
    // Never earlier by an extension.
    guard.extend(first).unwrap();
    assert!(fake.postmaster.runs_for(Span::from_millis(700)));
    assert_eq!(guard.confirmed(), Some(second));
    let third = after(300);
    guard.arm(fake.pid(), third).unwrap();
    guard.disarm().unwrap();
    guard.extend(third).unwrap();
    assert!(fake.postmaster.runs_for(Span::from_millis(600)));
    assert_eq!((guard.confirmed(), guard.fired()), (None, None));
}

#[test]
fn extends_from_one_thread_while_another_arms_and_disarms() {
    let fake = Fake::start();
    let guard = fake.guard();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                guard.extend(after(60_000)).unwrap();
                std::thread::yield_now();
            }
        });
        for _ in 0..100 {
            guard.arm(fake.pid(), after(60_000)).unwrap();
            guard.disarm().unwrap();
        }
    });
    guard.disarm().unwrap();
    assert!(fake.postmaster.runs_for(Span::ZERO));
}

#[test]
fn orders_that_waited_while_the_guard_was_stopped_count() {
    let fake = Fake::start();
    let guard = fake.guard();
    let deadline = after(300);
    guard.arm(fake.pid(), deadline).unwrap();
    let pid = raw(guard.pid());
    kill_process(pid, Signal::STOP).unwrap();
    let later = deadline + Span::from_secs(60);
    assert_eq!(guard.silent_since(), None);
    let asked = now();
    guard.extend(later).unwrap();
    guard.extend(later).unwrap();
    let told = now();
    assert!(fake.postmaster.runs_for(Span::from_millis(500)));
    assert_eq!(
        guard.confirmed(),
        Some(deadline),
        "a hanging guard confirms nothing"
    );
    let silent = guard.silent_since().unwrap();
    assert!(asked <= silent && silent <= told, "since the first of both");
    kill_process(pid, Signal::CONT).unwrap();
    until("it goes on", || guard.silent_since().is_none());
    assert_eq!(guard.confirmed(), Some(later));
    assert!(fake.postmaster.runs_for(Span::ZERO));
}

/// Woken up it would fire at the last deadline that found room in its socket.
#[test]
fn a_guard_that_cannot_be_told_of_an_extension_is_killed() {
    let fake = Fake::start();
    let guard = fake.guard();
    let deadline = after(300);
    guard.arm(fake.pid(), deadline).unwrap();
    kill_process(raw(guard.pid()), Signal::STOP).unwrap();
    let mut sent = 0;
    let error = loop {
        match guard.extend(deadline) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    println!("{sent} extensions found room: {error}");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    assert!(sent > 50, "{sent}");
    assert!(ends_within(&guard.pidfd().unwrap(), PATIENCE));
    assert!(!guard.alive());
    // Whoever thawed it would find nobody; the deadline is long past.
    assert!(fake.postmaster.runs_for(Span::from_millis(600)));
}

#[test]
fn a_stopped_guard_that_is_killed_never_fires() {
    let fake = Fake::start();
    let guard = fake.guard();
    guard.arm(fake.pid(), after(300)).unwrap();
    let pid = raw(guard.pid());
    kill_process(pid, Signal::STOP).unwrap();
    assert!(fake.postmaster.runs_for(Span::from_millis(500)));
    let next = fake.guard();
    next.arm(fake.pid(), after(600_000)).unwrap();
    guard.kill().unwrap();
    assert!(ends_within(&guard.pidfd().unwrap(), PATIENCE));
    guard.kill().unwrap();
    assert!(!guard.alive() && next.alive());
    assert!(fake.postmaster.runs_for(Span::from_millis(300)));
    next.disarm().unwrap();
}

#[test]
fn the_agents_death_does_not_disarm() {
    let fake = Fake::start();
    let mut agent = Command::new(guard_program())
        .arg("agent")
        .arg(fake.data())
        .args([fake.postmaster.pid().to_string(), String::from("500")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(agent.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let guard = pidfd_of(line.trim().strip_prefix("armed ").unwrap().parse().unwrap());
    let agent = Running(agent);
    agent.signal(Signal::KILL);
    assert!(ends_within(&fake.postmaster.pidfd(), PATIENCE));
    assert!(is_gone(fake.child));
    assert!(ends_within(&guard, PATIENCE), "not needed any more");
}

#[test]
fn without_agent_it_ends_when_nothing_is_left_to_guard() {
    let fake = Fake::start();
    let guard = fake.guard();
    let pidfd = guard.pidfd().unwrap();
    guard.arm(fake.pid(), after(600_000)).unwrap();
    drop(guard);
    assert!(!ends_within(&pidfd, Span::from_millis(200)), "it guards on");
    fake.postmaster.signal(Signal::KILL);
    // The child is left over, and so is the guard.
    assert!(!ends_within(&pidfd, Span::from_millis(500)));
    fake.end_child();
    assert!(ends_within(&pidfd, PATIENCE));
}

#[test]
fn without_agent_and_disarmed_it_ends() {
    let fake = Fake::start();
    let guard = fake.guard();
    let pidfd = guard.pidfd().unwrap();
    guard.arm(fake.pid(), after(600_000)).unwrap();
    guard.disarm().unwrap();
    drop(guard);
    assert!(ends_within(&pidfd, PATIENCE));
    assert!(fake.postmaster.runs_for(Span::ZERO));
}

#[test]
fn a_postmaster_started_later_in_that_directory_is_guarded() {
    let fake = Fake::start();
    let guard = fake.guard();
    guard.arm(fake.pid(), after(1500)).unwrap();
    fake.postmaster.signal(Signal::KILL);
    let next = Running(
        Command::new(fake.dir.path().join("postgres"))
            .args(["-c", "read x"])
            .stdin(Stdio::piped())
            .current_dir(fake.data())
            .spawn()
            .unwrap(),
    );
    assert!(ends_within(&next.pidfd(), PATIENCE));
    until("a leftover of the first one is gone", || {
        is_gone(fake.child)
    });
}

#[test]
fn strangers_in_the_data_directory_survive() {
    let fake = Fake::start();
    let operator = Running(
        Command::new("/bin/sh")
            .args(["-c", "read x"])
            .stdin(Stdio::piped())
            .current_dir(fake.data())
            .spawn()
            .unwrap(),
    );
    // Another cluster with the same program, elsewhere.
    let elsewhere = Running(
        Command::new(fake.dir.path().join("postgres"))
            .args(["-c", "read x"])
            .stdin(Stdio::piped())
            .current_dir(fake.dir.path())
            .spawn()
            .unwrap(),
    );
    // A pid file that points to a stranger.
    let file = format!("{}\n{}\n", operator.pid(), fake.data().display());
    std::fs::write(fake.data().join("postmaster.pid"), file).unwrap();
    let killed = pgherd_guard::kill(&fake.data(), &[], Span::from_secs(5), now).unwrap();
    assert_eq!(killed.processes, 2, "{killed:?}");
    assert!(ends_within(&fake.postmaster.pidfd(), Span::ZERO));
    assert!(operator.runs_for(Span::from_millis(50)));
    assert!(elsewhere.runs_for(Span::ZERO));
    let error = fake
        .guard()
        .arm(Some(operator.pid()), after(1000))
        .unwrap_err();
    assert!(
        error.to_string().contains("not a PostgreSQL server"),
        "{error}"
    );
    // Nothing left: nothing to do.
    let killed = pgherd_guard::kill(&fake.data(), &[], Span::from_secs(5), now).unwrap();
    assert_eq!(killed.processes, 0);
}

#[test]
fn a_new_guard_supersedes_the_old_one() {
    let (fake, other) = (Fake::start(), Fake::start());
    let (old, foreign) = (fake.guard(), other.guard());
    old.arm(fake.pid(), after(1200)).unwrap();
    let stopped = fake.guard();
    let pid = raw(stopped.pid());
    kill_process(pid, Signal::STOP).unwrap();
    let new = fake.guard();
    new.arm(fake.pid(), after(600_000)).unwrap();
    assert_eq!(new.supersede_others().unwrap(), 2);
    assert!(!old.alive() && !stopped.alive());
    assert!(new.alive() && foreign.alive());
    assert!(
        fake.postmaster.runs_for(Span::from_millis(1400)),
        "the old deadline is over"
    );
    assert_eq!(new.supersede_others().unwrap(), 0);
    new.disarm().unwrap();
}

/// The real program behind a link, or a renamed one: the guard is told its name.
#[test]
fn a_server_by_another_name_is_guarded() {
    // Longer than what the kernel keeps of it.
    let fake = Fake::start_as("postgres-of-our-own-making", "its-child");
    let nobody = pgherd_guard::kill(&fake.data(), &[], Span::from_secs(5), now).unwrap();
    assert_eq!(nobody.processes, 0, "it could be anything");
    assert!(fake.guard().arm(fake.pid(), after(60_000)).is_err());
    let child = pidfd_of(fake.child);
    let guard = fake.guard_of(&["postgres-of-our-own-making"]);
    guard.arm(fake.pid(), after(300)).unwrap();
    assert!(ends_within(&fake.postmaster.pidfd(), PATIENCE));
    assert!(ends_within(&child, PATIENCE));

    let fake = Fake::start_as("server-15", "its-child");
    let programs = ["server-15".to_owned()];
    let killed = pgherd_guard::kill(&fake.data(), &programs, Span::from_secs(5), now).unwrap();
    assert_eq!(killed.processes, 2);
}

/// An upgrade of the package while the agent runs.
#[test]
fn a_guard_can_be_started_when_the_programs_file_was_replaced() {
    let fake = Fake::start();
    let program = fake.dir.path().join("pgherd");
    std::fs::copy(guard_program(), &program).unwrap();
    let mut agent = Running(
        Command::new(&program)
            .arg("agent")
            .arg(fake.data())
            .args([fake.postmaster.pid().to_string(), String::from("60000")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let exe = format!("/proc/{}/exe", agent.pid());
    until("the agent runs", || {
        std::fs::read_link(&exe).is_ok_and(|exe| exe == program)
    });
    std::fs::remove_file(&program).unwrap();
    std::fs::copy("/bin/false", &program).unwrap();
    agent.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut line = String::new();
    BufReader::new(agent.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let guard: u32 = line.trim().strip_prefix("armed ").unwrap().parse().unwrap();
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{guard}/{file}")).unwrap();
    assert_eq!(read("comm"), "pgherd\n");
    assert!(
        read("cmdline").starts_with("pgherd\0guard\0--data-dir="),
        "{}",
        read("cmdline")
    );
    kill_process(raw(guard), Signal::TERM).unwrap();
}

#[test]
fn its_death_is_seen_and_kills_nobody() {
    let fake = Fake::start();
    let guard = fake.guard();
    guard.arm(fake.pid(), after(600)).unwrap();
    let pidfd = guard.pidfd().unwrap();
    let news = guard.news().unwrap();
    let pid = raw(guard.pid());
    kill_process(pid, Signal::TERM).unwrap();
    assert!(ends_within(&pidfd, PATIENCE));
    assert!(ready(&news, rustix::event::PollFlags::HUP, PATIENCE));
    assert!(!guard.alive());
    assert_eq!(guard.confirmed(), None);
    assert!(guard.extend(after(600)).is_err());
    assert!(guard.arm(fake.pid(), after(600)).is_err());
    assert!(fake.postmaster.runs_for(Span::from_millis(800)));
}

#[test]
fn a_program_that_is_no_guard_is_an_error() {
    let data = tempfile::tempdir().unwrap();
    let options = || options(data.path(), &[]);
    let error = Guard::spawn(Path::new("/nowhere/pgherd"), options(), now).unwrap_err();
    assert!(error.to_string().contains("/nowhere/pgherd"), "{error}");
    assert!(Guard::spawn(Path::new("/bin/false"), options(), now).is_err());
}

/// Prints what the guard costs; its private memory stays well below 1 MB.
#[test]
fn it_is_small() {
    let fake = Fake::start();
    let guard = fake.guard();
    guard.arm(fake.pid(), after(600_000)).unwrap();
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", guard.pid()));
    let (rollup, status) = (read("smaps_rollup").unwrap(), read("status").unwrap());
    let value = |text: &str, name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let private = value(&rollup, "Private_Dirty:");
    println!(
        "Pss {} kB, private dirty {private} kB, locked {} kB, threads {}",
        value(&rollup, "Pss:"),
        value(&rollup, "Locked:"),
        value(&status, "Threads:"),
    );
    assert!(private < 1000, "{rollup}");
    assert_eq!(value(&status, "Threads:"), 1);
    let open = std::fs::read_dir(format!("/proc/{}/fd", guard.pid())).unwrap();
    // Standard descriptors, the timer, the postmaster.
    assert_eq!(open.count(), 5);
    guard.disarm().unwrap();
}
