//! Values as captured from Patroni 3 and 4, in both directions.

use super::*;
use pgherd_model::{PostgresState, Role, Version};

const LEADER: &str = r#"{"conn_url":"postgres://127.0.0.1:5432/postgres","api_url":"http://127.0.0.1:8008/patroni","state":"running","role":"primary","version":"4.1.5","xlog_location":67108960,"timeline":1}"#;

#[test]
fn captured_leader_round_trips() {
    let member = member_from_json("n0".into(), LEADER, 7);
    assert_eq!(member.address, Some(("127.0.0.1".into(), 5432)));
    assert_eq!(member.state, Some(PostgresState::Running));
    assert_eq!(member.role, Some(Role::Primary));
    assert_eq!(member.version, Some(Version(4, 1, 5)));
    assert_eq!(member.xlog_location, Some(Lsn(67_108_960)));
    assert_eq!(member.lease, 7);
    assert_eq!(member_to_json(&member), LEADER);
}

#[test]
fn full_replica_round_trips() {
    let text = r#"{"conn_url":"postgres://[::1]:5433/postgres","api_url":"https://[::1]:8009/patroni","state":"running","role":"replica","version":"3.0.4","proxy_url":"postgres://proxy:6432/postgres","checkpoint_after_promote":false,"tags":{"clonefrom":true,"failover_priority":"0","rack":7},"pending_restart":true,"pending_restart_reason":{"max_connections":{"old_value":"100","new_value":"101"}},"xlog_location":5,"receive_lsn":5,"replay_lsn":4,"replication_state":"streaming","timeline":2,"scheduled_restart":{"schedule":"2030-01-01T00:00:00+00:00"},"pause":true}"#;
    let member = member_from_json("n1".into(), text, 0);
    assert_eq!(member.address, Some(("::1".into(), 5433)));
    assert_eq!(member.checkpoint_after_promote, Some(false));
    assert!(member.tags.clonefrom && member.tags.nofailover);
    assert_eq!(member.tags.failover_priority, 0);
    assert_eq!(member_to_json(&member), text);
}

#[test]
fn strange_members_stay_members() {
    let master = r#"{"role":"master","state":"dancing","conn_url":"not a url","version":"4.1.5rc1","xlog_location":"17","timeline":"x","tags":3}"#;
    let member = member_from_json("n0".into(), master, 0);
    assert_eq!(member.role, Some(Role::Primary));
    assert_eq!((member.state, member.version), (None, None));
    assert_eq!(
        (member.address, member.xlog_location),
        (None, Some(Lsn(17)))
    );
    for broken in ["", "{", "[]", "7", "null", "postgres", "postgres://"] {
        let member = member_from_json("n0".into(), broken, 0);
        assert_eq!(member.address, None, "{broken}");
    }
    let legacy = "postgres://u:pw@h:5433/postgres?application_name=http%3A//h:8008/patroni";
    let member = member_from_json("n0".into(), legacy, 0);
    assert_eq!(member.conn_url, "postgres://h:5433/postgres");
    assert_eq!(member.api_url, "http://h:8008/patroni");
    assert_eq!(member.address, Some(("h".into(), 5433)));
}

#[test]
fn credentials_of_others_are_dropped() {
    let text = r#"{"conn_url":"postgres://rep:p@ss@h/postgres"}"#;
    let member = member_from_json("n0".into(), text, 0);
    assert_eq!(member.conn_url, "postgres://h/postgres");
    assert_eq!(member.address, Some(("h".into(), 5432)));
    let broken = r#"{"conn_url":"postgres:/rep:p@ss@h/postgres"}"#;
    let member = member_from_json("n0".into(), broken, 0);
    assert_eq!(member.conn_url, "h/postgres");
    assert_eq!(member.address, None);
}

