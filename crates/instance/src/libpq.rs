//! What a program that links libpq is told of a server: a connection string without secrets in its
//! arguments, and the secrets in files of mode 0600 that its environment names.

use crate::files;
use crate::program::{self, Run};
use crate::quote::conninfo;
use crate::recovery::pgpass_line;
use crate::{Credentials, Error, Instance, Options, Result, Source};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Options that not every libpq of 13 and later knows, and the first that does. An unknown one makes
/// the whole connection string invalid (contract: patroni-config, section 3).
const NEWER: [(&str, u32); 2] = [("sslcrldir", 14), ("sslnegotiation", 17)];

/// What was told already: option and version.
static TOLD: Mutex<BTreeSet<(&str, u32)>> = Mutex::new(BTreeSet::new());

/// A source that vanishes without a word (its machine, the network between) is noticed after half a
/// minute, not after the kernel's two hours. libpq's names; seconds, and milliseconds for the last.
const WATCHFUL: [(&str, &str); 5] = [
    ("keepalives", "1"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "30000"),
];

/// Name of the only entry of a service file of ours.
const SERVICE: &str = "pgherd";

/// A role without the options that PostgreSQL of this major version does not know; each of them is
/// told once.
fn fitting(role: &Credentials, major: u32) -> Credentials {
    let mut role = role.clone();
    for (option, since) in NEWER {
        if major >= since || role.settings.remove(option).is_none() {
            continue;
        }
        if TOLD
            .lock()
            .is_ok_and(|mut told| told.insert((option, major)))
        {
            tracing::warn!(
                "postgresql.authentication: {option} is left out: PostgreSQL {major} does not know it, {since} is the first that does"
            );
        }
    }
    role
}

/// Whether it depends on the version what may be said of a role.
fn depends(role: &Credentials) -> bool {
    NEWER
        .iter()
        .any(|(option, _)| role.settings.contains_key(*option))
}

/// A role as the local PostgreSQL's programs understand it.
pub(crate) async fn role(instance: &Instance, role: &Credentials) -> Result<Credentials> {
    match depends(role) {
        true => Ok(fitting(role, program::major_version(instance).await?)),
        false => Ok(role.clone()),
    }
}

/// The node's options, with what its server understands of the role that replicates.
pub(crate) async fn options(instance: &Instance) -> Result<Options> {
    let mut options = Options::clone(&instance.options());
    options.replication = role(instance, &options.replication).await?;
    Ok(options)
}

/// Connection string for a program's arguments: everything but secrets. Not under the member's name: the
/// WAL of a base backup flows through a slot, so it is told as flushed, and a commit that waits for that
/// member would be acknowledged because of a copy that may never be finished.
pub(crate) fn source_of(options: &Options, source: &Source, role: &Credentials) -> String {
    let database = source.database.as_ref().unwrap_or(&options.database);
    let mut pairs = vec![
        ("dbname", database.clone()),
        ("host", source.host.clone()),
        ("port", source.port.to_string()),
        (
            "application_name",
            format!("pgherd copy to {}", options.name),
        ),
    ];
    pairs.extend(WATCHFUL.map(|(key, value)| (key, value.to_owned())));
    pairs.extend(described(options, role));
    conninfo(&pairs)
}

/// For a command of the user's, which may take it apart: as Patroni writes it.
pub(crate) fn plain_source(options: &Options, source: &Source, role: &Credentials) -> String {
    let database = source.database.as_ref().unwrap_or(&options.database);
    let user = role.username.clone().map(|user| ("user", user));
    let mut pairs = vec![("dbname", database.clone())];
    pairs.extend(user);
    pairs.push(("host", source.host.clone()));
    pairs.push(("port", source.port.to_string()));
    let rest = described(options, role).into_iter();
    pairs.extend(rest.filter(|(key, _)| *key != "user"));
    conninfo(&pairs)
}

/// Who, and how; last in a string, since of two with one name libpq takes the latter.
pub(crate) fn described<'a>(options: &Options, role: &'a Credentials) -> Vec<(&'a str, String)> {
    let user = role.username.clone().map(|user| ("user", user));
    let settings = role.settings.iter();
    let settings = settings.map(|(key, value)| (key.as_str(), value.clone()));
    let service = options.krbsrvname.clone().map(|name| ("krbsrvname", name));
    user.into_iter().chain(settings).chain(service).collect()
}

