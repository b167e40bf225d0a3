//! Programs of the user's that make data directories, forbid promotions and prepare stops. Genuine Patroni calls them
//! alike (`PGHERD_TESTS_AGENT=patroni`).

use crate::common::{
    body, kind, note, noted, secs, stand_in, status, stored, system_id, told, wait_health,
};
use pgherd_tests::{ClusterOptions, Etcd, Node, TestCluster, Value, json, process};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Where scripts, and what they write, lie.
struct Place(PathBuf);

impl Place {
    fn new(etcd: &Etcd) -> Place {
        let place = Place(etcd.dir().join("scripts"));
        place.directory("");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn directory(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).unwrap();
        process::give(&path);
        path
    }

    /// A script that writes down its arguments, sets `$dir` and `$connstring` from them, and goes on with this text.
    fn script(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        let text = format!(
            "#!/bin/sh\nset -e\nhere='{here}'\necho \"$@\" >> \"$here/{name}.told\"\n\
             for a in \"$@\"; do case $a in\n--datadir=*) dir=${{a#*=}} ;;\n\
             --connstring=*) connstring=${{a#*=}} ;;\nesac; done\n{text}\n",
            here = self.0.display()
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        process::give(&path);
        path.display().to_string()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// What a script was told, call by call.
    fn told(&self, name: &str) -> Vec<String> {
        let text = self.read(&format!("{name}.told"));
        text.lines().map(str::to_owned).collect()
    }
}

fn members(count: usize) -> ClusterOptions {
    ClusterOptions::with_kinds(&vec![kind(); count])
}

/// Base backup of a member, made by hand.
fn back_up(node: &Node, to: &Path) {
    let (host, port) = node.pg_address();
    let password = &node.config()["postgresql"]["authentication"]["replication"]["password"];
    let mut command = node.command(&process::pg_bin().join("pg_basebackup"));
    command
        .args(["-X", "stream", "-c", "fast", "-U", "replicator"])
        .args(["-h", &host, "-p", &port.to_string(), "-D"])
        .arg(to)
        .env("PGPASSWORD", password.as_str().unwrap());
    let output = process::output(&mut command).unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// `recovery_conf` of a bootstrap method: WAL from an archive up to a named point, then a promotion. The passwords are those
/// of the new cluster, and nobody is let in without one afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_restored_up_to_a_point_and_promoted() {
    let etcd = Etcd::start(1).await;
    let place = Place::new(&etcd);
    let archive = place.directory("archive");
    let command = format!("cp %p '{}/%f'", archive.display());
    let parameters = json!({"archive_mode": "on", "archive_command": command});
    let options = members(1).config(json!({"postgresql": {"parameters": parameters}}));
    let source = TestCluster::formed(&etcd, &options).await;
    let old = source.node("n1");
    let backup = place.path("backup");
    back_up(old, &backup);
    note(old, "wanted").await;
    let point = "select pg_create_restore_point('here')::text";
    old.sql(point).await.unwrap();
    note(old, "too late").await;
    let switch = "select pg_walfile_name(pg_switch_wal())";
    let last = archive.join(old.sql(switch).await.unwrap());
    source
        .wait_for("the WAL is archived", secs(30), async || {
            match last.exists() {
                true => Ok(()),
                false => Err(last.display().to_string()),
            }
        })
        .await;

    let restore = place.script(
        "restore",
        "[ ! -e \"$dir\" ]\ncp -a \"$here/backup\" \"$dir\"",
    );
    let fetch = format!("cp '{}/%f' %p", archive.display());
    let options = members(2).config(json!({"bootstrap": {"method": "mine", "mine": {
        "command": restore,
        "stanza": "a b",
        "jobs": 4,
        "recovery_conf": {
            "restore_command": fetch,
            "recovery_target_name": "here",
            "recovery_target_action": "promote",
        },
    }}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let primary = cluster.primary().await.unwrap();
    assert_eq!(noted(primary, "wanted").await, Ok(1));
    assert_eq!(noted(primary, "too late").await, Ok(0));
    assert_eq!(system_id(primary).await, system_id(old).await);
    let told = format!(
        "--scope={} --datadir={} --stanza=a b --jobs=4",
        cluster.scope(),
        primary.data_dir().display()
    );
    assert_eq!(place.told("restore"), [told]);
    let timeline = "select timeline_id::text from pg_control_checkpoint()";
    assert_eq!(primary.sql(timeline).await.unwrap(), "2");
    let hba = std::fs::read_to_string(primary.data_dir().join("pg_hba.conf")).unwrap();
    assert!(
        hba.contains("scram-sha-256") && !hba.contains("trust"),
        "{hba}"
    );
    let let_in = "select count(*)::text from pg_hba_file_rules where auth_method = 'trust'";
    assert_eq!(primary.sql(let_in).await.unwrap(), "0");
    assert!(!primary.data_dir().join("recovery.signal").exists());
    // It is a cluster like any other.
    let old = primary.name();
    let answer = primary
        .request("POST", "/switchover", &body(Some(old), None))
        .await;
    assert_eq!(answer.unwrap().status, 200);
    assert_ne!(cluster.wait_whole(secs(60)).await.name(), old);
}

/// Without `recovery_conf`: a clone is a primary at once. Its own pg_hba.conf, with `bootstrap.pg_hba`, holds again
/// afterwards; `data_dir` with a slash at its end is told with it, and nothing of ours lies in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_clone_of_another_cluster_keeps_its_files() {
    let etcd = Etcd::start(1).await;
    let place = Place::new(&etcd);
    let source = TestCluster::formed(&etcd, &members(1)).await;
    let old = source.node("n1");
    note(old, "cloned").await;
    back_up(old, &place.path("backup"));
    let restore = place.script("clone", "cp -a \"$here/backup\" \"$dir\"");
    let init = place.script(
        "init",
        "psql -Xq -d \"$1\" -c 'create database made_by_script'",
    );
    let mut cluster = TestCluster::new(&etcd, &members(1));
    let node = cluster.node_mut("n1");
    let slash = format!("{}/", node.data_dir().display());
    node.change_config(&json!({
        "bootstrap": {
            "method": "mine",
            "mine": {"command": restore, "no_params": false},
            "post_init": init,
            "pg_hba": ["host all nobody_else 127.0.0.1/32 reject"],
            "users": {"old": {"password": "x"}},
        },
        "postgresql": {"pg_hba": null, "data_dir": slash},
    }));
    cluster.start_all();
    let primary = cluster.wait_whole(secs(60)).await;
    assert_eq!(noted(primary, "cloned").await, Ok(1));
    assert!(place.told("clone")[0].ends_with(&format!("--datadir={slash}")));
    let made = "select count(*)::text from pg_database where datname = 'made_by_script'";
    assert_eq!(primary.sql(made).await.unwrap(), "1");
    let connection = &place.told("init")[0];
    assert!(
        connection.contains("host=") && !connection.contains("pass"),
        "{connection}"
    );
    let rules =
        "select string_agg(distinct auth_method, ',' order by auth_method) from pg_hba_file_rules";
    assert_eq!(primary.sql(rules).await.unwrap(), "reject,scram-sha-256");
    let timeline = "select timeline_id::text from pg_control_checkpoint()";
    assert_eq!(primary.sql(timeline).await.unwrap(), "1");
    if !stand_in() {
        told(&cluster, primary, &["bootstrap.users", "ignored"]).await;
        let beside = primary.data_dir().with_extension("filling");
        assert!(!beside.exists());
    }
}

/// What a command left that failed is put aside, and somebody else may try.
#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_method_that_fails_leaves_no_half_cluster() {
    let etcd = Etcd::start(1).await;
    let place = Place::new(&etcd);
    let fails = place.script("fails", "mkdir \"$dir\"; echo x > \"$dir/x\"; exit 3");
    let options = members(1).config(json!({"bootstrap": {
        "method": "mine",
        "mine": {"command": fails},
    }}));
    let cluster = TestCluster::new(&etcd, &options);
    let node = cluster.node("n1");
    node.start();
    assert!(!node.agent_exit(secs(40)).await.success());
    assert_eq!(etcd.get(&cluster.key("initialize")).await, None);
    let aside = format!("{}.failed", node.data_dir().display());
    assert!(
        Path::new(&aside).join("x").exists(),
        "{}",
        node.log_tail(20)
    );
    assert!(!node.data_dir().exists());
}

/// Methods are tried in order. The last one is pg_basebackup; the first one, when it is asked for a new copy, finds the data
/// that are there.
#[tokio::test(flavor = "multi_thread")]
async fn methods_to_make_a_replica_are_tried_in_order() {
    let etcd = Etcd::start(1).await;
    let place = Place::new(&etcd);
    let delta = place.script(
        "delta",
        &format!(
            "cp \"$PGPASSFILE\" \"$here/passfile\"\n\
             if [ -e \"$dir/PG_VERSION\" ]; then\n\
             rm -rf \"$dir\"/*\n{}/pg_basebackup -X stream -c fast -D \"$dir\" -d \"$connstring\"\nexit 0\nfi\n\
             mkdir -p \"$dir\"; echo x > \"$dir/junk\"; exit 7",
            process::pg_bin().display()
        ),
    );
    let methods = json!({"postgresql": {
        "create_replica_methods": ["delta", "absent", "basebackup"],
        "delta": {"command": format!("{delta} first"), "keep_data": true, "threads": 2},
        "basebackup": {"max-rate": "100M"},
    }});
    let options = members(2).node("n2", methods);
    let mut cluster = TestCluster::new(&etcd, &options);
    cluster.node("n1").start();
    cluster.wait_primary(secs(60)).await;
    cluster.node_mut("n2").start();
    let primary = cluster.wait_whole(secs(60)).await;
    let replica = cluster.node("n2");
    let calls = place.told("delta");
    let (host, port) = primary.pg_address();
    assert_eq!(calls.len(), 1, "{calls:?}");
    for part in [
        "first --keep_data=True --threads=2 ".to_owned(),
        format!(" --scope={} --role=replica ", cluster.scope()),
        format!(" --datadir={} --connstring=", replica.data_dir().display()),
        format!("host={host} port={port}"),
        "user=replicator".to_owned(),
    ] {
        assert!(calls[0].contains(&part), "{part} in {calls:?}");
    }
    let secret = &replica.config()["postgresql"]["authentication"]["replication"]["password"];
    let secret = secret.as_str().unwrap();
    assert!(!calls[0].contains(secret), "a password in {calls:?}");
    let as_written = secret.replace('\\', "\\\\").replace(':', "\\:");
    let passfile = place.read("passfile");
    assert!(passfile.contains(&as_written), "{passfile}");
    assert!(!replica.data_dir().join("junk").exists());
    if !stand_in() {
        told(
            &cluster,
            replica,
            &["replica method delta failed", "exit status: 7"],
        )
        .await;
        told(&cluster, replica, &["replica method absent failed"]).await;
    }

    ask_for_a_copy(&cluster, replica).await;
    let copied = async || match place.told("delta").len() {
        2 => Ok(()),
        calls => Err(format!("{calls} calls")),
    };
    let what = "the first method has made a copy";
    cluster.wait_for(what, secs(60), copied).await;
    cluster.wait_whole(secs(60)).await;
    assert_eq!(place.told("delta").len(), 2);
}

/// A member streams a moment before its agent has seen that the start is over.
async fn ask_for_a_copy(cluster: &TestCluster, replica: &Node) {
    let asked = async || match replica.request("POST", "/reinitialize", "{}").await? {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.body),
    };
    cluster
        .wait_for("a new copy is asked for", secs(30), asked)
        .await;
}

/// `no_leader`: from a backup where nobody leads, and by no other method.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_restored_where_nobody_leads() {
    let etcd = Etcd::start(1).await;
    let place = Place::new(&etcd);
    let restore = place.script("restore", "cp -a \"$here/backup\" \"$dir\"");
    let methods = json!({"postgresql": {
        "create_replica_methods": ["basebackup", "restore"],
        "restore": {"command": restore, "no_leader": 1},
    }});
    let cluster = TestCluster::new(&etcd, &members(2).node("n2", methods));
    let (first, second) = (cluster.node("n1"), cluster.node("n2"));
    first.start();
    wait_health(&cluster, first, "/leader", 200).await;
    note(first, "kept").await;
    back_up(first, &place.path("backup"));
    assert!(first.stop().await.success());
    second.start();
    assert_eq!(cluster.wait_primary(secs(90)).await.name(), "n2");
    assert_eq!(noted(second, "kept").await, Ok(1));
    let calls = place.told("restore");
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(
        calls[0].contains("--no_leader=1") && calls[0].ends_with("--connstring="),
        "{calls:?}"
    );
    first.start();
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), "n2");
}

