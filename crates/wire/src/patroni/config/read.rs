//! From the located YAML to [`NodeConfig`]: the root and the smaller sections.

use super::ConfigError;
use super::node::*;
use super::read_bootstrap::bootstrap;
use super::read_etcd3::etcd3;
use super::read_log::log;
use super::read_postgresql::postgresql;
use super::section::Section;
use super::shape::PGHERD;
use super::yaml::{Data, Node};
use crate::patroni::dcs::{published_tags, tags_from_value};
use crate::patroni::lenient::truthy;
use pgherd_model::{CrashHandover, GuardMode, MemberName, Span, Tags};
use serde_json::{Map, Value};
use std::cell::RefCell;

type Result<T> = std::result::Result<T, ConfigError>;

/// Everything of a node.
pub(super) fn node_config(root: &Node, warnings: &RefCell<Vec<String>>) -> Result<NodeConfig> {
    let root = Section::root(root, warnings)?;
    let scope = part_of_keys(&root, "scope")?;
    let name = part_of_keys(&root, "name")?;
    let restapi = restapi(&root.child("restapi")?)?;
    let config = NodeConfig {
        scope,
        name: MemberName(name),
        namespace: namespace(&root)?,
        log: log(&root.child("log")?)?,
        ctl: ctl(&root.child("ctl")?, Some(&restapi))?,
        etcd3: etcd3(&root)?,
        bootstrap: bootstrap(&root.child("bootstrap")?)?,
        postgresql: postgresql(&root.child("postgresql")?)?,
        tags: tags(&root.child("tags")?)?,
        watchdog: watchdog(&root.child("watchdog")?)?,
        pgherd: local_pgherd(&root.child("pgherd")?)?,
        restapi,
    };
    // Ours needs no pool of threads, so these are satisfied by being ignored.
    for harmless in ["thread_pool_size", "thread_stack_size"] {
        root.node(harmless);
    }
    root.without_effect(&["citus"]);
    root.finish();
    Ok(config)
}

/// What `ctl` needs. Sections that only the agent reads are not looked at.
pub(super) fn ctl_config(root: &Node, warnings: &RefCell<Vec<String>>) -> Result<CtlConfig> {
    let root = Section::root(root, warnings)?;
    let api = root.child("restapi")?;
    let scope = match root.node("scope") {
        Some(_) => Some(part_of_keys(&root, "scope")?),
        None => None,
    };
    let mut config = CtlConfig {
        scope,
        namespace: namespace(&root)?,
        etcd3: etcd3(&root)?,
        ctl: ctl(&root.child("ctl")?, None)?,
    };
    if config.ctl.authentication.is_none() {
        config.ctl.authentication = login(&api.child("authentication")?)?;
    }
    if config.ctl.cacert.is_none() {
        config.ctl.cacert = api.path("cafile")?;
    }
    Ok(config)
}

/// `scope` and `name` are parts of the keys in etcd: one part each, and never none.
fn part_of_keys(root: &Section<'_>, key: &str) -> Result<String> {
    let text = root.required_text(key)?;
    let problem = if text.contains('/') {
        "without `/`, because it is one part of the keys in etcd"
    } else if text.trim() != text {
        "without blanks at its ends"
    } else if text.contains(char::is_control) {
        "on one line, without control characters"
    } else {
        return Ok(text);
    };
    Err(root.error(key, format!("expected text {problem}, found {text:?}")))
}

fn namespace(root: &Section<'_>) -> Result<String> {
    let namespace = root.text("namespace")?;
    Ok(namespace.unwrap_or_else(|| "/service".into()))
}

/// `host[:port]`, IPv6 in brackets. Without a default the port must be there.
pub(super) fn host_port(text: &str, default_port: Option<u16>) -> Option<HostPort> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':')?),
            };
            (host, port)
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None => default_port?,
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
    };
    let clean = host
        .chars()
        .all(|c| c.is_alphanumeric() || ".-_:%*".contains(c));
    clean.then(|| HostPort {
        host: host.to_owned(),
        port,
    })
}

pub(super) fn address(section: &Section<'_>, key: &str) -> Result<Option<HostPort>> {
    let Some(text) = section.text(key)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match host_port(&text, None) {
        Some(address) => Ok(Some(address)),
        None => Err(section.error(key, format!("expected HOST:PORT, found {text:?}"))),
    }
}

