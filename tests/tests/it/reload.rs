//! The configuration read again, by SIGHUP and by `POST /reload`: what changes takes effect without
//! touching the lock, what cannot is told, and a broken file changes nothing.

use crate::common::{oracle, secs, stand_in, start_time, status, stays, stored, text, three};
use pgherd_tests::{ClusterOptions, Etcd, Node, Signal, TestCluster, Value, json, ports, rest};

fn of(count: usize) -> ClusterOptions {
    let mut options = three();
    options.nodes.truncate(count);
    options
}

/// Waits until PostgreSQL of a member says this about a setting.
async fn wait_shown(cluster: &TestCluster, name: &str, setting: &str, wanted: &str) {
    let what = format!("{setting} is {wanted} on {name}");
    cluster
        .wait_for(&what, secs(20), async || {
            let now = cluster.node(name).sql(&format!("show {setting}")).await?;
            if now == wanted { Ok(()) } else { Err(now) }
        })
        .await;
}

/// Waits until the agent has logged this, after what it had logged before.
async fn wait_said(cluster: &TestCluster, node: &Node, skip: usize, words: &[&str]) -> String {
    let what = format!("{} says {words:?}", node.name());
    cluster
        .wait_for(&what, secs(20), async || {
            let log = node.log();
            let mut lines = log.lines().skip(skip);
            let line = lines.find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned).ok_or(node.log_tail(3))
        })
        .await
}

fn lines(node: &Node) -> usize {
    node.log().lines().count()
}

/// Waits until the member key and `GET /patroni` have these tags.
async fn wait_tags(etcd: &Etcd, cluster: &TestCluster, node: &Node, wanted: &Value) {
    let what = format!("tags of {} are published", node.name());
    let key = format!("members/{}", node.name());
    cluster
        .wait_for(&what, secs(20), async || {
            let member = stored(etcd, cluster, &key).await;
            let tags = member.unwrap_or_default()["tags"].clone();
            let shown = status(node).await?["tags"].clone();
            match tags == *wanted && shown == *wanted {
                true => Ok(()),
                false => Err(format!("{tags} {shown}")),
            }
        })
        .await;
}

/// What may not change by a reload: leader, its lease, PostgreSQL's start, timeline.
async fn undisturbed(etcd: &Etcd, cluster: &TestCluster) -> Value {
    let leader = cluster.primary().await.unwrap();
    let mut starts = Vec::new();
    for node in cluster.nodes() {
        starts.push(start_time(node).await);
    }
    json!({
        "leader": stored(etcd, cluster, "leader").await,
        "lease": etcd.lease_of(&cluster.key("leader")).await,
        "starts": starts,
        "timeline": status(leader).await.unwrap()["timeline"],
    })
}

/// Parameter, hba and ident lines, tag and log level, on leader and replica.
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_takes_over_what_has_changed() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::formed(&etcd, &of(2)).await;
    let before = undisturbed(&etcd, &cluster).await;
    for name in ["n1", "n2"] {
        let node = cluster.node_mut(name);
        let mut hba = node.config()["postgresql"]["pg_hba"].clone();
        let more = json!("host all nobody 192.0.2.7/32 reject");
        hba.as_array_mut().unwrap().push(more);
        node.change_config(&json!({
            "log": {"level": "DEBUG"},
            "tags": {"nosync": true, "own": "word"},
            "postgresql": {
                "parameters": {"work_mem": "7MB"},
                "pg_hba": hba,
                "pg_ident": ["map1 somebody postgres"],
            },
        }));
        let skip = lines(node);
        node.signal_agent(Signal::HUP);
        let node = cluster.node(name);
        let said = "the configuration was reloaded, changed: log, postgresql, tags";
        wait_said(&cluster, node, skip, &[" INFO: ", said]).await;
        wait_said(&cluster, node, skip, &[" DEBUG: "]).await;
        wait_shown(&cluster, name, "work_mem", "7MB").await;
        let rule = "select count(*)::text from pg_hba_file_rules \
                    where 'nobody' = any(user_name) and error is null";
        assert_eq!(node.sql(rule).await.unwrap(), "1");
        let file = std::fs::read_to_string(node.data_dir().join("pg_ident.conf")).unwrap();
        assert!(file.ends_with("\nmap1 somebody postgres\n"), "{file}");
        wait_tags(
            &etcd,
            &cluster,
            node,
            &json!({"nosync": true, "own": "word"}),
        )
        .await;
    }
    // And back; unchanged files are a reload of PostgreSQL as well: what they name may be new.
    let loaded = "select pg_conf_load_time()::text";
    let node = cluster.node_mut("n1");
    node.change_config(&json!({"log": null}));
    let first = node.sql(loaded).await.unwrap();
    let skip = lines(node);
    node.signal_agent(Signal::HUP);
    let node = cluster.node("n1");
    wait_said(&cluster, node, skip, &["reloaded, changed: log"]).await;
    cluster
        .wait_for("PostgreSQL reads its files", secs(20), async || {
            let now = node.sql(loaded).await?;
            if now == first { Err(now) } else { Ok(()) }
        })
        .await;
    let skip = lines(node);
    let debug = async || match node
        .log()
        .lines()
        .skip(skip)
        .find(|l| l.contains(" DEBUG: "))
    {
        None => Ok(()),
        Some(line) => Err(line.to_owned()),
    };
    stays("silence of DEBUG", secs(3), debug).await;
    assert_eq!(undisturbed(&etcd, &cluster).await, before);
}

