//! Real PostgreSQL, under the product's own hand. The process has to be an unprivileged one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pgherd_ha::{Action, JobKind, StartAs};
use pgherd_instance::{
    self as instance, Credentials, Instance, Methods, Options, ProgramOption, ServerConfig, Source,
};
use pgherd_model::{
    ControlFile, ControlState, HistoryLine, MemberName, Postmaster, SlotKind, StopMode, Timeline,
};
use pgherd_tests::janitor::Janitor;
use pgherd_tests::process::{self, Process};
use pgherd_tests::sql::{self, Target};
use pgherd_tests::{Signal, ports, wait_for};

use super::side::{Facts, NODES, Side, Written, name};

/// Longest job.
const JOB: Duration = Duration::from_secs(60);
/// What an answer may take.
const SOON: Duration = Duration::from_secs(20);
/// Between two looks at something that changes.
const PAUSE: Duration = Duration::from_millis(120);
/// Who waits longer for a standby waits for one that does not answer.
const MOMENT: Duration = Duration::from_millis(500);
const HOST: &str = "127.0.0.1";

/// A new cluster as initdb and the first start leave it: made once, copied for each list.
pub struct Template {
    janitor: Janitor,
}

/// Three nodes in a directory of their own.
pub struct Real {
    nodes: Vec<Node>,
    template: PathBuf,
    acknowledged: Arc<Mutex<Vec<u64>>>,
    // Last: it kills what is left.
    _janitor: Janitor,
}

struct Node {
    instance: Instance,
    /// Its postmaster is stopped: nobody who connects is answered.
    frozen: bool,
    parameters: BTreeMap<String, String>,
}

fn role(name: &str) -> Credentials {
    Credentials {
        username: Some(name.to_owned()),
        ..Credentials::default()
    }
}

fn options(home: &Path, node: &str) -> Options {
    let mut options = Options::new(
        "conformance",
        node,
        home.join(node),
        (HOST, ports::free_port(HOST)),
        role("postgres"),
        role("replicator"),
    );
    options.bin_dir = Some(process::pg_bin());
    options.pgpass = home.join(format!("pgpass.{node}"));
    options.server_log = Some(home.join(format!("{node}.log")));
    options.initdb = vec![
        ProgramOption::Value("encoding".to_owned(), "UTF8".to_owned()),
        ProgramOption::Value("locale".to_owned(), "C".to_owned()),
        ProgramOption::Value("auth".to_owned(), "trust".to_owned()),
        ProgramOption::Flag("data-checksums".to_owned()),
    ];
    options.bootstrap_pg_hba = vec![
        "host all all 127.0.0.1/32 trust".to_owned(),
        "host replication all 127.0.0.1/32 trust".to_owned(),
    ];
    options
}

