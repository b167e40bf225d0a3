//! Data directories that commands of the user's make: `bootstrap.method` and `create_replica_methods` (contract:
//! patroni-ha-rules, section 10). A command finds what Patroni would let it find, and nothing of ours: the mark of
//! unfinished work lies beside the data directory.

use crate::conf::{self, Paths, StartAs};
use crate::connection::local_place;
use crate::files::{self, blocking};
use crate::libpq::{self, Secrets};
use crate::look::within;
use crate::options::{BootstrapMethod, Method, Methods, ReplicaMethod};
use crate::script::Script;
use crate::{Error, Instance, Result, Source, apply, copy, datadir, parameters, recovery, stop};
use crate::{control, process};
use pgherd_model::{DataDir, Postmaster, SystemId, Upstream};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

/// Signal files and the like that would make something else of restored data than what is asked for.
const NOT_RESTORED: [&str; 3] = ["promote", "fallback_promote", "patroni.dynamic.json"];

pub(crate) async fn bootstrap(
    instance: &Instance,
    method: &BootstrapMethod,
    timeout: Duration,
) -> Result<SystemId> {
    crate::bootstrap::fillable(instance, "a bootstrap").await?;
    let command = &method.method;
    let key = format!("bootstrap.{}.command", command.name);
    tracing::info!("running custom bootstrap method {}", command.name);
    let script = Script::new(instance, &key, &command.name, &command.command)?
        .args(bootstrap_arguments(instance, command))
        .fills(instance);
    fill(instance, script, timeout).await?;
    let path = instance.path().to_owned();
    let own_hba = apply::newest(instance).pg_hba.is_some();
    let more = match own_hba {
        true => Vec::new(),
        false => instance.options().bootstrap_pg_hba.clone(),
    };
    let paths = Paths::of(&instance.options());
    let finishing = blocking("finishing the bootstrap", move || {
        let mark = path.join(datadir::HALF_MADE);
        files::write_durably(&mark, datadir::HALF_MADE_TEXT.as_bytes(), 0o600)?;
        for name in NOT_RESTORED {
            files::remove(&path.join(name))?;
        }
        datadir::end_filling(&path)?;
        conf::restored(&paths, own_hba, &more)
    });
    finishing.await?;
    conf::back_up(instance).await?;
    Ok(instance.control_file().await?.system_id)
}

fn bootstrap_arguments(instance: &Instance, method: &Method) -> Vec<String> {
    let usual = match method.no_params {
        true => Vec::new(),
        false => vec![
            ("scope", instance.options().scope.clone()),
            ("datadir", given(instance)),
        ],
    };
    let usual = usual
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    as_options(usual.chain(method.arguments.iter().cloned()))
}

/// The data directory as the configuration writes it.
fn given(instance: &Instance) -> String {
    instance.inner.data_dir_given.display().to_string()
}

fn as_options(pairs: impl Iterator<Item = (String, String)>) -> Vec<String> {
    pairs
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}

/// Runs a command that makes the data directory, and looks whether it did.
async fn fill(instance: &Instance, script: Script, timeout: Duration) -> Result<()> {
    let path = instance.path().to_owned();
    let marking = path.clone();
    blocking("marking the data directory", move || {
        datadir::begin_filling(&marking);
        Ok(())
    })
    .await?;
    let answer = script.run(timeout).await;
    blocking("looking at what a command has made", move || {
        let answer = answer.and_then(|()| datadir::filled(&path));
        if answer.is_err() {
            datadir::filled_in_vain(&path)?;
        }
        answer
    })
    .await
}

/// pg_hba.conf while the passwords of restored data are not known: this machine is let in (as Patroni).
pub(crate) async fn trusting(instance: &Instance) -> Vec<String> {
    let options = instance.options();
    let user = |name: &Option<String>| name.as_deref().map_or("all".to_owned(), quoted);
    let (superuser, replication) = (
        user(&options.superuser.username),
        user(&options.replication.username),
    );
    let (host, port) = local_place(instance).await;
    let looking = blocking("looking up the own address", move || {
        let found = (host.as_str(), port).to_socket_addrs();
        Ok(found.map(|found| found.map(|it| it.ip()).collect::<Vec<IpAddr>>()))
    });
    let found = match looking.await {
        Ok(Ok(found)) => found,
        _ => Vec::new(),
    };
    let mut places = vec!["local {} ".to_owned()];
    places.extend(found.iter().map(|address| {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        format!("host {{}} {address}/{bits} ")
    }));
    places.dedup();
    let line = |place: &String, what: &str| format!("{}trust", place.replace("{}", what));
    places
        .iter()
        .flat_map(|place| {
            let all = format!("all {superuser}");
            let walsender = format!("replication {replication}");
            [line(place, &all), line(place, &walsender)]
        })
        .collect()
}

