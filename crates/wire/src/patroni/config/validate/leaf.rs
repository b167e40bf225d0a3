//! One value: whether Patroni would take it, else why not, in Patroni's words where it has some.

use super::schema::{Number, Rule, Unit};
use super::{Probe, Strictness};
use crate::patroni::config::secrets::text_without_secrets;
use crate::patroni::config::units;
use crate::patroni::config::yaml::{Data, Node};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

type Checked = Result<(), String>;

/// What stands in `bin_dir`; `pg_rewind` may be missing.
const PROGRAMS: &[&str] = &[
    "pg_ctl",
    "initdb",
    "pg_controldata",
    "pg_basebackup",
    "postgres",
    "pg_isready",
];

/// Hosts that no other node can reach.
const LOOPBACK: &[&str] = &["127.0.0.1", "0.0.0.0", "*", "::1", "localhost"];

/// Everything but sections and lists.
pub(super) fn check(
    root: &Node,
    node: &Node,
    rule: &Rule,
    probe: &dyn Probe,
    strictness: Strictness,
) -> Checked {
    let text = || match &node.data {
        Data::Text(text) => Ok(text.as_str()),
        _ => Err("is not a string".to_owned()),
    };
    let invalid =
        |checked: Checked| checked.map_err(|problem| format!("didn't pass validation: {problem}"));
    match rule {
        Rule::Text => text().map(drop),
        Rule::Flag => match (&node.data, node.place.line) {
            (Data::Bool(_), _) => Ok(()),
            // Variables are text.
            (Data::Text(_), None) if units::boolean(&node.to_json()).is_some() => Ok(()),
            _ => Err("is not a boolean".to_owned()),
        },
        Rule::Whole => number(node, &WHOLE),
        Rule::Number(limits) => number(node, limits),
        Rule::Mapping => match node.data {
            Data::Map(_) => Ok(()),
            _ => Err("is not a dictionary".to_owned()),
        },
        Rule::Word(words) => is_wrong(matches!(&node.data, Data::Text(text)
            if words.contains(&text.as_str()))),
        Rule::FoldedWord(words) => is_wrong(matches!(&node.data, Data::Text(text)
            if words.iter().any(|word| word.eq_ignore_ascii_case(text)))),
        Rule::WatchdogMode => is_wrong(match &node.data {
            Data::Bool(on) => !on,
            Data::Text(text) => matches!(text.as_str(), "off" | "automatic" | "required"),
            _ => false,
        }),
        Rule::SynchronousMode => {
            let quorum =
                matches!(&node.data, Data::Text(text) if text.eq_ignore_ascii_case("quorum"));
            let flag = units::boolean(&node.to_json()).is_some();
            let problem = "invalid value for synchronous_mode".to_owned();
            invalid((quorum || flag).then_some(()).ok_or(problem))
        }
        Rule::LogFormat => invalid(log_format(node)),
        Rule::Connect => invalid(connect(text()?)),
        Rule::Listen { several } => invalid(listen(text()?, *several, probe, strictness)),
        Rule::Reached => invalid(match &node.data {
            Data::Text(text) => reached(text, probe),
            _ => Err("contains a wrong value".to_owned()),
        }),
        Rule::AllReached => all_reached(node, probe),
        Rule::DataDir => invalid(data_dir(root, text()?, probe)),
        Rule::Program => {
            let name = text()?;
            let directory = bin_dir(root);
            let place = directory
                .as_ref()
                .map_or("$PATH".into(), |dir| dir.to_string_lossy());
            invalid(match (name.is_empty(), find(name, directory.as_deref())) {
                (true, _) => Err("is an empty string".to_owned()),
                (false, None) => Err(format!("does not contain '{name}' in '{place}'")),
                (false, Some(_)) => Ok(()),
            })
        }
        // Told one by one, where the walk is.
        Rule::Section(_) | Rule::List(_) | Rule::ProgramOption | Rule::BinDir => Ok(()),
    }
}