/// `connect_address`, else `listen` if others can connect to that.
pub(super) fn connect_address(section: &Section<'_>, listen: &HostPort) -> Result<HostPort> {
    let reachable = |host: &str| !matches!(host, "" | "*" | "0.0.0.0" | "::");
    match address(section, "connect_address")? {
        Some(address) if reachable(&address.host) && !address.host.contains('*') => Ok(address),
        Some(address) => {
            let problem = format!("expected an address that others can reach, found \"{address}\"");
            Err(section.error("connect_address", problem))
        }
        None if reachable(&listen.host) => Ok(listen.clone()),
        None => Err(section.missing("connect_address", "HOST:PORT")),
    }
}

fn login(section: &Section<'_>) -> Result<Option<Login>> {
    let (username, password) = (section.text("username")?, section.secret("password")?);
    section.finish();
    match (username, password) {
        (None, None) => Ok(None),
        (Some(username), Some(password)) => Ok(Some(Login { username, password })),
        (None, _) => Err(section.missing("username", "text")),
        (_, None) => Err(section.missing("password", "text")),
    }
}

fn restapi(section: &Section<'_>) -> Result<RestApi> {
    let listen = address(section, "listen")?;
    let listen = listen.ok_or_else(|| section.missing("listen", "HOST:PORT"))?;
    let verify_client = section.word("verify_client", &["none", "optional", "required"])?;
    let tokens = section.word("server_tokens", &["original", "minimal", "productonly"])?;
    let api = RestApi {
        connect_address: connect_address(section, &listen)?,
        listen,
        authentication: login(&section.child("authentication")?)?,
        certfile: section.path("certfile")?,
        keyfile: section.path("keyfile")?,
        keyfile_password: section.secret("keyfile_password")?,
        cafile: section.path("cafile")?,
        ciphers: section.text("ciphers")?,
        verify_client: match verify_client {
            Some("optional") => VerifyClient::Optional,
            Some("required") => VerifyClient::Required,
            _ => VerifyClient::None,
        },
        allowlist: section.words("allowlist")?.unwrap_or_default(),
        allowlist_include_members: section.flag("allowlist_include_members")?.unwrap_or(false),
        http_extra_headers: section.texts("http_extra_headers")?,
        https_extra_headers: section.texts("https_extra_headers")?,
        request_queue_size: narrow(section.integer("request_queue_size", 0, 4096)?.unwrap_or(5)),
        server_tokens: match tokens {
            Some("minimal") => ServerTokens::Minimal,
            Some("productonly") => ServerTokens::ProductOnly,
            _ => ServerTokens::Original,
        },
    };
    if api.certfile.is_none() && api.verify_client != VerifyClient::None {
        section.warn_at("verify_client", "has no effect without restapi.certfile");
    }
    section.node("thread_pool_size");
    section.finish();
    Ok(api)
}

fn ctl(section: &Section<'_>, restapi: Option<&RestApi>) -> Result<Ctl> {
    let own = Ctl {
        authentication: login(&section.child("authentication")?)?,
        insecure: section.flag("insecure")?.unwrap_or(false),
        cacert: section.path("cacert")?,
        certfile: section.path("certfile")?,
        keyfile: section.path("keyfile")?,
        keyfile_password: section.secret("keyfile_password")?,
    };
    section.finish();
    Ok(Ctl {
        authentication: own
            .authentication
            .or_else(|| restapi?.authentication.clone()),
        cacert: own.cacert.or_else(|| restapi?.cafile.clone()),
        ..own
    })
}

