//! What every command needs: configuration, the lock service, the members' REST API.

use crate::Persona;
use crate::args::CtlArgs;
use crate::clock;
use crate::error::CtlError;
use pgherd_dcs::{Options, Store};
use pgherd_model::{Cluster, Failover, Op, Span};
use pgherd_peer::{PeerOptions, Peers};
use pgherd_wire::patroni::config::{CtlConfig, load_ctl};
use pgherd_wire::patroni::keys::prefix;
use pgherd_wire::patroni::rest::Mode;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How long a connection to a member may take. A member that does not say a word is one that cannot be
/// reached, and not one that may be at work: a switchover is written to the lock service then.
const CONNECT_TIMEOUT: Span = Span::from_secs(5);
/// How long the lock service may take.
const DCS_TIMEOUT: Span = Span::from_secs(10);

/// What the command line and the configuration say.
pub(crate) struct Session {
    /// Under which name the program was called.
    pub(crate) persona: Persona,
    /// The file that was read, if any.
    pub(crate) file: Option<PathBuf>,
    /// `PATRONI_*` variables.
    pub(crate) env: BTreeMap<String, String>,
    config: CtlConfig,
    insecure: bool,
}

/// A cluster that was just read, linearizably, and the way to write to it.
pub(crate) struct Seen {
    /// Its name.
    pub(crate) scope: String,
    /// Its keys.
    pub(crate) cluster: Arc<Cluster>,
    /// Its dynamic configuration; `Null`: none.
    pub(crate) dynamic: Value,
    store: Store,
}

impl Session {
    /// Reads the configuration.
    pub(crate) fn new(args: &CtlArgs, persona: Persona) -> Result<Session, CtlError> {
        let env: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("PATRONI_"))
            .collect();
        let dcs_url = args.dcs_url.clone();
        let dcs_url = dcs_url.or_else(|| set("DCS_URL")?.into_string().ok());
        let dcs = dcs_url.as_deref().map(parse_dcs_url).transpose()?;
        let named = || set("PATRONICTL_CONFIG_FILE").map(PathBuf::from);
        let path = args.config_file.clone().or_else(named);
        let path = path.or_else(default_file);
        let (config, warnings) = load(path.as_deref(), env.clone(), dcs)?;
        for warning in warnings {
            eprintln!("Warning: {warning}");
        }
        Ok(Session {
            persona,
            file: path,
            env,
            insecure: args.insecure || config.ctl.insecure,
            config,
        })
    }

    /// The named cluster, else the configured one.
    pub(crate) fn scope(&self, given: Option<&str>) -> Result<String, CtlError> {
        let Some(scope) = given.or(self.config.scope.as_deref()) else {
            return Err(CtlError::told(
                "No cluster name: give one as argument, or set scope in the configuration",
            ));
        };
        if scope.is_empty() || scope.contains('/') {
            return Err(CtlError::told(format!(
                "{scope:?} is no name of a cluster: it is one part of the keys in etcd, without `/`"
            )));
        }
        Ok(scope.to_owned())
    }

    /// Whether the configuration names a cluster.
    pub(crate) fn has_scope(&self) -> bool {
        self.config.scope.is_some()
    }

    /// Reads a cluster from the lock service.
    pub(crate) async fn see(&self, scope: &str) -> Result<Seen, CtlError> {
        let store = Store::start(self.options(scope)).map_err(CtlError::told)?;
        Seen::read(store, scope.to_owned()).await
    }

    /// Client of the members' REST API.
    pub(crate) fn peers(&self) -> Result<Peers, CtlError> {
        let options = PeerOptions::new(&self.config.ctl, self.insecure, clock::now);
        Peers::new(&options.connect_within(CONNECT_TIMEOUT)).map_err(CtlError::told)
    }

    fn options(&self, scope: &str) -> Options {
        let prefix = prefix(&self.config.namespace, scope);
        let lives = (Span::from_secs(30), Span::from_secs(20));
        let me = "pgherd-ctl".into();
        Options::new(&self.config.etcd3, prefix, me, lives, clock::now)
    }
}

