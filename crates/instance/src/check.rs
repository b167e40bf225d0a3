//! Asks the installed server which parameters it takes. One that it does not know, or a value that
//! it does not understand, in postgresql.conf makes every reload fail and the next start too.
//!
//! `postgres -C` reads a configuration file exactly as a start does (names of this version, types,
//! units, ranges, words, what belongs together) and ends. A table of ours would only be a copy of
//! that, and `postgres --describe-config` tells neither units nor words nor all names. It is asked
//! again when the parameters or the program have changed.

use crate::files::{self, blocking};
use crate::parameters::{self, Refusal, Refusals};
use crate::program::{self, Run};
use crate::quote::conf_value;
use crate::{Error, Instance, Result, ServerConfig};
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// One question takes some 20 ms; with a wrong parameter among many there are about four.
const ONE: Duration = Duration::from_secs(5);
const ALL: Duration = Duration::from_secs(20);

/// In the data directory, by a name that base backups and pg_rewind leave out.
const SCRATCH: &str = "pgsql_tmp_pgherd";

/// What was asked last, and the answer.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    last: Mutex<Verdict>,
    one_at_a_time: tokio::sync::Mutex<()>,
    /// What the running server has instead of what was refused, by parameter, as it was last looked at.
    in_force: Mutex<BTreeMap<String, String>>,
}

/// A parameter of the user's that the installed server does not take as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Name, in lower case.
    pub name: String,
    /// What was given.
    pub value: String,
    /// What the server says of it. It may repeat the value.
    pub reason: String,
    /// What the running server has instead, with its unit; `None`: it has no such parameter, or was not looked at.
    pub in_force: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Verdict {
    question: Option<Question>,
    refused: Refusals,
    /// The question could not be asked.
    failed: bool,
    /// What the log says already.
    said: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    program: PathBuf,
    modified: Option<SystemTime>,
    parameters: Vec<(String, String)>,
}

/// What the installed server does not take, as far as it was asked.
pub(crate) fn refusals(instance: &Instance) -> Refusals {
    last(instance).refused
}

/// The same for others, with what is in force instead.
pub(crate) fn refused(instance: &Instance) -> Vec<Refused> {
    let in_force = match instance.inner.checked.in_force.lock() {
        Ok(in_force) => in_force.clone(),
        Err(poisoned) => poisoned.into_inner().clone(),
    };
    let refused = refusals(instance).into_iter();
    refused
        .map(|(name, Refusal { value, reason })| Refused {
            in_force: in_force.get(&name).cloned(),
            name,
            value,
            reason,
        })
        .collect()
}

/// The running server was looked at.
pub(crate) fn found(instance: &Instance, in_force: BTreeMap<String, String>) {
    if let Ok(mut kept) = instance.inner.checked.in_force.lock() {
        *kept = in_force;
    }
}

fn last(instance: &Instance) -> Verdict {
    match instance.inner.checked.last.lock() {
        Ok(verdict) => verdict.clone(),
        Err(poisoned) => poisoned.into_inner().clone(),
    }
}

/// Makes sure that the parameters of `server` have been checked, and logs what is wrong with them.
/// Never fails: what cannot be checked is used as it is, and `again` says whether it is time to try
/// what has failed before. Whoever brings a configuration that is known does not wait for anybody.
pub(crate) async fn refresh(instance: &Instance, server: &ServerConfig, again: bool) {
    let effective = parameters::effective(&instance.options(), server);
    let program = match program::path(instance, "postgres") {
        Ok(program) => program,
        // Nothing can be started anyway, and the start says why.
        Err(_) => return,
    };
    let question = Question {
        modified: modified(&program).await,
        program,
        parameters: effective.to_check(),
    };
    let known = |verdict: &Verdict| {
        verdict.question.as_ref() == Some(&question) && !(verdict.failed && again)
    };
    if known(&last(instance)) {
        return;
    }
    let _one_at_a_time = instance.inner.checked.one_at_a_time.lock().await;
    let mut verdict = last(instance);
    if known(&verdict) {
        return;
    }
    let asked = async { ask(instance, &question).await };
    let answer = tokio::time::timeout(ALL, asked).await;
    let answer = answer.unwrap_or_else(|_| {
        Err(Error::Timeout {
            what: "asking postgres about its parameters".to_owned(),
            after: ALL,
            last: String::new(),
        })
    });
    match answer {
        Ok(refused) => {
            verdict.refused = refused;
            verdict.failed = false;
        }
        Err(error) => {
            tracing::warn!(
                "{} cannot be asked about postgresql.parameters, they are used unchecked: {error}",
                question.program.display()
            );
            verdict.failed = true;
        }
    }
    verdict.question = Some(question);
    let warnings = effective.without(&verdict.refused).warnings;
    for warning in warnings.iter().filter(|w| !verdict.said.contains(w)) {
        tracing::warn!("{warning}");
    }
    verdict.said = warnings;
    if let Ok(mut last) = instance.inner.checked.last.lock() {
        *last = verdict;
    }
}

