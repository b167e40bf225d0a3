//! The benchmark of high availability: what an event costs with pgherd, with Patroni and by hand,
//! in turn and in one run. `docs/benchmarks.md` has the method and the figures.

mod agents;
mod args;
mod client;
mod clock;
mod election;
mod events;
mod hand;
mod lease;
mod ledger;
mod load;
mod plan;
mod procs;
mod report;
mod resume;
mod soak;
mod writer;

use agents::Common;
use anyhow::{Context as _, Result, bail};
use args::Args;
use clap::Parser as _;
use pgherd_tests::janitor::Janitor;
use pgherd_tests::measure::machine::{self, Facts};
use pgherd_tests::{Etcd, EtcdOptions, Network, Signal, binary, net, process};
use plan::{EVENTS, Entrant, Event};
use report::{Figures, Sample, Section, System};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long one run of one event may take.
const RUN: Duration = Duration::from_secs(300);

/// The whole program.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    match start(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("bench-ha: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// False when a promise of safety was broken or a run of the product failed.
fn start(args: &Args) -> Result<bool> {
    if let Some((length, every)) = args.soak() {
        // Not after hours of other events.
        soak::kills(length, every)?;
    }
    if !args.report.is_empty() {
        return from_files(args);
    }
    let wanted = args.events().any(|(_, e)| e == Event::NodeCut);
    if !wanted || args.no_network {
        return measure(args, false);
    }
    if process::account().is_none() {
        eprintln!("e2 (network dropped) is left out: a private network needs root");
        return measure(args, false);
    }
    if let Some(file) = &args.verdict {
        // Whoever stops the benchmark knows the outer process only.
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        // The outer process only understands success, so the verdict goes through a file.
        let good = measure(args, true);
        std::fs::write(
            file,
            if matches!(good, Ok(true)) {
                "good"
            } else {
                "bad"
            },
        )?;
        return good.map(|_| true);
    }
    let file = tempfile::NamedTempFile::new()?;
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    arguments.extend(["--verdict".to_owned(), file.path().display().to_string()]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    net::enter_with(&arguments);
    Ok(std::fs::read_to_string(file.path())? == "good")
}

/// Prints the tables of earlier runs.
fn from_files(args: &Args) -> Result<bool> {
    let (mut facts, mut samples) = (Facts::new(), Vec::new());
    for file in &args.report {
        let (more_facts, more) = resume::read(file)?;
        facts = resume::joined(facts, &more_facts);
        samples.extend(more);
    }
    let sections = sections();
    args.write_markdown(&report::markdown(&facts, &sections, &samples))?;
    Ok(!report::broken(&sections, &samples))
}

fn measure(args: &Args, network: bool) -> Result<bool> {
    if network && net::enter_with(&[]) != net::Place::Inside {
        bail!("not inside the private network");
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(all(args, network))
}

/// Every event, every round, every entrant; then the soak.
async fn all(args: &Args, network: bool) -> Result<bool> {
    let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = work_directory(&base)?;
    let measures = |system| args.takes(system) && args.events().next().is_some();
    let patroni = if measures(System::Patroni) {
        agents::patroni(args.patroni.as_deref())
    } else {
        None
    };
    // A copy: whatever is built meanwhile, all runs are of the same program.
    let pgherd = args.takes(System::Pgherd).then(|| {
        let program = args.pgherd.clone().unwrap_or_else(binary::pgherd);
        binary::copy_for_everybody(&program, dir.dir())
    });
    let common = Common {
        disk: dir.dir().to_owned(),
        etcd: Arc::new(Etcd::start(3).await),
        patroni,
        pgherd,
        logs: args.logs.clone(),
        network: if network { Some(outside().await) } else { None },
    };
    let mut run = Run::new(args, facts(&common))?;
    for (key, event) in args.events() {
        if event == Event::NodeCut && !network {
            continue;
        }
        for round in 0..args.runs {
            for entrant in event.entrants().iter().filter(|e| args.takes(e.system)) {
                if entrant.system == System::Patroni && common.patroni.is_none() {
                    continue;
                }
                let work = events::run(event, entrant, &common);
                run.one(round, blank(key, entrant), RUN, work).await?;
            }
        }
    }
    if let Some((length, every)) = args.soak() {
        for entrant in Event::Switchover.entrants() {
            if entrant.system == System::Pgherd && args.takes(System::Pgherd) {
                let work = soak::run(&entrant, &common, length, every);
                let sample = Sample {
                    // A short soak does not stand for a long one.
                    label: format!("{} minutes", length.as_secs_f64() / 60.0),
                    ..blank(soak::EVENT, &entrant)
                };
                run.one(0, sample, length + RUN, work).await?;
            }
        }
    }
    let sections = sections();
    args.write_markdown(&report::markdown(&run.facts, &sections, &run.samples))?;
    Ok(!report::broken(&sections, &run.samples))
}

/// A directory that PostgreSQL's own user may write to; nothing that works in it outlives this
/// program, also when it is killed.
fn work_directory(base: &Path) -> Result<Janitor> {
    let kind = base.metadata();
    if !kind.with_context(|| base.display().to_string())?.is_dir() {
        bail!("{} is no directory", base.display());
    }
    Ok(Janitor::new(base, "pgherd-bench-"))
}

/// The private network with an etcd outside of the members' namespaces.
async fn outside() -> (Network, Etcd) {
    let network = Network::new();
    let mut options = EtcdOptions::new(3);
    options.host = network.host();
    (network, Etcd::start_with(options).await)
}

fn sections() -> Vec<Section> {
    let mut all: Vec<Section> = EVENTS.iter().map(|(_, event)| event.section()).collect();
    all.push(soak::section());
    all
}

/// Machine and versions.
fn facts(common: &Common) -> Facts {
    let mut facts = machine::facts(&common.disk, common.etcd.dir());
    let patroni = common.patroni.as_deref();
    facts.extend(machine::programs(patroni, common.pgherd.as_deref()));
    facts
}

/// A sample without an outcome.
fn blank(event: &str, entrant: &Entrant) -> Sample {
    Sample {
        event: event.to_owned(),
        system: entrant.system,
        label: entrant.label.to_owned(),
        outcome: Ok(Vec::new()),
    }
}

/// What one start of the program has found so far.
struct Run<'a> {
    args: &'a Args,
    facts: Facts,
    samples: Vec<Sample>,
}

impl<'a> Run<'a> {
    /// With what an earlier start has measured.
    fn new(args: &'a Args, facts: Facts) -> Result<Run<'a>> {
        let (facts, samples) = match &args.json {
            Some(file) => resume::earlier(file, facts)?,
            None => (facts, Vec::new()),
        };
        Ok(Run {
            args,
            facts,
            samples,
        })
    }

    /// Runs the event of `sample` once, within `limit`, and notes what came of it; unless an earlier start of the
    /// program has done this round.
    async fn one(
        &mut self,
        round: usize,
        mut sample: Sample,
        limit: Duration,
        work: impl Future<Output = Result<Figures>>,
    ) -> Result<()> {
        if resume::runs(&self.samples, &sample) > round {
            return Ok(());
        }
        let outcome = match client::within(limit, work).await {
            None => Err(format!("not done within {limit:?}")),
            Some(Err(e)) => Err(format!("{e:#}")),
            Some(Ok(figures)) => Ok(figures
                .into_iter()
                .map(|(n, v)| (n.to_owned(), v))
                .collect::<Vec<_>>()),
        };
        let seen = match &outcome {
            Ok(figures) => {
                let all: Vec<_> = figures.iter().map(|(n, v)| format!("{n} {v:.0}")).collect();
                all.join("; ")
            }
            Err(why) => format!("no figure: {why}"),
        };
        let who = [sample.system.name(), &sample.label].join(" ");
        let (event, who) = (&sample.event, who.trim_end());
        eprintln!("{event} round {} {who}: {seen}", round + 1);
        // The rest of a long reason, logs, was on the screen.
        sample.outcome = outcome.map_err(|e| e.lines().next().unwrap_or_default().to_owned());
        self.samples.push(sample);
        match &self.args.json {
            // After each run: what was measured survives whatever follows.
            Some(file) => resume::write(file, &self.facts, &self.samples),
            None => Ok(()),
        }
    }
}
