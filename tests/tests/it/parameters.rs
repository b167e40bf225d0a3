//! Server parameters: wrong ones do no harm, those that wait for a restart are shown, and files that
//! lie elsewhere are found.

use crate::common::{body, secs, stand_in, status, stored, three};
use pgherd_tests::{Etcd, Node, TestCluster, Value, json};

/// PATCHes `postgresql.parameters` and waits until `work_mem` from the same document is in force on
/// every node: a reload has worked.
async fn patch(cluster: &TestCluster, mut parameters: Value, work_mem: &str) {
    parameters["work_mem"] = json!(work_mem);
    let document = json!({"postgresql": {"parameters": parameters}}).to_string();
    let leader = cluster.primary().await.unwrap();
    let answer = leader.request("PATCH", "/config", &document).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    for node in cluster.nodes() {
        let what = format!("work_mem {work_mem} arrives at {}", node.name());
        cluster
            .wait_for(&what, secs(30), async || {
                match node.sql("show work_mem").await? {
                    now if now == work_mem => Ok(()),
                    now => Err(now),
                }
            })
            .await;
    }
}

/// Lines of a log after the first `skip` with one of `words`.
fn lines(node: &Node, skip: usize, words: &[&str]) -> Vec<String> {
    let log = node.log();
    let lines = log.lines().skip(skip);
    lines
        .filter(|line| words.iter().any(|word| line.contains(word)))
        .map(str::to_owned)
        .collect()
}

/// What PostgreSQL logs when it does not like its files.
const COMPLAINTS: [&str; 4] = [
    "cannot be changed without restarting the server",
    "removed from configuration file",
    "contains errors",
    "LOG:  unrecognized configuration parameter",
];

/// Makes another member leader by a switchover and waits until all stream again.
async fn switch<'a>(cluster: &'a TestCluster, from: &Node) -> &'a Node {
    let request = body(Some(from.name()), None);
    let answer = from.request("POST", "/switchover", &request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster.wait_whole(secs(60)).await
}

/// Unknown names and invalid values: every node goes on, reloads, and can be restarted; the log says
/// what was left out.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_parameters_do_no_harm() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let wrong = json!({
        "no_such_parameter": 1,
        "block_size": 4096,
        "log_statement": "everything",
        "deadlock_timeout": "1 fortnight",
        "my_app.setting": "free",
        "superuser_reserved_connections": 1000,
    });
    patch(&cluster, wrong, "5MB").await;
    for node in cluster.nodes() {
        if !stand_in() {
            for said in [
                "no_such_parameter=1 failed validation, left out: postgresql.parameters: \
                 unrecognized configuration parameter",
                "block_size=4096 failed validation",
                "log_statement=everything failed validation",
                "Available values: none, ddl, mod, all.",
                "deadlock_timeout=1 fortnight failed validation",
                "superuser_reserved_connections=1000 failed validation",
            ] {
                assert!(node.log().contains(said), "{said}: {}", node.log_tail(30));
            }
        }
        let bad = "select count(*)::text from pg_file_settings where error is not null";
        assert_eq!(node.sql(bad).await.unwrap(), "0", "{}", node.name());
        assert_eq!(node.sql("show my_app.setting").await.unwrap(), "free");
        assert_eq!(node.sql("show log_statement").await.unwrap(), "none");
        assert_eq!(lines(node, 0, &COMPLAINTS[2..]), Vec::<String>::new());
    }
    // Restarts: a crash of a replica, a killed node, the leader itself.
    let leader = cluster.primary().await.unwrap();
    let replicas = cluster.nodes().iter().filter(|n| n.name() != leader.name());
    let replicas: Vec<&Node> = replicas.collect();
    replicas[0].kill_postgres();
    replicas[1].kill_node();
    replicas[1].start();
    cluster.wait_whole(secs(60)).await;
    switch(&cluster, leader).await;
    patch(&cluster, json!({"max_connections": 300_000}), "6MB").await;
    for node in cluster.nodes() {
        assert_eq!(node.sql("show my_app.setting").await.unwrap(), "free");
        let said = "max_connections=300000 failed validation, defaulting to 100";
        assert!(stand_in() || node.log().contains(said), "{}", node.log());
    }
}

/// A member's `pending_restart_reason` in `GET /patroni`; null if no restart is pending.
async fn pending(node: &Node) -> Result<Value, String> {
    let now = status(node).await?;
    match now.get("pending_restart") {
        None => Ok(Value::Null),
        Some(_) => Ok(now["pending_restart_reason"].clone()),
    }
}