/// Everybody that may take over without a lost row is synchronous.
async fn both_are_synchronous(etcd: &Etcd, cluster: &TestCluster) {
    cluster
        .wait_for("two are synchronous", secs(60), async || {
            let sync = stored(etcd, cluster, "sync").await.unwrap_or_default();
            let names = sync["sync_standby"].as_str().unwrap_or_default();
            match names.split(',').count() {
                2 => Ok(()),
                _ => Err(sync.to_string()),
            }
        })
        .await;
}

/// Whoever would take over first may not: the next one does.
async fn the_next_one_takes_over(dcs: Value, synchronous: bool) {
    let etcd = Etcd::start(1).await;
    let place = Place::new(&etcd);
    let forbids = place.script("forbids", "exit 1");
    let allows = place.script("allows", "");
    let tag = |priority: u32, command: &str| {
        json!({
            "tags": {"failover_priority": priority},
            "postgresql": {"pre_promote": command},
        })
    };
    let options = members(3)
        .dcs(dcs)
        .node("n1", tag(3, &allows))
        .node("n2", tag(2, &forbids))
        .node("n3", tag(1, &allows));
    let cluster = TestCluster::new(&etcd, &options);
    cluster.node("n1").start();
    cluster.wait_primary(secs(60)).await;
    cluster.node("n2").start();
    cluster.node("n3").start();
    let old = cluster.wait_whole(secs(60)).await;
    assert_eq!(old.name(), "n1");
    if synchronous {
        both_are_synchronous(&etcd, &cluster).await;
    }
    note(old, "kept").await;
    let postmaster = cluster.node("n2").postmaster_pid();
    old.kill_node();
    let new = cluster.wait_new_primary("n1", secs(60)).await;
    assert_eq!(new.name(), "n3", "{}", cluster.logs(30));
    assert_eq!(noted(new, "kept").await, Ok(1));
    assert_eq!(place.told("forbids").len(), 1);
    assert_eq!(place.told("allows").len(), 1, "none at the bootstrap");
    assert_eq!(status(new).await.unwrap()["role"], json!("primary"));
    if synchronous {
        cluster
            .wait_for("/sync is the new leader's", secs(30), async || {
                let sync = stored(&etcd, &cluster, "sync").await.unwrap_or_default();
                match sync["leader"] == json!("n3") {
                    true => Ok(()),
                    false => Err(sync.to_string()),
                }
            })
            .await;
    }
    if !stand_in() {
        let second = cluster.node("n2");
        assert_eq!(
            second.postmaster_pid(),
            postmaster,
            "nothing was to be killed"
        );
        let words = [
            "promotion forbidden",
            "pre_promote failed",
            "exit status: 1",
        ];
        told(&cluster, cluster.node("n2"), &words).await;
    }
}

