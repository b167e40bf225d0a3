//! Unit tests of the brain: a view as one line of text, the decision as one line back.
//!
//! `now 100s lock - former b | a* replica tl3 lsn 50 | b replica tl3 lsn 40`: facts about the
//! cluster, then one part per node; `*` is the node that decides. Others have answered just now
//! unless they are `mute` (asked, silent) or `unasked`.

mod beats;
mod duties;
mod failsafe;
mod leader;
mod lock;
mod logical;
mod orders;
mod pause;
mod race;
mod rejoin;
mod requests;
mod schedule;
mod senders;
mod slots;
mod standby_cluster;
mod sync;
mod user_scripts;
mod words;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::*;

use crate::decision::{JobKind, Origin, StartAs};
use crate::{
    Dcs, Former, GuardFact, Identity, Job, LeaseFact, Local, Memory, Orders, Outcome, PeerFact,
    RemoteHistory, Tenure, View, WatchdogFact, decide,
};

const PID: u32 = 4711;
/// Now, by the wall clock.
const WALL: WallTime = WallTime(1_795_000_000_000_000);

/// Orders that most views call for and few tests are about.
const NOISE: [&str; 6] = [
    "PutMember",
    "LookAtLease",
    "PutStatus",
    "PutHistory",
    "CreateSlot",
    "ArmGuard",
];

/// The decision for a view: `AcquireLeader, because lock_free: ...`, without the noise.
fn answer(text: &str) -> String {
    let (view, memory) = parse(text);
    let decision = decide(&view, &memory);
    let ours = decision.why.rule == "lock_held";
    let names: Vec<&str> = decision
        .actions
        .iter()
        .map(crate::Action::name)
        .filter(|name| !NOISE.contains(name) || (ours && *name == "ArmGuard"))
        .collect();
    let names = if names.is_empty() {
        "nothing".to_string()
    } else {
        names.join(" + ")
    };
    format!("{names}, because {}", decision.why)
}

/// Pairs of lines: a view, and the decision after `=> `. Empty lines and `#` part them.
fn check_all(table: &str) {
    let mut view = "";
    let mut count = 0;
    let mut wrong = String::new();
    for line in table.lines().map(str::trim) {
        if let Some(expected) = line.strip_prefix("=> ") {
            let given = answer(view);
            if given != expected {
                wrong += &format!("\n{view}\n-> {given}\n=> {expected}\n");
            }
            count += 1;
        } else if !line.starts_with('#') {
            view = line;
        }
    }
    assert!(count > 0);
    assert!(
        wrong.is_empty(),
        "the decision (->) is not what is expected (=>):\n{wrong}"
    );
}

fn number(word: Option<&str>) -> u64 {
    word.unwrap().trim_end_matches('s').parse().unwrap()
}

/// What is said about one node.
#[derive(Clone, Debug, Default)]
struct Said {
    name: String,
    me: bool,
    state: String,
    timeline: u32,
    lsn: u64,
    words: Vec<String>,
}

impl Said {
    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|other| other == word)
    }

    fn value(&self, word: &str) -> Option<&str> {
        let at = self.words.iter().position(|other| other == word)?;
        self.words.get(at + 1).map(String::as_str)
    }
}

fn said(part: &str) -> Said {
    let mut said = Said {
        timeline: 1,
        lsn: 50,
        ..Said::default()
    };
    let mut words = part.split_whitespace();
    let name = words.next().unwrap();
    said.me = name.ends_with('*');
    said.name = name.trim_end_matches('*').to_string();
    said.state = words.next().unwrap().to_string();
    while let Some(word) = words.next() {
        match word {
            "lsn" => said.lsn = number(words.next()),
            tl if tl.starts_with("tl") => said.timeline = tl[2..].parse().unwrap(),
            other => said.words.push(other.to_string()),
        }
    }
    said
}

