//! Connections to PostgreSQL: kept-alive ones to the local server, short ones to others. Every
//! connection pins search_path and a statement timeout, and every query has a deadline of its own.

use crate::files::blocking;
use crate::{Credentials, Error, Instance, Result, probe, process, tls};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// Time to make a connection, and the limit of each query on the server (contract: patroni-ha-rules 16).
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Limit of a look on our side: a little more than the server's.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

/// Kept-alive connections of an instance, by purpose, so that none waits for another's query.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) look: Slot,
    pub(crate) beside: Slot,
    pub(crate) positions: Slot,
    pub(crate) work: Slot,
    pub(crate) probe: probe::Kept,
}

/// One connection, made when it is needed.
#[derive(Debug, Default)]
pub(crate) struct Slot(tokio::sync::Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    connection: Option<Connection>,
    connecting: Option<Connecting>,
}

/// A login under way. It goes on when a look is given up: on a machine so busy that a login takes
/// longer than a look may, no look would ever have an answer otherwise.
#[derive(Debug)]
struct Connecting {
    /// Postmaster it is meant for.
    pid: Option<u32>,
    task: JoinHandle<Result<Connection>>,
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kept {
    /// The connection to the postmaster `pid`: the login that is under way, or a new one.
    async fn connect(&mut self, instance: &Instance, pid: Option<u32>) -> Result<Connection> {
        if self.connecting.as_ref().is_some_and(|now| now.pid != pid) {
            self.connecting = None;
        }
        let connecting = self.connecting.get_or_insert_with(|| {
            let instance = instance.clone();
            let task = tokio::spawn(async move { local(&instance, CONNECT_TIMEOUT).await });
            Connecting { pid, task }
        });
        let made = (&mut connecting.task).await;
        self.connecting = None;
        made.unwrap_or_else(|ended| {
            Err(Error::Unexpected {
                what: "connecting to PostgreSQL",
                reason: ended.to_string(),
            })
        })
    }
}

/// A live connection and its place for errors.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    place: String,
    /// Postmaster it belongs to.
    pid: u32,
}

/// Rows of the statements of one simple query, in order.
pub(crate) type Results = Vec<Vec<tokio_postgres::SimpleQueryRow>>;

/// Whom to connect to, as whom.
pub(crate) struct Target<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) database: &'a str,
    pub(crate) role: &'a Credentials,
    pub(crate) application: &'a str,
    /// 0: no limit on the server.
    pub(crate) statement_timeout: Duration,
}

impl Target<'_> {
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host(self.host)
            .port(self.port)
            .dbname(self.database)
            .application_name(self.application)
            .tcp_user_timeout(CONNECT_TIMEOUT * 2)
            .options(format!(
                "-c search_path=pg_catalog -c synchronous_commit=local -c statement_timeout={}",
                self.statement_timeout.as_millis()
            ));
        match &self.role.username {
            Some(user) => config.user(user),
            None => config.user(operating_system_user()),
        };
        if let Some(secret) = &self.role.password {
            config.password(secret.expose());
        }
        if self
            .role
            .settings
            .get("channel_binding")
            .map(String::as_str)
            == Some("require")
        {
            config.channel_binding(ChannelBinding::Require);
        }
        let local = self.host.starts_with('/');
        config.ssl_mode(if local {
            SslMode::Disable
        } else {
            tls::mode(self.role)
        });
        config
    }

    /// Makes a connection; its background task ends with it.
    pub(crate) async fn connect(&self, limit: Duration) -> Result<Client> {
        let config = self.config();
        let work = async {
            if config.get_ssl_mode() == SslMode::Disable {
                let (client, connection) =
                    config.connect(NoTls).await.map_err(|e| self.error(&e))?;
                tokio::spawn(connection);
                return Ok(client);
            }
            let role = self.role.clone();
            let tls = blocking("reading certificates", move || tls::connector(&role)).await?;
            let (client, connection) = config.connect(tls).await.map_err(|e| self.error(&e))?;
            tokio::spawn(connection);
            Ok(client)
        };
        match tokio::time::timeout(limit.min(CONNECT_TIMEOUT), work).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout {
                what: format!("connecting to PostgreSQL at {}", self.place()),
                after: limit.min(CONNECT_TIMEOUT),
                last: String::new(),
            }),
        }
    }

    fn error(&self, e: &tokio_postgres::Error) -> Error {
        let busy = [
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
        ];
        if e.code().is_some_and(|code| busy.contains(code)) {
            return Error::NotReady(reason(e));
        }
        Error::Connect {
            place: self.place(),
            reason: reason(e),
        }
    }
}

/// An error's text with its causes; the server's own message where there is one. Never the query.
pub(crate) fn reason(e: &tokio_postgres::Error) -> String {
    if let Some(db) = e.as_db_error() {
        return format!("{}: {} ({})", db.severity(), db.message(), db.code().code());
    }
    let mut text = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn operating_system_user() -> String {
    let uid = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => "postgres".to_owned(),
    }
}