/// A file with a secret for the time of one program.
pub(crate) struct Passing(pub(crate) PathBuf);

impl Passing {
    pub(crate) fn new(path: &Path, content: &str) -> Result<Passing> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let _ = std::fs::remove_file(path);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(Error::file("create", path))?;
        let passing = Passing(path.to_owned());
        file.write_all(content.as_bytes())
            .map_err(Error::file("write", path))?;
        Ok(passing)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A role's secrets in files beside the configured passfile (that one belongs to the WAL receiver),
/// as long as this lives.
pub(crate) struct Secrets {
    passfile: Option<Passing>,
    service: Option<Passing>,
}

impl Secrets {
    pub(crate) fn of(
        options: &Options,
        role: &Credentials,
        host: &str,
        port: u16,
    ) -> Result<Secrets> {
        // Several programs may run at the same time.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str, content: &str| {
            let suffix = format!(".{}.{number}.{kind}tmp", std::process::id());
            Passing::new(&files::beside(&options.pgpass, &suffix), content)
        };
        let passfile = pgpass_line(role, host, port).map(|line| file("", &line));
        // No passfile holds the password of a key; a service file holds every option.
        let service = role.sslpassword.as_ref().map(|secret| {
            let text = format!("[{SERVICE}]\nsslpassword={}\n", secret.expose());
            file("service.", &text)
        });
        Ok(Secrets {
            passfile: passfile.transpose()?,
            service: service.transpose()?,
        })
    }

    /// Without a passfile: the configured one holds the password already.
    pub(crate) fn of_key(options: &Options, role: &Credentials) -> Result<Secrets> {
        let without = Credentials {
            password: None,
            ..role.clone()
        };
        Secrets::of(options, &without, "", 0)
    }

    /// Names the files to a program, which has to end before this is dropped.
    pub(crate) fn name_to(&self, mut run: Run) -> Run {
        if let Some(file) = &self.passfile {
            run = run.env("PGPASSFILE", &file.0);
        }
        if let Some(file) = &self.service {
            run = run.env("PGSERVICEFILE", &file.0);
            run = run.env("PGSERVICE", SERVICE);
        }
        run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role() -> Credentials {
        Credentials {
            username: Some("re plicator".to_owned()),
            password: Some(pgherd_model::Secret::new("hidden")),
            sslpassword: Some(pgherd_model::Secret::new("hidden too")),
            ..Credentials::default()
        }
    }

    #[test]
    fn copies_notice_a_source_that_vanishes() {
        let mut role = role();
        let address = ("127.0.0.1", 5432);
        let options = Options::new("s", "n", "/data", address, role.clone(), role.clone());
        let source = Source {
            host: "10.0.0.2".to_owned(),
            port: 5433,
            database: None,
        };
        assert_eq!(
            source_of(&options, &source, &role),
            "dbname=postgres host=10.0.0.2 port=5433 application_name='pgherd copy to n' keepalives=1 \
             keepalives_idle=10 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=30000 \
             user='re plicator'"
        );
        // The user's own word stands.
        let own = ("keepalives_idle".to_owned(), "60".to_owned());
        role.settings.extend([own]);
        let text = source_of(&options, &source, &role);
        assert!(text.ends_with(" keepalives_idle=60"), "{text}");
    }

    #[test]
    fn options_newer_than_the_server_are_left_out() {
        let mut role = role();
        for (key, value) in [
            ("sslmode", "verify-full"),
            ("sslcrldir", "/crl"),
            ("sslnegotiation", "direct"),
        ] {
            role.settings.insert(key.to_owned(), value.to_owned());
        }
        let left = |major| -> Vec<String> {
            let fitting = fitting(&role, major);
            fitting.settings.into_keys().collect()
        };
        assert_eq!(left(13), ["sslmode"]);
        assert_eq!(left(16), ["sslcrldir", "sslmode"]);
        assert_eq!(left(17), ["sslcrldir", "sslmode", "sslnegotiation"]);
        assert!(depends(&role) && !depends(&Credentials::default()));
    }
}
