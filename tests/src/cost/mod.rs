//! The benchmark of the agent in daily use: start, memory, threads, processor time, the speed of its REST
//! API beside HAProxy's fixed answer, and its requests to etcd. `docs/benchmarks-agent.md` has the
//! method and the figures.

mod args;
mod clients;
mod footprint;
mod haproxy;
mod report;
mod requests;

use anyhow::{Context as _, Result, bail};
use args::Args;
use clap::Parser as _;
use clients::{Habit, ask};
use footprint::Idle;
use haproxy::Fixed;
use pgherd_tests::measure::machine;
use pgherd_tests::{ClusterOptions, Etcd, Kind, Node, TestCluster, Value, binary, json, oracle};
use report::{Figures, Measured, Setting};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a cluster may take to be whole.
const WHOLE: Duration = Duration::from_secs(120);
/// What an agent does once after its start is over by then, and nobody has asked pgherd anything for so long that it
/// looks as seldom as it ever does.
const SETTLED: Duration = Duration::from_secs(75);
/// Between two looks at an agent at rest.
const LOOK: Duration = Duration::from_secs(1);

/// The whole program.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let done = runtime.context("a runtime").and_then(|runtime| {
        let measured = runtime.block_on(measure(&args))?;
        args.publish(&report::markdown(&measured))?;
        Ok(measured.is_whole())
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Every setting that takes part, one after the other.
async fn measure(args: &Args) -> Result<Measured> {
    let etcd = Etcd::start(3).await;
    let patroni = args.takes(Setting::Patroni).then(oracle::patroni).flatten();
    let command = patroni.map(|program| vec![program.display().to_string()]);
    let pgherd = args.pgherd.clone().unwrap_or_else(binary::pgherd);
    let directory = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut facts = machine::facts(&directory, etcd.dir());
    facts.extend(machine::programs(command.as_deref(), Some(&pgherd)));
    let mut measured = Measured {
        facts,
        settings: Vec::new(),
    };
    for setting in Setting::ALL {
        let kind = match (setting, &command) {
            (Setting::Patroni, Some(command)) => Kind::Command(command.clone()),
            (Setting::Patroni, None) => continue,
            (Setting::Fast | Setting::Defaults, _) => Kind::Pgherd,
        };
        if !args.takes(setting) {
            continue;
        }
        let mut options = ClusterOptions::new(kind).dcs(times(setting));
        options.base_dir = Some(directory.clone());
        options.pgherd = Some(pgherd.clone());
        let cluster = TestCluster::new(&etcd, &options);
        cluster.start_all();
        cluster.wait_whole(WHOLE).await;
        let figures = one(args, &etcd, &cluster, setting).await?;
        measured.settings.push((setting, figures));
    }
    Ok(measured)
}

/// Patroni's default times; the fast profile adds the short lease.
fn times(setting: Setting) -> Value {
    let lease = match setting {
        Setting::Fast => json!({"lease_ttl": 5}),
        Setting::Defaults | Setting::Patroni => Value::Null,
    };
    json!({"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "pgherd": lease})
}

async fn one(args: &Args, etcd: &Etcd, cluster: &TestCluster, setting: Setting) -> Result<Figures> {
    let primary = cluster.primary().await.map_err(anyhow::Error::msg)?;
    let replica = cluster.nodes().iter().find(|n| n.name() != primary.name());
    let replica = replica.context("a replica")?;
    let mut figures = Figures::default();
    for run in 0..args.runs {
        replica.kill_agent();
        let took = start(replica)?;
        eprintln!("{} start {}: {took:.1} ms", setting.name(), run + 1);
        figures.start_ms.push(took);
        cluster.wait_whole(WHOLE).await;
    }
    tokio::time::sleep(SETTLED).await;
    let (before, begun) = (requests::count(etcd).await?, Instant::now());
    let mut idle = (Idle::begin(primary)?, Idle::begin(replica)?);
    while begun.elapsed() < args.idle() {
        tokio::time::sleep(LOOK).await;
        idle.0.look()?;
        idle.1.look()?;
    }
    (figures.leader, figures.replica) = (idle.0.end()?, idle.1.end()?);
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    figures.requests = (requests::count(etcd).await? - before) / minutes;
    eprintln!("{} idle: {figures:?}", setting.name());
    if setting == Setting::Defaults {
        // The times change nothing else.
        return Ok(figures);
    }
    for run in 0..args.runs {
        serve(args, cluster, primary, &mut figures)?;
        eprintln!("{} answers {}: {figures:?}", setting.name(), run + 1);
    }
    Ok(figures)
}

/// HAProxy and the agent in turn, with both habits.
fn serve(args: &Args, cluster: &TestCluster, primary: &Node, figures: &mut Figures) -> Result<()> {
    let fixed = Fixed::start(cluster.dir())?;
    let length = args.answers();
    for (habit, rates) in [
        (Habit::Each, &mut figures.each),
        (Habit::Kept, &mut figures.kept),
    ] {
        rates.fixed.push(ask(fixed.port, "/", habit, length)?);
        let port = primary.rest_address().1;
        rates.agent.push(ask(port, "/primary", habit, length)?);
    }
    Ok(())
}

/// Milliseconds from the start of the agent to its first 200 on `/liveness`.
fn start(node: &Node) -> Result<f64> {
    let port = node.rest_address().1;
    let begun = Instant::now();
    node.start();
    while !lives(port) {
        if begun.elapsed() > WHOLE {
            bail!("{} does not live after {WHOLE:?}", node.name());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

fn lives(port: u16) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut connection = TcpStream::connect(("127.0.0.1", port))?;
        connection.write_all(b"GET /liveness HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.get(8..13) == Some(b" 200 "))
}