/// The configuration, with another lock service if one is named: reached as the configured one, by
/// the same protocol, with the same certificates and login.
fn load(
    path: Option<&Path>,
    mut env: BTreeMap<String, String>,
    dcs: Option<DcsUrl>,
) -> Result<(CtlConfig, Vec<String>), CtlError> {
    let mut loaded = load_ctl(path, &env);
    if let (Err(_), Some(dcs)) = (&loaded, &dcs) {
        // Lets a configuration without `etcd3` pass.
        env.insert("PATRONI_ETCD3_HOSTS".into(), dcs.host.clone());
        loaded = load_ctl(path, &env);
    }
    let (mut config, warnings) = loaded.map_err(|error| match path {
        Some(_) => CtlError::told(error),
        None => CtlError::told(format!("{error} (no file was named with -c)")),
    })?;
    if let Some(dcs) = dcs {
        let configured = config.etcd3.endpoints.first();
        let protocol = configured.and_then(|url| url.split("://").next());
        let protocol = protocol.unwrap_or("http");
        config.etcd3.endpoints = vec![format!("{protocol}://{}", dcs.host)];
        if let Some(namespace) = dcs.namespace {
            config.namespace = namespace;
        }
    }
    Ok((config, warnings))
}

impl Seen {
    async fn read(store: Store, scope: String) -> Result<Seen, CtlError> {
        let deadline = clock::now() + DCS_TIMEOUT;
        store
            .run(&Op::Refresh, deadline)
            .await
            .map_err(CtlError::told)?;
        let cluster = store.picture().borrow().cluster.clone().unwrap_or_default();
        let dynamic = cluster
            .config
            .as_ref()
            .and_then(|config| serde_json::from_str(&config.value.text).ok())
            .unwrap_or(Value::Null);
        Ok(Seen {
            scope,
            cluster,
            dynamic,
            store,
        })
    }

    /// The same cluster as it is now.
    pub(crate) async fn again(&self) -> Result<Seen, CtlError> {
        Seen::read(self.store.clone(), self.scope.clone()).await
    }

    /// Writes `failover`, unless somebody else changed it since. `false`: somebody did.
    pub(crate) async fn write_failover(&self, failover: Failover) -> Result<bool, CtlError> {
        let expected = self.cluster.failover.as_ref().map(|stored| stored.revision);
        let op = Op::PutFailover { failover, expected };
        let deadline = clock::now() + DCS_TIMEOUT;
        let answer = self
            .store
            .run(&op, deadline)
            .await
            .map_err(CtlError::told)?;
        Ok(matches!(answer, pgherd_model::Answer::Done { .. }))
    }

    /// Writes `config`, unless somebody else changed it since. `false`: somebody did.
    pub(crate) async fn write_config(&self, config: &Value) -> Result<bool, CtlError> {
        let op = Op::PutConfig {
            text: config.to_string(),
            expected: self.cluster.config.as_ref().map(|stored| stored.revision),
        };
        let deadline = clock::now() + DCS_TIMEOUT;
        let answer = self.store.run(&op, deadline).await;
        let answer = answer.map_err(CtlError::told)?;
        Ok(matches!(answer, pgherd_model::Answer::Done { .. }))
    }

    /// Deletes every key of the cluster.
    pub(crate) async fn remove(&self) -> Result<(), CtlError> {
        let deadline = clock::now() + DCS_TIMEOUT;
        let removed = self.store.remove_cluster(deadline).await;
        removed.map_err(CtlError::told)
    }

    /// What the dynamic configuration says about the cluster as a whole.
    pub(crate) fn mode(&self) -> Mode {
        Mode::of(&self.dynamic)
    }

    /// `loop_wait`.
    pub(crate) fn loop_wait(&self) -> Span {
        let seconds = self
            .dynamic
            .get("loop_wait")
            .and_then(Value::as_u64)
            .unwrap_or(10);
        Span::from_secs(seconds.clamp(1, 3600))
    }
}

