//! Documents as captured from Patroni 3 and 4, and every row of section 9.

use super::*;
use jiff::Timestamp;
use pgherd_model::*;
use serde_json::{Map, json};

fn now() -> Timestamp {
    "2026-11-21T00:00:00Z".parse().unwrap()
}

fn look() -> Look {
    Look {
        in_recovery: true,
        timeline: Timeline(2),
        wal: WalPositions {
            flushed: Lsn(0),
            received: Lsn(67_108_960),
            replayed: Lsn(67_108_900),
        },
        receiver: Some(Receiver {
            streaming: true,
            timeline: Timeline(2),
            host: "127.0.0.1".into(),
            port: 5432,
            slot: None,
            latest_end: Lsn(67_108_960),
        }),
        upstream: None,
        slots: Vec::new(),
        standbys: Vec::new(),
        start_time: "2026-11-21 00:21:11.967788+00:00".into(),
        server_version: 150_018,
        replay_paused: false,
        replayed_at: None,
        synchronous_standby_names: String::new(),
        checkpointer_ready: true,
        restore_command: false,
        pending_restart: Vec::new(),
    }
}

fn input<'a>(look: Option<&'a Look>, tags: &'a Tags) -> StatusInput<'a> {
    StatusInput {
        state: PostgresState::Running,
        role: Role::Replica,
        look,
        standby_cluster: false,
        sync_standby: false,
        quorum_standby: false,
        paused: false,
        cluster_unlocked: false,
        failsafe_active: false,
        dcs_last_seen: 1_795_220_471,
        tags,
        stepping_out_of_sync: false,
        system_id: Some(SystemId(7_710_413_211_832_022_599)),
        pending_restart: false,
        pending_restart_reason: &[],
        version: "4.1.5",
        scope: "demo",
        name: "n1",
        scheduled_restart: None,
        watchdog_failed: false,
        extra: Map::new(),
    }
}

#[test]
fn json_looks_like_pythons() {
    let value =
        json!({"a": [1, "x\"y", null], "ü😀": {"b": true}, "e": [], "f": {}, "c": "\u{1}\n"});
    assert_eq!(
        python_json(&value),
        r#"{"a": [1, "x\"y", null], "\u00fc\ud83d\ude00": {"b": true}, "e": [], "f": {}, "c": "\u0001\n"}"#
    );
}

#[test]
fn status_of_a_replica() {
    let (look, tags) = (look(), Tags::default());
    assert_eq!(
        python_json(&status_document(&input(Some(&look), &tags))),
        "{\"state\": \"running\", \"postmaster_start_time\": \"2026-11-21 00:21:11.967788+00:00\", \
         \"role\": \"replica\", \"server_version\": 150018, \"xlog\": {\"received_location\": \
         67108960, \"replayed_location\": 67108900, \"replayed_timestamp\": null, \"paused\": \
         false}, \"timeline\": 2, \"replication_state\": \"streaming\", \"dcs_last_seen\": \
         1795220471, \"database_system_identifier\": \"7710413211832022599\", \"patroni\": \
         {\"version\": \"4.1.5\", \"scope\": \"demo\", \"name\": \"n1\"}}"
    );
}

