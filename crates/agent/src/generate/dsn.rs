//! Where the running PostgreSQL is: a connection string, completed by libpq's variables and defaults.
//!
//! The string is understood as a whole or refused: with a word left out another server might be looked
//! at, or the right one without encryption. An error tells the place of what is wrong and never shows
//! it, since half a password looks like anything.

mod words;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use pgherd_instance::{Credentials, SurveyTarget};
use pgherd_model::Secret;

/// Directories of sockets, as distributions and PostgreSQL itself have them.
const SOCKETS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Keys that are kept for the role (contract: patroni-config, section 3).
const ROLE_KEYS: [(&str, &str); 9] = [
    ("sslmode", "PGSSLMODE"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
    ("gssencmode", "PGGSSENCMODE"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
];

/// Reads `key=value` pairs or a `postgres://` URL; `None`: the variables and defaults alone.
///
/// # Errors
/// What cannot be understood, and where it stands.
pub(super) fn target(dsn: Option<&str>, env: &BTreeMap<String, String>) -> Result<SurveyTarget> {
    let pairs = words::pairs(dsn.unwrap_or_default())?;
    let filled = |text: &&String| !text.is_empty();
    let given = |key: &str| pairs.get(key).filter(filled).cloned();
    let value = |key: &str, variable: &str| {
        given(key).or_else(|| env.get(variable).filter(filled).cloned())
    };
    let port = value("port", "PGPORT").unwrap_or_else(|| "5432".to_owned());
    let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0) else {
        bail!("--dsn: expected a port from 1 to 65535 (or PGPORT), found something else");
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
            // libpq has no variable for it.
            sslpassword: given("sslpassword").map(Secret::new),
            settings: settings.collect(),
        },
        host,
        port,
    })
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
        assert_eq!(target(None, &BTreeMap::new()).unwrap().port, 5432);
    }

    #[test]
    fn what_belongs_to_the_role_is_kept() {
        let role =
            read("sslpassword=s3cret sslnegotiation=direct sslcert=/c application_name=x").role;
        let password = role.sslpassword.as_ref().map(Secret::expose);
        assert_eq!(password, Some("s3cret"));
        let kept: Vec<&str> = role.settings.keys().map(String::as_str).collect();
        assert_eq!(kept, ["sslcert", "sslnegotiation"]);
        let env = [("PGSSLNEGOTIATION".to_owned(), "direct".to_owned())];
        let role = target(None, &env.into()).unwrap().role;
        assert_eq!(role.settings["sslnegotiation"], "direct");
    }

    #[test]
    fn errors_tell_the_place_and_never_the_value() {
        for (dsn, words) in [
            ("s3cret", "character 1: expected KEY=VALUE"),
            (
                "host=db1 sslmode require user=s3cret",
                "character 10: expected KEY=VALUE",
            ),
            (
                "host=a password=x s3cret",
                "character 19: expected KEY=VALUE",
            ),
            ("hots=s3cret", "character 1: libpq knows no such key"),
            (
                "host=a password=ü s3cret=x",
                "character 19: libpq knows no such key",
            ),
            (
                "host=a password='s3cret",
                "character 17: the quote is not closed",
            ),
            ("=s3cret", "character 1: expected KEY=VALUE"),
            (
                "service=s3cret",
                "character 1: service is not followed here",
            ),
            ("host=a,b password=s3cret", "one host"),
            ("port=s3cret", "a port from 1 to 65535"),
            ("port=0 password=s3cret", "a port from 1 to 65535"),
            ("postgres://h:s3cret", "a port from 1 to 65535"),
            (
                "postgres://u:s3cret%zz@h/",
                "character 14: expected two hexadecimal digits",
            ),
            (
                "postgres://u:s3cret%+1@h/",
                "character 14: expected two hexadecimal digits",
            ),
            (
                "postgres://u:s3cret%4",
                "character 14: expected two hexadecimal digits",
            ),
            (
                "postgres://u:s3cret%ff@h/",
                "character 14: expected two hexadecimal digits",
            ),
            ("postgres://h/db?s3cret", "character 17: expected KEY=VALUE"),
            (
                "postgres://h/db?sslmode=x&hots=s3cret",
                "character 27: libpq knows no such key",
            ),
            (
                "postgres://[::1/s3cret",
                "character 12: the bracket is not closed",
            ),
        ] {
            let error = target(Some(dsn), &BTreeMap::new()).unwrap_err().to_string();
            assert!(
                error.starts_with("--dsn: ") && error.contains(words),
                "{dsn}: {error}"
            );
            assert!(!error.contains("s3cret"), "{dsn}: {error}");
        }
    }
}
