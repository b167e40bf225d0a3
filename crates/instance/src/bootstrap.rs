//! A new cluster: initdb, then the roles and the user's script on the running primary.

use crate::connection::{Connection, connect_local, local_place};
use crate::files::{self, blocking};
use crate::libpq::{self, Passing, Secrets};
use crate::look::within;
use crate::program::{self, Run};
use crate::quote::{conninfo, identifier, literal};
use crate::script::Script;
use crate::start::kernel_reports_syncfs;
use crate::{Credentials, Error, Instance, ProgramOption, Result, apply, datadir};
use pgherd_model::{DataDir, SystemId};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What pg_rewind calls on its source (contract: patroni-ha-rules 10, "4 grants").
const REWIND_FUNCTIONS: [&str; 4] = [
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
];

/// Keeps passwords out of the server's log and statistics for the session.
const QUIET: &str = "SET log_statement TO none; SET log_min_duration_statement TO -1; \
 SET log_min_error_statement TO panic; SET log_min_duration_sample TO -1; \
 SET log_duration TO off; SET pg_stat_statements.track_utility TO off; SET pgaudit.log TO none; \
 SET debug_print_parse TO off; SET debug_print_rewritten TO off";

/// Refuses a data directory that is not ours to fill, and removes an unfinished one.
pub(crate) async fn fillable(instance: &Instance, what: &'static str) -> Result<()> {
    match instance.data_dir().await {
        DataDir::Empty => datadir::no_removal(instance).map(drop),
        DataDir::Unfinished => datadir::remove(instance).await,
        state => Err(Error::DataDir {
            what,
            path: instance.path().to_owned(),
            state,
        }),
    }
}

/// `--name` and `--name=value`.
pub(crate) fn arguments(options: &[ProgramOption]) -> Vec<String> {
    options
        .iter()
        .map(|option| match option {
            ProgramOption::Flag(name) => format!("--{}", name.trim_start_matches('-')),
            ProgramOption::Value(name, value) => {
                format!("--{}={value}", name.trim_start_matches('-'))
            }
        })
        .collect()
}

/// Whether the user gave one of these options.
pub(crate) fn has(options: &[ProgramOption], names: &[&str]) -> bool {
    options.iter().any(|option| {
        let (ProgramOption::Flag(name) | ProgramOption::Value(name, _)) = option;
        names.contains(&name.trim_start_matches('-'))
    })
}

/// Whether we make a program's files durable ourselves: one syncfs for each file system instead of
/// one fsync for each file (what initdb and pg_basebackup of 17+ call `--sync-method=syncfs`).
pub(crate) fn sync_ourselves(options: &[ProgramOption]) -> bool {
    kernel_reports_syncfs() && !has(options, &["sync-method"])
}

/// Makes a whole cluster directory durable: its file system and those behind its links.
pub(crate) fn sync_tree(cluster: &Path) -> Result<()> {
    let mut places = vec![cluster.to_owned(), cluster.join("pg_wal")];
    if let Ok(spaces) = std::fs::read_dir(cluster.join("pg_tblspc")) {
        places.extend(spaces.flatten().map(|space| space.path()));
    }
    for place in places {
        let dir = File::open(&place).map_err(Error::file("open", &place))?;
        rustix::fs::syncfs(&dir).map_err(|e| Error::file("sync", &place)(e.into()))?;
    }
    Ok(())
}

/// File work of a long job, whose limit is the job's.
pub(crate) async fn long_file_work(
    what: &'static str,
    work: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<()> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(e) => Err(Error::Unexpected {
            what,
            reason: e.to_string(),
        }),
    }
}

pub(crate) async fn initdb(instance: &Instance, timeout: Duration) -> Result<SystemId> {
    let tool = program::path(instance, "initdb")?;
    fillable(instance, "initdb").await?;
    let path = instance.path().to_owned();
    let result = within("initdb", timeout, fill(instance, tool, timeout)).await;
    if let Err(e) = result {
        blocking("cleaning up after initdb", move || datadir::abandon(&path)).await?;
        return Err(e);
    }
    let control = instance.control_file().await?;
    tracing::info!(system_id = %control.system_id, "new cluster made");
    Ok(control.system_id)
}

async fn fill(instance: &Instance, tool: PathBuf, timeout: Duration) -> Result<()> {
    let options = &instance.options();
    let path = instance.path().to_owned();
    let new = blocking("making the data directory", {
        let path = path.clone();
        move || datadir::begin(&path)
    })
    .await?;
    let mut run = Run::new(instance, tool)
        .own_messages()
        .arg("-D")
        .arg(&new)
        .args(arguments(&options.initdb));
    let sync = sync_ourselves(&options.initdb);
    if sync {
        run = run.arg("--no-sync");
    }
    if let Some(user) = &options.superuser.username
        && !has(&options.initdb, &["username", "U"])
    {
        run = run.arg(format!("--username={user}"));
    }
    let password = match &options.superuser.password {
        Some(secret) => {
            let file = Passing::new(&path.join(".pgherd-pw"), secret.expose())?;
            run = run.arg(format!("--pwfile={}", file.0.display()));
            Some(file)
        }
        None => None,
    };
    run.output(timeout).await?;
    drop(password);
    let hba_given = apply::newest(instance).pg_hba.is_some();
    let lines = if hba_given {
        Vec::new()
    } else {
        options.bootstrap_pg_hba.clone()
    };
    long_file_work("finishing initdb", move || {
        append(&new.join("pg_hba.conf"), &lines)?;
        let mark = new.join(datadir::HALF_MADE);
        files::write_durably(&mark, datadir::HALF_MADE_TEXT.as_bytes(), 0o600)?;
        if sync {
            sync_tree(&new)?;
        }
        datadir::finish(&path)
    })
    .await
}