/// Node files with one mistake and one good change each, and what is said of the mistake.
fn broken_files<'a>(node: &Node, good: &str, taken: &'a str) -> Vec<(String, Vec<&'a str>)> {
    let (host, port) = node.rest_address();
    let own = format!("listen: \"{host}:{port}\"");
    let good = good.replace("shared_buffers:", "work_mem: 7MB\n    shared_buffers:");
    vec![
        (format!("{good}\nscope: [\n"), vec!["node.yml:"]),
        (
            format!("{good}\ntags: text\n"),
            vec!["node.yml:", "tags: expected a mapping"],
        ),
        (
            good.replace(&own, "listen: \"127.0.0.1:port\""),
            vec!["node.yml:", "restapi.listen: expected HOST:PORT"],
        ),
        (
            good.replace(&own, &format!("{own}\n  certfile: /nonexistent.pem")),
            vec!["/nonexistent.pem (restapi.certfile)"],
        ),
        (
            good.replace(&own, &format!("listen: \"{taken}\"")),
            vec!["can not listen on", taken],
        ),
    ]
}

/// Syntax, a wrong type, a certificate that is not there, a port that is taken: an error in the log,
/// and nothing else. Then a file that is right again, with keys that wait for another start.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_changes_nothing() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::formed(&etcd, &of(1)).await;
    let before = undisturbed(&etcd, &cluster).await;
    let node = cluster.node("n1");
    let good = std::fs::read_to_string(node.yaml()).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let broken = broken_files(node, &good, &taken);
    for (text, words) in broken {
        assert_ne!(text, good, "{words:?}");
        std::fs::write(node.yaml(), text).unwrap();
        let skip = lines(node);
        node.signal_agent(Signal::HUP);
        let not = "the configuration was not reloaded, the one of before holds: ";
        let mut all = vec![" ERROR: ", not];
        all.extend(words);
        wait_said(&cluster, node, skip, &all).await;
        assert_eq!(node.get("/primary").await.unwrap().status, 200);
    }
    assert_ne!(node.sql("show work_mem").await.unwrap(), "7MB");
    assert_eq!(undisturbed(&etcd, &cluster).await, before);

    let scope = cluster.scope().to_owned();
    let node = cluster.node_mut("n1");
    let parameters = json!({"work_mem": "8MB"});
    let data_dir = node.data_dir();
    node.change_config(&json!({
        "scope": "another",
        "name": "another",
        "postgresql": {"data_dir": "/another", "parameters": parameters},
    }));
    let skip = lines(node);
    node.signal_agent(Signal::HUP);
    wait_shown(&cluster, "n1", "work_mem", "8MB").await;
    let node = cluster.node("n1");
    for (key, holds) in [
        ("scope", scope.as_str()),
        ("name", "n1"),
        ("postgresql.data_dir", &*data_dir.to_string_lossy()),
    ] {
        let said = format!("{key}: ");
        let holds = format!("until then {holds} holds");
        wait_said(&cluster, node, skip, &[" WARNING: ", &said, &holds]).await;
    }
    assert_eq!(undisturbed(&etcd, &cluster).await, before);
}

