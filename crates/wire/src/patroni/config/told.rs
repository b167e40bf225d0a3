//! What an agent tells of the configuration that it has loaded, for those who compare it with what stands in the file
//! now. A format of our own: Patroni tells nothing like it.
//!
//! No secret is told, only a fingerprint that shows whether it is another one: keyed by a random text that is told
//! along, and so short that of all that can be guessed one in 65536 fits, which proves nothing to who guesses.

use super::{Given, HIDDEN, without_secrets};
use crate::journal::Stamp;
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::Bound;

/// What a reload leaves as it was until the agent is started anew.
pub const KEPT_UNTIL_START: &[&[&str]] = &[
    &["scope"],
    &["name"],
    &["namespace"],
    &["postgresql", "data_dir"],
    &["postgresql", "config_dir"],
    &["postgresql", "config_base_name"],
    &["pgherd", "journal"],
];

/// Bytes of a fingerprint.
const PRINT: usize = 2;

/// One value that the agent has, as it may be shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Keys from the outermost inwards.
    pub path: Vec<String>,
    /// The value without what is secret of it.
    pub value: Value,
    /// `FILE:LINE`, or `environment variable NAME`.
    pub place: String,
    /// It is from the environment.
    #[serde(default)]
    pub from_environment: bool,
    /// Fingerprint, where not all of the value is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub print: Option<String>,
}

impl Told {
    /// Whether it is the same, as far as can be seen.
    pub fn is_like(&self, other: &Told) -> bool {
        (&self.value, &self.print) == (&other.value, &other.print)
    }

    /// For who reads it as a configuration.
    pub fn given(&self) -> Given {
        Given {
            path: self.path.clone(),
            value: self.value.clone(),
            place: self.place.clone(),
            from_environment: self.from_environment,
        }
    }

    /// Whether a reload leaves it as it was.
    pub fn is_kept(&self) -> bool {
        KEPT_UNTIL_START.iter().any(|kept| self.path == *kept)
    }
}

/// A reload that changed nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// When.
    pub at: Stamp,
    /// Why.
    pub reason: String,
}

/// `GET /pgherd/configuration`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Configured {
    /// File or directory, absolute; `None`: the environment alone.
    pub file: Option<String>,
    /// When that was read.
    pub read_at: Stamp,
    /// Key of the fingerprints; another one for each run of an agent. Empty: there are none.
    #[serde(default)]
    pub salt: String,
    /// Every value, in the order in which they are laid over each other.
    pub given: Vec<Told>,
    /// The last reload, if it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// A value as it may be shown. How a node is set up names users and runs programs: but for the first dynamic
/// configuration all of that is hidden.
pub fn tell(given: &Given, salt: &str) -> Told {
    let path: Vec<&str> = given.path.iter().map(String::as_str).collect();
    let value = match path.as_slice() {
        ["bootstrap", "dcs", ..] => without_secrets(&path.join("."), given.value.clone()),
        ["bootstrap", ..] if !given.value.is_null() => HIDDEN.into(),
        path => without_secrets(&path.join("."), given.value.clone()),
    };
    let hidden = value != given.value && !salt.is_empty();
    Told {
        print: hidden.then(|| print(&path, &given.value, salt)),
        value,
        path: given.path.clone(),
        place: given.place.clone(),
        from_environment: given.from_environment,
    }
}