/// Quick, and without what happens by itself.
fn parameters() -> BTreeMap<String, String> {
    let parameters = [
        ("unix_socket_directories", ""),
        ("shared_buffers", "16MB"),
        ("wal_retrieve_retry_interval", "100ms"),
        ("wal_receiver_status_interval", "1s"),
        ("autovacuum", "off"),
        ("bgwriter_delay", "10s"),
        ("max_connections", "40"),
        ("wal_keep_size", "128MB"),
    ];
    let owned = parameters.iter();
    owned
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

impl Template {
    /// Makes it.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start, or this process is root.
    pub async fn make() -> Template {
        let janitor = Janitor::new(&process::scratch_dir(), "pgherd-conformance-");
        let node = Node::new(janitor.dir(), "template");
        let made = async {
            node.instance.initdb(JOB).await?;
            let primary = instance::StartAs::Primary;
            node.instance.start(&primary, JOB).await?;
            node.instance.wait_ready(JOB).await?;
            node.instance.post_bootstrap(JOB).await?;
            node.instance.end_bootstrap().await
        };
        made.await.expect("a new cluster");
        let created = sql::connect(&node.target(), SOON).await;
        let created = created.expect("a connection to the new cluster");
        let table = created.batch_execute("CREATE TABLE rows (number bigint)");
        table.await.expect("a table");
        drop(created);
        let stopped = node.instance.stop(StopMode::Fast, JOB).await;
        stopped.expect("stop the new cluster");
        Template { janitor }
    }

    /// Three nodes, the cluster on none of them.
    pub fn nodes(&self) -> Real {
        let janitor = Janitor::new(&process::scratch_dir(), "pgherd-conformance-");
        let node = |number| Node::new(janitor.dir(), name(number).as_str());
        Real {
            nodes: (0..NODES).map(node).collect(),
            template: self.janitor.dir().join("template"),
            acknowledged: Arc::default(),
            _janitor: janitor,
        }
    }
}

impl Node {
    fn new(home: &Path, name: &str) -> Node {
        let server = ServerConfig {
            parameters: parameters(),
            ..ServerConfig::default()
        };
        let instance = Instance::new(options(home, name), server);
        Node {
            instance: instance.expect("options that can work"),
            frozen: false,
            parameters: parameters(),
        }
    }

    fn target(&self) -> Target {
        let options = self.instance.options();
        Target {
            name: options.name.to_string(),
            host: HOST.to_owned(),
            port: options.port,
            user: "postgres".to_owned(),
            password: String::new(),
        }
    }

    /// How long to wait for a connection.
    fn patience(&self) -> Duration {
        match self.frozen {
            true => MOMENT,
            false => SOON,
        }
    }

    fn source(&self) -> Source {
        Source {
            host: HOST.to_owned(),
            port: self.instance.options().port,
            database: None,
        }
    }

    /// Every process of it, the postmaster first.
    fn processes(&self) -> Vec<Process> {
        let dir = self.instance.path();
        let mut all: Vec<Process> = process::all();
        all.retain(|it| it.state != 'Z' && it.comm == "postgres" && it.cwd == *dir);
        let pids: Vec<i32> = all.iter().map(|it| it.pid).collect();
        all.sort_by_key(|it| pids.contains(&it.ppid));
        all
    }

    /// As the fence does it.
    fn kill(&self) {
        let all = self.processes();
        if let Some(postmaster) = all.first() {
            process::signal(postmaster.pid, Signal::STOP);
        }
        for it in &all {
            process::signal(it.pid, Signal::KILL);
        }
    }

    async fn start(&self, role: instance::StartAs) -> instance::Result<()> {
        self.instance.start(&role, JOB).await?;
        match self.instance.wait_ready(JOB).await {
            Err(instance::Error::Timeout { .. }) if role != instance::StartAs::Primary => Ok(()),
            other => other.map(drop),
        }
    }

    async fn rows(&self) -> Option<Vec<u64>> {
        let sql = "SELECT coalesce(string_agg(number::text, ' ' ORDER BY number), '') FROM rows";
        let client = sql::connect(&self.target(), self.patience()).await.ok()?;
        let row = client.query_one(sql, &[]).await.ok()?;
        let text: String = row.get(0);
        let rows = text.split_whitespace().map(str::parse);
        rows.collect::<Result<_, _>>().ok()
    }
}

impl Real {
    async fn job(&mut self, node: usize, kind: JobKind) -> instance::Result<()> {
        let own = &self.nodes[node];
        let source = |address: &(String, u16)| Source {
            host: address.0.clone(),
            port: address.1,
            database: None,
        };
        match kind {
            JobKind::Bootstrap => {
                let mut copy = process::command(Path::new("cp"), None);
                copy.arg("-a").arg(&self.template).arg(own.instance.path());
                // Not by the reaper of the tests, which would take the ends of the product's own programs.
                let copied = copy.output().expect("run cp");
                assert!(copied.status.success(), "{copied:?}");
                own.start(instance::StartAs::Primary).await
            }
            JobKind::Clone { from, .. } => {
                let from = from.as_ref().map(|origin| source(&origin.address));
                own.instance
                    .make_replica(from.as_ref(), Methods::Replica, JOB)
                    .await
            }
            JobKind::Start(StartAs::Primary) => own.start(instance::StartAs::Primary).await,
            JobKind::Start(StartAs::Standby { upstream, follow }) => {
                if let Some((whom, timeline)) = follow {
                    self.install_history(node, &whom, timeline).await;
                }
                own.start(instance::StartAs::Standby(upstream)).await
            }
            JobKind::Stop {
                mode: StopMode::Kill,
                ..
            } => {
                own.kill();
                self.is_down(node).await;
                self.nodes[node].frozen = false;
                Ok(())
            }
            JobKind::Stop { mode, .. } => own.instance.stop(mode, JOB).await,
            JobKind::Promote => own.instance.promote(JOB).await.map(drop),
            JobKind::CrashRecovery => own.instance.crash_recovery(JOB).await,
            JobKind::Rewind { address, .. } => own.instance.rewind(&source(&address), JOB).await,
            JobKind::RemoveData => own.instance.remove_data_dir().await,
            JobKind::CopySlots { from, slots } => {
                let leader = source(&from.address);
                let files = own.instance.read_slots(&leader, &slots).await?;
                own.instance.stop(StopMode::Fast, JOB).await?;
                own.instance.place_slots(files).await
            }
        }
    }

    /// As the agent: without it recovery follows what is in pg_wal.
    async fn install_history(&self, node: usize, whom: &MemberName, timeline: Timeline) {
        let own = &self.nodes[node].instance;
        let other = self
            .nodes
            .iter()
            .find(|it| it.instance.options().name == *whom);
        let source = other.expect("a node of this name").source();
        if let Ok(history) = own.remote_history(&source, timeline).await {
            own.install_history(&history)
                .await
                .expect("install a history");
        }
    }

    async fn is_down(&self, node: usize) {
        let own = &self.nodes[node].instance;
        wait_for("all processes are gone", JOB, async || {
            match own.postmaster().await {
                Postmaster::Down => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    async fn history(&self, node: usize, timeline: Timeline) -> Vec<HistoryLine> {
        let local = self.nodes[node].instance.local_history(timeline).await;
        let Ok(Some(local)) = local else {
            return Vec::new();
        };
        let lines = local
            .history
            .switches
            .into_iter()
            .map(|switch| HistoryLine {
                timeline: switch.timeline,
                end: switch.end,
                reason: switch.reason,
                timestamp: None,
                leader: None,
            });
        lines.collect()
    }

    fn _has_answer(&self, row: u64) -> bool {
        let rows = self.acknowledged.lock();
        rows.unwrap_or_else(PoisonError::into_inner).contains(&row)
    }

    async fn sql(&self, node: usize, sql: &str) -> Result<String, String> {
        sql::value(&self.nodes[node].target(), sql).await
    }
}

impl Side for Real {
    async fn perform(&mut self, node: usize, action: Action) -> Result<(), String> {
        let own = &self.nodes[node].instance;
        let done = match action {
            Action::StartJob(kind) => self.job(node, kind).await,
            Action::SetUpstream(upstream) => own.set_upstream(upstream).await.map(drop),
            Action::StopReceiving => own.stop_receiving(JOB).await.map(drop),
            Action::ReserveTimelines { last } => own.reserve_timelines(last).await,
            Action::CreateSlot(slot) => own.create_slot(&slot, &SlotKind::Physical).await,
            Action::DropSlot(slot) => own.drop_slot(&slot).await.map(drop),
            Action::AdvanceSlot(slot, lsn) => own.advance_slot(&slot, lsn).await.map(drop),
            Action::SetSynchronousStandbys(names) => {
                let set = own.set_synchronous_standby_names(Some(names)).await;
                set.map(drop)
            }
            // It is asked for beside the loop: nobody hears of its failure.
            Action::Checkpoint => {
                let _ = own.checkpoint(JOB).await;
                Ok(())
            }
            other => panic!("no list orders {}", other.name()),
        };
        done.map_err(|error| error.to_string())
    }

    async fn set_parameter(&mut self, node: usize, name: &str, value: &str) {
        let node = &mut self.nodes[node];
        node.parameters.insert(name.to_owned(), value.to_owned());
        node.instance.want(ServerConfig {
            parameters: node.parameters.clone(),
            ..ServerConfig::default()
        });
        node.instance
            .apply()
            .await
            .expect("write the configuration");
    }

    async fn write(&mut self, node: usize, row: u64) -> Written {
        let own = &self.nodes[node];
        let Ok(client) = sql::connect(&own.target(), own.patience()).await else {
            return Written::Refused;
        };
        let rows = self.acknowledged.clone();
        let insert = tokio::spawn(async move {
            let sql = format!("INSERT INTO rows VALUES ({row})");
            let done = client.batch_execute(&sql).await.is_ok();
            if done {
                let rows = rows.lock();
                rows.unwrap_or_else(PoisonError::into_inner).push(row);
            }
            done
        });
        let waiting = format!(
            "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep' \
             AND query LIKE 'INSERT INTO rows VALUES ({row})'"
        );
        let mut since = None;
        loop {
            if insert.is_finished() {
                return match insert.await {
                    Ok(true) => Written::Acknowledged,
                    Ok(false) | Err(_) => Written::Refused,
                };
            }
            let waits = self.sql(node, &waiting).await.is_ok_and(|it| it == "1");
            // Each of them waits for a moment.
            if waits && since.get_or_insert_with(Instant::now).elapsed() > MOMENT {
                return Written::Waits;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn cancel(&mut self, node: usize) {
        let sql = "SELECT count(pg_cancel_backend(pid))::text FROM pg_stat_activity \
                   WHERE wait_event = 'SyncRep'";
        self.sql(node, sql).await.expect("cancel the waiting ones");
    }

    async fn kill_postmaster(&mut self, node: usize) {
        if let Some(postmaster) = self.nodes[node].processes().first() {
            process::signal(postmaster.pid, Signal::KILL);
        }
        self.is_down(node).await;
    }

    async fn freeze(&mut self, node: usize, frozen: bool) {
        self.nodes[node].frozen = frozen;
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        if let Some(postmaster) = self.nodes[node].processes().first() {
            process::signal(postmaster.pid, signal);
        }
    }

    async fn freeze_receiver(&mut self, node: usize, frozen: bool) {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        let all = self.nodes[node].processes();
        let receiver = all.iter().find(|it| it.cmdline.contains("walreceiver"));
        process::signal(receiver.expect("a walreceiver").pid, signal);
    }

    async fn facts(&mut self, node: usize) -> Facts {
        let own = &self.nodes[node].instance;
        let postmaster = own.postmaster().await;
        let look = match postmaster {
            Postmaster::Alive { .. } => own.look().await.ok(),
            Postmaster::Down | Postmaster::Leftovers(_) => None,
        };
        let on_disk = own.on_disk(look.is_some()).await;
        let clean = |it: &ControlFile| it.state == ControlState::ShutDown;
        let stopped = postmaster == Postmaster::Down && on_disk.control.as_ref().is_some_and(clean);
        let shutdown_end = match stopped {
            true => own.shutdown_point().await.ok().flatten().map(|it| it.end),
            false => None,
        };
        let written = |it: &ControlFile| it.timeline.max(it.min_recovery_timeline);
        let timeline = match &look {
            Some(look) => Some(look.timeline),
            None => on_disk.control.as_ref().map(written),
        };
        let history = match timeline {
            Some(timeline) => self.history(node, timeline).await,
            None => Vec::new(),
        };
        let rows = match &look {
            Some(_) => self.nodes[node].rows().await,
            None => None,
        };
        Facts {
            data: on_disk.data,
            control: on_disk.control,
            shutdown_end,
            standby_signal: on_disk.marks.standby_signal,
            backup_label: on_disk.marks.backup_label,
            postmaster,
            look,
            history,
            rows,
        }
    }

    fn acknowledged(&self) -> Vec<u64> {
        let rows = self.acknowledged.lock();
        let mut rows = rows.unwrap_or_else(PoisonError::into_inner).clone();
        rows.sort_unstable();
        rows
    }

    fn address(&self, node: usize) -> (String, u16) {
        (HOST.to_owned(), self.nodes[node].instance.options().port)
    }

    async fn settle(&mut self) {
        tokio::time::sleep(PAUSE).await;
    }
}
