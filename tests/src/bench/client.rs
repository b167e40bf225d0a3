//! Connections of the measuring clients: one insert is one simple query, one transaction.

use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// Longest time that one try to connect may take.
const CONNECT: Duration = Duration::from_millis(1000);
/// Pause between two tries.
pub(crate) const RETRY: Duration = Duration::from_millis(1);

/// What the clients need: their table, and a function that works for some seconds. It must not
/// sleep: a backend that waits notices at once that its postmaster is gone, one that works does not.
pub(crate) const SETUP: &str =
    "CREATE TABLE public.bench (client int, id bigint, PRIMARY KEY (client, id));
     CREATE FUNCTION public.bench_busy(seconds int) RETURNS boolean LANGUAGE plpgsql AS $$
     DECLARE over timestamptz := clock_timestamp() + make_interval(secs => seconds);
     BEGIN
       WHILE clock_timestamp() < over LOOP END LOOP;
       RETURN true;
     END $$";

/// Where a node listens.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Address and port.
    Tcp(String, u16),
    /// Directory of the socket and port: reaches a node that is cut off from the network.
    Unix(PathBuf, u16),
}

/// A node as the clients know it.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Number of the node.
    pub(crate) node: usize,
    /// Where it listens.
    pub(crate) target: Target,
    /// User of the database; superuser, since only measuring happens here.
    pub(crate) user: String,
    /// Password, if one is needed.
    pub(crate) password: Option<String>,
}

/// An open connection to a node.
#[derive(Debug)]
pub(crate) struct Session {
    /// Number of the node.
    pub(crate) node: usize,
    client: Client,
}

/// A connection could not be made, or broke.
pub(crate) type Error = tokio_postgres::Error;

impl Session {
    /// Connects once, at most a second long.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Session, Option<Error>> {
        let mut config = Config::new();
        match &endpoint.target {
            Target::Tcp(host, port) => config.host(host).port(*port),
            Target::Unix(directory, port) => config.host_path(directory).port(*port),
        };
        config
            .user(&endpoint.user)
            .dbname("postgres")
            .application_name("bench");
        if let Some(password) = &endpoint.password {
            config.password(password);
        }
        let connect = tokio::time::timeout(CONNECT, config.connect(NoTls));
        let (client, connection) = connect.await.map_err(|_| None)?.map_err(Some)?;
        tokio::spawn(connection);
        Ok(Session {
            node: endpoint.node,
            client,
        })
    }

    /// Whether the node accepts writes now.
    pub(crate) async fn writable(&self) -> Result<bool, Error> {
        let answer = self
            .client
            .simple_query("SELECT pg_catalog.pg_is_in_recovery()")
            .await?;
        Ok(first_cell(&answer).as_deref() == Some("f"))
    }

    /// Inserts one row; the answer is the acknowledgement of its commit.
    pub(crate) async fn insert(&self, client: i32, id: i64) -> Result<(), Error> {
        self.client
            .batch_execute(&format!("INSERT INTO bench VALUES ({client}, {id})"))
            .await
    }

    /// Inserts one row by a statement that works for `seconds` (see [`SETUP`]).
    pub(crate) async fn insert_slowly(
        &self,
        client: i32,
        id: i64,
        seconds: u32,
    ) -> Result<(), Error> {
        let sql = format!("INSERT INTO bench SELECT {client}, {id} WHERE bench_busy({seconds})");
        self.client.batch_execute(&sql).await
    }

    /// Runs statements without a result.
    pub(crate) async fn run(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await
    }

    /// Rows of a query as text; SQL null is an empty text.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>, Error> {
        let messages = self.client.simple_query(sql).await?;
        Ok(messages
            .iter()
            .filter_map(|m| match m {
                SimpleQueryMessage::Row(row) => Some(
                    (0..row.len())
                        .map(|i| row.get(i).unwrap_or_default().to_owned())
                        .collect(),
                ),
                _ => None,
            })
            .collect())
    }
}

/// First column of the first row.
fn first_cell(messages: &[SimpleQueryMessage]) -> Option<String> {
    messages.iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// The first of `endpoints` that accepts writes: all are asked at once and, as libpq with
/// `target_session_attrs=read-write` in a loop would, again every millisecond. A connection to a
/// standby is kept for the next question.
pub(crate) async fn hunt(endpoints: &[Endpoint]) -> Session {
    let (found, mut first) = tokio::sync::mpsc::channel(1);
    let mut tasks = tokio::task::JoinSet::new();
    for endpoint in endpoints {
        let (found, endpoint) = (found.clone(), endpoint.clone());
        tasks.spawn(async move {
            let session = becomes_writable(&endpoint).await;
            let _ = found.send(session).await;
        });
    }
    drop(found);
    match first.recv().await {
        Some(session) => session,
        // Only when there is no endpoint at all.
        None => std::future::pending().await,
    }
}

/// Asks one node every millisecond until it accepts writes.
pub(crate) async fn becomes_writable(endpoint: &Endpoint) -> Session {
    loop {
        if let Ok(session) = Session::open(endpoint).await {
            while let Ok(writable) = session.writable().await {
                if writable {
                    return session;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Waits until `limit` after now for the future.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}
