//! `GET /journal`: who may read it, since when, and how much of it.

use super::{Node, primary};
use crate::journal::read::ANSWER_BYTES;
use pgherd_wire::journal::{Entry, Header, Stamp, read};

pub(super) fn line(ms: i64) -> String {
    let entry = Entry {
        at: Stamp(ms),
        member: "n0".into(),
        agent: "x".repeat(900),
        seq: ms.unsigned_abs(),
        ..Entry::default()
    };
    entry.to_line().unwrap()
}

/// Header and numbers of the lines.
fn parts(body: &str) -> (Header, Vec<u64>) {
    let (header, lines) = body.split_once('\n').unwrap();
    let (entries, unreadable) = read(lines);
    assert_eq!(unreadable, 0);
    let seqs = entries.iter().map(|entry| entry.seq).collect();
    (serde_json::from_str(header).unwrap(), seqs)
}

#[tokio::test]
async fn it_is_read_by_whoever_may_change_something() {
    let node = Node::of(primary(), true).await;
    let got = node.get("/journal").await;
    assert_eq!(
        (got.status, got.body.as_str()),
        (401, "no auth header received")
    );
    let got = node.call("GET", "/journal", "").await;
    assert_eq!(got.status, 200, "{}", got.body);
    assert_eq!(got.header("content-type"), Some("application/x-ndjson"));
    let (header, lines) = parts(&got.body);
    assert_eq!((header.journal.as_str(), header.left_out), ("n0", false));
    assert_eq!(lines, Vec::<u64>::new(), "nothing was written yet");
    let open = Node::of(primary(), false).await;
    assert_eq!(open.get("/journal").await.status, 200);
}

#[tokio::test]
async fn since_a_moment_and_no_more_than_an_answer_may_have() {
    let node = Node::of(primary(), false).await;
    let file = node.dir.path().join("journal");
    std::fs::write(&file, (1..=3).map(line).collect::<String>()).unwrap();
    let got = node.get("/journal?since=1970-01-01T00:00:00.002Z").await;
    assert_eq!(parts(&got.body).1, [2, 3]);
    let got = node.get("/journal?since=yesterday").await;
    assert_eq!(got.status, 400);
    assert!(
        got.body.starts_with("since: expected a time"),
        "{}",
        got.body
    );
    std::fs::write(&file, (1..=4000).map(line).collect::<String>()).unwrap();
    let got = node.get("/journal").await;
    let (header, lines) = parts(&got.body);
    assert!(header.left_out && got.body.len() <= ANSWER_BYTES + 200);
    assert_eq!(lines.last(), Some(&4000));
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(node.get("/journal").await.status, 500);
}