fn print(path: &[&str], value: &Value, salt: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
    // The path too: that two passwords are the same is nobody's business.
    let text = Value::from(vec![Value::from(path), value.clone()]).to_string();
    let tag = hmac::sign(&key, text.as_bytes());
    let bytes = tag.as_ref().iter().take(PRINT);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// What counts of values that are laid over each other, by its keys.
pub fn in_force<'a>(told: impl IntoIterator<Item = &'a Told>) -> BTreeMap<&'a [String], &'a Told> {
    let mut counts: BTreeMap<&[String], &Told> = BTreeMap::new();
    for told in told {
        let path = told.path.as_slice();
        // What stood here, or around it, or below it: but a mapping is laid over a mapping key by key.
        for length in 1..=path.len() {
            counts.remove(&path[..length]);
        }
        if !told.value.as_object().is_some_and(Map::is_empty) {
            let from = counts.range::<[String], _>((Bound::Included(path), Bound::Unbounded));
            let below = from.map(|(known, _)| *known);
            let below: Vec<&[String]> = below.take_while(|known| known.starts_with(path)).collect();
            for path in below {
                counts.remove(path);
            }
        }
        if !told.value.is_null() {
            counts.insert(path, told);
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::super::{load_environment, rebuilt};
    use super::*;
    use serde_json::json;

    fn given(path: &str, value: Value) -> Given {
        Given {
            path: path.split('.').map(str::to_owned).collect(),
            value,
            place: "n1.yml:1".into(),
            from_environment: false,
        }
    }

    #[test]
    fn secrets_have_a_short_fingerprint_only() {
        let tell_of = |path: &str, value: Value, salt: &str| tell(&given(path, value), salt);
        let key = "postgresql.authentication.superuser.password";
        let told = tell_of(key, "s3cret".into(), "salt");
        assert_eq!(told.value, json!(HIDDEN));
        assert_eq!(told.print.as_deref().map(str::len), Some(2 * PRINT));
        assert!(told.is_like(&tell_of(key, "s3cret".into(), "salt")));
        for other in [
            tell_of(key, "other".into(), "salt"),
            tell_of(key, "s3cret".into(), "pepper"),
            tell_of("restapi.authentication.password", "s3cret".into(), "salt"),
        ] {
            assert!(!told.is_like(&other), "{other:?}");
        }
        // Without random numbers nothing is told.
        assert_eq!(tell_of(key, "s3cret".into(), "").print, None);
        // Beside a secret.
        let told = tell_of("etcd3.url", "https://me:s3cret@etcd:2379".into(), "salt");
        assert_eq!(told.value, json!(format!("https://{HIDDEN}@etcd:2379")));
        assert!(told.print.is_some());
        let told = tell_of("bootstrap.post_init", "run s3cret".into(), "salt");
        assert_eq!((told.value, told.print.is_some()), (json!(HIDDEN), true));
        for (path, value) in [
            ("bootstrap.dcs.ttl", json!(30)),
            ("postgresql.listen", json!("127.0.0.1:5432")),
            ("bootstrap", Value::Null),
        ] {
            let told = tell_of(path, value.clone(), "salt");
            assert_eq!((told.value, told.print), (value, None), "{path}");
        }
    }

    #[test]
    fn the_last_one_counts() {
        let told: Vec<Told> = [
            given("tags.a", json!(1)),
            given("tags.b", json!(2)),
            given("log", Value::Null),
            given("ctl.insecure", json!(true)),
            given("etcd3.hosts", json!(["a:1"])),
            given("tags", json!({})),
            given("tags.a", Value::Null),
            given("ctl", Value::Null),
            given("etcd3", json!({})),
            given("etcd3.hosts", json!(["b:1"])),
        ]
        .iter()
        .map(|given| tell(given, "salt"))
        .collect();
        let counts: Vec<(String, &Value)> = in_force(&told)
            .into_iter()
            .map(|(path, told)| (path.join("."), &told.value))
            .collect();
        let hosts = json!(["b:1"]);
        assert_eq!(
            counts,
            [
                ("etcd3.hosts".to_owned(), &hosts),
                ("tags.b".to_owned(), &json!(2)),
            ]
        );
    }

    /// Who is told of a configuration reads it as the agent did, but for what is hidden.
    #[test]
    fn what_is_told_is_read_as_a_configuration() {
        let text = "
scope: demo
name: n1
restapi: {listen: '127.0.0.1:8008', authentication: {username: u, password: s3cret}}
etcd3: {url: 'https://me:s3cret@etcd:2379'}
log: {level: WARNING, loggers: {a.b: DEBUG}}
bootstrap: {method: mine, mine: {command: x}, dcs: {ttl: 40}}
postgresql:
  listen: 127.0.0.1:5432
  data_dir: /d
  authentication:
    superuser: {username: postgres, password: s3cret}
    replication: {username: repl, password: 12345}
  parameters: {work_mem: 8MB, auto_explain.log_min_duration: 1.5, primary_conninfo: x}
tags: {nofailover: true, own: word}
";
        let env = BTreeMap::from([("PATRONI_CONFIGURATION".to_owned(), text.to_owned())]);
        let loaded = load_environment(&env).unwrap();
        let told: Vec<Told> = loaded.givens.iter().map(|it| tell(it, "salt")).collect();
        let document = serde_json::to_string(&told).unwrap();
        assert!(!document.contains("s3cret"), "{document}");
        let read: Vec<Told> = serde_json::from_str(&document).unwrap();
        let givens: Vec<Given> = read.iter().map(Told::given).collect();
        let mut rebuilt = rebuilt(&givens).unwrap().node;
        let mut first = loaded.node;
        assert_eq!(rebuilt.bootstrap.dcs, first.bootstrap.dcs);
        for node in [&mut rebuilt, &mut first] {
            node.bootstrap = Default::default();
            node.restapi.authentication = None;
            node.ctl.authentication = None;
            node.etcd3.login = None;
            node.postgresql.authentication.superuser.password = None;
            node.postgresql.authentication.replication.password = None;
            let parameters = node.postgresql.shared["parameters"].as_object_mut();
            parameters.unwrap().remove("primary_conninfo");
        }
        assert_eq!(rebuilt, first);
    }
}