const WHOLE: Number = Number {
    least: i64::MIN,
    most: i64::MAX,
    unit: Unit::None,
    whole: true,
};

fn is_wrong(right: bool) -> Checked {
    let wrong = || "didn't pass validation: Wrong value".to_owned();
    right.then_some(()).ok_or_else(wrong)
}

fn number(node: &Node, limits: &Number) -> Checked {
    let from_file = node.place.line.is_some();
    if limits.whole && from_file && !matches!(node.data, Data::Int(_) | Data::Bool(_)) {
        return Err("is not an integer".to_owned());
    }
    let value = node.to_json();
    let number = match limits.unit {
        Unit::None | Unit::Blocks => units::integer(&value),
        Unit::Seconds => units::seconds(&value).and_then(|span| i64::try_from(span.as_secs()).ok()),
    };
    let aligned = |number: i64| !matches!(limits.unit, Unit::Blocks) || number % 65536 == 0;
    is_wrong(
        number.is_some_and(|number| {
            (limits.least..=limits.most).contains(&number) && aligned(number)
        }),
    )
}

fn log_format(node: &Node) -> Checked {
    let Data::List(items) = &node.data else {
        return match node.data {
            Data::Text(_) => Ok(()),
            _ => Err("Should be a string or a list".to_owned()),
        };
    };
    let field = |item: &Node| match &item.data {
        Data::Text(_) => true,
        Data::Map(entries) => {
            matches!(entries.as_slice(), [one] if matches!(one.node.data, Data::Text(_)))
        }
        _ => false,
    };
    if items.is_empty() {
        return Err("should contain at least one item".to_owned());
    }
    let problem = || "each item should be a string or a dictionary with string values".to_owned();
    items.iter().all(field).then_some(()).ok_or_else(problem)
}

/// (hosts, port); the port is 1 where there is none, as Patroni reads it: the strict reader tells.
fn split(text: &str) -> Result<(String, u16), String> {
    let wrong = || "contains a wrong value".to_owned();
    let (hosts, port) = match text.rsplit_once(':') {
        Some((hosts, port)) => (hosts, port.trim().parse().map_err(|_| wrong())?),
        None => (text, 1),
    };
    let hosts: Vec<&str> = hosts
        .split(',')
        .map(|host| host.trim().trim_start_matches('[').trim_end_matches(']'))
        .collect();
    Ok((hosts.join(","), port))
}

fn connect(text: &str) -> Checked {
    let (host, _) = split(text)?;
    if LOOPBACK.contains(&host.as_str()) {
        let hosts: Vec<String> = LOOPBACK.iter().map(|host| format!("\"{host}\"")).collect();
        return Err(format!("must not contain {}", hosts.join(", ")));
    }
    Ok(())
}

fn listen(text: &str, several: bool, probe: &dyn Probe, strictness: Strictness) -> Checked {
    let (hosts, port) = split(text)?;
    let hosts: Vec<&str> = match several {
        true => hosts.split(',').collect(),
        false => vec![hosts.as_str()],
    };
    let hosts = match hosts.contains(&"*") {
        true if hosts.len() > 1 => return Err("expecting '*' alone".to_owned()),
        true => vec!["0.0.0.0", "::"],
        false => hosts,
    };
    for host in hosts {
        if probe.accepts(host, port)? && !strictness.ignore_listen_port {
            return Err(format!("Port {port} is already in use."));
        }
    }
    Ok(())
}

fn reached(text: &str, probe: &dyn Probe) -> Checked {
    let (host, port) = split(text.trim())?;
    match probe.accepts(&host, port)? {
        true => Ok(()),
        false => Err(format!(
            "{} is not reachable",
            text_without_secrets(text.trim())
        )),
    }
}