fn parse(text: &str) -> (View, Memory) {
    let mut parts = text.split('|');
    let facts: Vec<&str> = parts.next().unwrap().split_whitespace().collect();
    let nodes: Vec<Said> = parts.map(said).collect();
    let me = nodes.iter().find(|node| node.me).unwrap();
    let has = |word: &str| facts.contains(&word);
    let value = |word: &str| value_of(&facts, word);
    let now = Time::from_millis(value("now").map_or(100, |it| number(Some(it))) * 1000);
    let mut memory = memory(now, me, &value);
    let cluster = cluster(&facts, &nodes);
    let mine = cluster.leader_name().is_some_and(|name| name.0 == me.name);
    let ago = me.value("renewed").map_or(0, |it| number(Some(it)));
    let view = View {
        now,
        wall: WALL,
        me: me.name.as_str().into(),
        identity: identity(me),
        dcs: if has("unreachable") {
            let since = now;
            Dcs::Unreachable {
                since,
                last: Some(cluster.clone()),
            }
        } else {
            Dcs::Fresh(cluster)
        },
        heard: now,
        tenure: tenure(now, &value),
        lease: (mine && !me.has("reborn")).then(|| LeaseFact {
            lease: if me.has("newlease") { 8 } else { 7 },
            sent: now - Span::from_secs(ago),
            length: Span::from_secs(20),
        }),
        failsafe: failsafe::fact(now, me),
        sight: None,
        local: local(now, me, &nodes),
        peers: peers(now, &nodes),
        asking: has("asking"),
        history: value("fork").map(|fork| remote_history(now, fork, &nodes)),
        settings: settings(&has),
        config: "{}".into(),
        member_lease: 0,
        orders: Orders {
            shutdown: me.has("shutdown"),
            bootstrap_claim: me.has("claimed").then_some(3),
            bootstrapped: me.has("bootstrapped").then_some(SystemId(1)),
            ..orders::of(me)
        },
    };
    if mine {
        memory.term = Some(5);
        memory.attached_term = view.lease.map(|_| 5);
        memory.held = view.lease.map(|lease| LeaseFact { lease: 7, ..lease });
        memory.was_primary = me.state == "primary" || me.has("was_primary");
        memory.failsafe = failsafe::standing(view.cluster(), me);
    }
    (view, memory)
}

fn tenure<'a>(now: Time, value: &impl Fn(&str) -> Option<&'a str>) -> Tenure {
    let ago = |word: &str, or: u64| Span::from_secs(value(word).map_or(or, |it| number(Some(it))));
    Tenure {
        since: now - ago("elected", 90),
        proved: now - ago("proved", 0),
    }
}

/// `b:1@45,2@50`: of b; timeline 1 ended at 45, 2 at 50. `b:-`: it could not be read.
fn remote_history(now: Time, text: &str, nodes: &[Said]) -> RemoteHistory {
    let (from, lines) = text.split_once(':').unwrap();
    let theirs = nodes.iter().find(|node| node.name == from).unwrap();
    RemoteHistory {
        from: from.into(),
        asked: now,
        lines: (lines != "-").then(|| (Timeline(theirs.timeline), forks(lines))),
    }
}

/// `1@45,2@50`: timeline 1 ended at 45, 2 at 50.
fn forks(text: &str) -> Vec<(Timeline, Lsn)> {
    let line = |line: &str| {
        let (ended, end) = line.split_once('@').unwrap();
        (Timeline(ended.parse().unwrap()), Lsn(end.parse().unwrap()))
    };
    text.split(',').map(line).collect()
}

fn memory<'a>(now: Time, me: &Said, value: &impl Fn(&str) -> Option<&'a str>) -> Memory {
    let free = value("free").map_or(0, |it| number(Some(it)));
    let since = now - Span::from_secs(free);
    Memory {
        first_fresh: Some(now - Span::from_secs(value("up").map_or(50, |it| number(Some(it))))),
        former: value("former").map(|name| Former {
            name: name.into(),
            term: 4,
            lease: 6,
            length: Span::from_secs(20),
            lease_ttl: Span::from_secs(20),
            raised: false,
            unsure: false,
            renewed_before: value("renewed_before")
                .map(|at| Time::from_millis(number(Some(at)) * 1000)),
            looked: value("looked").map(|at| Time::from_millis(number(Some(at)) * 1000)),
            copy: value("looked").is_some_and(|_| value("copy").is_some()),
            vanished: Some(since),
        }),
        free_since: Some(since),
        forbidden_until: me.has("forbidden").then(|| now + Span::from_secs(5)),
        stand_back_until: me.has("stands_back").then(|| now + Span::from_secs(5)),
        stream_broken: me.has("broken").then_some(now - Span::from_millis(300)),
        member_written: Some(now),
        ..Memory::default()
    }
}

