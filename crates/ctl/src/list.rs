//! `list`: the members of a cluster (contract: patronictl, section 3).

use crate::args::{Format, ListArgs};
use crate::error::CtlError;
use crate::session::{Seen, Session};
use crate::table::{Column, draw};
use crate::yaml;
use pgherd_model::{Cluster, Initialize, Span};
use pgherd_wire::patroni::lenient::truthy;
use pgherd_wire::patroni::rest::{Mode, cluster_document, python_json};
use serde_json::{Map, Value};
use std::io::{IsTerminal, Write};

/// A reason for a restart that is longer than this is hidden in the table.
const REASON_WIDTH: usize = 50;

/// The first ten are always there; the next four, as patronictl has them, appear when somebody has a
/// value or more is asked for, the last one when a leader is without its guard.
const COLUMNS: [&str; 15] = [
    "Cluster",
    "Member",
    "Host",
    "Role",
    "State",
    "TL",
    "Receive LSN",
    "Receive Lag",
    "Replay LSN",
    "Replay Lag",
    "Pending restart",
    "Pending restart reason",
    "Scheduled restart",
    "Tags",
    "Guard",
];

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &ListArgs) -> Result<(), CtlError> {
    let every = pause(args)?;
    let named: Result<Vec<String>, CtlError> = match args.clusters.as_slice() {
        [] => session.scope(None).map(|scope| vec![scope]),
        named => named.iter().map(|name| session.scope(Some(name))).collect(),
    };
    let scopes = named?;
    let mut seen: Vec<Seen> = Vec::new();
    loop {
        let mut out = String::new();
        if args.timestamp {
            out.push_str(&format!("{}\n", timestamp(0)));
        }
        for (at, scope) in scopes.iter().enumerate() {
            let now = match seen.get(at) {
                Some(before) => before.again().await?,
                None => session.see(scope).await?,
            };
            out.push_str(&show(&now, args.extended, args.format));
            match seen.get_mut(at) {
                Some(before) => *before = now,
                None => seen.push(now),
            }
        }
        print(&out, every.is_some())?;
        match every {
            None => return Ok(()),
            Some(every) => tokio::time::sleep(every).await,
        }
    }
}

/// Between two looks; `None`: one look.
fn pause(args: &ListArgs) -> Result<Option<Span>, CtlError> {
    let Some(seconds) = args.watch else {
        return Ok(args.watch2.then_some(Span::from_secs(2)));
    };
    match Span::try_from_secs_f64(seconds) {
        Ok(span) if !span.is_zero() => Ok(Some(span)),
        _ => Err(CtlError::told(format!(
            "-w: expected a number of seconds above 0, found {seconds}"
        ))),
    }
}

/// `2026-11-21 03:15:43` and so many digits of the second, at most 6.
pub(crate) fn timestamp(digits: usize) -> String {
    let text = jiff::Zoned::now()
        .strftime("%Y-%m-%d %H:%M:%S%.6f")
        .to_string();
    let cut = if digits == 0 { 7 } else { 6 - digits.min(6) };
    text.get(..text.len() - cut).unwrap_or(&text).to_owned()
}

