//! What happens in each event, and what is measured. Every function makes a fresh cluster, so that
//! no run inherits anything from the one before.

use super::agents::{Agents, Common};
use super::client::{Endpoint, SETUP, Session, hunt, within};
use super::clock::Instant;
use super::hand::Hand;
use super::lease::Lease;
use super::ledger::{self, Ack, Ledger};
use super::plan::{BOTH, EVENTS, Entrant, Event, FORMED, GAP, LATE, MISSING, MOVED};
use super::report::{Figures, System};
use super::writer::{Habit, Writer};
use anyhow::{Context as _, Result, bail};
use pgherd_tests::Signal;
use std::collections::HashSet;
use std::time::Duration;

/// Longest wait for another primary.
pub(crate) const FAILOVER: Duration = Duration::from_secs(70);
/// What follows an event before the clients stop: a second of quiet writing.
const AFTER: Duration = Duration::from_secs(1);
/// Rows that must be acknowledged before anything happens.
const WARM: usize = 200;
/// Rows that are compared at once.
const PART: i64 = 100_000;
/// A client on the old primary that pipelines, and one with slow statements.
const PIPELINING: i32 = 10;
const SLOW: i32 = 11;

/// Runs `event` once.
pub(crate) async fn run(event: Event, entrant: &Entrant, common: &Common) -> Result<Figures> {
    match (event, entrant.system) {
        (Event::Bootstrap, System::Hand) => return form_by_hand(entrant, common).await,
        (Event::Bootstrap, _) => return form(entrant, common).await,
        (_, System::Hand) => return by_hand(event, entrant, common).await,
        _ => {}
    }
    let agents = Agents::formed(common, entrant, event == Event::NodeCut).await?;
    let figures = match event {
        Event::Switchover => switchover(entrant, &agents).await,
        Event::CrashRestart => restart(entrant, &agents).await,
        Event::NodeCut => cut(entrant, &agents).await,
        Event::PostmasterKilled | Event::PostmasterStopped => {
            half_dead(event, entrant, &agents).await
        }
        Event::AgentStopped => agent_stopped(entrant, &agents).await,
        _ => handover(event, entrant, &agents).await,
    };
    if let Some(directory) = &common.logs {
        let (key, _) = EVENTS
            .iter()
            .find(|(_, e)| *e == event)
            .context("a known event")?;
        let name = [key, entrant.system.name(), entrant.label].join(" ");
        let time = Instant::now().time_of_day();
        agents.keep_logs(&directory.join(format!("{name} {time}.log")))?;
    }
    agents.explained(figures)
}

/// A cluster with one client that follows the primary.
struct Stage {
    endpoints: Vec<Endpoint>,
    ledger: Ledger,
    writer: Writer,
    /// Number of the primary.
    old: usize,
}

impl Stage {
    async fn new(endpoints: Vec<Endpoint>) -> Result<Stage> {
        let ledger = Ledger::default();
        let writer = Writer::start(Habit::Roaming, 1, &endpoints, &ledger)?;
        until(&ledger, "the first rows", FAILOVER, |l| {
            (l.len() >= WARM).then_some(())
        })
        .await?;
        let old = ledger.last().context("rows were acknowledged")?.node;
        Ok(Stage {
            endpoints,
            ledger,
            writer,
            old,
        })
    }

    /// Waits for the first acknowledgement of another node.
    async fn moved(&self, from: Instant) -> Result<Ack> {
        let other = |n| n != self.old;
        until(&self.ledger, "another primary", FAILOVER, |l| {
            l.first_by(from, other)
        })
        .await
    }

    /// Ends the client; the gap after `from`, and what is missing in the end.
    async fn end(self, from: Instant) -> Result<Figures> {
        tokio::time::sleep(AFTER).await;
        self.writer.stop();
        let acks = self.ledger.sorted();
        let gap = ledger::longest_gap(&acks, from).context("no rows after the event")?;
        eprintln!("{gap}");
        let missing = missing(&self.endpoints, &acks).await?;
        Ok(vec![(GAP, gap.ms()), (MISSING, missing)])
    }
}

/// How many of `acks` the present primary does not have.
pub(crate) async fn missing(endpoints: &[Endpoint], acks: &[Ack]) -> Result<f64> {
    let primary = within(FAILOVER, hunt(endpoints))
        .await
        .context("no primary in the end")?;
    let last = acks.iter().map(|a| a.id).max().unwrap_or(0);
    let mut present: HashSet<(i32, i64)> = HashSet::new();
    // In parts: an hour leaves millions of rows.
    for from in (0..=last).step_by(PART as usize) {
        let upto = from + PART;
        let sql = format!("SELECT client, id FROM public.bench WHERE id >= {from} AND id < {upto}");
        let rows = primary.rows(&sql).await?;
        let keys = rows
            .iter()
            .filter_map(|r| Some((r.first()?.parse().ok()?, r.get(1)?.parse().ok()?)));
        present.extend(keys);
    }
    Ok(ledger::missing(acks, &present) as f64)
}