#[test]
fn status_in_all_its_forms() {
    let text = r#"{"optime":67418720,"slots":{"n0":67418720,"slot_a":67417968},"retain_slots":["n0","n1","n2"]}"#;
    assert_eq!(status_to_json(&status_from_text(text)), text);
    let doubled = r#"{"optime":"5","slots":"{\"n0\":67418720}","retain_slots":"[\"n1\"]","new":1}"#;
    let status = status_from_text(doubled);
    assert_eq!(status.optime, Lsn(5));
    assert_eq!(status.slots.get("n0"), Some(&Lsn(67_418_720)));
    assert_eq!(status.retain_slots, ["n1"]);
    assert_eq!(status_from_text("67418720").optime, Lsn(67_418_720));
    assert_eq!(status_to_json(&status_from_text("1")), r#"{"optime":1}"#);
    for broken in ["", "x", "[]", "-1", r#"{"optime":null,"slots":7}"#] {
        assert_eq!(status_from_text(broken), Status::default(), "{broken}");
    }
}

#[test]
fn sync_in_all_its_forms() {
    for text in [
        r#"{"leader":"n0","quorum":1,"sync_standby":"n1,n2"}"#,
        r#"{"leader":"n0","quorum":0,"sync_standby":null}"#,
    ] {
        assert_eq!(sync_to_json(&sync_from_text(text)), text);
    }
    let old = sync_from_text(r#"{"leader":"n0","sync_standby":"n2, n1,"}"#);
    assert_eq!(old.standbys, [MemberName::from("n1"), "n2".into()]);
    assert_eq!(sync_from_text("garbage"), Sync::default());
}

#[test]
fn failover_in_all_its_forms() {
    for text in [
        r#"{"leader":"n0","member":"n1","scheduled_at":"2030-01-01T00:00:00+00:00"}"#,
        r#"{"member":"n1"}"#,
        "{}",
    ] {
        assert_eq!(failover_to_json(&failover_from_text(text)), text);
    }
    let legacy = failover_from_text("n0:n1");
    assert_eq!(legacy.leader, Some("n0".into()));
    assert_eq!(legacy.member, Some("n1".into()));
    assert_eq!(failover_from_text("n0").leader, Some("n0".into()));
    assert_eq!(failover_from_text(":n1").leader, None);
    for nothing in [
        "",
        "[]",
        "null",
        "{\"leader\":",
        "7",
        r#"{"leader":"","member":5}"#,
    ] {
        assert_eq!(
            failover_from_text(nothing),
            Failover::default(),
            "{nothing}"
        );
    }
}

#[test]
fn history_in_all_its_forms() {
    let text = r#"[[1,67418264,"no recovery target specified","2026-11-21T00:23:34.338580+00:00","n1"],[2,83886240,"x"]]"#;
    let history = history_from_text(text);
    assert_eq!(history.len(), 2);
    assert_eq!(history[0].leader, Some("n1".into()));
    assert_eq!(history_to_json(&history), text);
    assert_eq!(history_from_text("[]"), []);
    assert_eq!(history_from_text(r#"[7,[1],[1,2,"r"]]"#).len(), 1);
    assert_eq!(history_from_text("nonsense"), []);
}

#[test]
fn the_small_ones() {
    assert_eq!(
        initialize_from_text("7710413211832022599"),
        Initialize::Done(SystemId(7_710_413_211_832_022_599))
    );
    assert_eq!(initialize_from_text(""), Initialize::UnderWay);
    assert_eq!(initialize_from_text("x"), Initialize::Invalid("x".into()));
    assert_eq!(initialize_to_text(Some(SystemId(7))), "7");
    assert_eq!(initialize_to_text(None), "");
    let failsafe = r#"{"n0":"http://127.0.0.1:8008/patroni","n1":"http://127.0.0.1:8009/patroni"}"#;
    assert_eq!(failsafe_to_json(&failsafe_from_text(failsafe)), failsafe);
    assert!(failsafe_from_text("[").is_empty());
    assert_eq!(config_from_text("{\"ttl\": 30}").text, "{\"ttl\": 30}");
}

#[test]
fn tags_follow_python() {
    let tags = |json: Value| tags_from_value(&json);
    assert_eq!(tags(json!({})).failover_priority, 1);
    assert!(tags(json!({"failover_priority": 0})).nofailover);
    assert!(!tags(json!({"failover_priority": 0, "nofailover": false})).nofailover);
    assert!(tags(json!({"failover_priority": 5, "nofailover": true})).nofailover);
    // Text is true in Python, whatever it says.
    assert!(tags(json!({"nosync": "false"})).nosync);
    assert!(tags(json!({"sync_priority": -1})).nosync);
    let configured = json!({"nofailover": false, "nosync": false, "sync_priority": 2,
        "clonefrom": true, "nostream": false, "rack": 1});
    let shown = published_tags(configured.as_object().unwrap());
    assert_eq!(
        Value::Object(shown),
        json!({"nosync": false, "sync_priority": 2, "clonefrom": true, "rack": 1})
    );
}