/// `pre_promote`.
#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_is_forbidden_goes_to_the_next_one() {
    the_next_one_takes_over(json!({}), false).await;
}

/// `pre_promote` in synchronous mode: the claim on `/sync` goes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_promotion_gives_sync_back() {
    let dcs = json!({"synchronous_mode": true, "synchronous_node_count": 2});
    the_next_one_takes_over(dcs, true).await;
}

/// `pre_promote` of a candidate: nobody else than the old leader is there, and it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_to_one_that_may_not_ends_where_it_began() {
    let etcd = Etcd::start(1).await;
    let place = Place::new(&etcd);
    let forbids = place.script("forbids", "exit 1");
    let dcs = json!({"synchronous_mode": true});
    let options = members(2)
        .dcs(dcs)
        .node("n2", json!({"postgresql": {"pre_promote": forbids}}));
    let cluster = TestCluster::new(&etcd, &options);
    cluster.node("n1").start();
    cluster.wait_primary(secs(60)).await;
    cluster.node("n2").start();
    let old = cluster.wait_whole(secs(60)).await;
    cluster
        .wait_for("the candidate is synchronous", secs(60), async || {
            let sync = stored(&etcd, &cluster, "sync").await.unwrap_or_default();
            match sync["sync_standby"] == json!("n2") {
                true => Ok(()),
                false => Err(sync.to_string()),
            }
        })
        .await;
    let request = body(Some("n1"), Some("n2"));
    old.request("POST", "/switchover", &request).await.unwrap();
    cluster
        .wait_for("it was asked", secs(60), async || {
            match place.told("forbids").len() {
                0 => Err("not yet".into()),
                _ => Ok(()),
            }
        })
        .await;
    assert_eq!(cluster.wait_whole(secs(90)).await.name(), "n1");
}