/// Looks at the ledger every few milliseconds until `look` finds what it wants.
pub(crate) async fn until<T>(
    ledger: &Ledger,
    what: &str,
    limit: Duration,
    look: impl Fn(&Ledger) -> Option<T>,
) -> Result<T> {
    let found = async {
        loop {
            if let Some(found) = look(ledger) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(limit, found)
        .await
        .with_context(|| format!("no sign of {what} within {limit:?}"))
}

/// A pause of random length, up to Patroni's `loop_wait`: events must not keep step with its loop.
async fn settle(entrant: &Entrant) {
    let longest: u64 = match entrant.system {
        System::Patroni => entrant.dcs["loop_wait"].as_u64().unwrap_or(10) * 1000,
        System::Hand | System::Pgherd => 1000,
    };
    // The clock's last digits are random enough.
    let ms = Instant::now().0 / 1000 % longest;
    tokio::time::sleep(Duration::from_millis(500 + ms)).await;
}

async fn form_by_hand(entrant: &Entrant, common: &Common) -> Result<Figures> {
    let mut hand = Hand::prepare(&common.disk, entrant.syncfs)?;
    let from = Instant::now();
    hand.form().await?;
    Ok(vec![(FORMED, from.elapsed_ms())])
}

async fn form(entrant: &Entrant, common: &Common) -> Result<Figures> {
    let agents = Agents::prepare(common, entrant, false)?;
    let from = Instant::now();
    agents.start();
    agents.wait_whole().await?;
    Ok(vec![(FORMED, from.elapsed_ms())])
}

async fn by_hand(event: Event, entrant: &Entrant, common: &Common) -> Result<Figures> {
    let mut hand = Hand::prepare(&common.disk, entrant.syncfs)?;
    hand.form().await?;
    let primary = hunt(&hand.endpoints()).await;
    primary.run(SETUP).await?;
    drop(primary);
    let stage = Stage::new(hand.endpoints()).await?;
    let standbys = hand.standbys().await?;
    let lease = match event {
        Event::NodeKilled => Some(Lease::take(&common.etcd, entrant.lease).await?),
        _ => None,
    };
    settle(entrant).await;
    let from = Instant::now();
    match event {
        Event::Switchover => hand.switchover().await?,
        Event::CrashHandover => hand.crash_handover(&standbys).await?,
        Event::CrashRestart => hand.crash_restart()?,
        Event::NodeKilled => {
            hand.crash()?;
            lease.context("taken above")?.lose().await?;
            hand.promote_best(&standbys).await?;
        }
        other => bail!("{other:?} has no floor"),
    }
    let done = Instant::now();
    until(&stage.ledger, "new rows", FAILOVER, |l| {
        l.first_sent_after(done)
    })
    .await?;
    stage.end(from).await
}

async fn switchover(entrant: &Entrant, agents: &Agents) -> Result<Figures> {
    let stage = Stage::new(agents.endpoints()).await?;
    settle(entrant).await;
    let from = Instant::now();
    agents.switchover(stage.old).await?;
    stage.moved(from).await?;
    stage.end(from).await
}

/// The primary's PostgreSQL, or its whole node, is killed, and another node takes over.
async fn handover(event: Event, entrant: &Entrant, agents: &Agents) -> Result<Figures> {
    let stage = Stage::new(agents.endpoints()).await?;
    settle(entrant).await;
    let from = Instant::now();
    match event {
        Event::NodeKilled => agents.node(stage.old).kill_node(),
        _ => agents.node(stage.old).kill_postgres(),
    }
    stage.moved(from).await?;
    stage.end(from).await
}

async fn restart(entrant: &Entrant, agents: &Agents) -> Result<Figures> {
    let stage = Stage::new(agents.endpoints()).await?;
    settle(entrant).await;
    let from = Instant::now();
    agents.node(stage.old).kill_postgres();
    let killed = Instant::now();
    let back = until(&stage.ledger, "new rows", FAILOVER, |l| {
        l.first_sent_after(killed)
    })
    .await?;
    if back.node != stage.old {
        bail!("another node took over instead of a restart in place");
    }
    stage.end(from).await
}

async fn cut(entrant: &Entrant, agents: &Agents) -> Result<Figures> {
    let stage = Stage::new(agents.endpoints()).await?;
    // A client inside the node: the network is no obstacle to it.
    let inside = Writer::start(Habit::Pinned, 2, &[agents.socket(stage.old)], &stage.ledger)?;
    settle(entrant).await;
    let from = Instant::now();
    agents.cut_network(stage.old);
    let moved = |l: &Ledger| l.first_by(from, |n| n != stage.old);
    until(&stage.ledger, "another primary", FAILOVER, moved).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    inside.stop();
    stage.writer.stop();
    let acks = stage.ledger.sorted();
    let outside: Vec<Ack> = acks.iter().filter(|a| a.client == 1).copied().collect();
    let gap = ledger::longest_gap(&outside, from).context("no rows after the event")?;
    eprintln!("{gap}");
    let overlap = ledger::overlap(&acks, stage.old, from);
    Ok(vec![
        (GAP, gap.ms()),
        (LATE, overlap.rows as f64),
        (BOTH, overlap.ms),
    ])
}

/// A client on every node, so that nobody's acknowledgement goes unseen.
fn everywhere(endpoints: &[Endpoint], ledger: &Ledger) -> Result<Vec<Writer>> {
    let mut writers = Vec::new();
    for (client, endpoint) in (1..).zip(endpoints) {
        let one = std::slice::from_ref(endpoint);
        writers.push(Writer::start(Habit::Pinned, client, one, ledger)?);
    }
    Ok(writers)
}

async fn half_dead(event: Event, entrant: &Entrant, agents: &Agents) -> Result<Figures> {
    let ledger = Ledger::default();
    let endpoints = agents.endpoints();
    let mut writers = everywhere(&endpoints, &ledger)?;
    until(&ledger, "the first rows", FAILOVER, |l| {
        (l.len() >= WARM).then_some(())
    })
    .await?;
    let old = ledger.last().context("rows were acknowledged")?.node;
    let at_old = std::slice::from_ref(&endpoints[old]);
    writers.push(Writer::start(
        Habit::Pipelining,
        PIPELINING,
        at_old,
        &ledger,
    )?);
    settle(entrant).await;
    writers.push(Writer::start(Habit::Slow, SLOW, at_old, &ledger)?);
    // The slow statement is half-way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let from = Instant::now();
    let signal = match event {
        Event::PostmasterKilled => Signal::KILL,
        _ => Signal::STOP,
    };
    agents.node(old).signal_postmaster(signal);
    let moved = until(&ledger, "another primary", FAILOVER, |l| {
        l.first_by(from, |n| n != old)
    })
    .await?;
    // Time for the slow statement and whatever is left to be acknowledged.
    tokio::time::sleep(Duration::from_secs(4)).await;
    for writer in writers {
        writer.stop();
    }
    let acks = ledger.sorted();
    let overlap = ledger::overlap(&acks, old, from);
    Ok(vec![
        (LATE, overlap.rows as f64),
        (BOTH, overlap.ms),
        (MOVED, moved.at.ms_since(from)),
    ])
}

async fn agent_stopped(entrant: &Entrant, agents: &Agents) -> Result<Figures> {
    let ledger = Ledger::default();
    let endpoints = agents.endpoints();
    let writers = everywhere(&endpoints, &ledger)?;
    until(&ledger, "the first rows", FAILOVER, |l| {
        (l.len() >= WARM).then_some(())
    })
    .await?;
    let old = ledger.last().context("rows were acknowledged")?.node;
    settle(entrant).await;
    let from = Instant::now();
    agents.node(old).signal_agent(Signal::STOP);
    let moved = until(&ledger, "another primary", FAILOVER, |l| {
        l.first_by(from, |n| n != old)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    agents.node(old).signal_agent(Signal::CONT);
    let moved = moved?;
    // Rows that the old node acknowledged meanwhile are lost when it follows the new one.
    rejoined(&endpoints[old]).await?;
    for writer in writers {
        writer.stop();
    }
    let acks = ledger.sorted();
    let overlap = ledger::overlap(&acks, old, from);
    let missing = missing(&endpoints, &acks).await?;
    Ok(vec![
        (MOVED, moved.at.ms_since(from)),
        (BOTH, overlap.ms),
        (LATE, overlap.rows as f64),
        (MISSING, missing),
    ])
}

/// Waits until the node is a standby.
async fn rejoined(endpoint: &Endpoint) -> Result<()> {
    let standby = async {
        loop {
            if let Ok(session) = Session::open(endpoint).await
                && session.writable().await.is_ok_and(|w| !w)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(FAILOVER, standby)
        .await
        .context("the old primary does not come back as a standby")
}
