//! `query`: SQL on a member's PostgreSQL. Where the server is, the lock service says; who asks, the
//! command line and libpq's variables (`PGUSER`, `PGPASSWORD`, `PGPASSFILE`, `PGSSLMODE`, ...).

use crate::args::{QueryArgs, RoleArg};
use crate::dsn::{exclusive, member};
use crate::error::CtlError;
use crate::members::role_word;
use crate::output::timestamp;
use crate::passfile::{Place, password};
use crate::prompt::ask_secret;
use crate::rows;
use crate::session::{Seen, Session};
use crate::value::of_postgres;
use crate::watch::Watch;
use pgherd_instance::{Credentials, tls_connector, tls_mode};
use pgherd_model::{Secret, Span};
use serde_json::Value;
use std::io::Read;
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage, types::Type};

/// How long a connection may take.
const CONNECT_LIMIT: Span = Span::from_secs(10);
/// How long statements may take: they are a person's, who can interrupt them. A server that is gone is
/// noticed by the system's probes long before.
const QUERY_LIMIT: Span = Span::from_secs(7 * 86_400);

/// Column names and rows, or why there are none.
type Outcome = Result<(Vec<String>, Vec<Vec<Value>>), String>;

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &QueryArgs) -> Result<(), CtlError> {
    exclusive(args.role, args.member.as_deref())?;
    let sql = sql(args)?;
    // Results of before are what a person compares with.
    let watch = Watch::new(session.persona, args.watch2, args.watch)?.below_each_other();
    let given = match args.password {
        true => Some(Secret::new(ask_secret("Password")?)),
        false => None,
    };
    let mut seen = session
        .see(&session.scope(args.cluster.as_deref())?)
        .await?;
    loop {
        let outcome = ask(&seen, args, given.as_ref(), &sql).await;
        let shown = match &outcome {
            Ok((names, values)) => {
                let headings: Vec<_> = names.iter().map(|name| (name.as_str(), false)).collect();
                match names.is_empty() {
                    true => String::new(),
                    false => rows::show(&headings, values, args.format, &args.delimiter),
                }
            }
            Err(text) => failure(text, args),
        };
        if !watch.show(&shown).await? {
            return outcome.map(|_| ()).map_err(|_| CtlError::Refused);
        }
        seen = seen.again().await?;
    }
}

fn sql(args: &QueryArgs) -> Result<String, CtlError> {
    match (&args.command, &args.file) {
        (Some(_), Some(_)) => Err(CtlError::told(
            "--file and --command are mutually exclusive options",
        )),
        (None, None) => Err(CtlError::told(
            "You need to specify either --command or --file",
        )),
        (Some(sql), None) => Ok(sql.clone()),
        (None, Some(file)) => {
            let mut text = String::new();
            let read = match file.as_os_str() == "-" {
                true => std::io::stdin().read_to_string(&mut text).map(|_| text),
                false => std::fs::read_to_string(file),
            };
            read.map_err(|cause| {
                CtlError::Usage(format!(
                    "Invalid value for '--file' / '-f': '{}': {cause}",
                    file.display()
                ))
            })
        }
    }
}

/// A failure is a row too: when, and what.
fn failure(text: &str, args: &QueryArgs) -> String {
    let row = vec![Value::from(timestamp(0)), Value::from(text)];
    match args.format {
        crate::args::Format::Tsv => rows::joined(&row, &args.delimiter) + "\n",
        format => {
            let headings = [("Field 1", false), ("Field 2", false)];
            rows::show(&headings, &[row], format, &args.delimiter)
        }
    }
}

async fn ask(seen: &Seen, args: &QueryArgs, given: Option<&Secret>, sql: &str) -> Outcome {
    let found = member(seen, args.role, args.member.as_deref());
    let Some((host, port)) = found.and_then(|member| member.address.as_ref()) else {
        return Err(nobody(args));
    };
    let client = connect(host, *port, args, given).await?;
    if let Some(wanted) = args.role.and_then(in_recovery) {
        let look = client.simple_query("SELECT pg_catalog.pg_is_in_recovery()");
        let said = within(CONNECT_LIMIT, look).await?;
        if is_true(&said) != wanted {
            return Err(nobody(args));
        }
    }
    within(QUERY_LIMIT, statements(&client, sql)).await
}

fn nobody(args: &QueryArgs) -> String {
    match (&args.member, args.role) {
        (Some(name), _) => format!("No connection to member {name} is available"),
        (None, None) => "No connection is available".to_owned(),
        (None, Some(role)) => format!("No connection to role '{}' is available", role_word(role)),
    }
}

/// What a server of this role says of itself, where the lock service alone is not believed: it may be behind, and a
/// write would go to a server that is no primary any more. `None`: any server does, or the lock is what is meant.
fn in_recovery(role: RoleArg) -> Option<bool> {
    match role {
        RoleArg::Primary => Some(false),
        RoleArg::Replica | RoleArg::Standby | RoleArg::StandbyLeader => Some(true),
        RoleArg::Any | RoleArg::Leader => None,
    }
}

