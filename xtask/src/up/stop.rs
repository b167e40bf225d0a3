//! The end: everything that was started stops, in an order that lets PostgreSQL stop cleanly, and
//! nothing is left behind, whatever somebody did to the processes in between.

use super::process::Process;
use super::{family, interrupted};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// For agents to stop their PostgreSQL and let go of the lock.
const AGENTS: Duration = Duration::from_secs(20);
/// For a PostgreSQL that has lost its agent.
const ORPHANS: Duration = Duration::from_secs(10);
/// For etcd.
const STORE: Duration = Duration::from_secs(5);
/// For the kernel to end what was killed.
const KILLED: Duration = Duration::from_secs(20);

/// Stops `agents` (the leader's last), whatever has lost its agent, then `etcd`. A second Ctrl-C
/// kills the rest at once. Answers what could not be ended.
pub(super) fn everything(
    agents: &mut [Process],
    leader: Option<&str>,
    etcd: Option<&mut Process>,
) -> Vec<String> {
    interrupted::forget();
    for is_leader in [false, true] {
        let mut some: Vec<&mut Process> = agents
            .iter_mut()
            .filter(|agent| (Some(agent.name.as_str()) == leader) == is_leader)
            .collect();
        end(&mut some, AGENTS);
    }
    let etcd_pid = etcd.as_ref().and_then(|etcd| etcd.pid());
    end_orphans(etcd_pid);
    if let Some(etcd) = etcd {
        end(&mut [etcd], STORE);
    }
    kill_the_rest(agents)
}

fn end(processes: &mut [&mut Process], patience: Duration) {
    for pid in processes.iter().filter_map(|process| process.pid()) {
        family::ask_to_end(pid, Signal::SIGTERM);
    }
    let deadline = Instant::now() + patience;
    let all_dead = |processes: &mut [&mut Process]| {
        processes.iter_mut().all(|process| {
            process.just_died();
            process.pid().is_none()
        })
    };
    while !all_dead(processes) && Instant::now() < deadline && !interrupted::requested() {
        crate::run::pause(Duration::from_millis(20));
    }
}

/// Helpers of a killed agent get SIGTERM; a PostgreSQL gets SIGINT, its fast shutdown.
fn end_orphans(etcd: Option<i32>) {
    let deadline = Instant::now() + ORPHANS;
    let mut asked = BTreeSet::new();
    loop {
        let ours: BTreeSet<i32> = etcd.into_iter().collect();
        let mut left = family::living(&ours);
        left.retain(|relative| Some(relative.pid) != etcd);
        if left.is_empty() || Instant::now() > deadline || interrupted::requested() {
            return;
        }
        let servers: BTreeSet<i32> = left
            .iter()
            .filter(|relative| relative.program.starts_with("postgres"))
            .map(|relative| relative.pid)
            .collect();
        for relative in &left {
            // A backend stops when its postmaster does.
            let backend = servers.contains(&relative.pid) && servers.contains(&relative.parent);
            if !backend && asked.insert(relative.pid) {
                let server = servers.contains(&relative.pid);
                let how = if server {
                    Signal::SIGINT
                } else {
                    Signal::SIGTERM
                };
                family::ask_to_end(relative.pid, how);
            }
        }
        crate::run::pause(Duration::from_millis(50));
    }
}

/// SIGKILL until no descendant is left; new ones may be born meanwhile.
fn kill_the_rest(agents: &mut [Process]) -> Vec<String> {
    let deadline = Instant::now() + KILLED;
    loop {
        for agent in agents.iter_mut() {
            agent.just_died();
        }
        let left = family::living(&BTreeSet::new());
        if left.is_empty() || Instant::now() > deadline {
            let text =
                |relative: &family::Relative| format!("{} {}", relative.pid, relative.program);
            return left.iter().map(text).collect();
        }
        for relative in &left {
            family::signal(relative.pid, Signal::SIGKILL);
        }
        crate::run::pause(Duration::from_millis(20));
    }
}
