//! What holds at this moment: defaults, dynamic configuration and the node's own, joined and
//! brought into range (contract: patroni-config, sections 1 and 2).

use super::dynamic::{Dynamic, settings};
use super::read_postgresql::LOCAL_KEYS;
use super::{FarPostgres, NodeConfig, ReplicaMethod, methods, parameters, slots, standby, units};
use pgherd_model::{CommitsWait, Settings, Span, SynchronousMode};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub use super::parameters::is_owned;

/// Options of pg_basebackup that the agent decides, long and short.
const REFUSED: &[&str] = &[
    "pgdata",
    "D",
    "format",
    "F",
    "wal-method",
    "X",
    "gzip",
    "z",
    "version",
    "V",
    "dbname",
    "d",
    "host",
    "h",
    "port",
    "p",
    "username",
    "U",
    "password",
    "W",
    "no-sync",
    "N",
];

/// Whether an option of pg_basebackup may be given. What is compressed by the client is no data
/// directory; what the server compresses for the way is.
fn allowed(name: &str, value: Option<&str>) -> bool {
    match name {
        "compress" | "Z" => {
            value.is_some_and(|value| value.starts_with("server-") || matches!(value, "none" | "0"))
        }
        name => !REFUSED.contains(&name),
    }
}

/// The result of [`effective`].
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// What decisions depend on.
    pub settings: Settings,
    /// What PostgreSQL is to be run with.
    pub postgresql: EffectivePostgres,
    /// One line each, for the log. The same input gives the same lines: log them when they
    /// change.
    pub warnings: Vec<String>,
}

/// Settings of `postgresql` that may stand in the dynamic and in the local configuration; the
/// local value wins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EffectivePostgres {
    /// All parameters as text, names in lower case: those of the user, those owned by the agent
    /// ([`is_owned`]; they come from the dynamic configuration only), and `listen_addresses`,
    /// `port`, `cluster_name`. `wal_keep_size` stands for `wal_keep_segments` too.
    pub parameters: BTreeMap<String, String>,
    /// `pg_hba`: lines; `None`: not managed.
    pub pg_hba: Option<Vec<String>>,
    /// `pg_ident`: lines; `None`: not managed.
    pub pg_ident: Option<Vec<String>>,
    /// `recovery_conf`, without what the agent itself decides.
    pub recovery_conf: BTreeMap<String, String>,
    /// `create_replica_methods` in their order, default `basebackup`.
    pub methods: Vec<ReplicaMethod>,
    /// `basebackup`: options of pg_basebackup, in order, refused ones left out.
    pub basebackup: Vec<Basebackup>,
    /// `callbacks`.
    pub callbacks: Callbacks,
    /// `pre_promote`: command line.
    pub pre_promote: Option<String>,
    /// `before_stop`: command line.
    pub before_stop: Option<String>,
    /// `pg_ctl_timeout`, default 60 s.
    pub pg_ctl_timeout: Span,
    /// What `standby_cluster` says; `None`: this is none.
    pub far: Option<FarPostgres>,
}

/// One option of pg_basebackup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basebackup {
    /// Without the dashes.
    pub name: String,
    /// `None`: a flag.
    pub value: Option<String>,
}

/// `postgresql.callbacks`: command lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callbacks {
    /// `on_start`
    pub on_start: Option<String>,
    /// `on_stop`
    pub on_stop: Option<String>,
    /// `on_restart`
    pub on_restart: Option<String>,
    /// `on_reload`
    pub on_reload: Option<String>,
    /// `on_role_change`
    pub on_role_change: Option<String>,
}

/// Joins the node's configuration with the dynamic one (`None`: none is known yet, defaults
/// hold). Never fails: what is out of range or of a wrong type is replaced as Patroni does, with
/// a warning.
pub fn effective(node: &NodeConfig, dynamic: Option<&Value>) -> Effective {
    let mut warnings = Vec::new();
    let empty = Map::new();
    let document = match dynamic {
        None => &empty,
        Some(Value::Object(document)) => document,
        Some(_) => {
            warnings.push("the dynamic configuration is not a JSON object: defaults hold".into());
            &empty
        }
    };
    let mut dynamic = Dynamic::new(document, &mut warnings);
    dynamic.tell_unused(node);
    let shared = merged(node, &dynamic);
    let mut settings = settings(&mut dynamic, node, &shared);
    let far = standby::read(&mut dynamic, document, &shared);
    let far = far.map(|(cluster, far)| {
        settings.standby_cluster = Some(cluster);
        // Nothing is committed there.
        settings.synchronous_mode = SynchronousMode::Off;
        settings.failsafe_mode = false;
        far
    });
    let permanent = slots::permanent(&mut dynamic, settings.standby_cluster.is_some());
    settings.permanent_slots = permanent.physical;
    // A copy of another cluster has none, as with Patroni: nobody in it could make them.
    if settings.standby_cluster.is_none() {
        settings.logical_slots = permanent.logical;
    }
    settings.ignored_slots = slots::ignored(&mut dynamic);
    let section = dynamic.section("postgresql").cloned();
    let parameters = parameters::merged(node, section.as_ref(), dynamic.warnings);
    settings.commits_wait = match parameters.get("synchronous_commit").map(String::as_str) {
        Some("remote_write") => CommitsWait::Written,
        Some("remote_apply") => CommitsWait::Replayed,
        _ => CommitsWait::Flushed,
    };
    let mut postgresql = postgres(&shared, parameters, dynamic.warnings);
    if let Some(far) = far {
        postgresql.recovery_conf.extend(far.recovery.clone());
        postgresql.far = Some(far);
    }
    Effective {
        settings,
        postgresql,
        warnings,
    }
}