/// `before_stop`: while PostgreSQL still runs, before a planned stop; where the lease is over there is no time for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_prepared_unless_it_is_too_late_for_that() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let place = Place::new(&etcd);
    let options = ["n1", "n2"].iter().fold(members(2), |options, name| {
        let text =
            format!("kill -0 $(head -1 \"$1/postmaster.pid\") && echo {name} >> \"$here/alive\"");
        let script = place.script(&format!("stop-{name}"), &text);
        options.node(name, json!({"postgresql": {"before_stop": script}}))
    });
    let mut cluster = TestCluster::new(&etcd, &options);
    for name in ["n1", "n2"] {
        let node = cluster.node_mut(name);
        let script = place.path(&format!("stop-{name}"));
        let command = format!("{} {}", script.display(), node.data_dir().display());
        node.change_config(&json!({"postgresql": {"before_stop": command}}));
    }
    cluster.start_all();
    let old = cluster.wait_whole(secs(60)).await.name().to_owned();
    let request = body(Some(&old), None);
    let answer = cluster
        .node(&old)
        .request("POST", "/switchover", &request)
        .await;
    assert_eq!(answer.unwrap().status, 200);
    let new = cluster.wait_whole(secs(60)).await;
    assert_ne!(new.name(), old);
    assert_eq!(place.read("alive"), format!("{old}\n"));

    let postmaster = new.postmaster_pid();
    etcd.stop(0);
    cluster
        .wait_for(
            "the leader without lease is stopped",
            secs(30),
            async || match new.postmaster_pid() == postmaster {
                true => Err("it runs".into()),
                false => Ok(()),
            },
        )
        .await;
    assert_eq!(place.read("alive"), format!("{old}\n"));
    etcd.cont(0);
    cluster.wait_whole(secs(60)).await;
}

