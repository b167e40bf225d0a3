//! A changed configuration of the server on its way into the files. The installed server is asked
//! about it first, which can take long: nobody waits for that but who starts a server. Until the
//! answer the configuration of before holds, and of several that come meanwhile the last one wins.

use crate::{Error, Instance, Result, ServerConfig, check, conf};
use pgherd_model::DataDir;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest wait of a start: somewhat more than one check may take.
const START: Duration = Duration::from_secs(25);
/// Longest wait of an order that changes a file of a running server.
const ORDER: Duration = Duration::from_secs(1);

/// What is to hold, and what holds.
#[derive(Debug)]
pub(crate) struct Applied {
    state: Mutex<State>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// The files are written from this.
    server: ServerConfig,
    /// Not checked yet.
    wanted: Option<ServerConfig>,
    /// How many have been asked for.
    number: u64,
    /// One has come into force. The one before it is what could be said without the cluster's.
    whole: bool,
}

impl Applied {
    pub(crate) fn new(server: ServerConfig) -> Applied {
        Applied {
            state: Mutex::new(State {
                server,
                wanted: None,
                number: 0,
                whole: false,
            }),
            one_at_a_time: tokio::sync::Mutex::default(),
        }
    }
}

fn state(instance: &Instance) -> MutexGuard<'_, State> {
    let state = instance.inner.applied.state.lock();
    state.unwrap_or_else(PoisonError::into_inner)
}

/// What holds now.
pub(crate) fn server(instance: &Instance) -> ServerConfig {
    state(instance).server.clone()
}

/// What holds now or from the next start on.
pub(crate) fn newest(instance: &Instance) -> ServerConfig {
    let state = state(instance);
    state.wanted.clone().unwrap_or_else(|| state.server.clone())
}

/// Asks for a configuration. It holds after [`apply`], or from the next start on.
pub(crate) fn want(instance: &Instance, server: ServerConfig) {
    let mut state = state(instance);
    state.wanted = Some(server);
    state.number += 1;
}

/// Whether one was asked for that does not hold yet.
pub(crate) fn is_wanted(instance: &Instance) -> bool {
    state(instance).wanted.is_some()
}

/// What was asked for holds, and is written.
pub(crate) async fn apply(instance: &Instance) -> Result<bool> {
    settle(instance).await;
    conf::rewrite(instance).await
}

/// Checks what was asked for, and lets it hold. Dropped halfway it has changed nothing.
async fn settle(instance: &Instance) {
    if !is_wanted(instance) {
        return;
    }
    let _one_at_a_time = instance.inner.applied.one_at_a_time.lock().await;
    loop {
        let (wanted, number) = {
            let state = state(instance);
            (state.wanted.clone(), state.number)
        };
        let Some(server) = wanted else { return };
        if instance.data_dir().await == DataDir::Initialized {
            check::refresh(instance, &server, true).await;
        }
        // No wait from here on: the answer and what it is about come into force together.
        let mut state = state(instance);
        (state.server, state.whole) = (server, true);
        if state.number == number {
            state.wanted = None;
        }
    }
}

/// For a server that is about to be started: what was asked for holds, checked if that is possible
/// in time.
pub(crate) async fn before_start(instance: &Instance) {
    if tokio::time::timeout(START, settle(instance)).await.is_ok() {
        return;
    }
    let mut state = state(instance);
    if let Some(server) = state.wanted.clone() {
        tracing::warn!(
            "postgresql.parameters could not be checked within {} s, they are used unchecked",
            START.as_secs()
        );
        (state.server, state.whole) = (server, true);
    }
}

/// For an order that changes a file of a running server: the first configuration is there. What
/// could be said before it would take the cluster's parameters out of the file.
///
/// # Errors
/// [`Error::Timeout`]: it is still being checked.
pub(crate) async fn before_order(instance: &Instance) -> Result<()> {
    let first = {
        let state = state(instance);
        !state.whole && state.wanted.is_some()
    };
    if first && tokio::time::timeout(ORDER, settle(instance)).await.is_err() {
        return Err(Error::Timeout {
            what: "the first check of postgresql.parameters".to_owned(),
            after: ORDER,
            last: String::new(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Credentials, Options};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    fn server(work_mem: &str) -> ServerConfig {
        ServerConfig {
            parameters: [("work_mem".to_owned(), work_mem.to_owned())].into(),
            ..ServerConfig::default()
        }
    }

    /// A cluster whose `postgres` answers once the file `go` is there.
    fn instance(dir: &Path) -> Instance {
        let data = dir.join("data");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(data.join("global")).unwrap();
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        fs::write(data.join("global/pg_control"), "").unwrap();
        fs::write(data.join("postgresql.conf"), "").unwrap();
        let program = dir.join("postgres");
        let go = dir.join("go");
        let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", go.display());
        fs::write(&program, format!("#!/bin/sh\n{wait}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let nobody = Credentials::default;
        let place = ("127.0.0.1", 5432);
        let mut options = Options::new("demo", "n1", data, place, nobody(), nobody());
        options.bin_dir = Some(dir.to_owned());
        Instance::new(options, server("1MB")).unwrap()
    }

    fn conf(instance: &Instance) -> String {
        fs::read_to_string(instance.path().join("postgresql.conf")).unwrap()
    }

    #[tokio::test]
    async fn the_last_one_wins_and_no_order_waits_for_the_check() {
        let dir = tempfile::tempdir().unwrap();
        let instance = instance(dir.path());
        assert_eq!(instance.data_dir().await, DataDir::Initialized);
        let order = |names: &str| {
            let names = Some(names.to_owned());
            let instance = instance.clone();
            async move { instance.set_synchronous_standby_names(names).await }
        };
        want(&instance, server("2MB"));
        let begun = std::time::Instant::now();
        let applying = tokio::spawn({
            let instance = instance.clone();
            async move { apply(&instance).await }
        });
        // The first is waited for, but not long: the cluster's parameters are not known otherwise.
        assert!(matches!(order("b").await, Err(Error::Timeout { .. })));
        assert_eq!(conf(&instance), "");
        want(&instance, server("3MB"));
        fs::write(dir.path().join("go"), "").unwrap();
        assert!(applying.await.unwrap().unwrap());
        assert!(begun.elapsed() < START, "it was answered");
        assert!(!is_wanted(&instance));
        assert_eq!(super::server(&instance), server("3MB"));
        assert!(conf(&instance).contains("work_mem = '3MB'"));
        assert!(!conf(&instance).contains("synchronous_standby_names"));
        // Later ones are not waited for.
        fs::remove_file(dir.path().join("go")).unwrap();
        want(&instance, server("4MB"));
        let applying = tokio::spawn({
            let instance = instance.clone();
            async move { apply(&instance).await }
        });
        assert!(order("a").await.unwrap());
        assert!(!applying.is_finished());
        assert!(conf(&instance).contains("synchronous_standby_names = 'a'"));
        assert!(conf(&instance).contains("work_mem = '3MB'"));
        fs::write(dir.path().join("go"), "").unwrap();
        assert!(applying.await.unwrap().unwrap());
        assert!(conf(&instance).contains("synchronous_standby_names = 'a'"));
        assert!(conf(&instance).contains("work_mem = '4MB'"));
    }

    #[tokio::test]
    async fn a_start_takes_what_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let instance = instance(dir.path());
        fs::write(dir.path().join("go"), "").unwrap();
        want(&instance, server("2MB"));
        let role = crate::StartAs::Primary;
        assert!(conf::write_for(&instance, &role, true).await.unwrap());
        assert!(!is_wanted(&instance));
        assert!(conf(&instance).contains("work_mem = '2MB'"));
    }
}