#[test]
fn status_with_everything() {
    let mut look = look();
    look.in_recovery = false;
    look.wal.flushed = Lsn(100);
    look.standbys.push(Standby {
        pid: 4711,
        name: "n2".into(),
        user: "replicator".into(),
        address: Some("127.0.0.1".into()),
        state: "streaming".into(),
        sync_state: "async".into(),
        sync_priority: 0,
        written: Lsn(1),
        flushed: Lsn(1),
        replayed: Lsn(1),
    });
    let tags = Tags {
        json: r#"{"rack":7}"#.into(),
        ..Tags::default()
    };
    let reasons = [("max_connections".into(), "100".into(), "101".into())];
    let mut extra = Map::new();
    extra.insert("pgherd".into(), json!({"guard": "armed"}));
    let input = StatusInput {
        role: Role::Primary,
        paused: true,
        cluster_unlocked: true,
        failsafe_active: true,
        stepping_out_of_sync: true,
        pending_restart: true,
        pending_restart_reason: &reasons,
        scheduled_restart: Some(r#"{"schedule":"2030-01-01T00:00:00+00:00"}"#),
        watchdog_failed: true,
        sync_standby: true,
        extra,
        ..input(Some(&look), &tags)
    };
    let document = status_document(&input);
    assert_eq!(
        document,
        json!({
            "state": "running", "postmaster_start_time": "2026-11-21 00:21:11.967788+00:00",
            "role": "primary", "server_version": 150_018, "xlog": {"location": 100}, "timeline": 2,
            "replication": [{"usename": "replicator", "application_name": "n2",
                "client_addr": "127.0.0.1", "state": "streaming", "sync_state": "async",
                "sync_priority": 0}],
            "pause": true, "cluster_unlocked": true, "failsafe_mode_is_active": true,
            "dcs_last_seen": 1_795_220_471, "tags": {"rack": 7, "nosync": true, "sync_priority": 0},
            "database_system_identifier": "7710413211832022599", "pending_restart": true,
            "pending_restart_reason": {"max_connections": {"old_value": "100", "new_value": "101"}},
            "patroni": {"version": "4.1.5", "scope": "demo", "name": "n1"},
            "scheduled_restart": {"schedule": "2030-01-01T00:00:00+00:00"},
            "watchdog_failed": true, "pgherd": {"guard": "armed"}
        })
    );
    // What one says, the other understands.
    let peer = peer_status(python_json(&document).as_bytes(), Time::ZERO).unwrap();
    assert_eq!(peer.writable_at, Some(Lsn(100)));
    assert!(peer.tags.nosync && peer.watchdog_failed && !peer.not_writable());
}

#[test]
fn status_without_an_answer_of_postgresql() {
    let tags = Tags::default();
    let mut input = input(None, &tags);
    assert_eq!(status_document(&input)["state"], "unknown");
    input.state = PostgresState::Stopped;
    input.role = Role::Demoted;
    let document = status_document(&input);
    assert_eq!(document["state"], "stopped");
    let peer = peer_status(document.to_string().as_bytes(), Time::ZERO).unwrap();
    assert!(!peer.reachable && peer.not_writable());
}

#[test]
fn genuine_answers_are_understood() {
    let v3 = br#"{"state": "running", "postmaster_start_time": "2023-08-01 10:00:00.000000+00:00", "role": "master", "server_version": 150003, "xlog": {"location": 67395656}, "timeline": 1, "replication": [{"usename": "replicator", "application_name": "n1", "client_addr": "127.0.0.1", "state": "streaming", "sync_state": "async", "sync_priority": 0}], "dcs_last_seen": 1690884000, "database_system_identifier": "7262327295438614534", "patroni": {"version": "3.0.4", "scope": "demo"}}"#;
    let peer = peer_status(v3, Time(5)).unwrap();
    assert_eq!(peer.role, Some(Role::Primary));
    assert_eq!(peer.writable_at, Some(Lsn(67_395_656)));
    assert_eq!((peer.asked, peer.timeline), (Time(5), Some(Timeline(1))));
    assert!(peer.reachable && !peer.not_writable());
    let v4 = br#"{"state": "running", "postmaster_start_time": "2026-11-21 00:21:11.967788+00:00", "role": "replica", "server_version": 150018, "xlog": {"received_location": 67418720, "replayed_location": 67418264, "replayed_timestamp": "2026-11-21 00:23:34.338580+00:00", "paused": false}, "timeline": 2, "replication_state": "streaming", "dcs_last_seen": 1795220471, "tags": {"failover_priority": 2, "clonefrom": true}, "database_system_identifier": "7710413211832022599", "patroni": {"version": "4.1.5", "scope": "demo", "name": "n1"}}"#;
    let peer = peer_status(v4, Time::ZERO).unwrap();
    assert_eq!(peer.position(), Lsn(67_418_720));
    assert_eq!(peer.replayed, Lsn(67_418_264));
    assert!(peer.streaming && peer.not_writable() && peer.tags.clonefrom);
    assert_eq!(peer.tags.failover_priority, 2);
    let down = br#"{"state": "starting", "role": "replica", "patroni": {}}"#;
    assert!(!peer_status(down, Time::ZERO).unwrap().reachable);
    for none in [&b""[..], b"<html>", b"[]", b"null", b"\xff"] {
        assert_eq!(peer_status(none, Time::ZERO), None);
    }
}

fn stored<T>(value: T) -> Stored<T> {
    Stored { value, revision: 1 }
}

/// Leader n0; n1 streams in time, n2 says nothing of its position, n3 is of an older version.
fn cluster() -> Cluster {
    let mut cluster = Cluster {
        leader: Some(Leader {
            name: "n0".into(),
            lease: 1,
            create_revision: 1,
            mod_revision: 1,
        }),
        status: Some(stored(Status {
            optime: Lsn(67_418_720),
            ..Status::default()
        })),
        ..Cluster::default()
    };
    for (name, value) in [
        (
            "n3",
            r#"{"conn_url":"postgres://h:5435/postgres","api_url":"http://h:8011/patroni","state":"running","role":"replica","version":"3.0.4","xlog_location":67418000,"replication_state":"in archive recovery"}"#,
        ),
        (
            "n0",
            r#"{"conn_url":"postgres://127.0.0.1:5432/postgres","api_url":"http://127.0.0.1:8008/patroni","state":"running","role":"primary","version":"4.1.5","xlog_location":67418720,"timeline":2}"#,
        ),
        (
            "n1",
            r#"{"conn_url":"postgres://127.0.0.1:5433/postgres","api_url":"http://127.0.0.1:8009/patroni","state":"running","role":"replica","version":"4.1.5","tags":{"clonefrom":true},"pending_restart":true,"pending_restart_reason":{"a":{"old_value":"1","new_value":"2"}},"xlog_location":67418720,"receive_lsn":67418720,"replay_lsn":67418264,"replication_state":"streaming","timeline":2}"#,
        ),
        (
            "n2",
            r#"{"conn_url":"broken","api_url":"http://127.0.0.1:8010/patroni","state":"stopped","role":"replica"}"#,
        ),
    ] {
        let member = super::super::dcs::member_from_json(name.into(), value, 0);
        cluster.members.insert(name.into(), stored(member));
    }
    cluster
}

const PLAIN: Mode = Mode {
    paused: false,
    synchronous: SynchronousMode::Off,
    standby_cluster: false,
};

fn sync(cluster: &mut Cluster, standby: &str) {
    cluster.sync = Some(stored(Sync {
        leader: Some("n0".into()),
        standbys: vec![standby.into()],
        quorum: 0,
    }));
}

#[test]
fn the_cluster_document() {
    let mut cluster = cluster();
    cluster.failover = Some(stored(Failover {
        leader: Some("n0".into()),
        member: None,
        scheduled_at: Some(stored_schedule("2030-01-01T00:00:00+00:00")),
    }));
    let mode = Mode {
        paused: true,
        ..PLAIN
    };
    assert_eq!(
        cluster_document(&cluster, "demo", mode),
        json!({
            "members": [
                {"name": "n0", "role": "leader", "state": "running",
                 "api_url": "http://127.0.0.1:8008/patroni", "host": "127.0.0.1", "port": 5432,
                 "timeline": 2},
                {"name": "n1", "role": "replica", "state": "streaming",
                 "api_url": "http://127.0.0.1:8009/patroni", "host": "127.0.0.1", "port": 5433,
                 "timeline": 2, "pending_restart": true,
                 "pending_restart_reason": {"a": {"old_value": "1", "new_value": "2"}},
                 "tags": {"clonefrom": true}, "receive_lag": 0, "receive_lsn": "0/404BA60",
                 "replay_lag": 456, "replay_lsn": "0/404B898", "lag": 0, "lsn": "0/404BA60"},
                {"name": "n2", "role": "replica", "state": "stopped",
                 "api_url": "http://127.0.0.1:8010/patroni", "receive_lag": "unknown",
                 "receive_lsn": "unknown", "replay_lag": "unknown", "replay_lsn": "unknown",
                 "lag": "unknown", "lsn": "unknown"},
                {"name": "n3", "role": "replica", "state": "in archive recovery",
                 "api_url": "http://h:8011/patroni", "host": "h", "port": 5435,
                 "receive_lag": "unknown", "receive_lsn": "unknown", "replay_lag": "unknown",
                 "replay_lsn": "unknown", "lag": 720, "lsn": "0/404B790"},
            ],
            "pause": true,
            "scheduled_switchover": {"at": "2030-01-01T00:00:00+00:00", "from": "n0"},
            "scope": "demo"
        })
    );
}

#[test]
fn roles_in_the_cluster_document() {
    let mut cluster = cluster();
    sync(&mut cluster, "N1");
    for (synchronous, standby_cluster, leader, replica) in [
        (SynchronousMode::On, false, "leader", "sync_standby"),
        (SynchronousMode::Quorum, false, "leader", "quorum_standby"),
        (SynchronousMode::Off, false, "leader", "replica"),
        (SynchronousMode::On, true, "standby_leader", "replica"),
    ] {
        let mode = Mode {
            paused: false,
            synchronous,
            standby_cluster,
        };
        let document = cluster_document(&cluster, "demo", mode);
        assert_eq!(document["members"][0]["role"], leader);
        assert_eq!(document["members"][1]["role"], replica);
    }
}

fn ask(action: Action, body: serde_json::Value, cluster: &Cluster, mode: Mode) -> (u16, String) {
    let wish = Wish::read(action, body.to_string().as_bytes());
    match wish.and_then(|wish| wish.judge(cluster, mode, now())) {
        Err(refusal) => (refusal.status, refusal.text),
        Ok(accepted) => (0, format!("{:?} {:?}", accepted.action, accepted.ask)),
    }
}

/// Each row: what is asked, in which mode, and the refusal.
fn refused(rows: &[(Action, serde_json::Value, Mode, u16, &str)]) {
    let cluster = cluster();
    for (action, body, mode, status, text) in rows {
        let got = ask(*action, body.clone(), &cluster, *mode);
        assert_eq!(got, (*status, (*text).to_owned()), "{body}");
    }
}

const PAUSED: Mode = Mode {
    paused: true,
    ..PLAIN
};

#[test]
fn requests_without_what_they_need() {
    use Action::{Failover as F, Switchover as S};
    refused(&[
        (S, json!({}), PLAIN, 400, ""),
        (S, json!([1]), PLAIN, 400, ""),
        (
            F,
            json!({"leader": "n0"}),
            PLAIN,
            400,
            "Failover could be performed only to a specific candidate",
        ),
        (
            S,
            json!({"candidate": "n1"}),
            PLAIN,
            400,
            "Switchover could be performed only from a specific leader",
        ),
        (
            S,
            json!({"leader": "n0"}),
            PAUSED,
            400,
            "Switchover is possible only to a specific candidate in a paused state",
        ),
    ]);
    let garbage = Wish::read(S, b"{\"leader\":").unwrap_err();
    assert_eq!((garbage.status, garbage.text.as_str()), (400, ""));
}

#[test]
fn times_that_are_refused() {
    use Action::{Failover as F, Switchover as S};
    let at = "2030-01-01T00:00:00+00:00";
    refused(&[
        (
            F,
            json!({"candidate": "n1", "scheduled_at": at}),
            PLAIN,
            400,
            "Failover can't be scheduled",
        ),
        (
            S,
            json!({"leader": "n0", "scheduled_at": at}),
            PAUSED,
            400,
            "Can't schedule switchover in the paused state",
        ),
        (
            S,
            json!({"leader": "n0", "scheduled_at": "soon"}),
            PLAIN,
            422,
            "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601",
        ),
        (
            S,
            json!({"leader": "n0", "scheduled_at": "2030-01-01T00:00"}),
            PLAIN,
            400,
            "Timezone information is mandatory for the scheduled switchover",
        ),
        (
            S,
            json!({"leader": "n0", "scheduled_at": "2020-01-01T00:00Z"}),
            PLAIN,
            422,
            "Cannot schedule switchover in the past",
        ),
    ]);
}

#[test]
fn names_that_do_not_fit_the_cluster() {
    use Action::{Failover as F, Switchover as S};
    refused(&[
        (
            F,
            json!({"leader": "n1", "member": "n1"}),
            PLAIN,
            400,
            "Switchover target and source are the same",
        ),
        (
            S,
            json!({"leader": "n2", "candidate": "n1"}),
            PLAIN,
            412,
            "leader name does not match",
        ),
        (
            F,
            json!({"leader": "n2", "candidate": "n1"}),
            PLAIN,
            412,
            "leader name does not match",
        ),
        (
            S,
            json!({"leader": "n0", "candidate": "x"}),
            PLAIN,
            412,
            "candidate does not exists",
        ),
        (
            F,
            json!({"candidate": "x"}),
            PLAIN,
            412,
            "candidate does not exists",
        ),
    ]);
}

#[test]
fn rows_that_depend_on_the_cluster() {
    use Action::{Failover as F, Switchover as S};
    let mut cluster = cluster();
    let mode = |synchronous| Mode {
        synchronous,
        ..PLAIN
    };
    let on = mode(SynchronousMode::On);
    let to_n2 = json!({"leader": "n0", "candidate": "n2"});
    let any = json!({"leader": "n0"});
    let none = "switchover is not possible: can not find sync_standby";
    assert_eq!(ask(S, any.clone(), &cluster, on), (412, none.into()));
    sync(&mut cluster, "n1");
    let text = "candidate name does not match with sync_standby";
    assert_eq!(ask(S, to_n2.clone(), &cluster, on), (412, text.into()));
    let good = |text: &str| (0, text.to_owned());
    assert_eq!(
        ask(F, json!({"member": "n2"}), &cluster, on),
        good("Failover [MemberName(\"n2\")]")
    );
    assert_eq!(
        ask(S, any.clone(), &cluster, on),
        good("Switchover [MemberName(\"n1\")]")
    );
    let quorum = mode(SynchronousMode::Quorum);
    assert_eq!(
        ask(F, to_n2, &cluster, quorum),
        good("Switchover [MemberName(\"n2\")]")
    );
    let all = "Switchover [MemberName(\"n1\"), MemberName(\"n2\"), MemberName(\"n3\")]";
    assert_eq!(ask(S, any.clone(), &cluster, quorum), good(all));
    cluster.members.retain(|name, _| name.as_str() == "n0");
    let text = "switchover is not possible: cluster does not have members except leader";
    assert_eq!(ask(S, any.clone(), &cluster, PLAIN), (412, text.into()));
    cluster.leader = None;
    assert_eq!(
        ask(S, any, &cluster, PLAIN),
        (412, "leader name does not match".into())
    );
}

#[test]
fn what_is_written_for_a_granted_request() {
    let body = br#"{"leader": "n0", "candidate": "n1", "scheduled_at": "2030-01-01 01:00 +0100"}"#;
    let wish = Wish::read(Action::Switchover, body).unwrap();
    let accepted = wish.judge(&cluster(), PLAIN, now()).unwrap();
    assert_eq!(accepted.ask, []);
    assert_eq!(
        super::super::dcs::failover_to_json(&accepted.failover),
        r#"{"leader":"n0","member":"n1","scheduled_at":"2030-01-01T01:00:00+01:00"}"#
    );
    assert_eq!(scheduled_text(accepted.action), "Switchover scheduled");
}

#[test]
fn candidates_and_outcomes() {
    let good = peer_status(br#"{"role":"replica","xlog":{}}"#, Time::ZERO);
    let dog = peer_status(br#"{"xlog":{},"watchdog_failed":true}"#, Time::ZERO);
    let tag = peer_status(br#"{"xlog":{},"tags":{"nofailover":true}}"#, Time::ZERO);
    let down = peer_status(br#"{"state":"stopped"}"#, Time::ZERO);
    let all = [None, dog.as_ref(), tag.as_ref(), down.as_ref()];
    let refusal = no_good_candidate(Action::Failover, all).unwrap();
    assert_eq!(refusal.status, 412);
    assert_eq!(
        refusal.text,
        "failover is not possible: no good candidates have been found"
    );
    assert_eq!(
        no_good_candidate(Action::Failover, [None, good.as_ref()]),
        None
    );
    let done = |name: &str| Outcome::Done {
        new_leader: name.into(),
    };
    let n1 = MemberName::from("n1");
    for (action, wanted, outcome, expected) in [
        (
            Action::Switchover,
            Some(&n1),
            done("n1"),
            (200, "Successfully switched over to \"n1\""),
        ),
        (
            Action::Failover,
            None,
            done("n2"),
            (200, "Successfully failed over to \"n2\""),
        ),
        (
            Action::Switchover,
            Some(&n1),
            done("n2"),
            (200, "Switched over to \"n2\" instead of \"n1\""),
        ),
        (
            Action::Failover,
            Some(&n1),
            done("n2"),
            (200, "Failed over to \"n2\" instead of \"n1\""),
        ),
        (
            Action::Switchover,
            None,
            Outcome::Failed,
            (503, "Switchover failed"),
        ),
        (
            Action::Failover,
            None,
            Outcome::Unknown,
            (503, "Failover status unknown"),
        ),
        (
            Action::Failover,
            None,
            Outcome::NotWritten,
            (503, "failed to write failover key into DCS"),
        ),
    ] {
        let (status, text) = failover_outcome(action, wanted, &outcome);
        assert_eq!((status, text.as_str()), expected);
    }
}

#[test]
fn times_are_read_leniently() {
    for (text, shown) in [
        ("2030-01-01T00:00:00+00:00", "2030-01-01T00:00:00+00:00"),
        ("2030-01-01 00:00", ""),
        ("2030-01-01", ""),
        ("2030-01-01T00:00Z", "2030-01-01T00:00:00+00:00"),
        ("2030-01-01 00:00:00 UTC", "2030-01-01T00:00:00+00:00"),
        (
            "2030-01-01 00:00:00.5-03:30",
            "2030-01-01T00:00:00.500000-03:30",
        ),
        ("20300101T000000+0530", "2030-01-01T00:00:00+05:30"),
        ("2030-01-01 00:00 +02", "2030-01-01T00:00:00+02:00"),
        (
            "Tue, 01 Jan 2030 00:00:00 +0000",
            "2030-01-01T00:00:00+00:00",
        ),
        ("Tue Jan  1 00:00:00 UTC 2030", "2030-01-01T00:00:00+00:00"),
        (
            "1 January 2030, 2:30 pm +01:00",
            "2030-01-01T14:30:00+01:00",
        ),
        // A zone by a name that Patroni does not know either.
        ("2030-01-01 00:00 CET", ""),
        ("2030-01-01T00:00:00 PST", ""),
    ] {
        match parse_schedule(text, now()) {
            Ok(schedule) => assert_eq!(schedule.text, shown, "{text}"),
            Err(bad) => assert_eq!((bad, shown), (BadSchedule::NoZone, ""), "{text}"),
        }
    }
    for bad in [
        "",
        "x",
        "2030-13-01T00:00Z",
        "12",
        "+",
        "2030-01-01T00:00:00+99:00",
    ] {
        assert_eq!(
            parse_schedule(bad, now()),
            Err(BadSchedule::Unparsable),
            "{bad}"
        );
    }
    let past = parse_schedule("2026-11-20T23:59:59Z", now());
    assert_eq!(past, Err(BadSchedule::Past));
    let moment: Timestamp = "2026-11-21T00:21:11.967788Z".parse().unwrap();
    assert_eq!(iso_timestamp(moment), "2026-11-21T00:21:11.967788+00:00");
    assert_eq!(status_timestamp(moment), "2026-11-21 00:21:11.967788+00:00");
    assert_eq!(iso_timestamp(now()), "2026-11-21T00:00:00+00:00");
}

/// The samples of a page by name, and that each has its two comments.
fn samples(page: &str) -> std::collections::BTreeMap<String, String> {
    let mut samples = std::collections::BTreeMap::new();
    let mut described = String::new();
    for line in page.lines() {
        match line
            .strip_prefix("# HELP ")
            .or(line.strip_prefix("# TYPE "))
        {
            Some(rest) => described = rest.split(' ').next().unwrap().to_owned(),
            None if line.starts_with("# Values: ") => {}
            None => {
                let (name, rest) = line.split_once('{').unwrap();
                let (labels, value) = rest.split_once("} ").unwrap();
                assert_eq!(
                    (name, labels),
                    (described.as_str(), r#"scope="demo",name="n1""#)
                );
                let name = name.strip_prefix("patroni_").unwrap();
                assert!(samples.insert(name.to_owned(), value.to_owned()).is_none());
            }
        }
    }
    samples
}

#[test]
fn metrics_have_every_name_of_the_contract() {
    let (look, tags) = (look(), Tags::default());
    let page = metrics(&input(Some(&look), &tags));
    let found = samples(&page);
    let expected = [
        ("cluster_unlocked", "0"),
        ("dcs_last_seen", "1795220471"),
        ("failsafe_mode_is_active", "0"),
        ("is_paused", "0"),
        ("master", "0"),
        ("pending_restart", "0"),
        ("postgres_in_archive_recovery", "0"),
        ("postgres_running", "1"),
        ("postgres_server_version", "150018"),
        ("postgres_state", "5"),
        ("postgres_streaming", "1"),
        ("postgres_timeline", "2"),
        ("postmaster_start_time", "1795220471.967788"),
        ("primary", "0"),
        ("quorum_standby", "0"),
        ("replica", "1"),
        ("standby_leader", "0"),
        ("sync_standby", "0"),
        ("version", "040105"),
        ("xlog_location", "0"),
        ("xlog_paused", "0"),
        ("xlog_received_location", "67108960"),
        ("xlog_replayed_location", "67108900"),
        ("xlog_replayed_timestamp", "0"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    let counters = [
        "xlog_location",
        "xlog_received_location",
        "xlog_replayed_location",
    ];
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let counts = counters.contains(&name.trim_start_matches("patroni_"));
        assert_eq!(kind, if counts { "counter" } else { "gauge" }, "{name}");
    }
    assert!(page.contains("# Values: 0=initdb, 1=initdb_failed, "));
    let silent = samples(&metrics(&input(None, &tags)));
    assert_eq!(silent["postgres_state"], "-1");
    assert!(!silent.contains_key("postgres_streaming"));
}