fn settings(has: &impl Fn(&str) -> bool) -> Settings {
    let mut settings = Settings {
        synchronous_mode: match (has("sync_mode"), has("quorum_mode")) {
            (_, true) => SynchronousMode::Quorum,
            (true, false) => SynchronousMode::On,
            (false, false) => SynchronousMode::Off,
        },
        synchronous_mode_strict: has("strict"),
        check_timeline: has("check_timeline"),
        use_pg_rewind: has("rewind"),
        remove_data_directory_on_diverged_timelines: has("remove"),
        pause: has("pause"),
        failsafe_mode: has("failsafe_mode"),
        guard: if has("guard_off") {
            GuardMode::Off
        } else if has("guard_required") {
            GuardMode::Required
        } else {
            GuardMode::Automatic
        },
        ..Settings::default()
    };
    if has("handover") {
        settings.primary_start_timeout = Span::ZERO;
    }
    settings.use_slots = !has("no_slots");
    if has("no_ttl") {
        settings.member_slots_ttl = Span::ZERO;
    }
    if has("ignores") {
        settings.ignored_slots.push(IgnoredSlot {
            name: Some("barman".into()),
            kind: Some("physical".into()),
            ..IgnoredSlot::default()
        });
    }
    if has("far") {
        settings.standby_cluster = Some(StandbyCluster {
            places: vec![("far".to_string(), 5432)],
            ..StandbyCluster::default()
        });
    }
    if has("permanent") {
        settings.permanent_slots.push("kept".into());
    }
    if has("logical") {
        settings.logical_slots.push(logical::feed());
    }
    settings
}

fn identity(me: &Said) -> Identity {
    Identity {
        api_url: "http://me".into(),
        tags: tags(me),
        may_bootstrap: !me.has("poor"),
        custom_bootstrap: me.has("custom"),
        copies_alone: me.has("alone"),
        leader_key: "/service/demo/leader".into(),
        data_dir: "/data".into(),
        ..Identity::default()
    }
}

fn tags(node: &Said) -> Tags {
    Tags {
        nofailover: node.has("nofailover"),
        clonefrom: node.has("clonefrom"),
        nosync: node.has("nosync"),
        nostream: node.has("nostream"),
        replicatefrom: node.value("cascades").map(MemberName::from),
        failover_priority: node.value("prio").map_or(1, |it| it.parse().unwrap()),
        sync_priority: node.value("sync_prio").map_or(1, |it| it.parse().unwrap()),
        ..Tags::default()
    }
}

fn stored<T>(value: T) -> Option<Stored<T>> {
    Some(Stored { value, revision: 3 })
}

/// The word after this one.
fn value_of<'a>(facts: &[&'a str], word: &str) -> Option<&'a str> {
    let at = facts.iter().position(|fact| *fact == word)?;
    facts.get(at + 1).copied()
}

fn cluster(facts: &[&str], nodes: &[Said]) -> Cluster {
    let value = |word: &str| value_of(facts, word);
    let lock = value("lock").filter(|name| *name != "-");
    let mut cluster = Cluster {
        revision: 100,
        initialize: match value("initialize") {
            None => stored(Initialize::Done(SystemId(1))),
            Some("none") => None,
            Some("underway") => stored(Initialize::UnderWay),
            Some(_) => stored(Initialize::Done(SystemId(2))),
        },
        config: stored(Config {
            text: "{}".into(),
            is_object: !facts.contains(&"badconfig"),
        })
        .filter(|_| !facts.contains(&"noconfig")),
        leader: lock.map(|name| Leader {
            name: name.into(),
            lease: if facts.contains(&"leaseless") { 0 } else { 7 },
            create_revision: 5,
            mod_revision: 5,
        }),
        leader_deleted: value("deleted").map(|at| number(Some(at))),
        leader_ended: value("ended").map(|at| number(Some(at))),
        sync: value("sync").and_then(sync),
        failover: value("failover").and_then(failover),
        status: status(&value),
        history: value("history").and_then(history),
        failsafe: value("named").and_then(failsafe::named),
        ..Cluster::default()
    };
    if let (Some(request), Some(at)) = (&mut cluster.failover, value("at")) {
        schedule(request, at, facts.contains(&"inherited"));
    }
    for node in nodes {
        let revision = if node.has("words") { 90 } else { 3 };
        cluster.members.insert(
            node.name.as_str().into(),
            Stored {
                value: member(node),
                revision,
            },
        );
    }
    cluster
}

