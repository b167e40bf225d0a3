//! Where the running PostgreSQL is: a connection string, completed by libpq's variables and defaults.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use pgherd_instance::{Credentials, SurveyTarget, parse_conninfo};
use pgherd_model::Secret;

/// Directories of sockets, as distributions and PostgreSQL itself have them.
const SOCKETS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Keys that are kept for the role (contract: patroni-config, section 3).
const ROLE_KEYS: [(&str, &str); 8] = [
    ("sslmode", "PGSSLMODE"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
    ("gssencmode", "PGGSSENCMODE"),
    ("channel_binding", "PGCHANNELBINDING"),
];

/// Reads `key=value` pairs or a `postgres://` URL; `None`: the variables and defaults alone.
///
/// # Errors
/// What cannot be understood, without the password in it.
pub(super) fn target(dsn: Option<&str>, env: &BTreeMap<String, String>) -> Result<SurveyTarget> {
    let pairs = match dsn {
        None => BTreeMap::new(),
        Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            from_url(url)?
        }
        Some(text) => {
            let pairs: BTreeMap<String, String> = parse_conninfo(text).into_iter().collect();
            if pairs.is_empty() && !text.trim().is_empty() {
                bail!("--dsn: expected key=value pairs or postgres://USER@HOST:PORT/DATABASE");
            }
            pairs
        }
    };
    let filled = |text: &&String| !text.is_empty();
    let value = |key: &str, variable: &str| {
        let given = pairs.get(key).filter(filled);
        given.or_else(|| env.get(variable).filter(filled)).cloned()
    };
    let port = value("port", "PGPORT").unwrap_or_else(|| "5432".to_owned());
    let Ok(port) = port.parse::<u16>() else {
        bail!("--dsn: expected a port from 1 to 65535, found {port:?}");
    };
    let host = value("hostaddr", "PGHOSTADDR").or_else(|| value("host", "PGHOST"));
    let host = host.unwrap_or_else(|| {
        let there = |dir: &&str| Path::new(dir).join(format!(".s.PGSQL.{port}")).exists();
        let found = SOCKETS.into_iter().find(there);
        found.unwrap_or("127.0.0.1").to_owned()
    });
    if host.contains(',') {
        bail!("--dsn: expected one host, the local server's, found several");
    }
    let password = value("password", "PGPASSWORD").or_else(|| {
        env.get("PATRONI_SUPERUSER_PASSWORD")
            .filter(filled)
            .cloned()
    });
    let username = value("user", "PGUSER").or_else(|| {
        env.get("PATRONI_SUPERUSER_USERNAME")
            .filter(filled)
            .cloned()
    });
    let settings = ROLE_KEYS
        .into_iter()
        .filter_map(|(key, variable)| Some((key.to_owned(), value(key, variable)?)));
    Ok(SurveyTarget {
        database: value("dbname", "PGDATABASE").unwrap_or_else(|| "postgres".to_owned()),
        role: Credentials {
            username,
            password: password.map(Secret::new),
            sslpassword: None,
            settings: settings.collect(),
        },
        host,
        port,
    })
}

/// `postgres://user:password@host:port/database?key=value`
fn from_url(url: &str) -> Result<BTreeMap<String, String>> {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').unwrap_or((rest, ""));
            (host, port.trim_start_matches(':'))
        }
        None => address.rsplit_once(':').unwrap_or((address, "")),
    };
    let mut pairs = BTreeMap::new();
    let parts = [
        ("user", user),
        ("password", password),
        ("host", host),
        ("port", port),
        ("dbname", database),
    ];
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    for (key, value) in parts.into_iter().chain(query) {
        let Some(value) = decoded(value) else {
            bail!("--dsn: {key} has a % that is not followed by two hexadecimal digits");
        };
        if !value.is_empty() {
            pairs.insert(key.to_owned(), value);
        }
    }
    Ok(pairs)
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dsn: &str) -> SurveyTarget {
        let env = BTreeMap::from([("PGUSER".to_owned(), "me".to_owned())]);
        target(Some(dsn), &env).unwrap()
    }

    #[test]
    fn both_forms_of_connection_strings() {
        let url = read("postgres://po%20st:p%40ss@[::1]:5433/db?sslmode=require");
        assert_eq!(
            (url.host.as_str(), url.port, url.database.as_str()),
            ("::1", 5433, "db")
        );
        assert_eq!(url.role.username.as_deref(), Some("po st"));
        assert_eq!(
            url.role
                .password
                .map(|it| it.expose().to_owned())
                .as_deref(),
            Some("p@ss")
        );
        assert_eq!(url.role.settings["sslmode"], "require");
        let pairs = read("host=/run/x port=5433 password='a b'");
        assert_eq!((pairs.host.as_str(), pairs.port), ("/run/x", 5433));
        assert_eq!(pairs.role.username.as_deref(), Some("me"), "from PGUSER");
        assert_eq!(pairs.database, "postgres");
    }

    #[test]
    fn errors_do_not_show_the_password() {
        for dsn in [
            "s3cret",
            "host=a,b password=s3cret",
            "port=0x password=s3cret",
            "postgres://u:s3cret%zz@h/",
        ] {
            let error = target(Some(dsn), &BTreeMap::new()).unwrap_err().to_string();
            assert!(
                error.starts_with("--dsn: ") && !error.contains("s3cret"),
                "{error}"
            );
        }
    }
}
