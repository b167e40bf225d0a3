//! `pgherd agent --generate-config` and `--generate-sample-config`: a file to begin with. A running
//! PostgreSQL is only read. Secrets go into a new file of mode 0600 and nowhere else: on standard
//! output they are placeholders.

mod ask;
mod dsn;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::UdpSocket;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use pgherd_instance::{Survey, SurveyTarget, survey};
use pgherd_model::Secret;
use pgherd_wire::patroni::config::{self, Found, PLACEHOLDER};

use crate::start::source;

/// What to begin with.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Sensible values.
    Sample,
    /// A running PostgreSQL: connection string, else libpq's variables and defaults.
    Running(Option<String>),
}

/// Replicates, where no role is there that does.
const REPLICATION: &str = "replicator";

/// Writes the file (`None`: to standard output); what is left to do is told on standard error.
pub fn generate(file: Option<&Path>, origin: &Origin) -> ExitCode {
    match perform(file, origin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(file: Option<&Path>, origin: &Origin) -> Result<()> {
    // Before anybody is asked for a password in vain.
    if let Some(there) = file.filter(|file| file.symlink_metadata().is_ok()) {
        bail!(
            "{} is there already: it is not overwritten, name another file",
            there.display()
        );
    }
    let env = source(None).env;
    let mut hints = Vec::new();
    let mut found = match origin {
        Origin::Sample => sample(&env),
        Origin::Running(dsn) => running(dsn.as_deref(), &env, &mut hints)?,
    };
    if file.is_some() {
        let ask = |(name, secret): &mut (String, Option<Secret>), variable: &str, role: &str| {
            if secret.is_none() && !env.contains_key(variable) {
                *secret = ask::secret(&format!("Password of the {role} role {name}"))?;
            }
            anyhow::Ok(())
        };
        ask(
            &mut found.superuser,
            "PATRONI_SUPERUSER_PASSWORD",
            "superuser",
        )?;
        ask(
            &mut found.replication,
            "PATRONI_REPLICATION_PASSWORD",
            "replication",
        )?;
    }
    let text = config::generate(&found, &env, file.is_some())?;
    match file {
        Some(file) => {
            write(file, &text)?;
            eprintln!("{}: written, readable by its owner only", file.display());
        }
        None => std::io::stdout()
            .write_all(text.as_bytes())
            .context("the configuration cannot be printed")?,
    }
    let open = config::placeholders(&text);
    if !open.is_empty() {
        hints.push(format!(
            "put your own values where {PLACEHOLDER} stands: {}",
            open.join(", ")
        ));
    }
    for hint in hints {
        eprintln!("- {hint}");
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    let written = create(file, |opened| {
        opened.write_all(text.as_bytes())?;
        opened.sync_all()
    });
    written.with_context(|| format!("{} cannot be written", file.display()))
}

/// Never over something, and never readable by others, not even for a moment. What cannot be filled as a
/// whole (a disk is full) is not left behind: half a configuration reads like a whole one, and is in
/// the way of the next try.
fn create(file: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut opened = options.open(file)?;
    let filled = fill(&mut opened);
    if filled.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(file);
    }
    filled
}

fn sample(env: &BTreeMap<String, String>) -> Found {
    Found {
        origin: "A sample, made by pgherd agent --generate-sample-config.".to_owned(),
        name: host_name(),
        host: own_address(),
        port: 5432,
        bin_dir: newest_programs(),
        superuser: role(env, "SUPERUSER", "postgres"),
        replication: role(env, "REPLICATION", REPLICATION),
        pg_hba: Some(vec![
            "local all all scram-sha-256".to_owned(),
            "host all all all scram-sha-256".to_owned(),
            format!("host replication {REPLICATION} all scram-sha-256"),
        ]),
        ..Found::default()
    }
}

/// Its password comes with the variables.
fn role(env: &BTreeMap<String, String>, which: &str, name: &str) -> (String, Option<Secret>) {
    let said = env.get(&format!("PATRONI_{which}_USERNAME"));
    (said.map_or(name, String::as_str).to_owned(), None)
}

fn running(
    dsn: Option<&str>,
    env: &BTreeMap<String, String>,
    hints: &mut Vec<String>,
) -> Result<Found> {
    let mut target = dsn::target(dsn, env)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let always = config::owned_parameters();
    let look = |target: &SurveyTarget| runtime.block_on(survey(target, &always));
    let mut survey = look(&target);
    // Only a server that wants a password is worth a question.
    let wants_one = |error: &pgherd_instance::Error| error.to_string().contains("password");
    if target.role.password.is_none() && survey.as_ref().err().is_some_and(wants_one) {
        target.role.password = ask::secret("Password of the superuser")?;
        if target.role.password.is_some() {
            survey = look(&target);
        }
    }
    let survey = survey.context(
        "the running PostgreSQL cannot be read (give its address and a superuser with --dsn, the password in \
         PGPASSWORD)",
    )?;
    Ok(describe(&survey, &target, env, hints))
}

fn describe(
    survey: &Survey,
    target: &SurveyTarget,
    env: &BTreeMap<String, String>,
    hints: &mut Vec<String>,
) -> Found {
    let major = survey.version / 10_000;
    let listen = survey.listen_addresses.replace(' ', "");
    let config_dir = survey.config_file.parent().map(Path::to_owned);
    let config_dir = config_dir.filter(|dir| *dir != survey.data_dir);
    let home = config_dir
        .clone()
        .unwrap_or_else(|| survey.data_dir.clone());
    let shown = |path: &PathBuf| path.display().to_string();
    let mut parameters = worth_writing(survey);
    // Where they lie in their usual place, their lines are taken over instead.
    let mut rules = |name: &str, file: &PathBuf, usual: &str, lines: &Vec<String>| {
        if *file == home.join(usual) {
            parameters.remove(name);
            return Some(lines.clone());
        }
        parameters.insert(name.to_owned(), shown(file));
        None
    };
    let pg_hba = rules("hba_file", &survey.hba_file, "pg_hba.conf", &survey.pg_hba);
    let pg_ident = rules(
        "ident_file",
        &survey.ident_file,
        "pg_ident.conf",
        &survey.pg_ident,
    );
    if !survey.checksums {
        // Without either of the two pg_rewind cannot work.
        parameters.insert("wal_log_hints".to_owned(), "on".to_owned());
    }
    let replication = survey.replication_roles.first();
    let replication = role(
        env,
        "REPLICATION",
        replication.map_or(REPLICATION, |name| name),
    );
    hints.extend(advice(survey, &listen, &replication.0));
    let unix = target.host.starts_with('/') && target.role.password.is_none();
    Found {
        origin: format!(
            "Made from the running PostgreSQL {major} in {} by pgherd agent --generate-config.",
            shown(&survey.data_dir)
        ),
        scope: Some(survey.cluster_name.clone()).filter(|name| !name.is_empty()),
        name: host_name(),
        host: single_address(&listen).or_else(own_address),
        listen: Some(listen),
        port: survey.port,
        data_dir: Some(shown(&survey.data_dir)),
        config_dir: config_dir.as_ref().map(shown),
        bin_dir: Some(shown(&survey.bin_dir)),
        unix_socket: unix,
        parameters,
        pg_hba,
        pg_ident,
        superuser: (survey.user.clone(), target.role.password.clone()),
        superuser_options: target.role.settings.clone(),
        sslpassword: target.role.sslpassword.clone(),
        replication,
        exists: true,
    }
}

/// Parameters that somebody has set, and those that all members share.
fn worth_writing(survey: &Survey) -> BTreeMap<String, String> {
    let shared = config::owned_parameters();
    let parameters = survey.parameters.iter();
    parameters
        .filter(|it| it.changed || shared.contains(&it.name.as_str()))
        .map(|it| (it.name.clone(), it.value.clone()))
        .collect()
}

/// What has to be done on the server itself before a second member can follow it.
fn advice(survey: &Survey, listen: &str, replication: &str) -> Vec<String> {
    let mut hints = Vec::new();
    if survey.in_recovery {
        hints.push(
            "this server follows another one: begin with the primary, and give the others the same scope".to_owned(),
        );
    }
    if !survey
        .replication_roles
        .iter()
        .any(|role| role == replication)
    {
        hints.push(format!(
            "make the role that replicates, in psql: CREATE ROLE {} LOGIN REPLICATION; then \\password {replication}",
            pgherd_instance::identifier(replication)
        ));
    }
    let local = |address: &str| matches!(address, "localhost" | "127.0.0.1" | "::1" | "");
    if listen.split(',').all(local) {
        hints.push(format!(
            "postgresql.listen: other members cannot reach {listen:?}: put this machine's address there; it takes effect when \
             PostgreSQL is started anew"
        ));
    }
    let replicates = |line: &String| {
        let mut words = line.split_whitespace();
        words.next().is_some_and(|kind| kind.starts_with("host"))
            && words
                .next()
                .is_some_and(|databases| databases.contains("replication"))
            && !["127.0.0.1", "::1", "localhost"]
                .iter()
                .any(|here| line.contains(here))
    };
    if !survey.pg_hba.iter().any(replicates) {
        hints.push(format!(
            "postgresql.pg_hba: no line lets other members replicate: add one like host replication {replication} \
             10.0.0.0/24 scram-sha-256"
        ));
    }
    hints
}

/// The address to listen on, where it is one that others can connect to.
fn single_address(listen: &str) -> Option<String> {
    let all = ["*", "0.0.0.0", "::", "localhost", "127.0.0.1", "::1", ""];
    (!listen.contains(',') && !all.contains(&listen)).then(|| listen.to_owned())
}

/// The address that this machine would send from. Nothing is sent.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // An address for documentation: behind the default route, and nobody's.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then(|| address.to_string())
}

fn host_name() -> Option<String> {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let first = name.split('.').next().unwrap_or_default().to_owned();
    (!first.is_empty() && first != "localhost").then_some(first)
}

/// Of Debian's several versions.
fn newest_programs() -> Option<String> {
    let newest = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("bin/postgres").is_file())
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .max()?;
    Some(format!("/usr/lib/postgresql/{newest}/bin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_filled_is_not_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("n1.yml");
        let full = create(&file, |opened| {
            opened.write_all(b"scope: de")?;
            Err(std::io::ErrorKind::StorageFull.into())
        });
        assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        assert!(!file.exists());
        write(&file, "scope: demo\n").unwrap();
        assert!(write(&file, "scope: other\n").is_err());
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "scope: demo\n", "what is there stays");
    }
}