/// A name in pg_hba.conf.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(crate) async fn end_restored(instance: &Instance) -> Result<bool> {
    if !matches!(conf::role(instance).await?, StartAs::Restored(_)) {
        return Ok(false);
    }
    let paths = Paths::of(&instance.options());
    if apply::server(instance).pg_hba.is_none() {
        blocking("restoring pg_hba.conf", move || conf::trust_nobody(&paths)).await?;
    }
    conf::write_for(instance, &StartAs::Primary, false).await?;
    let values = conf::effective(instance).values;
    let control = control::control_data(instance).await?;
    let differs = parameters::command_line(&values, Some(&control))
        != parameters::command_line(&values, None);
    if differs || values.contains_key("hba_file") {
        return Ok(true);
    }
    stop::reload(instance).await?;
    Ok(false)
}

pub(crate) async fn replica(
    instance: &Instance,
    source: Option<&Source>,
    by: Methods,
    timeout: Duration,
) -> Result<()> {
    let (key, methods) = match by {
        Methods::Basebackup => ("", vec![ReplicaMethod::Basebackup]),
        Methods::Replica => (
            "postgresql.create_replica_methods",
            instance.options().replica_methods.clone(),
        ),
        Methods::Far => (
            "standby_cluster.create_replica_methods",
            instance.options().far_methods.clone(),
        ),
    };
    let mut last = Err(Error::Config {
        key: key.to_owned(),
        reason: "none of them works without a member to copy".to_owned(),
    });
    let tries = async {
        for method in methods {
            last = match (&method, source) {
                (ReplicaMethod::Basebackup, Some(source)) => {
                    copy::basebackup(instance, source, timeout).await
                }
                (ReplicaMethod::Basebackup, None)
                | (
                    ReplicaMethod::Custom {
                        no_leader: false, ..
                    },
                    None,
                ) => continue,
                (
                    ReplicaMethod::Custom {
                        method, keep_data, ..
                    },
                    source,
                ) => by_command(instance, method, *keep_data, source, timeout).await,
            };
            let name = match &method {
                ReplicaMethod::Basebackup => "basebackup",
                ReplicaMethod::Custom { method, .. } => &method.name,
            };
            match &last {
                Ok(()) => {
                    tracing::info!("replica has been created using {name}");
                    break;
                }
                Err(error) => tracing::error!("replica method {name} failed: {error}"),
            }
        }
        last
    };
    within("making a replica", timeout, tries).await
}

async fn by_command(
    instance: &Instance,
    method: &Method,
    keep_data: bool,
    source: Option<&Source>,
    timeout: Duration,
) -> Result<()> {
    make_room(instance, keep_data).await?;
    let options = &instance.options();
    let mut secrets = None;
    let mut connection = String::new();
    if let Some(source) = source {
        let role = &libpq::role(instance, &options.replication).await?;
        connection = libpq::plain_source(options, source, role);
        // As Patroni: in the configured passfile, which nobody else needs while there is no server here.
        let upstream = Upstream {
            host: source.host.clone(),
            port: source.port,
            slot: None,
            others: Vec::new(),
        };
        recovery::write_pgpass(options, &upstream)?;
        secrets = Some(Secrets::of_key(options, role)?);
    }
    let key = format!("postgresql.{}.command", method.name);
    let mut script = Script::new(instance, &key, &method.name, &method.command)?
        .args(replica_arguments(instance, method, &connection))
        .fills(instance);
    if let Some(secrets) = &secrets {
        script = script.with(|run| secrets.name_to(run));
        if options.replication.password.is_some() {
            script = script.with(|run| run.env("PGPASSFILE", &options.pgpass));
        }
    }
    tracing::info!("running replica method {}", method.name);
    fill(instance, script, timeout).await?;
    let path = instance.path().to_owned();
    blocking("finishing a copy", move || datadir::end_filling(&path)).await
}

/// In Patroni's order: the section's keys, of which the usual ones get their own values, then the rest of these.
fn replica_arguments(instance: &Instance, method: &Method, connection: &str) -> Vec<String> {
    let mut pairs = method.arguments.clone();
    if !method.no_params {
        for (name, value) in [
            ("scope", instance.options().scope.clone()),
            ("role", "replica".to_owned()),
            ("datadir", given(instance)),
            ("connstring", connection.to_owned()),
        ] {
            match pairs.iter_mut().find(|(known, _)| known == name) {
                Some(pair) => pair.1 = value,
                None => pairs.push((name.to_owned(), value)),
            }
        }
    }
    as_options(pairs.into_iter())
}

