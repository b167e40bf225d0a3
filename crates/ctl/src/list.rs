//! `list`: the members of a cluster (contract: patronictl, section 3).

use crate::Persona;
use crate::args::{Format, ListArgs};
use crate::error::CtlError;
use crate::output::timestamp;
use crate::session::{Seen, Session};
use crate::table::{Column, draw};
use crate::topology::tree;
use crate::watch::Watch;
use crate::yaml;
use pgherd_model::{Cluster, Initialize};
use pgherd_wire::patroni::lenient::truthy;
use pgherd_wire::patroni::rest::{Mode, cluster_document, python_json};
use serde_json::{Map, Value};

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
    let watch = Watch::new(session.persona, args.watch2, args.watch)?;
    let shown = |seen: &Seen| show(seen, args.extended, args.format);
    looks(session, &args.clusters, &watch, args.timestamp, shown).await
}

/// Shows clusters, once or again and again.
pub(crate) async fn looks(
    session: &Session,
    clusters: &[String],
    watch: &Watch,
    with_time: bool,
    shown: impl Fn(&Seen) -> String,
) -> Result<(), CtlError> {
    if clusters.is_empty() && !session.has_scope() && session.persona == Persona::Patronictl {
        // A warning there, and no failure.
        let at = timestamp(3).replace('.', ",");
        eprintln!("{at} - WARNING - Listing members: No cluster names were provided");
        return Ok(());
    }
    let named: Result<Vec<String>, CtlError> = match clusters {
        [] => session.scope(None).map(|scope| vec![scope]),
        named => named.iter().map(|name| session.scope(Some(name))).collect(),
    };
    let scopes = named?;
    let mut seen: Vec<Seen> = Vec::new();
    loop {
        let mut out = String::new();
        if with_time {
            out.push_str(&format!("{}\n", timestamp(0)));
        }
        for (at, scope) in scopes.iter().enumerate() {
            let now = match seen.get(at) {
                Some(before) => before.again().await?,
                None => session.see(scope).await?,
            };
            out.push_str(&shown(&now));
            match seen.get_mut(at) {
                Some(before) => *before = now,
                None => seen.push(now),
            }
        }
        if !watch.show(&out).await? {
            return Ok(());
        }
    }
}

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Members by name.
    List {
        /// Every column.
        extended: bool,
        /// Form of output.
        format: Format,
    },
    /// Who replicates from whom.
    Tree,
}

/// The cluster in the given form, as text that ends with a line break.
pub(crate) fn show(seen: &Seen, extended: bool, format: Format) -> String {
    let shape = Shape::List { extended, format };
    render(&seen.cluster, &seen.scope, seen.mode(), shape)
}

/// As text that ends with a line break.
pub(crate) fn render(cluster: &Cluster, scope: &str, mode: Mode, shape: Shape) -> String {
    let (extended, format) = match shape {
        Shape::List { extended, format } => (extended, format),
        Shape::Tree => (false, Format::Pretty),
    };
    let mut document = cluster_document(cluster, scope, mode);
    let all = document.get_mut("members").and_then(Value::as_array_mut);
    for member in all.into_iter().flatten().filter_map(Value::as_object_mut) {
        one_position(member);
    }
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
    let row = |member: &Map<String, Value>| -> Vec<Value> {
        let cells = columns.iter();
        cells
            .map(|column| cell(member, column, scope, ports, pretty))
            .collect()
    };
    let rows: Vec<Vec<Value>> = match shape {
        Shape::List { .. } => members.into_iter().map(row).collect(),
        Shape::Tree => tree(&members)
            .into_iter()
            .map(|(mark, member)| branch(&columns, row(member), &mark))
            .collect(),
    };
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

/// Versions before 4.1 publish one position only: it is the received one of a member that streams, else the replayed
/// one. `GET /cluster` does not tell them apart.
fn one_position(member: &mut Map<String, Value>) {
    let unknown = |key: &str| member.get(key).is_none_or(|value| value == "unknown");
    if !unknown("receive_lsn") || !unknown("replay_lsn") || unknown("lsn") {
        return;
    }
    let which = match member.get("state").and_then(Value::as_str) {
        Some("streaming") => "receive",
        _ => "replay",
    };
    for what in ["lsn", "lag"] {
        let value = member.get(what).cloned().unwrap_or_default();
        member.insert(format!("{which}_{what}"), value);
    }
}

/// A row of the tree: a mark before the name, tags on one line.
fn branch(columns: &[&str], mut row: Vec<Value>, mark: &str) -> Vec<Value> {
    for (column, value) in columns.iter().zip(&mut row) {
        match *column {
            "Member" => *value = format!("{mark}{}", yaml::flow(value)).into(),
            "Tags" => *value = yaml::flow(value).into(),
            _ => {}
        }
    }
    row
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
