//! The other side of speed: under full load, with etcd's leader killed again and again, nothing
//! may happen. What cannot be outlived, an election in which nothing moves for longer than the lease can
//! wait, is measured and what it causes is counted apart; everything else is a failure, also a load
//! that was none.

use super::agents::{Agents, Common};
use super::client::{Session, hunt, within};
use super::clock::Instant;
use super::election::{self, Election};
use super::events::{FAILOVER, missing, until};
use super::ledger::{self, Ledger};
use super::load::Load;
use super::plan::{Entrant, GAP, MISSING};
use super::procs;
use super::report::{Bound, Figures, Section};
use super::writer::{Habit, Writer};
use anyhow::{Context as _, Result, anyhow, bail};
use pgherd_tests::Etcd;
use pgherd_tests::measure::machine;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Key of the event.
pub(crate) const EVENT: &str = "h";
const LOCKS: &str = "lost locks";
const FAILOVERS: &str = "failovers";
const DEMOTIONS: &str = "demotions";
const KILLS: &str = "leaders of etcd killed";
const LONGEST: &str = "longest election, ms";
const STILL: &str = "longest time without a new term in one, ms";
const TOO_LONG: &str = "elections that stood still for longer than the lease can wait (2 s)";
const EXCUSED: &str = "demotions, failovers and lost locks after those";
const MISSING_THERE: &str = "acknowledged rows missing after those";

/// How long a killed member of etcd stays away.
const AWAY: Duration = Duration::from_secs(15);
/// So many leaders of etcd must be killed.
const LEAST_KILLS: u32 = 2;
/// pgbench is told to work so much longer than needed; it is ended.
const MORE: Duration = Duration::from_secs(600);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// After a part of the load has ended, so long for the reason to show: a demotion ends the sessions
/// of pgbench before its postmaster is gone.
const REASON: Duration = Duration::from_secs(20);

/// Heading, explanation and promises.
pub(crate) fn section() -> Section {
    Section {
        event: EVENT,
        title: "Soak",
        about: "`lease_ttl: 5`, pgbench with eight clients, one busy loop per core, and a writer \
                that syncs without pause on the disk of the data directories; etcd's members in \
                memory, its leader killed again and again. A lost lock is a new creation of the \
                key, seen by its revision; a demotion is a primary that was restarted or is in \
                recovery; a failover is a new timeline. How long an election takes is up to etcd. A \
                lease of 5 s outlives it as long as votes are held: what follows from one in which \
                for more than 2 s none was held is counted apart.",
        bounds: [LOCKS, FAILOVERS, DEMOTIONS, MISSING]
            .map(Bound::Zero)
            .into(),
    }
}

/// How often etcd's leader is killed: once per `every`, while a killed one can come back twice.
///
/// # Errors
/// When that is not often enough.
pub(crate) fn kills(length: Duration, every: Duration) -> Result<u32> {
    let last = length.saturating_sub(2 * AWAY).as_secs();
    let count = last.checked_div(every.as_secs()).unwrap_or(0);
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    if count < LEAST_KILLS || every <= AWAY {
        bail!(
            "a soak of {length:?} with etcd's leader killed every {every:?} kills {count}; it needs \
             {LEAST_KILLS} at least, more than {AWAY:?} apart, and {:?} after the last: change \
             --soak or --etcd-every",
            2 * AWAY
        );
    }
    Ok(count)
}

/// What stays as it is while nothing happens.
#[derive(Clone, Debug, PartialEq)]
struct Calm {
    /// Number of the primary, its postmaster and its timeline.
    primary: usize,
    postmaster: i32,
    timeline: u32,
    /// Creation revision of the leader key.
    created: i64,
}

/// Something happened that should not.
#[derive(Clone, Copy, Debug)]
struct Upset {
    at: Instant,
    lock: bool,
    demotion: bool,
    failover: bool,
}

/// The cluster, what was seen of it, and what was done to etcd.
struct Watch<'a> {
    agents: &'a Agents,
    etcd: &'a Arc<Etcd>,
    calm: Calm,
    upsets: Vec<Upset>,
    elections: Vec<Election>,
    /// The election that is measured now.
    running: Option<JoinHandle<Result<Election>>>,
    /// The member of etcd that was killed, and when it comes back.
    away: Option<(usize, tokio::time::Instant)>,
}

