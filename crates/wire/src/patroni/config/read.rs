//! From the located YAML to [`NodeConfig`]: the root and the smaller sections.

use super::node::*;
use super::read_postgresql::postgresql;
use super::section::Section;
use super::yaml::{Data, Node};
use super::{ConfigError, Secret};
use crate::patroni::dcs::{published_tags, tags_from_value};
use crate::patroni::lenient::{as_i64, truthy};
use pgherd_model::{CrashHandover, GuardMode, MemberName, Span, Tags};
use serde_json::{Map, Value};
use std::cell::RefCell;

type Result<T> = std::result::Result<T, ConfigError>;

/// DCS sections that are not for us, and why.
const OTHER_DCS: &[&str] = &[
    "consul",
    "etcd",
    "zookeeper",
    "exhibitor",
    "kubernetes",
    "raft",
];

/// Everything of a node.
pub(super) fn node_config(root: &Node, warnings: &RefCell<Vec<String>>) -> Result<NodeConfig> {
    let root = Section::root(root, warnings)?;
    let scope = root.required_text("scope")?;
    let name = root.required_text("name")?;
    if name.contains('/') {
        let problem = "expected a name without `/`: it is part of a key in etcd".to_owned();
        return Err(root.error("name", problem));
    }
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
        pgherd: pgherd(&root.child("pgherd")?)?,
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
    let mut config = CtlConfig {
        scope: root.text("scope")?,
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

fn namespace(root: &Section<'_>) -> Result<String> {
    let namespace = root.text("namespace")?;
    Ok(namespace.unwrap_or_else(|| "/service".into()))
}

/// `host[:port]`, IPv6 in brackets.
pub(super) fn host_port(text: &str, default_port: u16) -> Option<HostPort> {
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
        None => default_port,
        Some(port) => port.parse().ok()?,
    };
    let clean = !host.contains(|c: char| c.is_whitespace() || c == '/');
    clean.then(|| HostPort {
        host: host.to_owned(),
        port,
    })
}

pub(super) fn address(
    section: &Section<'_>,
    key: &str,
    default_port: u16,
) -> Result<Option<HostPort>> {
    let Some(text) = section.text(key)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match host_port(&text, default_port) {
        Some(address) => Ok(Some(address)),
        None => Err(section.error(key, format!("expected HOST:PORT, found {text:?}"))),
    }
}

/// `connect_address`, else `listen` if others can connect to that.
pub(super) fn connect_address(
    section: &Section<'_>,
    listen: &HostPort,
    default_port: u16,
) -> Result<HostPort> {
    if let Some(address) = address(section, "connect_address", default_port)? {
        if matches!(address.host.as_str(), "" | "*" | "0.0.0.0" | "::") {
            let problem = format!("expected an address that others can reach, found {address}");
            return Err(section.error("connect_address", problem));
        }
        return Ok(address);
    }
    match listen.host.as_str() {
        "" | "*" | "0.0.0.0" | "::" => Err(section.missing("connect_address", "HOST:PORT")),
        _ => Ok(listen.clone()),
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

fn log(section: &Section<'_>) -> Result<Log> {
    const LEVELS: &[&str] = &[
        "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL",
    ];
    let level = match section.word("level", LEVELS)? {
        Some("DEBUG") => LogLevel::Debug,
        None | Some("INFO") => LogLevel::Info,
        Some("WARN" | "WARNING") => LogLevel::Warning,
        Some("ERROR") => LogLevel::Error,
        Some(_) => LogLevel::Critical,
    };
    let static_fields = section.child("static_fields")?;
    let json = |name: &str| Some((name.to_owned(), static_fields.node(name)?.to_json()));
    let log = Log {
        json: section.word("type", &["plain", "json"])? == Some("json"),
        level,
        dir: section.path("dir")?,
        file_num: narrow(
            section
                .integer("file_num", 0, i64::from(u32::MAX))?
                .unwrap_or(4),
        ),
        file_size: section
            .integer("file_size", 1, i64::MAX)?
            .map_or(25_000_000, i64::unsigned_abs),
        mode: section.integer("mode", 0, 0o777)?.map(narrow),
        static_fields: static_fields.keys().filter_map(json).collect(),
        deduplicate_heartbeat_logs: section.flag("deduplicate_heartbeat_logs")?.unwrap_or(false),
    };
    for harmless in ["traceback_level", "max_queue_size"] {
        section.node(harmless);
    }
    section.without_effect(&["format", "dateformat", "loggers"]);
    section.finish();
    Ok(log)
}

fn restapi(section: &Section<'_>) -> Result<RestApi> {
    let listen = address(section, "listen", 8008)?;
    let listen = listen.ok_or_else(|| section.missing("listen", "HOST:PORT"))?;
    let verify_client = section.word("verify_client", &["none", "optional", "required"])?;
    let tokens = section.word("server_tokens", &["original", "minimal", "productonly"])?;
    let api = RestApi {
        connect_address: connect_address(section, &listen, 8008)?,
        listen,
        authentication: login(&section.child("authentication")?)?,
        certfile: section.path("certfile")?,
        keyfile: section.path("keyfile")?,
        keyfile_password: section.secret("keyfile_password")?,
        cafile: section.path("cafile")?,
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
    section.without_effect(&["ciphers"]);
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

fn etcd3(root: &Section<'_>) -> Result<Etcd3> {
    let others = OTHER_DCS
        .iter()
        .copied()
        .filter(|dcs| root.node(dcs).is_some());
    let others: Vec<&str> = others.collect();
    let section = root.child("etcd3")?;
    if !section.present {
        return Err(match others.first() {
            Some(&"etcd") => root.error(
                "etcd",
                "expected section etcd3, found etcd, the old v2 API: rename the section to \
                 etcd3 if the servers are etcd 3"
                    .into(),
            ),
            Some(dcs) => {
                let problem =
                    format!("expected section etcd3, found {dcs}, which is not supported");
                root.error(dcs, problem)
            }
            None => root.missing("etcd3", "a mapping with the endpoints of etcd (`hosts`)"),
        });
    }
    for dcs in others {
        root.warn_at(dcs, "ignored, etcd3 is used");
    }
    let endpoints = endpoints(&section)?;
    let given = login_of_etcd(&section)?;
    let config = Etcd3 {
        use_proxies: section.flag("use_proxies")?.unwrap_or(false) || endpoints.proxy,
        login: given.or(endpoints.login),
        endpoints: endpoints.urls,
        cacert: section.path("cacert")?,
        cert: section.path("cert")?,
        key: section.path("key")?,
    };
    section.without_effect(&["srv_suffix"]);
    section.finish();
    Ok(config)
}

fn login_of_etcd(section: &Section<'_>) -> Result<Option<Login>> {
    let password = section.secret("password")?;
    let Some(username) = section.text("username")? else {
        return Ok(None);
    };
    let password = password.ok_or_else(|| section.missing("password", "text"))?;
    Ok(Some(Login { username, password }))
}

struct Endpoints {
    urls: Vec<String>,
    proxy: bool,
    login: Option<Login>,
}

/// One of `proxy`, `url`, `hosts`, `host`, `srv`, in Patroni's order.
fn endpoints(section: &Section<'_>) -> Result<Endpoints> {
    let protocol = section
        .word("protocol", &["http", "https"])?
        .unwrap_or("http");
    let (proxy, url) = (section.text("proxy")?, section.text("url")?);
    let (hosts, host) = (section.words("hosts")?, section.text("host")?);
    let srv = section.text("srv")?;
    for (key, value) in [("proxy", &proxy), ("url", &url)] {
        let Some(url) = value.as_deref().filter(|url| !url.is_empty()) else {
            continue;
        };
        let (url, login) = endpoint_url(url, protocol)
            .ok_or_else(|| section.wrong(key, "a URL like http://HOST:2379"))?;
        return Ok(Endpoints {
            urls: vec![url],
            proxy: key == "proxy",
            login,
        });
    }
    let (key, hosts) = match hosts.filter(|hosts| !hosts.is_empty()) {
        Some(hosts) => ("hosts", hosts),
        None => (
            "host",
            host.into_iter().filter(|host| !host.is_empty()).collect(),
        ),
    };
    if hosts.is_empty() && srv.is_some() {
        let problem = "expected hosts, found a DNS name to discover them, which is not supported \
                       yet: list them in etcd3.hosts";
        return Err(section.error("srv", problem.into()));
    }
    if hosts.is_empty() {
        return Err(section.missing("hosts", "a list of HOST:PORT"));
    }
    let url = |host: &String| {
        let url = endpoint_url(host, protocol).map(|(url, _)| url);
        url.ok_or_else(|| section.error(key, format!("expected HOST:PORT, found {host:?}")))
    };
    Ok(Endpoints {
        urls: hosts.iter().map(url).collect::<Result<_>>()?,
        proxy: false,
        login: None,
    })
}

/// (URL without login, login in it)
fn endpoint_url(text: &str, protocol: &str) -> Option<(String, Option<Login>)> {
    let (scheme, rest) = text
        .trim()
        .split_once("://")
        .unwrap_or((protocol, text.trim()));
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let authority = rest.trim_end_matches('/');
    let (login, authority) = match authority.rsplit_once('@') {
        Some((login, authority)) => (login.split_once(':'), authority),
        None => (None, authority),
    };
    let address = host_port(authority, 2379).filter(|address| !address.host.is_empty())?;
    let login = login.map(|(username, password)| Login {
        username: username.to_owned(),
        password: Secret::new(password),
    });
    Some((format!("{scheme}://{address}"), login))
}

fn bootstrap(section: &Section<'_>) -> Result<Bootstrap> {
    let dcs = section.child("dcs")?;
    dcs.without_effect(&["standby_cluster", "ignore_slots"]);
    for key in super::effective::DYNAMIC_KEYS {
        dcs.node(key);
    }
    dcs.finish();
    dcs.child("postgresql")?.child("parameters")?;
    let method = match section.text("method")?.as_deref() {
        None | Some("initdb") => BootstrapMethod::Initdb,
        Some(name) => {
            let custom = section.child(name)?;
            custom.required_text("command")?;
            let found = section.node(name).map(Node::to_json);
            let section = match found {
                Some(Value::Object(section)) => section,
                _ => Map::new(),
            };
            BootstrapMethod::Custom {
                name: name.to_owned(),
                section,
            }
        }
    };
    let post_bootstrap = section.text("post_bootstrap")?;
    let config = Bootstrap {
        configured: section.present,
        dcs: match section.node("dcs") {
            Some(node) => node.to_json(),
            None => Value::Object(Map::new()),
        },
        method,
        initdb: initdb(section)?,
        pg_hba: section.lines("pg_hba")?.unwrap_or_default(),
        post_bootstrap: post_bootstrap.or(section.text("post_init")?),
    };
    // Sections of methods that are not chosen.
    for key in section.keys() {
        section.node_if(key, |node| node.entry("command").is_some());
    }
    if section.node("users").is_some() {
        section.warn_at(
            "users",
            "ignored as in Patroni 4: create them in post_bootstrap",
        );
    }
    section.finish();
    Ok(config)
}

/// A list of flags and single pairs, or a mapping.
fn initdb(section: &Section<'_>) -> Result<Vec<InitdbOption>> {
    let options = options(section, "initdb")?;
    let mut kept = Vec::new();
    for (name, value) in options {
        if matches!(
            name.as_str(),
            "pgdata" | "nosync" | "pwfile" | "sync-only" | "version"
        ) {
            section.warn_at("initdb", &format!("option {name} is not allowed, left out"));
        } else {
            kept.push(InitdbOption { name, value });
        }
    }
    Ok(kept)
}

/// Options of a program: (name without dashes, value; `None`: a flag).
pub(super) fn options(section: &Section<'_>, key: &str) -> Result<Vec<(String, Option<String>)>> {
    let what = "a list of names and `name: value`";
    let pair = |name: &str, node: &Node| {
        let text = |node: &Node| match &node.data {
            Data::Bool(flag) => Some(flag.to_string()),
            Data::Text(text) => Some(text.clone()),
            Data::Int(number) => Some(number.to_string()),
            Data::Float(number) => Some(format!("{number:?}")),
            _ => None,
        };
        let name = name.trim_start_matches('-').to_owned();
        match &node.data {
            Data::Null | Data::Bool(true) => Ok((name, None)),
            _ => match text(node) {
                Some(text) => Ok((name, Some(text))),
                None => Err(section.wrong(key, what)),
            },
        }
    };
    match section.node(key).map(|node| &node.data) {
        None => Ok(Vec::new()),
        Some(Data::Map(entries)) => entries.iter().map(|e| pair(&e.key, &e.node)).collect(),
        Some(Data::List(items)) => items
            .iter()
            .map(|item| match &item.data {
                Data::Text(name) => Ok((name.trim_start_matches('-').to_owned(), None)),
                Data::Map(entries) if entries.len() == 1 => pair(&entries[0].key, &entries[0].node),
                _ => Err(section.wrong(key, what)),
            })
            .collect(),
        Some(_) => Err(section.wrong(key, what)),
    }
}

fn tags(section: &Section<'_>) -> Result<Tags> {
    let value = |name: &str| Some((name.to_owned(), section.node(name)?.to_json()));
    let tags: Map<String, Value> = section.keys().filter_map(value).collect();
    for (flag, priority) in [
        ("nofailover", "failover_priority"),
        ("nosync", "sync_priority"),
    ] {
        let given = section.integer(priority, i64::MIN, i64::MAX)?;
        let set = tags.get(flag).map(truthy);
        if let (Some(set), Some(given)) = (set, given.or(tags.get(priority).and_then(as_i64)))
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
    section.text("replicatefrom")?;
    Ok(tags_from_value(&Value::Object(published_tags(&tags))))
}

fn watchdog(section: &Section<'_>) -> Result<Watchdog> {
    let mode = section.word("mode", &["off", "false", "automatic", "required"])?;
    let watchdog = Watchdog {
        mode: match mode {
            Some("off" | "false") => WatchdogMode::Off,
            Some("required") => WatchdogMode::Required,
            _ => WatchdogMode::Automatic,
        },
        device: section
            .path("device")?
            .unwrap_or_else(|| "/dev/watchdog".into()),
        safety_margin: section.integer("safety_margin", -1, i64::MAX)?.unwrap_or(5),
    };
    section.node("driver");
    section.finish();
    Ok(watchdog)
}

fn pgherd(section: &Section<'_>) -> Result<Pgherd> {
    let least = |key: &str, span: Option<Span>| match span {
        Some(span) if span < Span::from_secs(2) => {
            Err(section.error(key, "expected 2 s or more, found less".into()))
        }
        Some(span) if key == "lease_ttl" && span.subsec_nanos() != 0 => {
            Err(section.error(key, "expected whole seconds, found a fraction".into()))
        }
        span => Ok(span),
    };
    let guard = section.word("guard", &["automatic", "required", "off"])?;
    let handover = section.word("crash_handover", &["off", "sync"])?;
    let pgherd = Pgherd {
        lease_ttl: least("lease_ttl", section.span("lease_ttl")?)?,
        hang_timeout: least("hang_timeout", section.span("hang_timeout")?)?,
        guard: guard.map(guard_mode),
        crash_handover: handover.map(crash_handover),
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
fn narrow(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
