//! Section `etcd3`, and what is said about other lock services.

use super::node::{Etcd3, Login};
use super::read::host_port;
use super::section::Section;
use super::{ConfigError, Secret};

type Result<T> = std::result::Result<T, ConfigError>;

/// DCS sections that are not for us, and why.
pub(super) const OTHER_DCS: &[&str] = &[
    "consul",
    "etcd",
    "zookeeper",
    "exhibitor",
    "kubernetes",
    "raft",
];

/// Of endpoints that do not say theirs.
pub(super) const PROTOCOL: &str = "http";

pub(super) fn etcd3(root: &Section<'_>) -> Result<Etcd3> {
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
        .unwrap_or(PROTOCOL);
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
    let address = host_port(authority, Some(2379)).filter(|address| !address.host.is_empty())?;
    let login = login.map(|(username, password)| Login {
        username: username.to_owned(),
        password: Secret::new(password),
    });
    Some((format!("{scheme}://{address}"), login))
}
