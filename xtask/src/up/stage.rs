//! Directories, configuration and processes of one `up`.

use super::account::{Account, secret, write_private};
use super::config::{self, Node, Secrets, Shared};
use super::process::{Process, RESTART_AFTER};
use super::{etcd, ports, rest, screen, stop};
use anyhow::{Context, Result, bail};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What runs beside each PostgreSQL.
pub(super) enum Programs {
    /// The binary that was just built.
    Pgherd(PathBuf),
    /// A directory with `patroni` and `patronictl`.
    Patroni(PathBuf),
}

/// Everything that was made, and that has to go again.
pub(super) struct Stage {
    /// Temporary, ours.
    pub(super) dir: PathBuf,
    /// Members, by number.
    pub(super) nodes: Vec<Node>,
    /// libpq's password file, for the user who started us.
    pub(super) pass_file: PathBuf,
    /// The last member table that somebody told us.
    pub(super) table: rest::Table,
    /// One per node.
    pub(super) agents: Vec<Process>,
    pub(super) etcd: Option<Process>,
    /// Command lines for a person.
    pub(super) ctl: PathBuf,
    patroni: bool,
    agent: PathBuf,
    etcd_data: PathBuf,
    account: Account,
    shared: Shared,
    /// The node that is asked for the member table.
    asked: usize,
    /// Questions since the last answer.
    unanswered: usize,
    stopped: bool,
}

impl Stage {
    /// Makes directories and configuration; starts nothing.
    pub(super) fn build(count: u8, data: Option<&Path>, programs: &Programs) -> Result<Stage> {
        let account = Account::choose()?;
        let secrets = Secrets {
            superuser: secret()?,
            replication: secret()?,
            rewind: secret()?,
            rest: secret()?,
        };
        let dir = std::env::temp_dir().join(format!("pgherd-up-{}", &secret()?[..8]));
        make_public_dir(&dir)?;
        let shared = Shared {
            scope: "demo",
            etcd_port: 0,
            bin_dir: crate::machine::postgres_bin_dir().context("PostgreSQL is not installed")?,
            secrets,
        };
        let mut stage = Stage {
            pass_file: dir.join("pgpass"),
            nodes: Vec::new(),
            table: rest::Table::new(),
            agents: Vec::new(),
            etcd: None,
            ctl: PathBuf::new(),
            patroni: matches!(programs, Programs::Patroni(_)),
            agent: PathBuf::new(),
            etcd_data: PathBuf::new(),
            account,
            shared,
            asked: 0,
            unanswered: 0,
            stopped: false,
            dir,
        };
        // From here on a failure removes what was made: the stage's end does.
        stage.place_programs(programs)?;
        stage.place_data(count, data)?;
        let superuser = &stage.shared.secrets.superuser;
        write_private(
            &stage.pass_file,
            &format!("127.0.0.1:*:*:postgres:{superuser}\n"),
        )?;
        Ok(stage)
    }

    /// A copy: the workspace may be closed to the unprivileged user, and may be built anew.
    fn place_programs(&mut self, programs: &Programs) -> Result<()> {
        match programs {
            Programs::Patroni(folder) => {
                self.agent = folder.join("patroni");
                self.ctl = folder.join("patronictl");
            }
            Programs::Pgherd(built) => {
                let bin = self.dir.join("bin");
                make_public_dir(&bin)?;
                self.agent = bin.join("pgherd");
                self.ctl = self.agent.clone();
                std::fs::copy(built, &self.agent)
                    .with_context(|| format!("cannot copy {}", built.display()))?;
            }
        }
        Ok(())
    }

    fn place_data(&mut self, count: u8, data: Option<&Path>) -> Result<()> {
        let base = match data {
            None => None,
            Some(folder) => Some(self.take_data_dir(folder)?),
        };
        let ports = ports::free(usize::from(count) * 2)?;
        for (index, pair) in (1..=count).zip(ports.chunks(2)) {
            let name = format!("n{index}");
            let home = self.dir.join(&name);
            self.account.make_dir(&home)?;
            let data_home = match &base {
                None => home.clone(),
                Some(base) => {
                    self.account.make_dir(&base.join(&name))?;
                    base.join(&name)
                }
            };
            self.nodes.push(Node {
                name,
                port: pair[0],
                rest_port: pair[1],
                home,
                data: data_home.join("data"),
            });
        }
        let etcd_home = self.dir.join("etcd");
        self.account.make_dir(&etcd_home)?;
        self.etcd_data = match &base {
            None => etcd_home,
            Some(base) => {
                self.account.make_dir(&base.join("etcd"))?;
                base.join("etcd")
            }
        };
        Ok(())
    }

