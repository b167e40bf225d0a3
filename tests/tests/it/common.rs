//! What the scenarios share: the agent under test, deadlines, small checks.

use pgherd_tests::{ClusterOptions, Etcd, Kind, Node, TestCluster, Value, json, skip};
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

/// The agent under test.
pub(crate) fn kind() -> Kind {
    match std::env::var("PGHERD_TESTS_AGENT").as_deref() {
        Ok("patroni") => Kind::Patroni,
        _ => Kind::Pgherd,
    }
}

/// Whether genuine Patroni stands in for pgherd: what is pgherd's own can not be expected then.
pub(crate) fn stand_in() -> bool {
    kind() == Kind::Patroni
}

/// Three members of the agent under test, lease of 5 s.
pub(crate) fn three() -> ClusterOptions {
    ClusterOptions::new(kind())
}

/// Seconds.
pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// By when a lost leader is replaced: L + 700 ms is the target, this is a deadline for a machine
/// under load. Genuine Patroni needs its ttl.
pub(crate) fn failover() -> Duration {
    if stand_in() { secs(50) } else { secs(15) }
}

/// stdout and stderr together.
pub(crate) fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    format!("{out}{err}")
}

/// Whether we are root and may change owners; says so if not.
pub(crate) fn root(why: &str) -> bool {
    let root = pgherd_tests::process::account().is_some();
    if !root {
        skip::lacking(skip::Need::Root, why);
    }
    root
}

/// Whether genuine Patroni is there; says so if not.
pub(crate) fn oracle() -> bool {
    pgherd_tests::oracle::patroni().is_some()
}

/// Waits until one entry of a member's log holds all of `words`: cause and remedy belong together.
pub(crate) async fn told(cluster: &TestCluster, node: &Node, words: &[&str]) {
    let what = format!("{} tells {words:?}", node.name());
    cluster
        .wait_for(&what, secs(30), async || {
            match has_entry(&node.log(), words) {
                true => Ok(()),
                false => Err(node.log_tail(5)),
            }
        })
        .await;
}

/// Whether an entry of `log` that says WARNING, ERROR or CRITICAL holds all of `words`. What programs
/// have said goes on over further lines.
pub(crate) fn has_entry(log: &str, words: &[&str]) -> bool {
    let mut entries: Vec<String> = Vec::new();
    for line in log.lines() {
        match entries.last_mut() {
            Some(entry) if !line.starts_with(|first: char| first.is_ascii_digit()) => {
                entry.push('\n');
                entry.push_str(line);
            }
            _ => entries.push(line.to_owned()),
        }
    }
    entries
        .iter()
        .filter(|entry| {
            [" WARNING: ", " ERROR: ", " CRITICAL: "]
                .iter()
                .any(|level| entry.contains(level))
        })
        .any(|entry| words.iter().all(|word| entry.contains(word)))
}

/// The system identifier of a member's data directory, from PostgreSQL.
pub(crate) async fn system_id(node: &Node) -> String {
    node.sql("select system_identifier::text from pg_control_system()")
        .await
        .unwrap()
}

/// When PostgreSQL was started; a restart changes it.
pub(crate) async fn start_time(node: &Node) -> String {
    // A cast to text would leave out the microseconds' last zeros, which the REST API writes.
    node.sql("select to_char(pg_postmaster_start_time(), 'YYYY-MM-DD HH24:MI:SS.USTZH:TZM')")
        .await
        .unwrap()
}

/// `GET /patroni` as JSON.
pub(crate) async fn status(node: &Node) -> Result<Value, String> {
    let answer = node.get("/patroni").await?;
    serde_json::from_str(&answer.body).map_err(|e| format!("{e}: {:?}", answer.body))
}

/// Waits until nobody holds the lock.
pub(crate) async fn lock_is_free(etcd: &Etcd, cluster: &TestCluster) {
    cluster
        .wait_for("the lock is free", failover(), async || {
            match etcd.get(&cluster.key("leader")).await {
                None => Ok(()),
                Some(name) => Err(name),
            }
        })
        .await;
}

/// Waits until a member's health check `path` answers `code`.
pub(crate) async fn wait_health(cluster: &TestCluster, node: &Node, path: &str, code: u16) {
    let what = format!("{} answers {code} to {path}", node.name());
    cluster
        .wait_for(&what, secs(30), async || {
            let got = node.get(path).await?.status;
            if got == code {
                Ok(())
            } else {
                Err(format!("{got}"))
            }
        })
        .await;
}

/// Body of a switchover request.
pub(crate) fn body(leader: Option<&str>, candidate: Option<&str>) -> String {
    let mut body = json!({});
    for (key, value) in [("leader", leader), ("candidate", candidate)] {
        if let Some(name) = value {
            body[key] = json!(name);
        }
    }
    body.to_string()
}

/// A member that is not `not`.
pub(crate) fn other<'a>(cluster: &'a TestCluster, not: &str) -> &'a Node {
    cluster.nodes().iter().find(|n| n.name() != not).unwrap()
}

/// The value of a key of this cluster, as JSON.
pub(crate) async fn stored(
    etcd: &pgherd_tests::Etcd,
    cluster: &TestCluster,
    name: &str,
) -> Option<Value> {
    let text = etcd.get(&cluster.key(name)).await?;
    Some(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Whether a condition holds at every look for `span`: the only way to see that nothing happens.
pub(crate) async fn stays(
    what: &str,
    span: Duration,
    mut look: impl AsyncFnMut() -> Result<(), String>,
) {
    let end = std::time::Instant::now() + span;
    while std::time::Instant::now() < end {
        if let Err(seen) = look().await {
            panic!("{what} did not stay for {span:?}: {seen}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A row that later checks look for.
pub(crate) async fn note(node: &Node, text: &str) {
    let client = pgherd_tests::sql::connect(&node.target(), secs(5))
        .await
        .unwrap();
    let sql =
        format!("create table if not exists notes (t text); insert into notes values ('{text}')");
    client.batch_execute(&sql).await.unwrap();
}

/// How often a noted row is there.
pub(crate) async fn noted(node: &Node, text: &str) -> Result<usize, String> {
    let sql = format!("select count(*)::text from notes where t = '{text}'");
    node.sql(&sql).await?.parse().map_err(|e| format!("{e}"))
}

/// Freezes every WAL sender of a member: what it writes from now on reaches nobody.
pub(crate) fn freeze_walsenders(node: &Node) -> usize {
    let senders: Vec<i32> = node
        .postgres()
        .iter()
        .filter(|p| p.cmdline.contains("walsender"))
        .map(|p| p.pid)
        .collect();
    for pid in &senders {
        pgherd_tests::process::signal(*pid, pgherd_tests::Signal::STOP);
    }
    senders.len()
}

/// Changes with every copy of the data directory, not with pg_rewind.
pub(crate) fn copy_number(node: &Node) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(node.data_dir().join("global/pg_control"))
        .unwrap()
        .ino()
}

/// A cluster in which one member runs a copy of the program that is its own.
pub(crate) fn with_own_program(
    etcd: &Etcd,
    mut options: ClusterOptions,
    name: &str,
) -> (TestCluster, PathBuf) {
    let program = pgherd_tests::binary::pgherd();
    options.pgherd = Some(program.clone());
    let mut cluster = TestCluster::new(etcd, &options);
    let own = cluster.dir().join("own-program");
    // The mode is copied too.
    std::fs::copy(program, &own).unwrap();
    let words = vec![own.to_string_lossy().into_owned(), "agent".to_owned()];
    cluster.node_mut(name).set_kind(Kind::Command(words));
    (cluster, own)
}