fn tags(section: &Section<'_>) -> Result<Tags> {
    for flag in [
        "nofailover",
        "clonefrom",
        "noloadbalance",
        "nosync",
        "nostream",
    ] {
        // Patroni takes every text for true, also "false", which nobody means.
        let yes = |text: &str| super::units::boolean(&text.into()) == Some(true);
        if section
            .node(flag)
            .is_some_and(|node| matches!(&node.data, Data::Text(text) if !yes(text)))
        {
            return Err(section.wrong(flag, "a boolean (true or false, without quotes)"));
        }
        section.flag(flag)?;
    }
    let value = |name: &str| Some((name.to_owned(), section.node(name)?.to_json()));
    let mut tags: Map<String, Value> = section.keys().filter_map(value).collect();
    for (flag, priority) in [
        ("nofailover", "failover_priority"),
        ("nosync", "sync_priority"),
    ] {
        let given = section.integer(priority, 0, i64::MAX)?;
        let set = tags.get(flag).map(truthy);
        if let (Some(set), Some(given)) = (set, given)
            && set == (given > 0)
        {
            let set = if set { "True" } else { "False" };
            section.warn_at(
                flag,
                &format!(
                    "Conflicting configuration between {flag}: {set} and {priority}: {given}. \
                     Defaulting to {flag}: {set}"
                ),
            );
        }
    }
    if let Some(name) = section.text("replicatefrom")? {
        tags.insert("replicatefrom".into(), name.into());
    }
    Ok(tags_from_value(&Value::Object(published_tags(&tags))))
}

fn watchdog(section: &Section<'_>) -> Result<Watchdog> {
    let mode = section.word("mode", &["off", "false", "automatic", "required"])?;
    let driver = section.word("driver", &["default", "testing"])?;
    let margin = section.integer("safety_margin", -1, i64::MAX)?.unwrap_or(5);
    let watchdog = Watchdog {
        mode: match mode {
            Some("off" | "false") => WatchdogMode::Off,
            Some("required") => WatchdogMode::Required,
            _ => WatchdogMode::Automatic,
        },
        device: section
            .path("device")?
            .unwrap_or_else(|| "/dev/watchdog".into()),
        safety_margin: u64::try_from(margin).ok().map(Span::from_secs),
        driver: match driver {
            Some("testing") => WatchdogDriver::Testing,
            _ => WatchdogDriver::Default,
        },
        configured: section.present,
    };
    section.finish();
    Ok(watchdog)
}

/// What stands in the node's own configuration.
fn local_pgherd(section: &Section<'_>) -> Result<Pgherd> {
    let journal = journal(section)?;
    Ok(Pgherd {
        journal,
        ..pgherd(section)?
    })
}

/// A path, or `off`.
fn journal(section: &Section<'_>) -> Result<Journal> {
    const KEY: &str = "journal";
    let expected = "an absolute path, or off";
    match section.node(KEY).map(|node| &node.data) {
        None => Ok(Journal::Beside),
        Some(Data::Bool(false)) => Ok(Journal::Off),
        Some(Data::Text(text)) if text.eq_ignore_ascii_case("off") => Ok(Journal::Off),
        Some(Data::Text(text)) if text.starts_with('/') => Ok(Journal::At(text.into())),
        Some(Data::Text(text)) => {
            Err(section.error(KEY, format!("expected {expected}, found {text:?}")))
        }
        Some(_) => Err(section.wrong(KEY, expected)),
    }
}

/// Local, and in `bootstrap.dcs`.
pub(super) fn pgherd(section: &Section<'_>) -> Result<Pgherd> {
    for (key, shape) in PGHERD {
        section.check(key, shape)?;
    }
    let lease_ttl = section.span("lease_ttl", Span::ZERO)?;
    if lease_ttl.is_some_and(|lease| lease.subsec_nanos() != 0) {
        let problem = "expected whole seconds, found a fraction".to_owned();
        return Err(section.error("lease_ttl", problem));
    }
    let guard = section.word("guard", &["automatic", "required", "off"])?;
    let handover = section.word("crash_handover", &["off", "sync"])?;
    let pgherd = Pgherd {
        lease_ttl,
        hang_timeout: section.span("hang_timeout", Span::ZERO)?,
        guard: guard.map(guard_mode),
        crash_handover: handover.map(crash_handover),
        journal: Journal::Beside,
    };
    section.finish();
    Ok(pgherd)
}

pub(super) fn guard_mode(word: &str) -> GuardMode {
    match word {
        "required" => GuardMode::Required,
        "off" => GuardMode::Off,
        _ => GuardMode::Automatic,
    }
}

pub(super) fn crash_handover(word: &str) -> CrashHandover {
    match word {
        "sync" => CrashHandover::Sync,
        _ => CrashHandover::Off,
    }
}

/// The range was checked before.
pub(super) fn narrow(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
