//! The other side of speed: under full load, with etcd's leader killed again and again, nothing
//! may happen.

use super::agents::{Agents, Common};
use super::client::{Endpoint, Session};
use super::events::{FAILOVER, missing, until};
use super::ledger::{self, Ledger};
use super::load::Load;
use super::plan::Entrant;
use super::report::{Bound, Figures, Section};
use super::writer::{Habit, Writer};
use anyhow::{Context as _, Result, anyhow};
use pgherd_tests::Etcd;
use std::time::Duration;
use tokio::time::Instant;

/// Key of the event.
pub(crate) const EVENT: &str = "h";
const LOCKS: &str = "lost locks";
const FAILOVERS: &str = "failovers";
const DEMOTIONS: &str = "demotions";
const MISSING: &str = super::plan::MISSING;

/// How long a killed member of etcd stays away.
const AWAY: Duration = Duration::from_secs(15);
/// pgbench is told to work so much longer than needed; it is ended.
const MORE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Heading, explanation and promises.
pub(crate) fn section() -> Section {
    Section {
        event: EVENT,
        title: "Soak",
        about: "`lease_ttl: 5`, pgbench with eight clients, one busy loop per core, and a writer \
                that syncs without pause on the disk of the data directories; etcd's members in \
                memory, its leader killed again and again. A lost lock is a new creation of the \
                key, seen by its revision; a demotion is a primary that was restarted or is in \
                recovery; a failover is a new timeline.",
        bounds: [LOCKS, FAILOVERS, DEMOTIONS, MISSING]
            .map(Bound::Zero)
            .into(),
    }
}

/// What must not change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    created: Option<i64>,
    postmaster: Option<i32>,
}

/// Runs for `length`; etcd's leader is killed once per `every`.
pub(crate) async fn run(
    entrant: &Entrant,
    common: &Common,
    length: Duration,
    every: Duration,
) -> Result<Figures> {
    let agents = Agents::formed(common, entrant, false).await?;
    let endpoints = agents.endpoints();
    let ledger = Ledger::default();
    let writer = Writer::start(Habit::Roaming, 1, &endpoints, &ledger)?;
    until(&ledger, "the first rows", FAILOVER, |l| {
        (l.len() > 0).then_some(())
    })
    .await?;
    let primary = ledger.last().context("a row was acknowledged")?.node;
    let mut load = Load::start(&endpoints[primary], &common.disk, length + MORE)?;
    let begin = super::clock::Instant::now();
    let timeline = timeline(&endpoints).await?;
    let (mut locks, mut demotions, mut kills) = (0.0, 0.0, 0.0);
    let mut before = state(&agents, &common.etcd, primary, None).await;
    let end = Instant::now() + length;
    let mut next = Instant::now() + every.min(length / 2);
    let mut away: Option<(usize, Instant)> = None;
    while Instant::now() < end {
        tokio::time::sleep(LOOK).await;
        let time_left = end.saturating_duration_since(Instant::now());
        if Instant::now() >= next && away.is_none() && time_left > 2 * AWAY {
            let leader = common.etcd.leader().await;
            common.etcd.kill(leader);
            kills += 1.0;
            eprintln!(
                "soak: etcd's leader killed, {} s to go",
                time_left.as_secs()
            );
            away = Some((leader, Instant::now() + AWAY));
            next += every;
        }
        if let Some((member, back)) = away
            && Instant::now() >= back
        {
            common.etcd.restart(member);
            away = None;
        }
        let now = state(&agents, &common.etcd, primary, away.map(|(m, _)| m)).await;
        if now.created.is_some() && now.created != before.created {
            locks += 1.0;
        }
        if now.postmaster != before.postmaster {
            demotions += 1.0;
        }
        // Without an answer of etcd nothing is known: keep what was.
        before = State {
            created: now.created.or(before.created),
            ..now
        };
    }
    if let Some((member, _)) = away {
        common.etcd.restart(member);
    }
    let (busy, synced) = (load.pgbench_runs(), load.synced());
    drop(load);
    writer.stop();
    let acks = ledger.sorted();
    let gap = ledger::longest_gap(&acks, begin).context("no rows")?;
    eprintln!("soak: pgbench to the end: {busy}, {synced} MB synced beside it");
    let failovers = self::timeline(&endpoints).await? - timeline;
    Ok(vec![
        (LOCKS, locks),
        (FAILOVERS, failovers),
        (DEMOTIONS, demotions),
        (MISSING, missing(&endpoints, &acks).await?),
        ("leaders of etcd killed", kills),
        ("minutes", length.as_secs_f64() / 60.0),
        ("rows acknowledged", acks.len() as f64),
        (super::plan::GAP, gap),
    ])
}

/// Creation of the leader key (`None`: no answer; 0: no key) and the primary's postmaster.
async fn state(agents: &Agents, etcd: &Etcd, primary: usize, away: Option<usize>) -> State {
    let postmaster = super::procs::postmaster(&agents.node(primary).data_dir());
    let key = agents.key("leader");
    let mut created = None;
    for member in (0..etcd.len()).filter(|m| Some(*m) != away) {
        let Ok(mut client) = etcd.client(member).await else {
            continue;
        };
        if let Ok(answer) = client.get(key.as_str(), None).await {
            created = Some(
                answer
                    .kvs()
                    .first()
                    .map_or(0, etcd_client::KeyValue::create_revision),
            );
            break;
        }
    }
    State {
        created,
        postmaster,
    }
}

/// The present primary's timeline.
async fn timeline(endpoints: &[Endpoint]) -> Result<f64> {
    let session: Session = super::client::within(FAILOVER, super::client::hunt(endpoints))
        .await
        .context("no primary")?;
    let sql =
        "SELECT pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8)";
    let rows = session.rows(sql).await?;
    let text = rows.first().and_then(|r| r.first()).context("no row")?;
    let number = u32::from_str_radix(text, 16).map_err(|e| anyhow!("timeline {text}: {e}"))?;
    Ok(f64::from(number))
}