/// `a:b,c`: the leader and its standbys; `a:b,c/1`: in quorum mode.
fn sync(text: &str) -> Option<Stored<Sync>> {
    let (text, quorum) = text.split_once('/').unwrap_or((text, "0"));
    let (leader, standbys) = text.split_once(':').unwrap();
    let standbys = standbys.split(',').filter(|it| !it.is_empty());
    stored(Sync {
        leader: Some(leader.into()),
        standbys: standbys.map(MemberName::from).collect(),
        quorum: quorum.parse().unwrap(),
    })
}

/// `a>b`: from whom to whom; either may be left out.
fn failover(text: &str) -> Option<Stored<Failover>> {
    let (leader, member) = text.split_once('>').unwrap();
    let name = |text: &str| (!text.is_empty()).then(|| MemberName::from(text));
    stored(Failover {
        leader: name(leader),
        member: name(member),
        scheduled_at: None,
    })
}

/// `at +30`: seconds from now; `at x`: no time. Such a request was written after the leader took
/// the lock, unless it is `inherited`.
fn schedule(request: &mut Stored<Failover>, text: &str, inherited: bool) {
    let at = text.parse::<i64>().ok();
    request.value.scheduled_at = Some(Schedule {
        text: text.into(),
        at: at.map(|seconds| WallTime(WALL.0 + seconds * 1_000_000)),
    });
    request.revision = if inherited { 3 } else { 6 };
}