impl Watch<'_> {
    /// Looks once; after an upset waits until the cluster is calm again, at most [`FAILOVER`].
    async fn look(&mut self) -> Result<bool> {
        let data = self.agents.node(self.calm.primary).data_dir();
        let demotion = procs::postmaster(&data) != Some(self.calm.postmaster);
        // Without a leader etcd says nothing about the key.
        let created = match self.running {
            Some(_) => None,
            None => lock(self.agents, self.etcd, self.away()).await,
        };
        // No answer is no news, and the last one still holds.
        let lost = created.is_some_and(|(created, _)| created != self.calm.created);
        if !demotion && !lost {
            return Ok(false);
        }
        let at = Instant::now();
        let what = if demotion {
            "the primary's postmaster"
        } else {
            "the lock"
        };
        eprintln!("soak: {what} was lost at {} UTC", at.time_of_day());
        let calm = within(FAILOVER, calm(self.agents, self.etcd, self.away()))
            .await
            .with_context(|| format!("{what} was lost, and no calm after {FAILOVER:?}"))??;
        self.upsets.push(Upset {
            at,
            lock: calm.created != self.calm.created,
            demotion: demotion || calm.postmaster != self.calm.postmaster,
            failover: calm.timeline != self.calm.timeline,
        });
        self.calm = calm;
        Ok(true)
    }

    fn away(&self) -> Option<usize> {
        self.away.map(|(member, _)| member)
    }

    /// Kills etcd's leader, which comes back later.
    async fn kill_leader(&mut self) -> Result<()> {
        let (leader, election) = election::kill_leader(self.etcd).await?;
        self.running = Some(election);
        self.away = Some((leader, tokio::time::Instant::now() + AWAY));
        Ok(())
    }

    /// Starts the killed member when it is time, and notes an election that is over.
    async fn tend(&mut self) -> Result<()> {
        if let Some((member, back)) = self.away
            && tokio::time::Instant::now() >= back
        {
            self.etcd.restart(member);
            self.away = None;
        }
        if let Some(running) = self.running.take_if(|r| r.is_finished()) {
            let election = running.await??;
            eprintln!(
                "soak: etcd's leader killed at {} UTC, the next one led after {:.0} ms, of which \
                 nothing moved for {:.0} ms",
                election.begin.time_of_day(),
                election.ms,
                election.still_ms
            );
            self.elections.push(election);
        }
        Ok(())
    }
}

/// Runs for `length`; etcd's leader is killed once per `every`.
pub(crate) async fn run(
    entrant: &Entrant,
    common: &Common,
    length: Duration,
    every: Duration,
) -> Result<Figures> {
    let kills = kills(length, every)?;
    let kind = machine::file_system(common.etcd.dir());
    if kind != "tmpfs" {
        bail!(
            "etcd's members are in {} ({kind}), where they wait for the burdened disk: give \
             /dev/shm 4 GB, or name a tmpfs by PGHERD_TEST_DIR",
            common.etcd.dir().display()
        );
    }
    let agents = Agents::formed(common, entrant, false).await?;
    let figures = burdened(&agents, common, length, (kills, every)).await;
    if let Some(directory) = &common.logs {
        let name = format!("{EVENT} {}.log", Instant::now().time_of_day());
        agents.keep_logs(&directory.join(name))?;
    }
    agents.explained(figures)
}

/// The soak itself, with so many kills so far apart.
async fn burdened(
    agents: &Agents,
    common: &Common,
    length: Duration,
    (kills, every): (u32, Duration),
) -> Result<Figures> {
    let endpoints = agents.endpoints();
    let ledger = Ledger::default();
    let writer = Writer::start(Habit::Roaming, 1, &endpoints, &ledger)?;
    until(&ledger, "the first rows", FAILOVER, |l| {
        (l.len() > 0).then_some(())
    })
    .await?;
    let calm = within(FAILOVER, calm(agents, &common.etcd, None))
        .await
        .context("no leader with a lock")??;
    let mut load = Load::start(&endpoints[calm.primary], &common.disk, length + MORE)?;
    let mut watch = Watch {
        agents,
        etcd: &common.etcd,
        calm,
        upsets: Vec::new(),
        elections: Vec::new(),
        running: None,
        away: None,
    };
    let (from, begin) = (Instant::now(), tokio::time::Instant::now());
    let (mut killed, mut ended) = (0, None);
    while begin.elapsed() < length || watch.running.is_some() || ended.is_some() {
        tokio::time::sleep(LOOK).await;
        if killed < kills && begin.elapsed() >= every * (killed + 1) {
            watch.kill_leader().await?;
            killed += 1;
        }
        watch.tend().await?;
        if watch.look().await? {
            load.move_to(&endpoints[watch.calm.primary])?;
        }
        ended = match load.ended() {
            None => None,
            Some(reason) => {
                let (since, _) = ended.get_or_insert((tokio::time::Instant::now(), reason));
                if since.elapsed() > REASON {
                    break;
                } else {
                    ended
                }
            }
        };
    }
    let session = within(FAILOVER, hunt(&endpoints)).await;
    let session = session.context("no primary in the end")?;
    let amount = load.stop(&session, length).await?;
    writer.stop();
    let acks = ledger.sorted();
    let gap = ledger::longest_gap(&acks, from).context("no rows")?;
    eprintln!("soak: longest {gap}");
    let mut figures = judged(&watch, missing(&endpoints, &acks).await?);
    if figures.iter().any(|(name, value)| is_bad(name, *value)) {
        eprintln!("{}", agents.logs(60));
    }
    figures.extend([
        ("transactions of pgbench", amount.transactions),
        ("MB synced beside it", amount.synced),
        ("rows acknowledged", acks.len() as f64),
        (GAP, gap.ms()),
    ]);
    Ok(figures)
}

