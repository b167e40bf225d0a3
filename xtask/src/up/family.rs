//! Every process that descends from this one, whatever happens to those in between: we are their
//! sub-reaper, so nothing that was started can get away, also not after a `kill -9` of an agent.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};

/// A descendant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relative {
    pub(super) pid: i32,
    pub(super) parent: i32,
    /// Name of its program, at most 15 characters.
    pub(super) program: String,
    /// Dead, and its parent has not looked yet.
    pub(super) zombie: bool,
}

/// From now on orphans become our children instead of init's.
pub(super) fn adopt_orphans() -> nix::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// Every living descendant. Orphans that died are laid to rest on the way, except `ours`: whoever
/// started those waits for them.
pub(super) fn living(ours: &BTreeSet<i32>) -> Vec<Relative> {
    let me = nix::unistd::getpid().as_raw();
    let all = descendants(me, &processes());
    for relative in &all {
        if relative.zombie && relative.parent == me && !ours.contains(&relative.pid) {
            // Somebody else may have been quicker.
            let _ = waitpid(Pid::from_raw(relative.pid), Some(WaitPidFlag::WNOHANG));
        }
    }
    all.into_iter()
        .filter(|relative| !relative.zombie)
        .collect()
}

/// Sends a signal; a process that is gone already is as good.
pub(super) fn signal(pid: i32, signal: Signal) {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => eprintln!("cannot send {signal} to process {pid}: {error}"),
    }
}

/// Ends a process politely, also one that somebody has stopped with SIGSTOP.
pub(super) fn ask_to_end(pid: i32, how: Signal) {
    signal(pid, how);
    signal(pid, Signal::SIGCONT);
}

fn processes() -> Vec<Relative> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().parse::<i32>().is_ok())
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| parse(&stat))
        .collect()
}

/// `pid (program) state parent ...`; the program's name may hold blanks and brackets.
fn parse(stat: &str) -> Option<Relative> {
    let (pid, rest) = stat.split_once(" (")?;
    let (program, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    Some(Relative {
        pid: pid.parse().ok()?,
        parent: fields.next()?.parse().ok()?,
        program: program.to_owned(),
        zombie: state == "Z" || state == "X",
    })
}

fn descendants(root: i32, all: &[Relative]) -> Vec<Relative> {
    let mut children: BTreeMap<i32, Vec<&Relative>> = BTreeMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut todo = vec![root];
    while let Some(parent) = todo.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            todo.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let relative = parse("12 (a) b (c) S 7 12 12 0 -1").unwrap();
        assert_eq!((relative.pid, relative.parent), (12, 7));
        assert_eq!(relative.program, "a) b (c");
        assert!(!relative.zombie);
    }

    #[test]
    fn grandchildren_are_found_and_strangers_are_not() {
        let process = |pid, parent| Relative {
            pid,
            parent,
            program: "x".into(),
            zombie: false,
        };
        let all = [process(2, 1), process(3, 2), process(4, 3), process(9, 1)];
        let pids: Vec<i32> = descendants(2, &all).iter().map(|p| p.pid).collect();
        assert_eq!(pids, [3, 4]);
    }
}