/// The API moves to another port and asks for a password; PostgreSQL's new port waits for a restart.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_moves_and_postgresql_waits_for_a_restart() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::formed(&etcd, &of(1)).await;
    let before = undisturbed(&etcd, &cluster).await;
    let next = format!("127.0.0.1:{}", ports::free_port("127.0.0.1"));
    let (_, pg_port) = cluster.node("n1").pg_address();
    let new_pg_port = ports::free_port("127.0.0.1");
    let node = cluster.node_mut("n1");
    node.change_config(&json!({
        "restapi": {
            "listen": next,
            "connect_address": next,
            "authentication": {"username": "admin", "password": "s3cret"},
        },
        "postgresql": {"listen": format!("127.0.0.1:{new_pg_port}")},
    }));
    node.signal_agent(Signal::HUP);
    let node = cluster.node("n1");
    let url = |path: &str| format!("http://{next}{path}");
    cluster
        .wait_for("everything is at its new place", secs(20), async || {
            let answer = rest::request("GET", &url("/patroni"), None, None).await?;
            let now: Value = serde_json::from_str(&answer.body).map_err(|e| e.to_string())?;
            let pending = &now["pending_restart_reason"]["port"];
            let member = stored(&etcd, &cluster, "members/n1").await;
            let api_url = member.unwrap_or_default()["api_url"].clone();
            let wanted = json!({
                "old_value": pg_port.to_string(), "new_value": new_pg_port.to_string(),
            });
            if *pending == wanted && api_url == url("/patroni") {
                Ok(())
            } else {
                Err(format!("{pending} {api_url}"))
            }
        })
        .await;
    assert!(
        node.get("/patroni").await.is_err(),
        "the old port is closed"
    );
    let patch = json!({"loop_wait": 3}).to_string();
    let ask = async |login: Option<&(String, String)>| {
        let answer = rest::request("PATCH", &url("/config"), login, Some(&patch)).await;
        answer.unwrap().status
    };
    assert_eq!(ask(None).await, 401);
    assert_eq!(ask(Some(&("admin".into(), "s3cret".into()))).await, 200);
    let (etcd, cluster) = (&etcd, &cluster);
    let leader = stored(etcd, cluster, "leader").await;
    assert_eq!((leader.unwrap(), start_time(node).await), {
        let starts = before["starts"][0].as_str().unwrap().to_owned();
        (before["leader"].clone(), starts)
    });
}

/// An agent that waits for an etcd that is not there finds the right one after a reload.
#[tokio::test(flavor = "multi_thread")]
async fn another_etcd_is_found_without_a_new_start() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::new(&etcd, &of(1));
    let node = cluster.node_mut("n1");
    let hosts = node.config()["etcd3"]["hosts"].clone();
    let nowhere = format!("127.0.0.1:{}", ports::free_port("127.0.0.1"));
    node.change_config(&json!({"etcd3": {"hosts": nowhere}}));
    node.start();
    wait_said(&cluster, cluster.node("n1"), 0, &["waiting on etcd"]).await;
    let node = cluster.node_mut("n1");
    let parameters = json!({"work_mem": "7MB"});
    node.change_config(&json!({
        "etcd3": {"hosts": hosts},
        "postgresql": {"parameters": parameters},
    }));
    let pid = node.agent_pid();
    node.signal_agent(Signal::HUP);
    cluster.wait_streaming(0, secs(40)).await;
    wait_shown(&cluster, "n1", "work_mem", "7MB").await;
    assert_eq!(cluster.node("n1").agent_pid(), pid);
}

/// Genuine `patronictl reload` of a whole cluster.
#[tokio::test(flavor = "multi_thread")]
async fn genuine_patronictl_reloads() {
    if stand_in() || !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = of(2).rest_auth("admin", "s3cret");
    let mut cluster = TestCluster::formed(&etcd, &options).await;
    for name in ["n1", "n2"] {
        let parameters = json!({"work_mem": "7MB"});
        let node = cluster.node_mut(name);
        node.change_config(&json!({"postgresql": {"parameters": parameters}}));
    }
    let node = cluster.node("n1");
    let answer = rest::request("POST", &node.url("/reload"), None, Some("")).await;
    let answer = answer.unwrap();
    assert_eq!(
        (answer.status, &*answer.body),
        (401, "no auth header received")
    );
    let output = cluster.patronictl(&["reload", "{scope}", "--force"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for name in ["n1", "n2"] {
        let wanted = format!("Reload request received for member {name} and will be processed");
        assert!(said.contains(&wanted), "{said}");
        wait_shown(&cluster, name, "work_mem", "7MB").await;
    }
}
