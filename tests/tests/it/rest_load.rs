//! Clients that mean harm, or do not know better: thousands of connections, slow ones, malformed and
//! oversized requests, many who want to know what PostgreSQL says, or who stand still. Neither the loop nor
//! the lease notices.

use crate::common::{secs, stand_in, start_time, three};
use pgherd_tests::{Etcd, Node, TestCluster, Value, Writer, json, watcher};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Longer than the lease of five seconds.
const SIEGE: Duration = Duration::from_secs(8);
/// Connections that only stay.
const IDLE: usize = 2000;
/// Requests that come a byte at a time.
const SLOW: usize = 200;

async fn connect(node: &Node) -> std::io::Result<TcpStream> {
    let (host, port) = node.rest_address();
    TcpStream::connect((host.as_str(), port)).await
}

/// Sends this and reads until the server has had enough, or the siege is over.
async fn say(node: &Node, words: &[u8]) -> String {
    let mut answer = Vec::new();
    let talk = async {
        let mut stream = connect(node).await?;
        stream.write_all(words).await?;
        stream.read_to_end(&mut answer).await
    };
    // How it ends is up to the server.
    let _ = tokio::time::timeout(SIEGE, talk).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn drip(mut stream: TcpStream) {
    for byte in b"GET /primary HTTP/1.1\r\nhost: somewhere\r\nx: "
        .iter()
        .cycle()
    {
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How old the loop's last look is, by its own account, over a new connection.
async fn age(node: &Node) -> Result<u64, String> {
    let answer = node.get("/pgherd/explain").await?;
    let explain: Value = serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
    explain["age_ms"].as_u64().ok_or(answer.body)
}

/// Nonsense, one request after the other; the oldest last look of the loop meanwhile, in ms.
async fn besiege(leader: &Node, idle: &mut Vec<TcpStream>) -> u64 {
    let huge_header = [b"GET / HTTP/1.1\r\nx: ", vec![b'a'; 200_000].as_slice()].concat();
    let huge_body = [
        b"PATCH /config HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n".as_slice(),
        vec![b'{'; 3_000_000].as_slice(),
    ]
    .concat();
    let endless = b"PATCH /config HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n{";
    let end = Instant::now() + SIEGE;
    let mut oldest = 0;
    while Instant::now() < end {
        say(
            leader,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 no plain text\r\n\r\n",
        )
        .await;
        let answer = say(leader, b"GET /primary HTTP/9.9\r\n\r\n").await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        say(
            leader,
            b"POST /switchover HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
        )
        .await;
        for oversized in [&huge_header, &huge_body] {
            let answer = say(leader, oversized).await;
            let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
            assert!(refused, "{answer}");
        }
        let mut half = connect(leader).await.unwrap();
        half.write_all(endless).await.unwrap();
        idle.push(half);
        oldest = oldest.max(age(leader).await.unwrap());
        assert_eq!(leader.get("/primary").await.unwrap().status, 200);
    }
    oldest
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_loop_nor_lease_notices_a_siege() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = three().dcs(json!({"pgherd": {"lease_ttl": 5}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let leader = cluster.primary().await.unwrap();
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(200, secs(30)).await;
    let lock = etcd.revisions(&cluster.key("leader")).await;
    let started = start_time(leader).await;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(connect(leader).await.unwrap());
    }
    let mut slow = JoinSet::new();
    for _ in 0..SLOW {
        slow.spawn(drip(connect(leader).await.unwrap()));
    }
    let oldest = besiege(leader, &mut idle).await;
    // It looks at least every 2 s.
    assert!(oldest < 3000, "the loop's last look was {oldest} ms old");
    assert_eq!(etcd.revisions(&cluster.key("leader")).await, lock);
    assert_eq!(start_time(leader).await, started);
    drop(idle);
    slow.shutdown().await;
    writer.wait_acks(200, secs(30)).await;
    let report = writer.stop();
    assert_eq!(report.missing(&leader.target()).await.unwrap(), Vec::new());
    assert_eq!(watcher::violations(&report.acks), Vec::<String>::new());
    assert!(
        !leader.log().contains("demoting"),
        "{}",
        leader.log_tail(20)
    );
}

/// Clients that ask again and again and read no answer.
const DEAF: usize = 64;
/// Clients that send the largest body there may be, but for its last byte, again and again.
const STALLED: usize = 256;
/// What the agent may need more than at rest, in MB. These bodies alone have 256.
const MORE_MB: u64 = 64;
/// By when who does not read is let go: 30 s after nothing goes to him any more.
const LET_GO: Duration = Duration::from_secs(90);

/// Asks until the server ends it.
async fn ask_on(mut stream: TcpStream) {
    let questions = b"GET /pgherd/explain HTTP/1.1\r\nhost: somewhere\r\n\r\n".repeat(16);
    while stream.write_all(&questions).await.is_ok() {}
}

/// First lines of answers, and how often each came.
type Answers = Arc<Mutex<BTreeMap<String, usize>>>;

async fn stall(address: (String, u16), answers: Answers) {
    const LENGTH: usize = 1024 * 1024;
    static BODY: [u8; LENGTH - 1] = [b' '; LENGTH - 1];
    let head = format!("PATCH /config HTTP/1.1\r\nhost: x\r\ncontent-length: {LENGTH}\r\n\r\n");
    loop {
        let mut stream = TcpStream::connect((address.0.as_str(), address.1))
            .await
            .unwrap();
        let (mut from, mut to) = stream.split();
        let sending = async {
            to.write_all(head.as_bytes()).await?;
            to.write_all(&BODY).await
        };
        let mut answer = Vec::new();
        // How it ends is up to the server: where it does not read on, the answer may be lost with the rest.
        let _ = tokio::join!(sending, from.read_to_end(&mut answer));
        let answer = String::from_utf8_lossy(&answer);
        let line = answer.lines().next().unwrap_or_default().to_owned();
        *answers.lock().unwrap().entry(line).or_default() += 1;
    }
}

/// What a process needs of the machine's memory, in MB.
fn memory_mb(node: &Node) -> u64 {
    let file = format!("/proc/{}/smaps_rollup", node.agent_pid().unwrap());
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kb.unwrap() / 1024
}

/// Until all who do not read are let go: most memory, oldest last look (ms) and slowest health check.
async fn watch(leader: &Node, deaf: &mut JoinSet<()>) -> (u64, u64, Duration) {
    let end = Instant::now() + LET_GO;
    let (mut most, mut oldest, mut slowest) = (0, 0, Duration::ZERO);
    loop {
        while deaf.try_join_next().is_some() {}
        if deaf.is_empty() {
            return (most, oldest, slowest);
        }
        let left = deaf.len();
        assert!(
            Instant::now() < end,
            "{left} who do not read keep their place"
        );
        let asked = Instant::now();
        assert_eq!(leader.get("/primary").await.unwrap().status, 200);
        slowest = slowest.max(asked.elapsed());
        // What is short is in nobody's way.
        let event = leader.request("POST", "/citus", r#"{"type": "x"}"#).await;
        assert_eq!(event.unwrap().body, "OK");
        oldest = oldest.max(age(leader).await.unwrap());
        most = most.max(memory_mb(leader));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_memory_nor_health_checks_notice_clients_that_stand_still() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    // Large answers fill the system's buffers soon.
    let large = json!({"restapi": {"http_extra_headers": {"X-Large": "x".repeat(16 * 1024)}}});
    let options = three()
        .dcs(json!({"pgherd": {"lease_ttl": 5}}))
        .config(large);
    let cluster = TestCluster::formed(&etcd, &options).await;
    let leader = cluster.primary().await.unwrap();
    let lock = etcd.revisions(&cluster.key("leader")).await;
    let started = start_time(leader).await;
    let rest = memory_mb(leader);
    let mut deaf = JoinSet::new();
    for _ in 0..DEAF {
        deaf.spawn(ask_on(connect(leader).await.unwrap()));
    }
    let mut stalled = JoinSet::new();
    let answers = Answers::default();
    for _ in 0..STALLED {
        stalled.spawn(stall(leader.rest_address(), answers.clone()));
    }
    let (most, oldest, slowest) = watch(leader, &mut deaf).await;
    let told = answers.lock().unwrap().clone();
    println!("{rest} MB, then {most}; {oldest} ms; {slowest:?}; {told:?}");
    assert!(most < rest + MORE_MB, "{most} MB, {rest} at rest");
    assert!(oldest < 3000, "the loop's last look was {oldest} ms old");
    // A place in the queue may be missed three times, after which the system's own patience is 7 s: no more than that.
    assert!(slowest < secs(10), "a health check took {slowest:?}");
    // Those who had room were waited for, the others were told that there is none.
    let count = |status: &str| {
        told.iter()
            .filter(|(line, _)| line.contains(status))
            .count()
    };
    assert_eq!((count(" 408 "), count(" 503 ")), (1, 1), "{told:?}");
    assert!(stalled.try_join_next().is_none(), "refused a connection");
    assert_eq!(etcd.revisions(&cluster.key("leader")).await, lock);
    assert_eq!(start_time(leader).await, started);
    stalled.shutdown().await;
}

/// Clients of each member that ask what its PostgreSQL says, again and again.
const ASKING: usize = 200;
/// How the flooded ones ask, and the answer's beginning.
const QUESTION: &[u8] = b"GET /patroni HTTP/1.1\r\nhost: somewhere\r\n\r\n";

/// One client: a question, the answer, the next question, as long as the connection holds.
async fn ask_again(address: (String, u16), answered: Arc<AtomicU64>) {
    let mut answer = vec![0; 16 * 1024];
    loop {
        let talk = async {
            let mut stream = TcpStream::connect((address.0.as_str(), address.1)).await?;
            loop {
                stream.write_all(QUESTION).await?;
                // An answer is smaller than what one read takes.
                match stream.read(&mut answer).await? {
                    0 => return Ok::<(), std::io::Error>(()),
                    _ => answered.fetch_add(1, Ordering::Relaxed),
                };
            }
        };
        // A member that was killed refuses: what is tested is what the others do.
        let _ = talk.await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_who_ask_what_postgresql_says_do_not_delay_a_failover() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = three().dcs(json!({"pgherd": {"lease_ttl": 5}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let leader = cluster.wait_whole(secs(60)).await;
    let mut flood = JoinSet::new();
    let answered: Vec<Arc<AtomicU64>> = cluster.nodes().iter().map(|_| Arc::default()).collect();
    for (node, answered) in cluster.nodes().iter().zip(&answered) {
        for _ in 0..ASKING {
            flood.spawn(ask_again(node.rest_address(), answered.clone()));
        }
    }
    let count = || answered.iter().map(|one| one.load(Ordering::Relaxed));
    let what = "every member answers the flood";
    cluster
        .wait_for(what, secs(30), async || {
            let few = count().filter(|n| *n < 2 * ASKING as u64).count();
            (few == 0)
                .then_some(())
                .ok_or_else(|| format!("{few} do not"))
        })
        .await;
    for node in cluster.nodes() {
        let age = age(node).await.unwrap();
        assert!(age < 3000, "{}: last look {age} ms ago", node.name());
    }
    let before: Vec<u64> = count().collect();
    leader.kill_node();
    let (followed, oldest) = tokio::join!(
        cluster.wait_new_primary(leader.name(), secs(25)),
        oldest_look(&cluster, leader.name(), SIEGE),
    );
    assert_ne!(followed.name(), leader.name());
    assert!(oldest < 3000, "a loop's last look was {oldest} ms old");
    let asked = cluster.nodes().iter().zip(before).zip(count());
    for ((node, before), now) in asked.filter(|((node, _), _)| node.name() != leader.name()) {
        assert!(now > before, "{}: the flood has ended", node.name());
    }
    flood.shutdown().await;
}

/// The oldest last look of a loop meanwhile, in ms, of all but this member.
async fn oldest_look(cluster: &TestCluster, but: &str, meanwhile: Duration) -> u64 {
    let end = Instant::now() + meanwhile;
    let mut oldest = 0;
    while Instant::now() < end {
        for node in cluster.nodes().iter().filter(|node| node.name() != but) {
            oldest = oldest.max(age(node).await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    oldest
}