/// Changes with an update of the package.
async fn modified(program: &Path) -> Option<SystemTime> {
    let program = program.to_owned();
    let looked = blocking("looking at postgres", move || {
        let meta = std::fs::metadata(&program).and_then(|meta| meta.modified());
        meta.map_err(Error::file("look at", &program))
    });
    looked.await.ok()
}

/// A directory with one postgresql.conf; it goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn make(path: PathBuf) -> Result<Scratch> {
        // Of an agent that died in here.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(Error::file("create", &path))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

type Parameter = (String, String);

/// Which of the parameters have to be left out, and why.
async fn ask(instance: &Instance, question: &Question) -> Result<Refusals> {
    let path = instance.path().join(SCRATCH);
    let scratch = blocking("making a directory", move || Scratch::make(path)).await?;
    let refuses = async |parameters: &[&Parameter]| {
        refuses(instance, &question.program, &scratch.0, parameters).await
    };
    let all: Vec<&Parameter> = question.parameters.iter().collect();
    let Some(said) = refuses(&all).await? else {
        return Ok(Refusals::new());
    };
    if let Some(said) = refuses(&[]).await? {
        return Err(Error::Unexpected {
            what: "asking postgres about its parameters",
            reason: reason(&said),
        });
    }
    // Those that it names are tried one by one, after all others together: three questions for one
    // wrong parameter. The names only save questions; whatever still fails is halved.
    let named = |parameter: &&Parameter| said.contains(&format!("\"{}\"", parameter.0));
    let (named, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(named);
    let mut parts: Vec<Vec<&Parameter>> = named.into_iter().rev().map(|one| vec![one]).collect();
    parts.push(rest);
    let (mut good, mut refused) = (Vec::new(), Refusals::new());
    while let Some(mut part) = parts.pop() {
        let trial = [good.as_slice(), part.as_slice()].concat();
        match (refuses(&trial).await?, part.as_slice()) {
            (None, _) => good = trial,
            (Some(_), []) => {}
            (Some(said), [one]) => {
                // Alone, no other parameter keeps the words from us.
                let said = refuses(&[*one]).await?.unwrap_or(said);
                let refusal = Refusal {
                    value: one.1.clone(),
                    reason: reason(&said),
                };
                refused.insert(one.0.clone(), refusal);
            }
            (Some(_), _) => {
                let right = part.split_off(part.len() / 2);
                parts.extend([right, part]);
            }
        }
    }
    Ok(refused)
}

/// What the server says if it does not start with these parameters.
async fn refuses(
    instance: &Instance,
    program: &Path,
    scratch: &Path,
    parameters: &[&Parameter],
) -> Result<Option<String>> {
    let file = scratch.join("postgresql.conf");
    let text: String = parameters
        .iter()
        .map(|(name, value)| format!("{name} = {}\n", conf_value(value)))
        .collect();
    let written = file.clone();
    blocking("writing a configuration", move || {
        files::write_scratch(&written, &text)
    })
    .await?;
    let run = Run::new(instance, program.to_owned())
        .anywhere()
        .env("LC_ALL", "C")
        .args(["-C", "data_directory", "-D"])
        .arg(scratch)
        .arg(format!("--config-file={}", file.display()));
    match run.output(ONE).await {
        Ok(_) => Ok(None),
        Err(Error::ProgramFailed { status, tail, .. }) if tail.is_empty() => Ok(Some(status)),
        Err(Error::ProgramFailed { tail, .. }) => Ok(Some(tail)),
        Err(other) => Err(other),
    }
}

/// The server's own words, without time, process and the name of the scratch file.
fn reason(said: &str) -> String {
    let mut words = Vec::new();
    for line in said.lines() {
        let level = ["LOG:  ", "FATAL:  ", "ERROR:  ", "HINT:  ", "DETAIL:  "];
        let Some(text) = level
            .iter()
            .find_map(|level| Some(line.split_once(level)?.1))
        else {
            continue;
        };
        let text = text
            .split_once(" in file \"")
            .map_or(text, |(text, _)| text);
        let noise = [
            "skipping missing configuration file",
            "configuration file \"",
        ];
        if !noise.iter().any(|noise| text.starts_with(noise)) {
            words.push(text);
        }
    }
    if words.is_empty() {
        words = said.lines().collect();
    }
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Credentials, Options};

    fn instance(dir: &Path) -> Instance {
        let nobody = Credentials::default;
        let place = ("127.0.0.1", 5432);
        let mut options = Options::new("demo", "n1", dir, place, nobody(), nobody());
        options.bin_dir = std::fs::read_dir("/usr/lib/postgresql")
            .ok()
            .and_then(|dirs| Some(dirs.flatten().next()?.path().join("bin")));
        Instance::new(options, ServerConfig::default()).unwrap()
    }

    fn server(pairs: &[(&str, &str)]) -> ServerConfig {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        ServerConfig {
            parameters: pairs.iter().map(owned).collect(),
            recovery: BTreeMap::from([
                ("standby_mode".to_owned(), "on".to_owned()),
                ("restore_command".to_owned(), "cp %f %p".to_owned()),
            ]),
            ..ServerConfig::default()
        }
    }

    /// Names, types, ranges, units, words, versions, what belongs together, and silence for the rest.
    #[tokio::test]
    async fn the_server_itself_says_what_it_takes() {
        let dir = tempfile::tempdir().unwrap();
        let instance = instance(dir.path());
        let server = server(&[
            ("app.x", "anything"),
            ("archive_command", "it's \\ 100%"),
            ("block_size", "8192"),
            ("deadlock_timeout", "1 fortnight"),
            ("log_min_messages", "panic"),
            ("log_statement", "everything"),
            ("maintenance_work_mem", "0.5 GB"),
            ("max_connections", "150000"),
            ("max_worker_processes", "150000"),
            ("no_such_parameter", "1"),
            ("random_page_cost", "1.1"),
            ("stats_temp_directory", "x"),
            ("wal_keep_size", "1.5GB"),
            ("wal_writer_delay", "0x10"),
            ("work_mem", "1kB"),
            ("zero_damaged_pages", "off"),
        ]);
        refresh(&instance, &server, true).await;
        let verdict = last(&instance);
        assert!(!verdict.failed && verdict.question.is_some());
        let reason = |name: &str| verdict.refused[name].reason.as_str();
        assert_eq!(
            reason("no_such_parameter"),
            "unrecognized configuration parameter \"no_such_parameter\""
        );
        assert_eq!(
            reason("block_size"),
            "parameter \"block_size\" cannot be changed"
        );
        assert!(reason("deadlock_timeout").contains("Valid units for this parameter"));
        assert!(reason("log_statement").contains("Available values: none, ddl, mod, all."));
        assert!(reason("work_mem").contains("outside the valid range"));
        assert!(verdict.refused.contains_key("standby_mode"));
        // Each is in range, both together are not: one of them gives way.
        let together = ["max_connections", "max_worker_processes"];
        let few = together.map(|name| verdict.refused.contains_key(name));
        assert!(few[0] != few[1], "{:?}", verdict.refused);
        let mut names: Vec<&str> = verdict.refused.keys().map(String::as_str).collect();
        names.retain(|name| !together.contains(name) && *name != "stats_temp_directory");
        assert_eq!(
            names,
            [
                "block_size",
                "deadlock_timeout",
                "log_statement",
                "no_such_parameter",
                "standby_mode",
                "work_mem"
            ]
        );
        assert!(verdict.said.iter().any(|w| w.starts_with(
            "postgresql parameter log_statement=everything failed validation, left out: \
             postgresql.parameters: invalid value"
        )));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn it_is_asked_once() {
        let dir = tempfile::tempdir().unwrap();
        let instance = instance(dir.path());
        refresh(&instance, &server(&[]), true).await;
        assert_eq!(refusals(&instance).len(), 1);
        // Nobody could make the scratch directory now.
        std::fs::remove_dir(dir.path()).unwrap();
        refresh(&instance, &server(&[]), true).await;
        assert!(!last(&instance).failed);
        let wrong = server(&[("work_mem", "x")]);
        refresh(&instance, &wrong, true).await;
        assert!(last(&instance).failed);
        assert_eq!(refusals(&instance).len(), 1, "what is known still holds");
        // It can be asked again, and is when it is time.
        std::fs::create_dir(dir.path()).unwrap();
        refresh(&instance, &wrong, false).await;
        assert!(last(&instance).failed);
        refresh(&instance, &wrong, true).await;
        assert!(!last(&instance).failed);
        assert_eq!(refusals(&instance).len(), 2);
    }
}