/// One that does not end holds up a planned stop, and no deadline of a lease; it ends with what it holds up.
#[tokio::test(flavor = "multi_thread")]
async fn a_preparation_that_hangs_holds_up_no_kill() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let place = Place::new(&etcd);
    let hangs = place.script("hangs", "echo $$ > \"$here/pid\"; sleep 1000; true");
    let options = members(2).config(json!({"postgresql": {"before_stop": hangs}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.primary().await.unwrap();
    let postmaster = old.postmaster_pid();
    let request = body(Some(old.name()), None);
    let switchover = old.request("POST", "/switchover", &request);
    let watch = async {
        cluster
            .wait_for("the stop is being prepared", secs(30), async || {
                let text = place.read("pid");
                text.trim().parse::<i32>().map_err(|_| text)
            })
            .await
    };
    let (_, pid) = tokio::join!(
        async {
            tokio::time::timeout(secs(1), switchover).await.ok();
        },
        watch
    );
    assert_eq!(old.postmaster_pid(), postmaster, "it goes on meanwhile");
    etcd.stop(0);
    cluster
        .wait_for("PostgreSQL is killed in time", secs(30), async || {
            match old.postmaster_pid() == postmaster {
                true => Err("it runs".into()),
                false => Ok(()),
            }
        })
        .await;
    cluster
        .wait_for(
            "so is what prepared its stop",
            secs(10),
            async || match process::alive(pid) {
                true => Err("it runs".into()),
                false => Ok(()),
            },
        )
        .await;
    etcd.cont(0);
}
