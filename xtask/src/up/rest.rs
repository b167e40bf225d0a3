//! `GET /cluster` of an agent, and what has changed between two answers.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for one answer: a stopped agent accepts and never answers.
const PATIENCE: Duration = Duration::from_millis(1500);

/// One row of the member table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) role: String,
    pub(super) state: String,
    pub(super) timeline: Option<u64>,
}

/// The member table by name.
pub(super) type Table = BTreeMap<String, Member>;

/// Asks the agent at this port.
pub(super) fn cluster(port: u16) -> Result<Table> {
    let body = get(port, "/cluster")?;
    parse(&serde_json::from_str(&body).context("the answer is not JSON")?)
}

/// Body of a successful answer. HTTP/1.0, so that the other side closes at the end.
pub(super) fn get(port: u16, path: &str) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer has no end of headers")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        bail!("GET {path} was answered with status {status}");
    }
    Ok(body.to_owned())
}

fn parse(document: &Value) -> Result<Table> {
    let members = document["members"]
        .as_array()
        .context("the answer has no members")?;
    let text = |member: &Value, key: &str| member[key].as_str().unwrap_or("unknown").to_owned();
    let row = |member: &Value| {
        let row = Member {
            role: text(member, "role"),
            state: text(member, "state"),
            timeline: member["timeline"].as_u64(),
        };
        (text(member, "name"), row)
    };
    Ok(members.iter().map(row).collect())
}

/// One leader that runs, and everybody else streams.
pub(super) fn healthy(table: &Table, members: usize) -> bool {
    let leads = |member: &&Member| member.role == "leader" && member.state == "running";
    let streams = |member: &&Member| member.role != "leader" && member.state == "streaming";
    table.len() == members
        && table.values().filter(leads).count() == 1
        && table.values().filter(streams).count() == members - 1
}

/// The leader's name.
pub(super) fn leader(table: &Table) -> Option<&str> {
    let mut names = table.iter();
    names
        .find(|(_, member)| member.role == "leader")
        .map(|(name, _)| name.as_str())
}

/// What happened between two looks, one line each; the leader first.
pub(super) fn changes(before: &Table, after: &Table) -> Vec<String> {
    let mut lines = Vec::new();
    if leader(before) != leader(after) {
        lines.push(match (leader(before), leader(after)) {
            (Some(old), Some(new)) => format!("leader: {old} -> {new}"),
            (None, Some(new)) => format!("leader: {new}"),
            (old, None) => format!("no leader (was {})", old.unwrap_or("nobody")),
        });
    }
    // The new leader says its timeline a moment after it has the lock.
    if let Some(timeline) = timeline(after)
        && timeline > self::timeline(before).unwrap_or(0)
    {
        lines.push(format!("timeline {timeline}"));
    }
    for (name, now) in after {
        match before.get(name) {
            None => lines.push(format!("{name}: joined, {}, {}", now.role, now.state)),
            Some(was) if was.state != now.state => {
                lines.push(format!(
                    "{name}: {} -> {} ({})",
                    was.state, now.state, now.role
                ));
            }
            Some(_) => {}
        }
    }
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    lines.extend(gone.map(|name| format!("{name}: gone from the cluster")));
    lines
}

/// The leader's timeline; with no leader the highest that anybody follows.
fn timeline(table: &Table) -> Option<u64> {
    let all = || table.values().filter_map(|member| member.timeline).max();
    leader(table).map_or_else(all, |name| table[name].timeline)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        parse(&serde_json::from_str(text).unwrap()).unwrap()
    }

    const GOOD: &str = r#"{"members": [
        {"name": "n1", "role": "leader", "state": "running", "timeline": 1},
        {"name": "n2", "role": "replica", "state": "streaming", "timeline": 1, "lag": 0}]}"#;
    const FAILED_OVER: &str = r#"{"members": [
        {"name": "n2", "role": "leader", "state": "running", "timeline": 2},
        {"name": "n3", "role": "replica", "state": "starting", "lag": "unknown"}]}"#;

    #[test]
    fn healthy_means_one_leader_and_everybody_streams() {
        assert!(healthy(&table(GOOD), 2));
        assert!(!healthy(&table(GOOD), 3));
        assert!(!healthy(&table(FAILED_OVER), 2));
    }

    #[test]
    fn a_failover_reads_like_one() {
        let lines = changes(&table(GOOD), &table(FAILED_OVER));
        assert_eq!(
            lines,
            [
                "leader: n1 -> n2",
                "timeline 2",
                "n2: streaming -> running (leader)",
                "n3: joined, replica, starting",
                "n1: gone from the cluster",
            ]
        );
        assert!(changes(&table(GOOD), &table(GOOD)).is_empty());
    }
}