/// Where the local server is reached: its socket directory if told so, else a listen address.
pub(crate) async fn local_place(instance: &Instance) -> (String, u16) {
    let options = &instance.options();
    let data_dir = instance.path().to_owned();
    let file = blocking("reading postmaster.pid", move || {
        Ok(process::read_pid_file(&data_dir))
    });
    let file = file.await.ok().flatten();
    let port = file.as_ref().and_then(|f| f.port).unwrap_or(options.port);
    if options.use_unix_socket
        && let Some(dir) = file.as_ref().and_then(|f| f.socket_dir.clone())
        && Path::new(&dir).is_absolute()
    {
        return (dir, port);
    }
    let mut addresses: Vec<&str> = options.listen_addresses.split(',').map(str::trim).collect();
    // Changed since the server was started: it listens where it did.
    if let Some(listen) = file.as_ref().and_then(|f| f.listen.as_deref())
        && !addresses.contains(&listen)
    {
        addresses = vec![listen];
    }
    let everywhere = ["*", "0.0.0.0", "127.0.0.1", "localhost"];
    let host = if addresses.iter().any(|a| everywhere.contains(a)) {
        "127.0.0.1"
    } else {
        match addresses.first() {
            Some(&"::") => "::1",
            Some(first) if !first.is_empty() => first,
            _ => "127.0.0.1",
        }
    };
    (host.to_owned(), port)
}

/// A new connection to the local server as superuser.
pub(crate) async fn connect_local(
    instance: &Instance,
    database: &str,
    statement_timeout: Duration,
    limit: Duration,
) -> Result<Connection> {
    let Some(postmaster) = process::handle(instance).await else {
        return Err(Error::NotRunning(instance.path().to_owned()));
    };
    let (host, port) = local_place(instance).await;
    let target = Target {
        host: &host,
        port,
        database,
        role: &instance.options().superuser,
        application: "Patroni heartbeat",
        statement_timeout,
    };
    Ok(Connection {
        client: target.connect(limit).await?,
        place: target.place(),
        pid: postmaster.pid,
    })
}

impl Connection {
    /// It belongs to this postmaster, and was not seen to be closed.
    pub(crate) fn is_open_to(&self, postmaster: Option<u32>) -> bool {
        Some(self.pid) == postmaster && !self.client.is_closed()
    }

    /// Runs statements in one round trip and returns the rows of each.
    pub(crate) async fn run(
        &self,
        what: &'static str,
        sql: &str,
        limit: Duration,
    ) -> Result<Results> {
        match tokio::time::timeout(limit, self.client.simple_query(sql)).await {
            Ok(Ok(messages)) => Ok(results(messages)),
            Ok(Err(e)) => Err(self.error(what, &e)),
            Err(_) => Err(Error::Timeout {
                what: what.to_owned(),
                after: limit,
                last: format!("no answer from {}", self.place),
            }),
        }
    }

    pub(crate) fn error(&self, what: &'static str, e: &tokio_postgres::Error) -> Error {
        Error::Query {
            what,
            place: self.place.clone(),
            reason: reason(e),
        }
    }
}

fn results(messages: Vec<SimpleQueryMessage>) -> Results {
    let mut all = Vec::new();
    let mut rows = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => rows.push(row),
            SimpleQueryMessage::CommandComplete(_) => all.push(std::mem::take(&mut rows)),
            _ => {}
        }
    }
    all
}

impl Slot {
    /// Runs statements on the kept connection. One that was dropped by the server (or belongs to an
    /// earlier postmaster) is replaced once; statements given here can be repeated.
    pub(crate) async fn run(
        &self,
        instance: &Instance,
        what: &'static str,
        sql: &str,
        limit: Duration,
    ) -> Result<Results> {
        let work = async {
            let mut kept = self.0.lock().await;
            let now = process::handle(instance).await.map(|handle| handle.pid);
            if kept
                .connection
                .as_ref()
                .is_some_and(|connection| !connection.is_open_to(now))
            {
                kept.connection = None;
            }
            let fresh = kept.connection.is_none();
            // Taken out: a query that is given up half-way must not leave its answer to the next.
            let connection = match kept.connection.take() {
                Some(connection) => connection,
                None => kept.connect(instance, now).await?,
            };
            let answer = connection.run(what, sql, limit).await;
            match &answer {
                Err(e) if !fresh && is_lost(e) => {
                    let connection = kept.connect(instance, now).await?;
                    let answer = connection.run(what, sql, limit).await;
                    if answer.is_ok() {
                        kept.connection = Some(connection);
                    }
                    return answer;
                }
                Err(Error::Timeout { .. }) => {}
                Err(e) if is_lost(e) => {}
                _ => kept.connection = Some(connection),
            }
            answer
        };
        match tokio::time::timeout(limit, work).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout {
                what: what.to_owned(),
                after: limit,
                last: "PostgreSQL does not answer".to_owned(),
            }),
        }
    }
}

/// Whether the error ended its connection. The client itself may notice a moment later.
fn is_lost(error: &Error) -> bool {
    let ends = ["FATAL", "PANIC", "connection closed", "error communicating"];
    matches!(error, Error::Query { reason, .. } if ends.iter().any(|e| reason.starts_with(e)))
}

async fn local(instance: &Instance, limit: Duration) -> Result<Connection> {
    let database = &instance.options().database;
    connect_local(instance, database, STATEMENT_TIMEOUT, limit).await
}
