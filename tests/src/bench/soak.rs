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

/// What must not change, and how often it did.
struct Watch<'a> {
    agents: &'a Agents,
    etcd: &'a Etcd,
    primary: usize,
    /// Creation revision of the leader key and id of the primary's postmaster as seen last; 0: there
    /// is none.
    created: Option<i64>,
    postmaster: Option<i32>,
    locks: f64,
    demotions: f64,
    /// Leaders of etcd that were killed; the one that is away now, and when it comes back.
    kills: f64,
    away: Option<(usize, Instant)>,
}

impl Watch<'_> {
    /// Looks once. Without an answer of etcd nothing is known, and what was seen last stays.
    async fn look(&mut self) {
        let data = self.agents.node(self.primary).data_dir();
        let postmaster = super::procs::postmaster(&data).unwrap_or(0);
        if self.postmaster.is_some_and(|before| before != postmaster) {
            self.demotions += 1.0;
        }
        self.postmaster = Some(postmaster);
        let away = self.away.map(|(member, _)| member);
        if let Some(created) = created(self.agents, self.etcd, away).await {
            if self.created.is_some_and(|before| before != created) {
                self.locks += 1.0;
            }
            self.created = Some(created);
        }
    }

    /// Kills etcd's leader, which comes back later.
    async fn kill_leader(&mut self) {
        let leader = self.etcd.leader().await;
        self.etcd.kill(leader);
        self.kills += 1.0;
        self.away = Some((leader, Instant::now() + AWAY));
    }

    /// Starts the killed member when it is time, or at once.
    fn bring_back(&mut self, at_once: bool) {
        if let Some((member, back)) = self.away
            && (at_once || Instant::now() >= back)
        {
            self.etcd.restart(member);
            self.away = None;
        }
    }
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
    let mut watch = Watch {
        agents: &agents,
        etcd: &common.etcd,
        primary,
        created: None,
        postmaster: None,
        locks: 0.0,
        demotions: 0.0,
        kills: 0.0,
        away: None,
    };
    let end = Instant::now() + length;
    let mut next = Instant::now() + every.min(length / 2);
    while Instant::now() < end {
        tokio::time::sleep(LOOK).await;
        let time_left = end.saturating_duration_since(Instant::now());
        if Instant::now() >= next && watch.away.is_none() && time_left > 2 * AWAY {
            watch.kill_leader().await;
            eprintln!(
                "soak: etcd's leader killed, {} s to go",
                time_left.as_secs()
            );
            next += every;
        }
        watch.bring_back(false);
        watch.look().await;
    }
    watch.bring_back(true);
    let (busy, synced) = (load.pgbench_runs(), load.synced());
    drop(load);
    writer.stop();
    eprintln!("soak: pgbench to the end: {busy}, {synced} MB synced beside it");
    let acks = ledger.sorted();
    let gap = ledger::longest_gap(&acks, begin).context("no rows")?;
    eprintln!("soak: longest {gap}");
    let failovers = self::timeline(&endpoints).await? - timeline;
    let figures = Ok(vec![
        (LOCKS, watch.locks),
        (FAILOVERS, failovers),
        (DEMOTIONS, watch.demotions),
        (MISSING, missing(&endpoints, &acks).await?),
        ("leaders of etcd killed", watch.kills),
        ("minutes", length.as_secs_f64() / 60.0),
        ("rows acknowledged", acks.len() as f64),
        (super::plan::GAP, gap.ms()),
    ]);
    agents.explained(figures)
}

/// Creation of the leader key; 0: there is no key; `None`: no answer.
async fn created(agents: &Agents, etcd: &Etcd, away: Option<usize>) -> Option<i64> {
    let key = agents.key("leader");
    for member in (0..etcd.len()).filter(|m| Some(*m) != away) {
        let Ok(mut client) = etcd.client(member).await else {
            continue;
        };
        if let Ok(answer) = client.get(key.as_str(), None).await {
            let first = answer.kvs().first();
            return Some(first.map_or(0, etcd_client::KeyValue::create_revision));
        }
    }
    None
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