/// A failover leaves no restart pending and no complaint in PostgreSQL's log; a changed
/// `max_connections` or `shared_buffers` is pending, everywhere it is shown, until the restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_pending_restart_is_shown_when_there_is_one() {
    let etcd = Etcd::start(1).await;
    // Not from the node files, where it would win over the dynamic configuration.
    let shared = |value: Value| json!({"postgresql": {"parameters": {"shared_buffers": value}}});
    let options = three()
        .config(shared(Value::Null))
        .dcs(shared("16MB".into()));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.primary().await.unwrap();
    let skips = cluster.nodes().iter().map(|n| n.log().lines().count());
    let skips: Vec<usize> = skips.collect();
    old.kill_node();
    let new = cluster.wait_new_primary(old.name(), secs(50)).await;
    old.start();
    cluster.wait_whole(secs(90)).await;
    patch(&cluster, json!({}), "5MB").await;
    // The leader's agent restarted: it reads its part from the files.
    new.kill_agent();
    new.start();
    crate::common::wait_health(&cluster, new, "/primary", 200).await;
    patch(&cluster, json!({}), "6MB").await;
    for (node, skip) in cluster.nodes().iter().zip(skips) {
        assert_eq!(pending(node).await.unwrap(), Value::Null);
        let key = format!("members/{}", node.name());
        let member = stored(&etcd, &cluster, &key).await.unwrap();
        assert_eq!(member.get("pending_restart"), None, "{member}");
        if !stand_in() {
            assert_eq!(lines(node, skip, &COMPLAINTS), Vec::<String>::new());
        }
    }

    let before = new.sql("show shared_buffers").await.unwrap();
    let wished = json!({"max_connections": 70, "shared_buffers": "20MB"});
    patch(&cluster, wished, "7MB").await;
    let reason = json!({
        "max_connections": {"old_value": "60", "new_value": "70"},
        "shared_buffers": {"old_value": before, "new_value": "20MB"},
    });
    for node in cluster.nodes() {
        let what = format!("pending restart of {} in all places", node.name());
        cluster
            .wait_for(&what, secs(20), async || {
                let shown = pending(node).await?;
                let key = format!("members/{}", node.name());
                let member = stored(&etcd, &cluster, &key).await.unwrap_or_default();
                let all = new.get("/cluster").await?.body;
                let all: Value = serde_json::from_str(&all).map_err(|e| e.to_string())?;
                let members = all["members"].as_array().cloned().unwrap_or_default();
                let listed = members.iter().find(|m| m["name"] == node.name());
                let listed = listed.cloned().unwrap_or_default();
                let same = |found: &Value| {
                    found["pending_restart"] == true && found["pending_restart_reason"] == reason
                };
                if shown == reason && same(&member) && same(&listed) {
                    Ok(())
                } else {
                    Err(format!("{shown} {member} {listed}"))
                }
            })
            .await;
    }
    // The old leader is restarted by the switchover: nothing waits there any more.
    switch(&cluster, new).await;
    assert_eq!(new.sql("show max_connections").await.unwrap(), "70");
    assert_eq!(pending(new).await.unwrap(), Value::Null);
}

/// `synchronous_standby_names` of the user's parameters comes back when the mode is switched off, and
/// not before `/sync` is gone.
#[tokio::test(flavor = "multi_thread")]
async fn the_users_synchronous_names_come_back() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let own = "ANY 1 (n1,n2,n3)";
    let options = three().dcs(json!({
        "synchronous_mode": true,
        "postgresql": {"parameters": {"synchronous_standby_names": own}},
    }));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let leader = cluster.primary().await.unwrap();
    let show = "show synchronous_standby_names";
    cluster
        .wait_for("a synchronous standby", secs(30), async || {
            let sync = stored(&etcd, &cluster, "sync").await.unwrap_or_default();
            let names = leader.sql(show).await?;
            match sync["sync_standby"].as_str() {
                Some(name) if name == names => Ok(()),
                _ => Err(format!("{sync} {names:?}")),
            }
        })
        .await;
    let off = json!({"synchronous_mode": false}).to_string();
    let answer = leader.request("PATCH", "/config", &off).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster
        .wait_for("the user's names", secs(30), async || {
            let sync = stored(&etcd, &cluster, "sync").await;
            match leader.sql(show).await? {
                names if names == own && sync.is_none() => Ok(()),
                names => Err(format!("{names:?} {sync:?}")),
            }
        })
        .await;
}

/// Configuration files outside the data directory: initdb leaves `pg_hba.conf` and `pg_ident.conf`
/// inside, and a copy brings neither. Every node starts, and can become leader.
#[tokio::test(flavor = "multi_thread")]
async fn configuration_files_outside_the_data_directory() {
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::new(&etcd, &three());
    for name in ["n1", "n2", "n3"] {
        let node = cluster.node_mut(name);
        let dir = node.dir().join("conf");
        let hba = node.config()["postgresql"]["pg_hba"].clone();
        node.change_config(&json!({
            "bootstrap": {"pg_hba": hba},
            "postgresql": {"pg_hba": null, "config_dir": dir.to_string_lossy()},
        }));
    }
    cluster.start_all();
    let leader = cluster.wait_whole(secs(60)).await;
    for node in cluster.nodes() {
        let file = node.dir().join("conf/pg_ident.conf");
        assert_eq!(
            node.sql("show ident_file").await.unwrap(),
            file.to_string_lossy()
        );
        assert!(file.exists());
    }
    let new = switch(&cluster, leader).await;
    assert_ne!(new.name(), leader.name());
}