/// Nothing is at work on the data directory; what is in it goes, unless the command wants it.
async fn make_room(instance: &Instance, keep_data: bool) -> Result<()> {
    let alone = datadir::no_removal(instance)?;
    match instance.data_dir().await {
        DataDir::Empty => return Ok(()),
        DataDir::Unfinished => {}
        state => {
            return Err(Error::DataDir {
                what: "a copy",
                path: instance.path().to_owned(),
                state,
            });
        }
    }
    datadir::ours_and_quiet(instance, "a copy").await?;
    let path = instance.path().to_owned();
    if keep_data && !path.join(datadir::MARKER).exists() {
        tracing::info!("the data directory is left as it is for the command");
        return Ok(());
    }
    let work = move || {
        let _alone = alone;
        datadir::clear(&path)
    };
    crate::bootstrap::long_file_work("clearing the data directory", work).await
}

pub(crate) async fn give_up(instance: &Instance) -> Result<()> {
    let kept = instance
        .options()
        .replica_methods
        .iter()
        .any(|method| matches!(method, ReplicaMethod::Custom { .. }));
    if !kept || instance.data_dir().await != DataDir::Initialized {
        return datadir::remove(instance).await;
    }
    if process::postmaster(instance).await != Postmaster::Down {
        return Err(Error::StillRunning(instance.path().to_owned()));
    }
    let path = instance.path().to_owned();
    let marked = blocking("giving the data up", move || {
        datadir::begin_filling(&path);
        Ok(is_marked(&path))
    });
    match marked.await? {
        true => Ok(()),
        // Nothing would tell that they are not to be used any more.
        false => datadir::remove(instance).await,
    }
}

fn is_marked(path: &Path) -> bool {
    datadir::filling(path).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Credentials, Options, ServerConfig};

    fn instance(data_dir: &Path) -> Instance {
        let role = |name: &str| Credentials {
            username: Some(name.to_owned()),
            ..Credentials::default()
        };
        let address = ("127.0.0.1", 5432);
        let options = Options::new("demo", "n1", data_dir, address, role("su"), role("re \"pl"));
        Instance::new(options, ServerConfig::default()).unwrap()
    }

    fn method(no_params: bool, arguments: &[(&str, &str)]) -> Method {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Method {
            name: "mine".to_owned(),
            command: "true".to_owned(),
            no_params,
            arguments: arguments.iter().map(own).collect(),
        }
    }

    #[test]
    fn arguments_are_those_that_patroni_gives() {
        let node = instance(Path::new("/data/"));
        let more = [("stanza", "a b"), ("delta", "True")];
        assert_eq!(
            bootstrap_arguments(&node, &method(false, &more)),
            [
                "--scope=demo",
                "--datadir=/data/",
                "--stanza=a b",
                "--delta=True"
            ]
        );
        assert_eq!(
            bootstrap_arguments(&node, &method(true, &more)),
            ["--stanza=a b", "--delta=True"]
        );
        let more = [("role", "mine"), ("keep_data", "True")];
        assert_eq!(
            replica_arguments(&node, &method(false, &more), "host=a port=1"),
            [
                "--role=replica",
                "--keep_data=True",
                "--scope=demo",
                "--datadir=/data/",
                "--connstring=host=a port=1"
            ]
        );
        assert_eq!(
            replica_arguments(&node, &method(true, &[("a", "b")]), "host=a"),
            ["--a=b"]
        );
    }

    #[tokio::test]
    async fn only_this_machine_is_trusted() {
        let lines = trusting(&instance(Path::new("/data"))).await;
        assert_eq!(
            lines,
            [
                r#"local all "su" trust"#,
                r#"local replication "re ""pl" trust"#,
                r#"host all "su" 127.0.0.1/32 trust"#,
                r#"host replication "re ""pl" 127.0.0.1/32 trust"#,
            ]
        );
    }

    #[tokio::test]
    async fn a_directory_is_left_to_a_command_as_it_expects_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("data");
        let node = instance(&home.path().join("data/"));
        std::fs::create_dir(&path).unwrap();
        make_room(&node, false).await.unwrap();
        assert!(path.is_dir(), "an empty one stays");
        // What a command left that came to nothing.
        datadir::begin_filling(&path);
        std::fs::write(path.join("x"), "x").unwrap();
        assert_eq!(node.data_dir().await, DataDir::Unfinished);
        make_room(&node, true).await.unwrap();
        assert!(path.join("x").exists());
        make_room(&node, false).await.unwrap();
        assert!(!path.exists() && !datadir::filling(&path).exists());
        // Nobody's.
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("x"), "x").unwrap();
        assert!(make_room(&node, false).await.is_err());
        assert!(path.join("x").exists());
        // One that could not be marked beside it is marked in it.
        datadir::filled_in_vain(&path).unwrap();
        assert_eq!(node.data_dir().await, DataDir::Unfinished);
    }
}
