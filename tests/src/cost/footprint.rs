//! What an idle agent takes: memory, threads, processor time; its guard included.

use anyhow::{Context as _, Result};
use pgherd_tests::Node;
use std::fs;
use std::time::{Duration, Instant};

/// One agent and its guard.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Footprint {
    /// Proportional set size, MB (10^6 bytes): shared pages count by the share.
    pub(crate) memory_mb: f64,
    /// Threads: the median of all looks.
    pub(crate) threads: usize,
    /// Seconds of processor time per minute.
    pub(crate) cpu: f64,
}

/// A look at the beginning of the time that is measured.
#[derive(Debug)]
pub(crate) struct Idle {
    pids: Vec<i32>,
    begun: Instant,
    cpu: Duration,
    threads: Vec<usize>,
}

impl Idle {
    /// Begins; the node is one whose agent runs.
    pub(crate) fn begin(node: &Node) -> Result<Idle> {
        let mut pids = vec![node.agent_pid().context("the agent runs")?];
        pids.extend(node.guards());
        Ok(Idle {
            cpu: sum(&pids, cpu)?,
            begun: Instant::now(),
            threads: Vec::new(),
            pids,
        })
    }

    /// Counts the threads that there are now.
    pub(crate) fn look(&mut self) -> Result<()> {
        let mut threads = 0;
        for pid in &self.pids {
            threads += fs::read_dir(format!("/proc/{pid}/task"))?.count();
        }
        self.threads.push(threads);
        Ok(())
    }

    /// What it took since.
    pub(crate) fn end(mut self) -> Result<Footprint> {
        let used = sum(&self.pids, cpu)?.saturating_sub(self.cpu);
        let minutes = self.begun.elapsed().as_secs_f64() / 60.0;
        self.threads.sort_unstable();
        let middle = self.threads.len() / 2;
        let mut footprint = Footprint {
            cpu: used.as_secs_f64() / minutes,
            threads: *self.threads.get(middle).context("no look at the threads")?,
            ..Footprint::default()
        };
        for pid in &self.pids {
            footprint.memory_mb += memory_mb(*pid)?;
        }
        Ok(footprint)
    }
}

fn sum(pids: &[i32], of: fn(i32) -> Result<Duration>) -> Result<Duration> {
    pids.iter().map(|pid| of(*pid)).sum()
}

/// Time in user and kernel, of all threads that are or were.
fn cpu(pid: i32) -> Result<Duration> {
    /// Of the interface, not of the kernel (proc(5)).
    const PER_SECOND: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("a stat line")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / PER_SECOND))
}

/// Needs the right to look at the process: its user's, or root's.
fn memory_mb(pid: i32) -> Result<f64> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| file.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u32>().ok());
    Ok(f64::from(kb.with_context(|| format!("no Pss in {file}"))?) * 1024.0 / 1e6)
}
