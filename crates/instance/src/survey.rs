//! Everything about a running PostgreSQL that a configuration for it needs. Reads only, over one
//! connection of a superuser; no data directory has to be known or readable.

use crate::connection::{QUERY_TIMEOUT, Target, reason};
use crate::look::within;
use crate::{Credentials, Error, Result};
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

const WHAT: &str = "looking at the running PostgreSQL";

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct SurveyTarget {
    /// Host, or directory of the socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// A superuser.
    pub role: Credentials,
}

/// A parameter that is not as PostgreSQL has it by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Name.
    pub name: String,
    /// Value with its unit.
    pub value: String,
    /// It differs from PostgreSQL's own default.
    pub changed: bool,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Survey {
    /// `server_version_num`.
    pub version: u32,
    /// `data_directory`.
    pub data_dir: PathBuf,
    /// `config_file`.
    pub config_file: PathBuf,
    /// `hba_file`.
    pub hba_file: PathBuf,
    /// `ident_file`.
    pub ident_file: PathBuf,
    /// Where its programs are, as it was built.
    pub bin_dir: PathBuf,
    /// `listen_addresses`.
    pub listen_addresses: String,
    /// `port`.
    pub port: u16,
    /// `cluster_name`, empty where there is none.
    pub cluster_name: String,
    /// Parameters from files, command line and environment, and those that were asked for.
    pub parameters: Vec<Parameter>,
    /// Lines of pg_hba.conf without comments.
    pub pg_hba: Vec<String>,
    /// Lines of pg_ident.conf without comments.
    pub pg_ident: Vec<String>,
    /// Pages have checksums.
    pub checksums: bool,
    /// It follows another server.
    pub in_recovery: bool,
    /// Roles that may log in and replicate and are no superusers.
    pub replication_roles: Vec<String>,
    /// The role that asked, as the server knows it.
    pub user: String,
}

const SERVER: &str = "SELECT current_setting('server_version_num') AS version, \
 current_setting('data_directory') AS data_dir, current_setting('config_file') AS config_file, \
 current_setting('hba_file') AS hba_file, current_setting('ident_file') AS ident_file, \
 current_setting('listen_addresses') AS listen, current_setting('port') AS port, \
 current_setting('cluster_name') AS cluster, current_setting('data_checksums') AS checksums, \
 (SELECT setting FROM pg_config() WHERE name = 'BINDIR') AS bin_dir, \
 pg_is_in_recovery() AS recovery, session_user AS me, \
 pg_read_file(current_setting('hba_file')) AS hba, pg_read_file(current_setting('ident_file')) AS ident";

const SUPERUSER: &str = "SELECT current_setting('is_superuser') AS super, session_user AS me";

const ROLES: &str = "SELECT rolname FROM pg_roles \
 WHERE rolreplication AND rolcanlogin AND NOT rolsuper ORDER BY oid";

/// `always`: names of parameters that are wanted whatever they are.
fn parameters_query(always: &[&str]) -> String {
    let names: Vec<String> = always.iter().map(|name| crate::literal(name)).collect();
    format!(
        "SELECT name, current_setting(name) AS value, setting IS DISTINCT FROM boot_val AS changed \
         FROM pg_settings WHERE name IN ({}) OR (context <> 'internal' \
         AND source IN ('configuration file', 'command line', 'environment variable') \
         AND category NOT LIKE 'Write-Ahead Log / Recovery Target%' AND setting <> '(disabled)') \
         ORDER BY name",
        names.join(", ")
    )
}

/// Looks at a running server.
///
/// # Errors
/// No connection; the role is no superuser; a query failed.
pub async fn survey(target: &SurveyTarget, always: &[&str]) -> Result<Survey> {
    let limit = QUERY_TIMEOUT * 3;
    within(WHAT, limit, look(target, always)).await
}

async fn look(target: &SurveyTarget, always: &[&str]) -> Result<Survey> {
    let connect = Target {
        host: &target.host,
        port: target.port,
        database: &target.database,
        role: &target.role,
        application: "pgherd",
        statement_timeout: Duration::from_secs(5),
    };
    let place = connect.place();
    let client = connect.connect(QUERY_TIMEOUT).await?;
    let me = rows(&client, &place, SUPERUSER).await?;
    if text(me.first(), "super")? != "on" {
        let name = text(me.first(), "me")?;
        let reason = format!(
            "role {name} is no superuser, and others do not see all that is needed: connect as one"
        );
        return Err(Error::Unexpected { what: WHAT, reason });
    }
    let server = rows(&client, &place, SERVER).await?;
    let server = server.first();
    let parameters = rows(&client, &place, &parameters_query(always)).await?;
    let roles = rows(&client, &place, ROLES).await?;
    let path = |name| text(server, name).map(PathBuf::from);
    let parse = |name| {
        let text = text(server, name)?;
        let reason = format!("{name} is {text:?}, no number");
        text.parse::<u32>()
            .map_err(|_| Error::Unexpected { what: WHAT, reason })
    };
    Ok(Survey {
        version: parse("version")?,
        data_dir: path("data_dir")?,
        config_file: path("config_file")?,
        hba_file: path("hba_file")?,
        ident_file: path("ident_file")?,
        bin_dir: path("bin_dir")?,
        listen_addresses: text(server, "listen")?,
        port: u16::try_from(parse("port")?).unwrap_or(5432),
        cluster_name: text(server, "cluster")?,
        parameters: parameters
            .iter()
            .map(|row| {
                Ok(Parameter {
                    name: text(Some(row), "name")?,
                    value: text(Some(row), "value")?,
                    changed: text(Some(row), "changed")? == "t",
                })
            })
            .collect::<Result<_>>()?,
        pg_hba: lines(&text(server, "hba")?),
        pg_ident: lines(&text(server, "ident")?),
        checksums: text(server, "checksums")? == "on",
        in_recovery: text(server, "recovery")? == "t",
        replication_roles: roles
            .iter()
            .map(|row| text(Some(row), "rolname"))
            .collect::<Result<_>>()?,
        user: text(server, "me")?,
    })
}

async fn rows(client: &Client, place: &str, sql: &str) -> Result<Vec<SimpleQueryRow>> {
    let messages = client.simple_query(sql).await.map_err(|e| Error::Query {
        what: WHAT,
        place: place.to_owned(),
        reason: reason(&e),
    })?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(rows.collect())
}

fn text(row: Option<&SimpleQueryRow>, name: &str) -> Result<String> {
    let value = row.and_then(|row| row.try_get(name).ok().flatten());
    value.map(str::to_owned).ok_or_else(|| Error::Unexpected {
        what: WHAT,
        reason: format!("it did not say its {name}"),
    })
}

/// What counts of a file of rules: a line that ends in a backslash goes on in the next one. Within a line
/// everything stays: blanks between quotes are part of a name.
fn lines(file: &str) -> Vec<String> {
    let joined = file.replace("\\\n", "");
    let lines = joined.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn comments_and_blanks_do_not_count() {
        let file = "# TYPE  DATABASE\n\nlocal   all   all   peer\n  # x\nhost all all \\\n 10.0.0.0/8  md5\n";
        assert_eq!(
            lines(file),
            ["local   all   all   peer", "host all all  10.0.0.0/8  md5"]
        );
    }

    #[test]
    fn blanks_between_quotes_are_kept() {
        let file = " host \"two  blanks\" all samenet ldap ldapprefix=\"cn=a   b\"\n";
        assert_eq!(
            lines(file),
            ["host \"two  blanks\" all samenet ldap ldapprefix=\"cn=a   b\""]
        );
    }
}