/// As patronictl, a server that says nothing is taken for one in recovery.
fn is_true(said: &[SimpleQueryMessage]) -> bool {
    let value = said.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    value != Some("f")
}

/// What the server answers, or its failure in words.
async fn within<T>(limit: Span, work: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(match error.as_db_error() {
            Some(said) => {
                eprintln!("{}:  {}", said.severity(), said.message());
                format!("ERROR, SQLSTATE: {}", said.code().code())
            }
            None => format!("ERROR, SQLSTATE: {}", causes(&error)),
        }),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
}

/// The first result of the statements.
async fn statements(client: &Client, sql: &str) -> Result<(Vec<String>, Vec<Vec<Value>>), Error> {
    // Types are known of a single statement only; others, and wrong ones, are told by the query.
    let types: Vec<Type> = match client.prepare(sql).await {
        Ok(statement) => statement
            .columns()
            .iter()
            .map(|c| c.type_().clone())
            .collect(),
        Err(_) => Vec::new(),
    };
    let mut names: Option<Vec<String>> = None;
    let mut rows = Vec::new();
    for message in client.simple_query(sql).await? {
        match message {
            SimpleQueryMessage::RowDescription(columns) if names.is_none() => {
                names = Some(columns.iter().map(|c| c.name().to_owned()).collect());
            }
            SimpleQueryMessage::Row(row) => {
                let value = |at: usize| of_postgres(row.get(at), types.get(at));
                rows.push((0..row.len()).map(value).collect());
            }
            SimpleQueryMessage::CommandComplete(_) if names.is_some() => break,
            _ => {}
        }
    }
    Ok((names.unwrap_or_default(), rows))
}

async fn connect(
    host: &str,
    port: u16,
    args: &QueryArgs,
    given: Option<&Secret>,
) -> Result<Client, String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = args.username.clone().or_else(|| variable("PGUSER"));
    let user = user.or_else(system_user).unwrap_or_default();
    let database = args.dbname.clone().or_else(|| variable("PGDATABASE"));
    let database = database.unwrap_or_else(|| user.clone());
    let place = Place {
        host,
        port,
        database: &database,
        user: &user,
    };
    let secret = given.cloned();
    let secret = secret.or_else(|| variable("PGPASSWORD").map(Secret::new));
    let secret = secret.or_else(|| password(place));
    let role = credentials(&user);
    let mut config = Config::new();
    config
        .host(host)
        .port(port)
        .dbname(&database)
        .user(&user)
        .application_name(variable("PGAPPNAME").unwrap_or_else(|| "pgherd ctl".to_owned()))
        .connect_timeout(CONNECT_LIMIT)
        .keepalives_idle(Span::from_secs(10))
        .keepalives_interval(Span::from_secs(5))
        .keepalives_retries(3)
        .ssl_mode(tls_mode(&role));
    if let Some(options) = variable("PGOPTIONS") {
        config.options(options);
    }
    if let Some(secret) = &secret {
        config.password(secret.expose());
    }
    let failed = |reason: String| {
        format!(
            "ERROR, SQLSTATE: connection failed: connection to server at \"{host}\", port {port} failed: {reason}"
        )
    };
    let tls = tls_connector(&role).map_err(|error| failed(error.to_string()))?;
    match tokio::time::timeout(CONNECT_LIMIT, config.connect(tls)).await {
        Ok(Ok((client, connection))) => {
            tokio::spawn(connection);
            Ok(client)
        }
        Ok(Err(error)) => Err(failed(reason(&error, secret.is_some()))),
        Err(_) => Err(failed(format!(
            "no answer within {} s",
            CONNECT_LIMIT.as_secs()
        ))),
    }
}

/// libpq's variables about TLS, and the files where it looks by itself.
fn credentials(user: &str) -> Credentials {
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
    let setting = |variable: &str, file: &str| {
        let named = std::env::var(variable).ok();
        let known = || {
            let path = home.as_ref()?.join(".postgresql").join(file);
            path.is_file().then(|| path.to_string_lossy().into_owned())
        };
        named.filter(|value| !value.is_empty()).or_else(known)
    };
    let settings = [
        ("sslmode", std::env::var("PGSSLMODE").ok()),
        ("sslrootcert", setting("PGSSLROOTCERT", "root.crt")),
        ("sslcert", setting("PGSSLCERT", "postgresql.crt")),
        ("sslkey", setting("PGSSLKEY", "postgresql.key")),
    ];
    let settings = settings.into_iter();
    Credentials {
        username: Some(user.to_owned()),
        password: None,
        sslpassword: None,
        settings: settings
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect(),
    }
}

fn system_user() -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    user.ok().flatten().map(|user| user.name)
}

/// In libpq's words where it has some.
fn reason(error: &Error, has_password: bool) -> String {
    match error.as_db_error() {
        Some(said) => format!("{}:  {}", said.severity(), said.message()),
        None if !has_password && causes(error).contains("password missing") => {
            "fe_sendauth: no password supplied".to_owned()
        }
        None => causes(error),
    }
}

/// An error and what it came from, in one line.
fn causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
