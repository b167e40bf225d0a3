//! `pgherd install agent`: a systemd unit for one node, and what to type next. Starts nothing by
//! itself, and changes nothing but that unit.

mod reach;
mod troubles;
mod unit;

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::unistd::{Uid, User};
use pgherd_wire::patroni::config::{self, Loaded, NodeConfig};

use crate::called;
use troubles::{Plan, missing};
use unit::Unit;

/// Where an administrator's units are.
pub const UNIT_DIR: &str = "/etc/systemd/system";

/// The account of PostgreSQL on every distribution.
const DEFAULT_USER: &str = "postgres";

/// `systemctl` waits for jobs (a start of this unit ends with READY=1) as long as the unit says.
const SYSTEMCTL: Duration = Duration::from_secs(120);

/// How to install.
#[derive(Clone, Debug)]
pub struct InstallOptions {
    /// The node's file or directory.
    pub config: PathBuf,
    /// Show the unit, write nothing.
    pub print: bool,
    /// Directory of the unit.
    pub unit_dir: PathBuf,
    /// The account; `None`: the owner of the data directory, else `postgres`.
    pub user: Option<String>,
    /// A unit that differs is overwritten.
    pub force: bool,
    /// Start it, now and at every boot.
    pub now: bool,
}

/// Installs; what was done is told on standard output.
pub fn install(options: &InstallOptions) -> ExitCode {
    match perform(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(options: &InstallOptions) -> Result<()> {
    let variables = variables();
    let loaded = loaded(&options.config, &variables)?;
    let node = &loaded.node;
    // A link is kept: it is there to lead to another file one day.
    let config = std::path::absolute(&options.config)
        .with_context(|| format!("{} has no whole path", options.config.display()))?;
    let program = program()?;
    let (user, why) = account(options, node)?;
    let plan = Plan {
        loaded: &loaded,
        user: &user,
        program: &program,
        config: &config,
        variables: &variables,
    };
    let troubles = plan.troubles();
    let unit = Unit {
        scope: &node.scope,
        name: node.name.as_str(),
        user: &user.name,
        program: &program,
        config: &config,
    };
    let text = unit.text()?;
    if !troubles.is_empty() && !options.force && !options.print {
        bail!(
            "this unit would not run the agent as it should (--force writes it all the same):\n  - {}",
            troubles.join("\n  - ")
        );
    }
    for trouble in &troubles {
        eprintln!("warning: {trouble}");
    }
    if options.print {
        return std::io::stdout()
            .write_all(text.as_bytes())
            .context("the unit cannot be printed");
    }
    let name = unit.file_name();
    let place = options.unit_dir.join(&name);
    let done = write(&place, &text, options.force)?;
    println!("{}: {done}; user {} ({why})", place.display(), user.name);
    if already_served(node) {
        println!(
            "PostgreSQL runs in {} now: the agent takes it over as it is. Keep its own unit from starting \
             it as well (Debian: systemctl disable postgresql)",
            node.postgresql.data_dir.display()
        );
    }
    systemd(options, &name)
}

/// Variables of the configuration that are set here, by name.
fn variables() -> Vec<String> {
    let set = std::env::vars_os().filter(|(_, value)| !value.is_empty());
    let names = set.filter_map(|(name, _)| name.into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("PATRONI_")).collect();
    names.sort();
    names
}

/// What the unit's agent will read: the files, and no variable of this shell's.
fn loaded(config: &Path, variables: &[String]) -> Result<Loaded> {
    match config::load(config, &BTreeMap::new()) {
        Err(error) if !variables.is_empty() => bail!("{error} ({})", missing(variables)),
        loaded => Ok(loaded?),
    }
}

/// The file of the program that runs, by the name that it was called by: a link to it may lead to
/// another version tomorrow, while the file that it leads to today is removed.
fn program() -> Result<PathBuf> {
    if let Some(link) = called::path() {
        return Ok(link.to_owned());
    }
    let program = std::env::current_exe().context("the file of this program cannot be found")?;
    if !program.exists() {
        bail!(
            "{}: this program's file was replaced or removed while it ran: run the new one",
            program.display()
        );
    }
    Ok(program)
}

/// Who runs the agent, and why that one.
fn account(options: &InstallOptions, node: &NodeConfig) -> Result<(User, String)> {
    let data_dir = &node.postgresql.data_dir;
    let (user, why) = match (&options.user, fs::metadata(data_dir)) {
        (Some(name), _) => (named(name)?, "as asked for".to_owned()),
        (None, Ok(directory)) => {
            let id = Uid::from_raw(directory.uid());
            let user = User::from_uid(id).context("the list of users cannot be read")?;
            let user = user.with_context(|| {
                format!(
                    "postgresql.data_dir {} belongs to user id {id}, which has no name: give it to the user who \
                     is to run PostgreSQL (chown -R)",
                    data_dir.display()
                )
            })?;
            (user, format!("the owner of {}", data_dir.display()))
        }
        (None, Err(error)) if error.kind() == ErrorKind::NotFound => {
            let why = format!("there is no {} yet", data_dir.display());
            (named(DEFAULT_USER)?, why)
        }
        (None, Err(error)) => {
            return Err(error).with_context(|| {
                format!(
                    "postgresql.data_dir {} cannot be looked at: name the user with --user",
                    data_dir.display()
                )
            });
        }
    };
    if user.uid.is_root() {
        bail!(
            "PostgreSQL refuses to be run by root ({why}): give {} to an ordinary user, or name one with --user",
            data_dir.display()
        );
    }
    Ok((user, why))
}

fn named(name: &str) -> Result<User> {
    let user = User::from_name(name).context("the list of users cannot be read")?;
    user.with_context(|| {
        format!("there is no user {name} here: install PostgreSQL, or name another one with --user")
    })
}

/// What was done.
fn write(place: &Path, text: &str, force: bool) -> Result<&'static str> {
    let there = match fs::read_to_string(place) {
        Ok(there) => Some(there),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be read", place.display()));
        }
    };
    match &there {
        Some(there) if there == text => return Ok("was there already, unchanged"),
        Some(_) if !force => bail!(
            "{0} is there and differs from what would be written: look at the difference (pgherd install \
             agent --print ... | diff {1} -), then repeat with --force to overwrite it",
            place.display(),
            shell(&place.to_string_lossy())
        ),
        _ => {}
    }
    let new = place.with_extension(format!("service.{}", std::process::id()));
    let written = fs::write(&new, text)
        .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(0o644)))
        .and_then(|()| fs::rename(&new, place));
    if let Err(error) = written {
        // Half a unit under another name means nothing to anybody.
        let _ = fs::remove_file(&new);
        return Err(error).with_context(|| {
            format!(
                "{} cannot be written: run this as root, or into another directory with --unit-dir",
                place.display()
            )
        });
    }
    Ok(match there {
        Some(_) => "overwritten",
        None => "written",
    })
}