fn is_bad(name: &str, value: f64) -> bool {
    [LOCKS, FAILOVERS, DEMOTIONS, MISSING].contains(&name) && value > 0.0
}

/// What happened, told apart by whether an election of etcd explains it.
fn judged(watch: &Watch<'_>, missing: f64) -> Figures {
    let explained = |upset: &&Upset| watch.elections.iter().any(|e| e.explains(upset.at));
    let (excused, bad): (Vec<&Upset>, Vec<&Upset>) = watch.upsets.iter().partition(explained);
    let count = |of: fn(&Upset) -> bool| bad.iter().filter(|u| of(u)).count() as f64;
    // A failover is asynchronous: what the old primary had not sent is lost, as docs/safety.md says.
    let lossy = excused.iter().any(|u| u.failover);
    let longest = |of: fn(&Election) -> f64| watch.elections.iter().map(of).fold(0.0, f64::max);
    let too_long = watch.elections.iter().filter(|e| e.too_long()).count();
    vec![
        (LOCKS, count(|u| u.lock)),
        (FAILOVERS, count(|u| u.failover)),
        (DEMOTIONS, count(|u| u.demotion)),
        (if lossy { MISSING_THERE } else { MISSING }, missing),
        (KILLS, watch.elections.len() as f64),
        (LONGEST, longest(|e| e.ms)),
        (STILL, longest(|e| e.still_ms)),
        (TOO_LONG, too_long as f64),
        (EXCUSED, excused.len() as f64),
    ]
}

/// The leader key: revision of its creation (0: there is no key) and holder; `None`: no answer.
async fn lock(agents: &Agents, etcd: &Etcd, away: Option<usize>) -> Option<(i64, String)> {
    let key = agents.key("leader");
    for member in (0..etcd.len()).filter(|m| Some(*m) != away) {
        let Ok(mut client) = etcd.client(member).await else {
            continue;
        };
        if let Ok(answer) = client.get(key.as_str(), None).await {
            return Some(answer.kvs().first().map_or((0, String::new()), |kv| {
                let holder = String::from_utf8_lossy(kv.value()).into_owned();
                (kv.create_revision(), holder)
            }));
        }
    }
    None
}

/// Waits until the holder of the lock accepts writes.
async fn calm(agents: &Agents, etcd: &Etcd, away: Option<usize>) -> Result<Calm> {
    loop {
        let session = hunt(&agents.endpoints()).await;
        let node = agents.node(session.node);
        let postmaster = procs::postmaster(&node.data_dir());
        if let Some((created, holder)) = lock(agents, etcd, away).await
            && holder == node.name()
            && let Some(postmaster) = postmaster
            && session.writable().await.is_ok_and(|w| w)
        {
            return Ok(Calm {
                primary: session.node,
                postmaster,
                timeline: timeline(&session).await?,
                created,
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The timeline on which a primary writes.
async fn timeline(session: &Session) -> Result<u32> {
    let sql =
        "SELECT pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8)";
    let rows = session.rows(sql).await?;
    let text = rows.first().and_then(|r| r.first()).context("no row")?;
    u32::from_str_radix(text, 16).map_err(|e| anyhow!("timeline {text}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soak_with_fewer_than_two_kills_is_refused() {
        let kills = |length, every| {
            let seconds = Duration::from_secs;
            kills(seconds(length), seconds(every)).map_err(|e| e.to_string())
        };
        assert_eq!(kills(3600, 240), Ok(14));
        assert_eq!(kills(84, 25), Ok(2));
        for (length, every) in [(60, 25), (3600, 3000), (3600, 15), (3600, 0), (10, 5)] {
            let error = kills(length, every).expect_err("too few or too fast");
            assert!(error.contains("--etcd-every"), "{error}");
        }
    }
}