fn all_reached(node: &Node, probe: &dyn Probe) -> Checked {
    let each = |mut hosts: Box<dyn Iterator<Item = Option<&str>> + '_>| {
        hosts
            .try_for_each(|host| match host {
                Some(host) => reached(host, probe),
                None => Err("contains a wrong value".to_owned()),
            })
            .map_err(|problem| format!("didn't pass validation: {problem}"))
    };
    match &node.data {
        Data::Text(text) => each(Box::new(text.split(',').map(Some))),
        Data::List(items) if items.is_empty() => Err("is an empty list".to_owned()),
        Data::List(items) => each(Box::new(items.iter().map(|item| match &item.data {
            Data::Text(text) => Some(text.as_str()),
            _ => None,
        }))),
        _ => Err("is not a string".to_owned()),
    }
}

/// Empty, or a cluster of the version of these programs.
fn data_dir(root: &Node, text: &str, probe: &dyn Probe) -> Checked {
    if text.is_empty() {
        return Err("is an empty string".to_owned());
    }
    let dir = Path::new(text);
    if dir.exists() && !dir.is_dir() {
        return Err("is not a directory".to_owned());
    }
    match is_empty(dir) {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(error) => return Err(format!("cannot be looked at: {error}")),
    }
    let Ok(version) = fs::read_to_string(dir.join("PG_VERSION")) else {
        return Err("doesn't look like a valid data directory".to_owned());
    };
    let version = version.trim();
    if !dir.join("pg_wal").is_dir() {
        return Err(
            "data dir for the cluster is not empty, but doesn't contain \"pg_wal\" directory"
                .to_owned(),
        );
    }
    let Some(program) = find(&program_name(root, "postgres"), bin_dir(root).as_deref()) else {
        // That it is missing is told at bin_dir.
        return Ok(());
    };
    let said = probe.postgres_version(&program)?;
    let major = major(&said).unwrap_or_else(|| said.trim().to_owned());
    if major == version {
        return Ok(());
    }
    Err(format!(
        "data_dir directory postgresql version ({version}) doesn't match with 'postgres --version' output ({major})"
    ))
}

/// Hidden files and `lost+found` do not count, a control file always does.
fn is_empty(dir: &Path) -> std::io::Result<bool> {
    if !dir.exists() {
        return Ok(true);
    }
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && name != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `15` of `postgres (PostgreSQL) 15.18 (Debian …)`.
fn major(said: &str) -> Option<String> {
    let rest = said.split_once("(PostgreSQL) ")?.1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then_some(digits)
}

fn text_at<'a>(root: &'a Node, keys: &[&str]) -> Option<&'a str> {
    let mut node = root;
    for key in keys {
        node = &node.entry(key)?.node;
    }
    match &node.data {
        Data::Text(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn bin_dir(root: &Node) -> Option<PathBuf> {
    text_at(root, &["postgresql", "bin_dir"]).map(PathBuf::from)
}

fn program_name(root: &Node, program: &str) -> String {
    let name = text_at(root, &["postgresql", "bin_name", program]);
    name.unwrap_or(program).to_owned()
}

/// A program that can be run, in a directory or on the PATH.
fn find(name: &str, directory: Option<&Path>) -> Option<PathBuf> {
    let directories: Vec<PathBuf> = match directory {
        Some(directory) => vec![directory.to_owned()],
        None => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).collect()
        }
    };
    let runs = |path: &PathBuf| {
        fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    directories.iter().map(|dir| dir.join(name)).find(runs)
}

/// What is wrong with `bin_dir`.
pub(super) fn missing_programs(root: &Node, directory: &str) -> Vec<String> {
    let dir = Path::new(directory);
    if !directory.is_empty() && !dir.exists() {
        return vec![format!("Directory '{directory}' does not exist.")];
    }
    if !directory.is_empty() && !dir.is_dir() {
        return vec![format!("'{directory}' is not a directory.")];
    }
    let place = if directory.is_empty() {
        "$PATH"
    } else {
        directory
    };
    let names = PROGRAMS.iter().map(|program| program_name(root, program));
    names
        .filter(|name| find(name, (!directory.is_empty()).then_some(dir)).is_none())
        .map(|name| format!("does not contain '{name}' in '{place}'"))
        .collect()
}