/// JSON merge patch, as `PATCH /config` does it: objects recurse, `null` deletes, everything
/// else replaces.
pub fn merge_patch(document: &mut Value, patch: &Value) {
    json_patch::merge(document, patch);
}

/// `postgresql` of the dynamic configuration with the node's own values over it. What only a
/// node can say is not taken from the dynamic one.
fn merged(node: &NodeConfig, dynamic: &Dynamic<'_>) -> Map<String, Value> {
    let mut merged = dynamic.section("postgresql").cloned().unwrap_or_default();
    merged.retain(|key, value| !LOCAL_KEYS.contains(&key.as_str()) && !value.is_null());
    for (key, value) in &node.postgresql.shared {
        if !value.is_null() {
            merged.insert(key.clone(), value.clone());
        }
    }
    merged
}

fn postgres(
    shared: &Map<String, Value>,
    parameters: BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> EffectivePostgres {
    let text = |key: &str| {
        shared
            .get(key)
            .and_then(plain)
            .filter(|text| !text.is_empty())
    };
    let lines = |key: &str| {
        let items = shared.get(key)?.as_array()?;
        Some(items.iter().filter_map(plain).collect())
    };
    let (pg_hba, pg_ident) = (lines("pg_hba"), lines("pg_ident"));
    let named = shared.get("create_replica_methods");
    let methods = named.or(shared.get("create_replica_method"));
    let methods = methods_named(&methods.map(words).unwrap_or_default(), shared);
    let callback = |name: &str| shared.get("callbacks")?.get(name).and_then(plain);
    EffectivePostgres {
        parameters,
        pg_hba,
        pg_ident,
        recovery_conf: recovery_conf(shared.get("recovery_conf")),
        methods,
        basebackup: basebackup(shared.get("basebackup"), warnings),
        callbacks: Callbacks {
            on_start: callback("on_start"),
            on_stop: callback("on_stop"),
            on_restart: callback("on_restart"),
            on_reload: callback("on_reload"),
            on_role_change: callback("on_role_change"),
        },
        pre_promote: text("pre_promote"),
        before_stop: text("before_stop"),
        pg_ctl_timeout: shared
            .get("pg_ctl_timeout")
            .and_then(units::seconds)
            .unwrap_or(Span::from_secs(60)),
        far: None,
    }
}

/// Methods by their names, with what `postgresql` says of each; without any: pg_basebackup.
pub(super) fn methods_named(names: &[String], shared: &Map<String, Value>) -> Vec<ReplicaMethod> {
    let usual = ["basebackup".to_owned()];
    let names = if names.is_empty() { &usual[..] } else { names };
    let methods = names.iter().map(|name| {
        let section = shared.get(name).and_then(Value::as_object);
        methods::replica(name, section)
    });
    methods.collect()
}

fn recovery_conf(value: Option<&Value>) -> BTreeMap<String, String> {
    let decided = |name: &str| {
        name.starts_with("recovery_target")
            || matches!(name, "primary_conninfo" | "primary_slot_name")
    };
    value
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| !decided(name))
        .filter_map(|(name, value)| Some((name, plain(value)?)))
        .collect()
}

/// A list of flags and single pairs, or a mapping.
fn basebackup(value: Option<&Value>, warnings: &mut Vec<String>) -> Vec<Basebackup> {
    let mut options = Vec::new();
    let mut add = |name: &str, value: Option<&Value>| {
        let name = name.trim_start_matches('-').to_owned();
        let value = match value {
            None | Some(Value::Null | Value::Bool(true)) => None,
            Some(value) => plain(value),
        };
        if !allowed(&name, value.as_deref()) {
            let line = format!("postgresql.basebackup: option {name} is not allowed, left out");
            warnings.push(line);
            return;
        }
        options.push(Basebackup { name, value });
    };
    match value {
        Some(Value::Object(entries)) => {
            entries
                .iter()
                .for_each(|(name, value)| add(name, Some(value)));
        }
        Some(Value::Array(items)) => items.iter().for_each(|item| match item {
            Value::String(name) => add(name, None),
            Value::Object(pair) => pair.iter().for_each(|(name, value)| add(name, Some(value))),
            _ => {}
        }),
        _ => {}
    }
    options
}

/// A list of text, or comma separated text.
pub(super) fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(plain).collect(),
        other => {
            let text = plain(other).unwrap_or_default();
            let parts = text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            parts.map(str::to_owned).collect()
        }
    }
}

/// A scalar as text; booleans as PostgreSQL writes them.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(true) => Some("on".into()),
        Value::Bool(false) => Some("off".into()),
        _ => None,
    }
}
