//! Keys that may be written in more than one way.

use super::super::load_ctl;
use super::{Dir, SAMPLE, env, read, settings};
use serde_json::json;

/// What stands for a permanent slot, under today's name and those of before.
#[test]
fn a_permanent_slot_needs_no_more_than_its_name() {
    for key in ["slots", "permanent_slots", "permanent_replication_slots"] {
        let (settings, warnings) = settings(json!({key: {
            "a": null, "b": 0, "c": {}, "d": {"type": "physical"}, "e": "", "f": {"plugin": "only"},
        }}));
        assert_eq!(warnings, [] as [String; 0], "{key}");
        assert_eq!(settings.permanent_slots, ["a", "b", "c", "d", "e", "f"]);
    }
}

/// `proxy_url` is published where there is a proxy, with the database of the node.
#[test]
fn addresses_are_published_with_the_database() {
    let with = |line: &str| {
        let data_dir = "  data_dir: data/postgresql0\n";
        let yaml = SAMPLE.replace(data_dir, &format!("{data_dir}  {line}\n"));
        read(&yaml).unwrap().node
    };
    assert_eq!(
        with("database: app").conn_url(),
        "postgres://127.0.0.1:5432/app"
    );
    assert_eq!(with("database: app").proxy_url(), None);
    let proxy = with("proxy_address: '[fd00::1]:6432'").proxy_url();
    assert_eq!(proxy.as_deref(), Some("postgres://[fd00::1]:6432/postgres"));
}

/// The first of these that is there is taken.
#[test]
fn etcd_is_found_by_one_of_four_keys() {
    let dir = Dir::new("etcd3");
    for (section, endpoints, proxies) in [
        ("host: 'e1'", vec!["http://e1:2379"], false),
        (
            "hosts: 'e1:1,e2'",
            vec!["http://e1:1", "http://e2:2379"],
            false,
        ),
        (
            "hosts: [e1], host: e9, use_proxies: true",
            vec!["http://e1:2379"],
            true,
        ),
        (
            "url: 'https://u:1', hosts: [e1]",
            vec!["https://u:1"],
            false,
        ),
        (
            "proxy: 'http://p:1', url: 'http://u:1'",
            vec!["http://p:1"],
            true,
        ),
    ] {
        let file = dir.write("ctl.yml", &format!("etcd3: {{{section}}}\n"));
        let etcd3 = load_ctl(Some(&file), &env(&[])).unwrap().0.etcd3;
        assert_eq!(
            (etcd3.endpoints, etcd3.use_proxies),
            (
                endpoints.iter().map(|url| (*url).to_owned()).collect(),
                proxies
            ),
            "{section}"
        );
    }
}