/// `-d`: where the lock service is.
#[derive(Debug, PartialEq, Eq)]
struct DcsUrl {
    host: String,
    namespace: Option<String>,
}

/// `etcd3://host:port/namespace`; scheme, port and namespace may be missing.
fn parse_dcs_url(url: &str) -> Result<DcsUrl, CtlError> {
    let (scheme, rest) = url
        .split_once("://")
        .unwrap_or(("etcd3", url.trim_start_matches("//")));
    if !matches!(scheme, "etcd3" | "etcd") {
        return Err(CtlError::told(format!(
            "Unknown dcs scheme: {scheme} (only etcd3://host:port/namespace can be used)"
        )));
    }
    let (host, namespace) = rest.split_once('/').unwrap_or((rest, ""));
    let host = if host.is_empty() { "localhost" } else { host };
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let namespace = namespace.trim_matches('/');
    Ok(DcsUrl {
        host: if has_port {
            host.to_owned()
        } else {
            format!("{host}:2379")
        },
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
    })
}

/// An environment variable; an empty one counts as not set.
fn set(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

/// patronictl's own file, if it is there.
fn default_file() -> Option<PathBuf> {
    let base = set("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || set("HOME").map(|home| PathBuf::from(home).join(".config"));
    let path = base.or_else(home)?.join("patroni/patronictl.yaml");
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dcs_urls_may_leave_things_out() {
        let read = |url: &str| {
            let read = parse_dcs_url(url).unwrap();
            (read.host, read.namespace.unwrap_or_default())
        };
        let pair = |host: &str, namespace: &str| (host.to_owned(), namespace.to_owned());
        assert_eq!(
            read("etcd3://10.0.0.1:2380/service"),
            pair("10.0.0.1:2380", "service")
        );
        assert_eq!(read("etcd3://db/"), pair("db:2379", ""));
        assert_eq!(read("127.0.0.1:4001"), pair("127.0.0.1:4001", ""));
        assert_eq!(read("//[::1]:2379/x/y/"), pair("[::1]:2379", "x/y"));
        assert!(parse_dcs_url("consul://localhost").is_err());
    }

    #[test]
    fn another_lock_service_is_reached_as_the_configured_one() {
        let file = std::env::temp_dir().join(format!("pgherd-ctl-{}.yml", std::process::id()));
        let read = |etcd3: &str, env: &[(&str, &str)]| {
            std::fs::write(&file, format!("scope: x\n{etcd3}")).unwrap();
            let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string()));
            let dcs = parse_dcs_url("etcd3://db/other").unwrap();
            let loaded = load(Some(&file), env.collect(), Some(dcs));
            std::fs::remove_file(&file).unwrap();
            let config = loaded.unwrap().0;
            assert_eq!(config.namespace, "other");
            (config.etcd3.endpoints.join(","), config.etcd3.cacert)
        };
        let secure = ("https://db:2379".to_owned(), Some(PathBuf::from("/ca")));
        let plain = ("http://db:2379".to_owned(), None);
        for etcd3 in [
            "{hosts: ['e1:2379'], protocol: https, cacert: /ca}",
            "{hosts: ['https://e1:2379'], cacert: /ca}",
            "{url: 'https://e1:2379', cacert: /ca}",
            // What is replaced may be wrong.
            "{protocol: https, cacert: /ca}",
        ] {
            assert_eq!(read(&format!("etcd3: {etcd3}\n"), &[]), secure, "{etcd3}");
        }
        assert_eq!(read("etcd3: {host: e1}\n", &[]), plain);
        assert_eq!(read("", &[]), plain);
        let env = [
            ("PATRONI_ETCD3_PROTOCOL", "https"),
            ("PATRONI_ETCD3_CACERT", "/ca"),
        ];
        assert_eq!(read("", &env), secure);
    }
}