fn append(path: &Path, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut text = files::read_text(path)?.unwrap_or_default();
    text.push('\n');
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    files::replace(path, &text, 0o600).map(|_| ())
}

/// In Patroni's order: the script finds the superuser's password set and no other role of ours, so
/// that it may make them itself; what it made is altered then.
pub(crate) async fn post_bootstrap(instance: &Instance, timeout: Duration) -> Result<()> {
    let options = &instance.options();
    let superuser = options.superuser.username.as_deref();
    let work = async {
        set_up(instance, &options.superuser, "SUPERUSER LOGIN", timeout).await?;
        script(instance, timeout).await?;
        let role = &options.replication;
        if role.username.as_deref() != superuser {
            set_up(instance, role, "REPLICATION LOGIN", timeout).await?;
        }
        let rewind = options.rewind.as_ref();
        match rewind.and_then(|role| Some((role, role.username.as_deref()?))) {
            Some((role, name)) if Some(name) != superuser => {
                // Not twice: a role for both keeps its right to replicate.
                if role.username != options.replication.username {
                    set_up(instance, role, "LOGIN", timeout).await?;
                }
                grant(instance, name, timeout).await
            }
            _ => Ok(()),
        }
    };
    within("the steps after initdb", timeout, work).await
}

/// A connection of its own for each role: the script between them may take any time, and may
/// restart the server.
async fn session(instance: &Instance, timeout: Duration) -> Result<Connection> {
    let connection = connect_local(instance, "postgres", timeout, timeout).await?;
    let what = "preparing the session";
    connection.run(what, QUIET, timeout).await?;
    Ok(connection)
}

async fn grant(instance: &Instance, name: &str, timeout: Duration) -> Result<()> {
    let role = identifier(name);
    let grants = REWIND_FUNCTIONS
        .map(|function| format!("GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {role}"));
    let connection = session(instance, timeout).await?;
    let what = "granting what pg_rewind needs";
    connection
        .run(what, &grants.join("; "), timeout)
        .await
        .map(|_| ())
}

async fn set_up(
    instance: &Instance,
    role: &Credentials,
    rights: &str,
    timeout: Duration,
) -> Result<()> {
    match &role.username {
        Some(name) => {
            let connection = session(instance, timeout).await?;
            make_role(&connection, role, name, rights, timeout).await
        }
        None => Ok(()),
    }
}

async fn make_role(
    connection: &Connection,
    role: &Credentials,
    name: &str,
    rights: &str,
    timeout: Duration,
) -> Result<()> {
    let known = format!("SELECT 1 FROM pg_roles WHERE rolname = {}", literal(name));
    let rows = connection
        .run("looking for a role", &known, timeout)
        .await?;
    let verb = match rows.first().map(Vec::len) {
        Some(1..) => "ALTER",
        _ => "CREATE",
    };
    let mut sql = format!("{verb} ROLE {} WITH {rights}", identifier(name));
    if let Some(secret) = &role.password {
        sql.push_str(&format!(" PASSWORD {}", literal(secret.expose())));
    }
    connection
        .run("setting up a role", &sql, timeout)
        .await
        .map(|_| ())
}

async fn script(instance: &Instance, timeout: Duration) -> Result<()> {
    let options = &instance.options();
    let Some(command) = &options.post_bootstrap else {
        return Ok(());
    };
    let (host, port) = local_place(instance).await;
    let role = &libpq::role(instance, &options.superuser).await?;
    let mut pairs = vec![
        ("dbname", options.database.clone()),
        ("host", host.clone()),
        ("port", port.to_string()),
    ];
    pairs.extend(libpq::described(options, role));
    let secrets = Secrets::of(options, role, &host, port)?;
    Script::new(
        instance,
        "bootstrap.post_bootstrap",
        "post_bootstrap",
        command,
    )?
    .args([conninfo(&pairs)])
    .with(|run| secrets.name_to(run))
    .with(|run| {
        let options = "-c synchronous_commit=local -c statement_timeout=0";
        run.env("PGOPTIONS", options)
    })
    .run(timeout)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_arguments() {
        let options = [
            ProgramOption::Flag("data-checksums".to_owned()),
            ProgramOption::Value("encoding".to_owned(), "UTF8".to_owned()),
        ];
        assert_eq!(arguments(&options), ["--data-checksums", "--encoding=UTF8"]);
        assert!(has(&options, &["encoding"]) && !has(&options, &["locale"]));
    }
}