    /// The user's directory: new or empty, and the unprivileged user must be able to reach it.
    fn take_data_dir(&self, folder: &Path) -> Result<PathBuf> {
        if !folder.exists() {
            make_public_dir(folder)?;
        }
        let folder = folder
            .canonicalize()
            .with_context(|| format!("cannot use {}", folder.display()))?;
        let mut entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot read {}", folder.display()))?;
        if entries.next().is_some() {
            bail!(
                "{} is not empty: name a new directory, `up` starts a new cluster each time",
                folder.display()
            );
        }
        let mut probe = self.account.command(Path::new("/bin/ls"), Path::new("/"));
        if !crate::run::succeeds(probe.arg(&folder)) {
            bail!(
                "the user that PostgreSQL runs as cannot reach {}: name a directory elsewhere",
                folder.display()
            );
        }
        Ok(folder)
    }

    /// etcd, and the configurations that name its port.
    pub(super) fn start_etcd(&mut self) -> Result<()> {
        let home = self.dir.join("etcd");
        let (etcd, port) = etcd::start(&self.account, &home, &self.etcd_data)?;
        self.shared.etcd_port = port;
        self.etcd = Some(etcd);
        for node in &self.nodes {
            let text = config::yaml(&self.shared, node);
            self.account.write_secret(&node.config(), &text)?;
        }
        Ok(())
    }

    /// One agent per node.
    pub(super) fn start_agents(&mut self) -> Result<()> {
        for node in &self.nodes {
            let mut agent = Process::new(&node.name, &self.agent, &node.home, node.log());
            if !self.patroni {
                agent = agent.arg("agent");
            }
            agent = agent.arg(node.config());
            agent.start(&self.account)?;
            self.agents.push(agent);
        }
        Ok(())
    }

    /// Starts again what has been dead long enough, and says what has died.
    pub(super) fn keep_running(&mut self) -> Result<()> {
        for process in self.agents.iter_mut().chain(self.etcd.as_mut()) {
            if let Some(status) = process.just_died() {
                screen::event(&format!(
                    "{}: died ({status}), is started again in {} s",
                    process.name,
                    RESTART_AFTER.as_secs()
                ));
            }
            if process.restart_is_due() {
                process.start(&self.account)?;
                let pid = process.pid().unwrap_or_default();
                screen::event(&format!("{}: started again, pid {pid}", process.name));
            }
        }
        // Lays orphans to rest that have died.
        let ours = self.agents.iter().chain(self.etcd.as_ref());
        super::family::living(&ours.filter_map(Process::pid).collect());
        Ok(())
    }

    /// Asks one agent for the member table, the next one the next time if it does not answer; what
    /// has changed since the last answer.
    pub(super) fn look(&mut self) -> Vec<String> {
        let count = self.nodes.len();
        let Ok(table) = rest::cluster(self.nodes[self.asked].rest_port) else {
            self.asked = (self.asked + 1) % count;
            self.unanswered += 1;
            let silent = self.unanswered == count && !self.table.is_empty();
            return silent
                .then(|| "no agent answers".to_owned())
                .into_iter()
                .collect();
        };
        let mut changes = rest::changes(&self.table, &table);
        if self.unanswered >= count && !self.table.is_empty() {
            let name = &self.nodes[self.asked].name;
            changes.insert(0, format!("{name}: its agent answers again"));
        }
        self.unanswered = 0;
        self.table = table;
        changes
    }

    /// What a person types to talk to the cluster, without the command itself.
    pub(super) fn ctl_arguments(&self) -> Vec<std::ffi::OsString> {
        let mut arguments = Vec::new();
        if !self.patroni {
            arguments.push("ctl".into());
        }
        arguments.push("-c".into());
        arguments.push(self.nodes[0].config().into());
        arguments
    }

    /// Prints the member table with the command that a user would take.
    pub(super) fn list(&self) {
        let mut command = self.account.command(&self.ctl, &self.nodes[0].home);
        command.args(self.ctl_arguments()).arg("list");
        if let Err(error) = run_for(&mut command, Duration::from_secs(20)) {
            screen::say(&format!("the member table could not be listed: {error:#}"));
        }
    }

    /// Stops everything, removes what is temporary; what could not be ended.
    pub(super) fn stop(&mut self) -> Vec<String> {
        if std::mem::replace(&mut self.stopped, true) {
            return Vec::new();
        }
        let leader = rest::leader(&self.table);
        let left = stop::everything(&mut self.agents, leader, self.etcd.as_mut());
        if left.is_empty()
            && let Err(error) = std::fs::remove_dir_all(&self.dir)
        {
            screen::say(&format!("cannot remove {}: {error}", self.dir.display()));
        }
        left
    }
}

impl Drop for Stage {
    /// Also after a panic and an early return.
    fn drop(&mut self) {
        self.stop();
    }
}

/// A new directory that everybody may pass through and read.
fn make_public_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o755)
        .create(path)
        .with_context(|| format!("cannot create {}", path.display()))
}

/// Runs a command to its end with our output; kills it after `patience`.
fn run_for(command: &mut Command, patience: Duration) -> Result<()> {
    let text = crate::run::text_of(command);
    let mut child = command
        .stdin(std::process::Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start `{text}`"))?;
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!("`{text}` ended with {status}");
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("`{text}` did not end within {} s", patience.as_secs());
        }
        crate::run::pause(Duration::from_millis(20));
    }
}