/// `optime 50`, `retain x,y`, `slotat x:30`.
fn status<'a>(value: &impl Fn(&str) -> Option<&'a str>) -> Option<Stored<Status>> {
    let words = ["optime", "retain", "slotat"];
    words.iter().find_map(|word| value(word))?;
    let names = value("retain").unwrap_or_default().split(',');
    let slot = value("slotat").and_then(|text| text.split_once(':'));
    stored(Status {
        optime: Lsn(value("optime").map_or(0, |it| number(Some(it)))),
        slots: slot
            .map(|(name, at)| (name.to_string(), Lsn(number(Some(at)))))
            .into_iter()
            .collect(),
        retain_slots: names
            .filter(|it| !it.is_empty())
            .map(String::from)
            .collect(),
        other: String::from(r#"{"new":1}"#),
    })
}

/// The last timeline that ended, or several and where: `1@60,2@40`.
fn history(text: &str) -> Option<Stored<History>> {
    let lines = match text.contains('@') {
        true => forks(text),
        false => vec![(Timeline(text.parse().unwrap()), Lsn(1))],
    };
    let line = |(timeline, end)| HistoryLine {
        timeline,
        end,
        reason: String::new(),
        timestamp: None,
        leader: None,
    };
    stored(lines.into_iter().map(line).collect())
}

fn member(node: &Said) -> Member {
    let running = matches!(node.state.as_str(), "primary" | "replica");
    Member {
        name: node.name.as_str().into(),
        conn_url: String::from("nonsense"),
        address: (!node.has("addressless")).then(|| (node.name.clone(), 5432)),
        api_url: format!("http://{}", node.name),
        proxy_url: None,
        state: Some(match running {
            true => PostgresState::Running,
            false if node.has("copies") => PostgresState::CreatingReplica,
            false => PostgresState::Stopped,
        }),
        role: Some(match node.state.as_str() {
            "primary" => Role::Primary,
            "replica" if node.has("led") => Role::StandbyLeader,
            "down" if node.has("words") => Role::Demoted,
            _ => Role::Replica,
        }),
        version: None,
        xlog_location: Some(Lsn(node.lsn)),
        receive_lsn: None,
        replay_lsn: None,
        timeline: Some(Timeline(node.timeline)),
        replication_state: None,
        checkpoint_after_promote: node.has("unchecked").then_some(false),
        tags: tags(node),
        guard_missing: false,
        pending_restart: false,
        pending_restart_reason: Vec::new(),
        leaves_sync: false,
        scheduled_restart: None,
        pause: false,
        lease: 0,
    }
}

fn peers(now: Time, nodes: &[Said]) -> BTreeMap<MemberName, PeerFact> {
    let others = nodes.iter().filter(|node| !node.me && !node.has("unasked"));
    others
        .map(|node| {
            let primary = node.state == "primary";
            let runs = primary || node.state == "replica";
            let answer = PeerStatus {
                asked: now,
                state: member(node).state,
                role: member(node).role,
                reachable: runs,
                writable_at: primary.then_some(Lsn(node.lsn)),
                received: Lsn(if primary { 0 } else { node.lsn }),
                replayed: Lsn(0),
                timeline: Some(Timeline(node.timeline)),
                streaming: false,
                watchdog_failed: node.has("nodog"),
                unlocked: node.has("unlocked"),
                promoting: node.has("promoting"),
                failsafe: node.has("active"),
                tags: tags(node),
            };
            let answer = (!node.has("mute")).then_some(answer);
            (
                node.name.as_str().into(),
                PeerFact {
                    asked: now,
                    answered: now,
                    answer,
                },
            )
        })
        .collect()
}

fn local(now: Time, me: &Said, nodes: &[Said]) -> Local {
    let alive = matches!(me.state.as_str(), "primary" | "replica" | "silent");
    let data = match me.state.as_str() {
        "empty" => DataDir::Empty,
        "unfinished" => DataDir::Unfinished,
        "unusable" => DataDir::Unusable("not ours".into()),
        _ => DataDir::Initialized,
    };
    let state = match me.state.as_str() {
        "down" => ControlState::ShutDown,
        "replica" => ControlState::InArchiveRecovery,
        _ if me.has("interrupted") => ControlState::InArchiveRecovery,
        _ if me.has("standby") => ControlState::ShutDownInRecovery,
        _ => ControlState::InProduction,
    };
    let control = ControlFile {
        system_id: SystemId(1),
        state,
        timeline: Timeline(
            me.value("control")
                .map_or(me.timeline, |it| it.parse().unwrap()),
        ),
        checkpoint: Lsn(me.lsn),
        min_recovery_end: Lsn(if me.has("standby") { me.lsn } else { 0 }),
        min_recovery_timeline: Timeline(0),
        rewindable: !me.has("plain"),
    };
    let ago = |text: &str| now - Span::from_secs(number(Some(text)));
    Local {
        archiving: false,
        awaits_senders: me.has("awaits_senders"),
        hangs: me.state == "silent" && me.value("silent_for").is_some(),
        halted: me.has("halted"),
        control: (data == DataDir::Initialized).then_some(control),
        data,
        shutdown_end: (state == ControlState::ShutDown).then_some(Lsn(me.lsn + 1)),
        standby_signal: me.has("standby"),
        backup_label: me.has("label"),
        postmaster: match me.state.as_str() {
            "leftovers" => Postmaster::Leftovers(3),
            _ if alive => Postmaster::Alive { pid: PID },
            _ => Postmaster::Down,
        },
        look: (alive && me.state != "silent").then(|| look(me, nodes)),
        silent_since: me.value("silent_for").map(ago),
        not_ready: me.has("recovering"),
        job: job(now, me),
        guard: GuardFact {
            alive: true,
            hangs: me.has("guardhangs"),
            armed_for: me.has("armed").then_some(PID),
            armed_by: me.has("armed").then_some(LeaseFact {
                lease: 7,
                sent: now,
                length: Span::from_secs(20),
            }),
            failed: me
                .value("guardfailed")
                .map(|ago| now - Span::from_secs(number(Some(ago)))),
            failures: match (me.has("guardfailed"), me.has("twice")) {
                (true, true) => 2,
                (failed, _) => u32::from(failed),
            },
        },
        watchdog: watchdog(now, me),
        own_history: own_history(me),
        probed: (!me.has("unprobed")).then(|| me.value("probed").map_or(now, ago)),
    }
}

/// `dog` (it is used), `dog_required`, `dogarmed`, `dogfailed 1s`.
fn watchdog(now: Time, me: &Said) -> WatchdogFact {
    let failed = me.value("dogfailed");
    WatchdogFact {
        mode: match (me.has("dog_required"), me.has("dog")) {
            (true, _) => GuardMode::Required,
            (_, true) => GuardMode::Automatic,
            _ => GuardMode::Off,
        },
        armed: me.has("dogarmed").then_some(Span::from_secs(20)),
        running: me.has("dogarmed"),
        failed: failed.map(|ago| now - Span::from_secs(number(Some(ago)))),
        failures: u32::from(failed.is_some()) + u32::from(me.has("twice")),
    }
}

/// `past 1@45,2@50`. Of others than a primary it is not known otherwise.
fn own_history(me: &Said) -> Vec<HistoryLine> {
    let lines = match me.value("past") {
        Some(text) => forks(text),
        None if me.state == "primary" && me.timeline > 1 => {
            vec![(Timeline(me.timeline - 1), Lsn(30))]
        }
        None => Vec::new(),
    };
    let line = |(timeline, end)| HistoryLine {
        timeline,
        end,
        reason: String::new(),
        timestamp: Some(String::from("2026-11-21T00:00:00+00:00")),
        leader: None,
    };
    lines.into_iter().map(line).collect()
}

fn look(me: &Said, nodes: &[Said]) -> Look {
    let primary = me.state == "primary";
    let from = me.value("from");
    Look {
        in_recovery: !primary,
        timeline: Timeline(me.timeline),
        wal: WalPositions {
            flushed: Lsn(if primary { me.lsn } else { 0 }),
            received: Lsn(if primary { 0 } else { me.lsn }),
            replayed: Lsn(if primary { 0 } else { me.lsn }),
        },
        receiver: from.filter(|_| !me.has("broken")).map(|from| Receiver {
            streaming: true,
            timeline: Timeline(me.timeline),
            host: from.into(),
            port: 5432,
            slot: None,
            latest_end: Lsn(me.lsn),
        }),
        upstream: from.map(|from| Upstream {
            host: from.into(),
            port: 5432,
            slot: (from != "far").then(|| slot_name(&me.name.as_str().into())),
            others: vec![],
        }),
        slots: me
            .value("slot")
            .map(|name| Slot {
                holds_xmin: me.has("xmin"),
                restart: (!me.has("unreserved")).then_some(Lsn(10)),
                ..slot(name)
            })
            .into_iter()
            .chain(logical::slot(me))
            .collect(),
        standbys: nodes
            .iter()
            .filter(|node| primary && node.has("attached"))
            .map(standby)
            .collect(),
        start_time: String::new(),
        server_version: 150_000,
        replay_paused: false,
        replayed_at: None,
        synchronous_standby_names: me.value("waits").unwrap_or_default().into(),
        checkpointer_ready: !me.has("checkpointing"),
        restore_command: me.has("archive"),
        pending_restart: me
            .has("pends")
            .then(|| ("work".into(), "1".into(), "2".into()))
            .into_iter()
            .collect(),
    }
}

fn slot(name: &str) -> Slot {
    Slot {
        name: name.into(),
        kind: SlotKind::Physical,
        active: false,
        temporary: false,
        restart: Some(Lsn(10)),
        confirmed_flush: None,
        holds_xmin: false,
        lost: false,
        failover: false,
    }
}

/// Process of the WAL sender of this standby.
fn standby_pid(name: &str) -> u32 {
    900 + u32::from(name.as_bytes()[0])
}

fn standby(node: &Said) -> Standby {
    Standby {
        pid: standby_pid(&node.name),
        name: node.name.clone(),
        user: String::new(),
        address: None,
        state: "streaming".into(),
        sync_state: if node.has("synced") {
            "sync".into()
        } else {
            "async".into()
        },
        sync_priority: 0,
        written: Lsn(node.lsn),
        flushed: Lsn(node.lsn),
        replayed: Lsn(node.lsn),
    }
}

fn job(now: Time, me: &Said) -> Option<Job> {
    let broken = || Outcome::Failed("broken".into());
    let states = [
        ("job", None),
        ("failed", Some(broken())),
        ("refused", Some(Outcome::Refused("it says no".into()))),
        ("done", Some(Outcome::Done)),
    ];
    let said = |(word, outcome)| Some((me.value(word)?, outcome));
    let (kind, outcome) = states.into_iter().find_map(said)?;
    let address = ("x".to_string(), 5432);
    let kind = match kind {
        "start_primary" => JobKind::Start(StartAs::Primary),
        "start_standby" => JobKind::Start(StartAs::Standby {
            upstream: None,
            follow: None,
        }),
        "promote" => JobKind::Promote,
        "bootstrap" => JobKind::Bootstrap,
        "clone" => JobKind::Clone {
            from: Some(Origin {
                name: if outcome.is_some() { "b" } else { "x" }.into(),
                address,
            }),
            far: false,
        },
        "rewind" => JobKind::Rewind {
            from: "x".into(),
            address,
        },
        "recovery" => JobKind::CrashRecovery,
        "removal" => JobKind::RemoveData,
        "stop" => JobKind::Stop {
            mode: StopMode::Fast,
            checkpoint_first: false,
        },
        "kill" => JobKind::Stop {
            mode: StopMode::Kill,
            checkpoint_first: false,
        },
        other => panic!("{other}"),
    };
    Some(Job {
        kind,
        since: now,
        ended: outcome.as_ref().map(|_| now),
        outcome,
    })
}