/// Whether PostgreSQL runs on these data.
fn already_served(node: &NodeConfig) -> bool {
    let file = fs::read_to_string(node.postgresql.data_dir.join("postmaster.pid"));
    let pid = file
        .ok()
        .and_then(|text| text.lines().next()?.trim().parse::<u32>().ok());
    pid.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
}

/// Has systemd read the unit, if it runs here and looks there; says what to type next.
fn systemd(options: &InstallOptions, name: &str) -> Result<()> {
    let runs = sd_notify::booted().unwrap_or(false);
    let reads = options.unit_dir == Path::new(UNIT_DIR);
    if runs && reads {
        systemctl(&["daemon-reload"])?;
        println!("systemd has read its units again (systemctl daemon-reload)");
    } else if !runs {
        println!("systemd does not run here: nothing was told to it");
    } else {
        println!(
            "systemd does not look into {}: nothing was told to it",
            options.unit_dir.display()
        );
    }
    if options.now {
        if !(runs && reads) {
            bail!("--now: there is no systemd that could start {name}");
        }
        systemctl(&["enable", "--now", name])?;
        println!("{name} was started, and starts at every boot (systemctl enable --now)");
        return Ok(());
    }
    let name = shell(name);
    println!("Nothing was started. Next:");
    println!("  systemctl enable --now {name}   # start it, now and at every boot");
    println!("  systemctl status {name}         # what it does");
    println!("  journalctl -f -u {name}         # its log");
    println!(
        "  systemctl reload {name}         # after a change of {}",
        options.config.display()
    );
    Ok(())
}

/// A word of a shell's command line.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

fn systemctl(args: &[&str]) -> Result<()> {
    let line = format!("systemctl {}", args.join(" "));
    let mut child = Command::new("systemctl")
        .args(args)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("{line} cannot be started"))?;
    match wait(&mut child, SYSTEMCTL).with_context(|| line.clone())? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{line} failed ({status}): see its message above"),
        None => bail!("{line} did not end within {} s", SYSTEMCTL.as_secs()),
    }
}

/// `None`: it took too long and was killed.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<std::process::ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests;