fn print(text: &str, clear: bool) -> Result<(), CtlError> {
    let mut out = std::io::stdout().lock();
    if clear && out.is_terminal() {
        out.write_all(b"\x1b[2J\x1b[1;1H")?;
    }
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// The cluster in the given form, as text that ends with a line break.
pub(crate) fn show(seen: &Seen, extended: bool, format: Format) -> String {
    render(&seen.cluster, &seen.scope, seen.mode(), extended, format)
}

/// See [`show`].
pub(crate) fn render(
    cluster: &Cluster,
    scope: &str,
    mode: Mode,
    extended: bool,
    format: Format,
) -> String {
    let document = cluster_document(cluster, scope, mode);
    let members: Vec<&Map<String, Value>> = document["members"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .collect();
    let pretty = format == Format::Pretty;
    let columns: Vec<&str> = COLUMNS
        .into_iter()
        .enumerate()
        .filter(|(at, name)| {
            let has = |member: &&Map<String, Value>| {
                member.contains_key("host") && member.get(&key(name)).is_some_and(truthy)
            };
            *at < 10 || (extended && *at < 14) || members.iter().any(has)
        })
        .map(|(_, name)| name)
        .collect();
    let ports = shows_ports(&members);
    let rows: Vec<Vec<Value>> = members
        .iter()
        .map(|member| {
            columns
                .iter()
                .map(|column| cell(member, column, scope, ports, pretty))
                .collect()
        })
        .collect();
    match format {
        Format::Pretty => {
            let title = format!(" Cluster: {scope} ({}) ", identity(cluster));
            table(&title, &columns, &rows) + &service_lines(&document)
        }
        Format::Tsv => {
            let mut out = columns.join("\t") + "\n";
            for row in &rows {
                let cells: Vec<String> = row.iter().map(yaml::flow).collect();
                out.push_str(&(cells.join("\t") + "\n"));
            }
            out
        }
        Format::Json => python_json(&elements(&columns, &rows)) + "\n",
        Format::Yaml => yaml::block(&elements(&columns, &rows)) + "\n",
    }
}

fn key(column: &str) -> String {
    column.to_lowercase().replace(' ', "_")
}

fn identity(cluster: &Cluster) -> String {
    match cluster.initialize.as_ref().map(|stored| &stored.value) {
        None => "uninitialized".to_owned(),
        Some(Initialize::UnderWay) => "initializing".to_owned(),
        Some(Initialize::Done(id)) => id.to_string(),
        Some(Initialize::Invalid(text)) => text.clone(),
    }
}

/// Ports are shown if one is not the default, or if two members share a host.
fn shows_ports(members: &[&Map<String, Value>]) -> bool {
    let hosts: Vec<&Value> = members
        .iter()
        .filter_map(|member| member.get("host"))
        .collect();
    let odd = members
        .iter()
        .any(|member| member.get("port").is_some_and(|port| port != 5432));
    let shared = hosts
        .iter()
        .enumerate()
        .any(|(at, host)| hosts[..at].contains(host));
    odd || shared
}

fn cell(
    member: &Map<String, Value>,
    column: &str,
    scope: &str,
    ports: bool,
    pretty: bool,
) -> Value {
    let empty = || Value::from("");
    let found = |key: &str| member.get(key).cloned().unwrap_or_else(empty);
    match column {
        "Cluster" => scope.into(),
        "Member" => found("name"),
        "TL" => found("timeline"),
        "Host" => match (
            member.get("host").and_then(Value::as_str),
            member.get("port"),
        ) {
            (Some(host), Some(port)) if ports && !host.is_empty() => {
                format!("{host}:{port}").into()
            }
            (Some(host), _) => host.into(),
            (None, _) => empty(),
        },
        "Role" => title_case(found("role").as_str().unwrap_or("")).into(),
        "Receive Lag" | "Replay Lag" => match member.get(&key(column)).and_then(Value::as_u64) {
            // Python rounds halves to even.
            Some(bytes) => ((bytes as f64 / 1_048_576.0).round_ties_even() as u64).into(),
            None => empty(),
        },
        "Pending restart" => match member.get("pending_restart").is_some_and(truthy) {
            true => "*".into(),
            false => empty(),
        },
        "Pending restart reason" => reasons(member, pretty).into(),
        "Scheduled restart" => scheduled_restart(member).into(),
        other => found(&key(other)),
    }
}

/// `sync_standby` as `Sync Standby`.
fn title_case(role: &str) -> String {
    let words = role.split('_').map(|word| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_uppercase().chain(letters).collect::<String>())
    });
    words.flatten().collect::<Vec<_>>().join(" ")
}

fn reasons(member: &Map<String, Value>, pretty: bool) -> String {
    let reasons = member
        .get("pending_restart_reason")
        .and_then(Value::as_object);
    let lines = reasons.into_iter().flatten().map(|(name, values)| {
        let value = |key: &str| values.get(key).and_then(Value::as_str).unwrap_or("");
        let line = format!("{name}: {}->{}", value("old_value"), value("new_value"));
        match pretty && line.chars().count() > REASON_WIDTH {
            true => format!("{name}: [hidden - too long]"),
            false => line,
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn scheduled_restart(member: &Map<String, Value>) -> String {
    let Some(restart) = member.get("scheduled_restart") else {
        return String::new();
    };
    let text = |key: &str| restart.get(key).and_then(Value::as_str);
    let at = text("schedule").unwrap_or("");
    match text("postgres_version") {
        Some(version) => format!("{at} if version < {version}"),
        None => at.to_owned(),
    }
}

/// Rows as objects, values that show nothing left out.
fn elements(columns: &[&str], rows: &[Vec<Value>]) -> Value {
    let element = |row: &Vec<Value>| {
        let pairs = columns
            .iter()
            .zip(row)
            .filter(|(_, value)| *value != &Value::from(""));
        Value::Object(
            pairs
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        )
    };
    Value::Array(rows.iter().map(element).collect())
}

/// Without the first column: the cluster is in the title.
fn table(title: &str, columns: &[&str], rows: &[Vec<Value>]) -> String {
    let right = [
        "TL",
        "Receive LSN",
        "Receive Lag",
        "Replay LSN",
        "Replay Lag",
    ];
    let headings: Vec<Column> = columns
        .iter()
        .skip(1)
        .map(|name| Column {
            name: if name.ends_with(" Lag") {
                "Lag".into()
            } else {
                (*name).into()
            },
            right: right.contains(name),
        })
        .collect();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().skip(1).map(yaml::cell).collect())
        .collect();
    draw(title, &headings, &rows)
}

/// What concerns the cluster as a whole, below the table.
fn service_lines(document: &Value) -> String {
    let mut lines = Vec::new();
    if document.get("pause").is_some_and(truthy) {
        lines.push("Maintenance mode: on".to_owned());
    }
    if let Some(scheduled) = document.get("scheduled_switchover") {
        let text = |key: &str| scheduled.get(key).and_then(Value::as_str);
        lines.push(format!(
            "Switchover scheduled at: {}",
            text("at").unwrap_or("")
        ));
        for (name, key) in [("from", "from"), ("to", "to")] {
            if let Some(member) = text(key) {
                lines.push(format!("{name:>23}: {member}"));
            }
        }
    }
    lines.iter().map(|line| format!(" {line}\n")).collect()
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
