//! Connections to PostgreSQL.

use std::time::Duration;
use tokio_postgres::{Client, Config, NoTls};

/// Where a member's PostgreSQL is and who we are there.
#[derive(Clone, Debug)]
pub struct Target {
    /// Member name.
    pub name: String,
    /// Address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Superuser.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// Connects to database `postgres`; the connection is driven by a task of the present runtime.
///
/// # Errors
/// A text with the reason; after `limit` at the latest.
pub async fn connect(target: &Target, limit: Duration) -> Result<Client, String> {
    let mut config = Config::new();
    config
        .host(&target.host)
        .port(target.port)
        .dbname("postgres");
    config
        .user(&target.user)
        .password(&target.password)
        .application_name("pgherd-tests");
    config.connect_timeout(limit);
    let (client, connection) = tokio::time::timeout(limit, config.connect(NoTls))
        .await
        .map_err(|_| format!("{}: no connection within {limit:?}", target.name))?
        .map_err(|e| format!("{}: {}", target.name, text(&e)))?;
    tokio::spawn(connection);
    Ok(client)
}

/// The server's message, or the client's.
pub fn text(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| format!("{error:?}"), |e| e.message().to_owned())
}

/// First column of the first row, as text. The SQL must cast to text itself.
///
/// # Errors
/// A text with the reason; after 5 s at the latest.
pub async fn value(target: &Target, sql: &str) -> Result<String, String> {
    let limit = Duration::from_secs(5);
    let work = async {
        let client = connect(target, limit).await?;
        let row = client.query_one(sql, &[]).await.map_err(|e| text(&e))?;
        row.try_get::<_, Option<String>>(0)
            .map(Option::unwrap_or_default)
            .map_err(|e| e.to_string())
    };
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| format!("{sql}: no answer"))?
}
