//! [`Instance`]: the whole interface on one page. Each method does one thing; the work is in the
//! module that its body names.

use crate::apply::Applied;
use crate::check::Checked;
use crate::conf::SyncNames;
use crate::connection::Connections;
use crate::options::{Options, ServerConfig};
use crate::process::Watched;
use crate::*;
use pgherd_model::{ControlFile, DataDir, Look, Lsn, Postmaster, StopMode, SystemId, Timeline};
use pgherd_model::{LogicalSlot, SlotKind, Upstream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One local PostgreSQL. Cheap to clone; every clone is the same instance.
#[derive(Clone, Debug)]
pub struct Instance {
    pub(crate) inner: Arc<Inner>,
}

/// What the clones share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) data_dir: PathBuf,
    /// As it is written in the configuration: what commands of the user's are told.
    pub(crate) data_dir_given: PathBuf,
    pub(crate) options: Mutex<Arc<Options>>,
    /// The server's configuration.
    pub(crate) applied: Applied,
    /// Apart from the rest: no change of the configuration may touch them.
    pub(crate) sync_names: Mutex<SyncNames>,
    /// What the installed server says of the parameters.
    pub(crate) checked: Checked,
    /// As what it was started or last told to be; None until then: the files know.
    pub(crate) role: Mutex<Option<StartAs>>,
    pub(crate) connections: Connections,
    pub(crate) watched: Mutex<Option<Watched>>,
    /// Names under which the server's program was found so far.
    pub(crate) server_names: Mutex<Vec<String>>,
    /// One change of files at a time. Whoever changes them owns it, also when nobody waits for it
    /// any more.
    pub(crate) files: Arc<tokio::sync::Mutex<()>>,
    /// Owned by a removal of the data directory likewise; nobody waits for it.
    pub(crate) removal: Arc<tokio::sync::Mutex<()>>,
}

impl Instance {
    /// Takes a node's options and its present server configuration. Touches nothing.
    ///
    /// # Errors
    /// [`Error::Config`] for options that cannot work (relative data directory, refused initdb or
    /// pg_basebackup options).
    pub fn new(options: Options, server: ServerConfig) -> Result<Instance> {
        conf::check_options(&options)?;
        let data_dir_given = options.data_dir.clone();
        // Files that lie beside it would lie in it where its name ends with a slash.
        let data_dir: PathBuf = data_dir_given.components().collect();
        let options = Options {
            data_dir: data_dir.clone(),
            ..options
        };
        Ok(Instance {
            inner: Arc::new(Inner {
                data_dir,
                data_dir_given,
                options: Mutex::new(Arc::new(options)),
                applied: Applied::new(server),
                sync_names: Mutex::default(),
                checked: Checked::default(),
                role: Mutex::new(None),
                connections: Connections::default(),
                watched: Mutex::new(None),
                server_names: Mutex::default(),
                files: Arc::default(),
                removal: Arc::default(),
            }),
        })
    }

    /// The options of [`Instance::new`] or of the last [`Instance::change`].
    pub fn options(&self) -> Arc<Options> {
        match self.inner.options.lock() {
            Ok(options) => options.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    /// Other options from now on: for the next connection, program and file that is written. The
    /// data directory and where its configuration lies stay.
    ///
    /// # Errors
    /// As [`Instance::new`]; nothing was changed then.
    pub fn change(&self, options: Options) -> Result<()> {
        conf::check_options(&options)?;
        let present = self.options();
        let options = Options {
            data_dir: present.data_dir.clone(),
            config_dir: present.config_dir.clone(),
            config_base_name: present.config_base_name.clone(),
            ..options
        };
        match self.inner.options.lock() {
            Ok(mut kept) => *kept = Arc::new(options),
            Err(poisoned) => *poisoned.into_inner() = Arc::new(options),
        }
        Ok(())
    }

    /// The data directory.
    pub fn path(&self) -> &Path {
        &self.inner.data_dir
    }

    // ---- facts without a connection ----

    /// Looks at the data directory as PostgreSQL would at start: owner, mode, PG_VERSION.
    pub async fn data_dir(&self) -> DataDir {
        datadir::inspect_async(self).await
    }

    /// The data directory, the files in it that say what it is meant for, and pg_control, read in one go;
    /// `answers`: a server that runs on it has just answered, so it is not looked at further.
    pub async fn on_disk(&self, answers: bool) -> OnDisk {
        datadir::on_disk(self, answers).await
    }

    /// Reads pg_control. A few microseconds: fit for every 5 ms.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::ControlFile`] (also when pg_controldata cannot help).
    pub async fn control_file(&self) -> Result<ControlFile> {
        control::control_file(self).await
    }

    /// Where the shutdown checkpoint of a cleanly stopped server lies, start and end; None when it
    /// was not stopped cleanly. A former primary has diverged if `end` is past the point at which
    /// the new timeline was switched to (Patroni compares the same).
    ///
    /// # Errors
    /// [`Error::File`], [`Error::ControlFile`], [`Error::Unexpected`] when the WAL is not readable.
    pub async fn shutdown_point(&self) -> Result<Option<ShutdownPoint>> {
        control::shutdown_point(self).await
    }

    /// The postmaster and what is left of it.
    pub async fn postmaster(&self) -> Postmaster {
        process::postmaster(self).await
    }

    /// How far a stop has come; to be asked while PostgreSQL stops.
    pub async fn stopping(&self) -> Stopping {
        process::stopping(self).await
    }

    /// Tells WAL senders to end (SIGTERM), of these processes those that are senders of this PostgreSQL. One that waits for
    /// its standby needs to be told twice.
    ///
    /// # Errors
    /// When `/proc` does not answer in time.
    pub async fn end_senders(&self, pids: &[u32]) -> Result<()> {
        process::end_senders(self, pids).await
    }

    /// Handle of the living postmaster (ours or adopted), None when there is none.
    pub async fn postmaster_handle(&self) -> Option<PostmasterHandle> {
        process::handle(self).await
    }

    /// File names under which the server's program may run here: whoever looks for its processes
    /// needs them. The first call looks at files, and may block as long as they do.
    pub fn server_programs(&self) -> Vec<String> {
        process::names_so_far(self)
    }

    /// What postmaster.pid says about accepting connections: no query, no wait.
    pub async fn readiness(&self) -> Readiness {
        process::readiness(self).await
    }

    /// Major version of the data directory (15), or of the installed programs when it is empty.
    ///
    /// # Errors
    /// [`Error::ProgramMissing`], [`Error::Unexpected`].
    pub async fn major_version(&self) -> Result<u32> {
        program::major_version(self).await
    }

    /// Whether the programs that this node will need are installed.
    ///
    /// # Errors
    /// [`Error::ProgramMissing`] for the first that is not.
    pub async fn check_programs(&self, rewind: bool) -> Result<()> {
        program::check(self, rewind).await
    }

    /// Whether the port is free that PostgreSQL is to listen on. Only while it does not run.
    ///
    /// # Errors
    /// [`Error::PortInUse`].
    pub async fn check_port(&self) -> Result<()> {
        port::check(self).await
    }

    // ---- process ----

    /// Writes the configuration and spawns the postmaster in a session of its own. Returns as soon
    /// as its postmaster.pid is there; [`Instance::wait_ready`] waits for connections.
    /// Refuses while any process of the data directory is left.
    ///
    /// # Errors
    /// [`Error::PortInUse`], [`Error::DataDir`], [`Error::StillRunning`], [`Error::ProgramMissing`],
    /// [`Error::DiedAtStart`], [`Error::Timeout`], file errors.
    pub async fn start(&self, role: &StartAs, timeout: Duration) -> Result<PostmasterHandle> {
        start::start(self, role, timeout).await
    }

    /// The first half of [`Instance::start`]: writes the configuration and returns the command that
    /// somebody else (the guard) has to run.
    ///
    /// # Errors
    /// As [`Instance::start`] before the spawn.
    pub async fn prepare_start(&self, role: &StartAs) -> Result<StartCommand> {
        start::prepare(self, role).await
    }

    /// The second half, after somebody else has run the command: waits for postmaster.pid.
    ///
    /// # Errors
    /// [`Error::DiedAtStart`], [`Error::Timeout`].
    pub async fn wait_started(&self, timeout: Duration) -> Result<PostmasterHandle> {
        start::wait_started(self, timeout).await
    }

    /// Waits until connections are accepted: read-write or, on a standby, read-only. Also makes
    /// the `*.backup` copies of the configuration files.
    ///
    /// # Errors
    /// [`Error::DiedAtStart`], [`Error::Timeout`].
    pub async fn wait_ready(&self, timeout: Duration) -> Result<Readiness> {
        start::wait_ready(self, timeout).await
    }

    /// Stops it, signalling again every 100 ms, and returns when no process of the data directory is
    /// left. [`StopMode::Kill`] belongs to the guard and is refused.
    ///
    /// # Errors
    /// [`Error::Timeout`] with what is left.
    pub async fn stop(&self, mode: StopMode, timeout: Duration) -> Result<()> {
        stop::stop(self, mode, timeout).await
    }

    /// Sends SIGHUP.
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub async fn reload(&self) -> Result<()> {
        stop::reload(self).await
    }

    /// Promotes: promote file and SIGUSR1 again every 20 ms, a look every 5 ms. Returns the new
    /// timeline once PostgreSQL is out of recovery. Repeatable: an already promoted one answers
    /// its timeline.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Timeout`].
    pub async fn promote(&self, timeout: Duration) -> Result<Timeline> {
        promote::promote(self, timeout).await
    }

    // ---- queries ----

    /// Everything that PostgreSQL says, in one round trip over a kept-alive connection.
    ///
    /// # Errors
    /// [`Error::NotReady`], [`Error::Connect`], [`Error::Query`], [`Error::Timeout`] (3 s).
    pub async fn look(&self) -> Result<Look> {
        look::look(self).await.map(|(look, _)| look)
    }

    /// [`Instance::look`], and the glance that belongs to it: as long as [`Instance::glance`] gives an
    /// equal one, another look would show the same, as far as [`Glance`] goes.
    ///
    /// # Errors
    /// As [`Instance::look`].
    pub async fn look_and_glance(&self) -> Result<(Look, Glance)> {
        look::look(self).await
    }

    /// What changes by itself, at a small part of a look's price, on the same kept-alive connection.
    ///
    /// # Errors
    /// As [`Instance::look`].
    pub async fn glance(&self) -> Result<Glance> {
        glance::glance(self).await
    }

    /// As [`Instance::look`], on a kept-alive connection of its own: whoever looks for others never
    /// makes the one wait who looks for the node itself. Its connection lives on the runtime that
    /// calls this.
    ///
    /// # Errors
    /// As [`Instance::look`].
    pub async fn look_beside(&self) -> Result<Look> {
        look::look_beside(self).await
    }

    /// Parameters that the installed server does not take as they were given, and what the running one has
    /// instead, as of the last look.
    pub fn refused(&self) -> Vec<Refused> {
        check::refused(self)
    }

    /// The licence's check: a NEW connection that is answered, within a part of the time, and a small commit that
    /// flushes WAL, on a connection that is kept. Does not wait for synchronous standbys. On a standby: only the answer
    /// and a read. Where that connection is lost and a new login is refused (password, pg_hba, too many connections),
    /// another one that was kept does it.
    ///
    /// # Errors
    /// As [`Instance::look`], [`Error::Timeout`].
    pub async fn probe_commit(&self, timeout: Duration) -> Result<Probe> {
        probe::probe_commit(self, timeout).await
    }

    /// `CHECKPOINT`.
    ///
    /// # Errors
    /// As [`Instance::look`], [`Error::Timeout`].
    pub async fn checkpoint(&self, timeout: Duration) -> Result<()> {
        look::checkpoint(self, timeout).await
    }

    /// Ends all client sessions but our own, by termination (a cancelled wait for a synchronous
    /// standby would acknowledge its commit). Returns how many.
    ///
    /// # Errors
    /// As [`Instance::look`].
    pub async fn terminate_backends(&self) -> Result<u64> {
        look::terminate_backends(self).await
    }

    // ---- configuration ----

    /// Asks for a new server configuration; one that was asked for before is forgotten. It holds
    /// after [`Instance::apply`], and for every start from now on.
    pub fn want(&self, server: ServerConfig) {
        apply::want(self, server);
    }

    /// Whether [`Instance::want`] has asked for one that does not hold yet.
    pub fn is_wanted(&self) -> bool {
        apply::is_wanted(self)
    }

    /// Checks the configuration that is wanted, writes the files if there is a cluster, and reloads
    /// a running server. Parameters that the installed server does not take are left out with a
    /// warning. `synchronous_standby_names` stays as [`Instance::set_synchronous_standby_names`] or
    /// an earlier agent has set it. Returns whether a file changed. The check can take 20 s: not to
    /// be waited for where something else must go on.
    ///
    /// # Errors
    /// [`Error::File`].
    pub async fn apply(&self) -> Result<bool> {
        apply::apply(self).await
    }

    /// Sets `synchronous_standby_names` (`""`, `a`, `2 (a,b)`, `ANY 1 (a,b)`), writes, reloads;
    /// None gives it back to the user's parameters. Until the first call what the file says stays.
    /// Returns whether it changed.
    ///
    /// # Errors
    /// [`Error::File`].
    pub async fn set_synchronous_standby_names(&self, names: Option<String>) -> Result<bool> {
        conf::set_synchronous_standby_names(self, names).await
    }

    /// Points a standby at another upstream (or at none) by rewriting the files and reloading; no
    /// restart from PostgreSQL 13 on. Returns whether a file changed. Numbers that were reserved for
    /// a promotion that did not come are given back: recovery would find them newest.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Unexpected`] before 13 on a running server.
    pub async fn set_upstream(&self, upstream: Option<Upstream>) -> Result<bool> {
        history::unreserve(self).await?;
        conf::set_upstream(self, upstream).await
    }

    /// Cuts a running standby off its upstream, waits until the receiver is gone and returns the
    /// end of what it has received.
    ///
    /// # Errors
    /// [`Error::Timeout`], as [`Instance::look`].
    pub async fn stop_receiving(&self, timeout: Duration) -> Result<Lsn> {
        promote::stop_receiving(self, timeout).await
    }

    // ---- bootstrap, copy, repair ----

    /// Makes a fresh cluster with a system identifier of its own in an empty (or our own
    /// unfinished) data directory. Not started. From its first moment it
    /// [is half made](Instance::is_half_made), until [`Instance::end_bootstrap`].
    ///
    /// # Errors
    /// [`Error::DataDir`], [`Error::ProgramMissing`], [`Error::ProgramFailed`], [`Error::Timeout`].
    pub async fn initdb(&self, timeout: Duration) -> Result<SystemId> {
        bootstrap::initdb(self, timeout).await
    }

    /// Lets the command of `bootstrap.method` make a cluster, which [`Instance::start`] is to start as
    /// [`StartAs::Restored`]. As with [`Instance::initdb`] it is half made from its first moment.
    ///
    /// # Errors
    /// [`Error::DataDir`], [`Error::ProgramFailed`], [`Error::Timeout`], [`Error::Config`], file errors.
    pub async fn bootstrap_by(
        &self,
        method: &BootstrapMethod,
        timeout: Duration,
    ) -> Result<SystemId> {
        fill::bootstrap(self, method, timeout).await
    }

    /// Waits until a server that was started as [`StartAs::Restored`] is out of recovery.
    ///
    /// # Errors
    /// [`Error::DiedAtStart`], [`Error::Timeout`].
    pub async fn wait_recovered(&self, timeout: Duration) -> Result<()> {
        start::wait_recovered(self, timeout).await
    }

    /// A running server that was started as [`StartAs::Restored`] goes on as a primary like any other: its roles are
    /// known now, so pg_hba.conf trusts nobody any more. True: it has to be started anew for that. Of any other
    /// nothing changes.
    ///
    /// # Errors
    /// File errors, [`Error::NotRunning`].
    pub async fn end_restored(&self) -> Result<bool> {
        fill::end_restored(self).await
    }

    /// On the running new primary: superuser's password, the post_bootstrap command, then the
    /// replication and rewind roles.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::ProgramFailed`], [`Error::Timeout`].
    pub async fn post_bootstrap(&self, timeout: Duration) -> Result<()> {
        bootstrap::post_bootstrap(self, timeout).await
    }

    /// Whether the cluster here was made by [`Instance::initdb`], and nobody has said since that its
    /// roles are there.
    pub fn is_half_made(&self) -> bool {
        self.path().join(datadir::HALF_MADE).exists()
    }

    /// The new cluster is whole.
    ///
    /// # Errors
    /// [`Error::File`].
    pub async fn end_bootstrap(&self) -> Result<()> {
        datadir::end_bootstrap(self).await
    }

    /// Copies `source` into an empty (or our own unfinished) data directory with pg_basebackup, two
    /// tries. A failure leaves nothing behind that was not there before.
    ///
    /// # Errors
    /// As [`Instance::initdb`].
    pub async fn basebackup(&self, source: &Source, timeout: Duration) -> Result<()> {
        copy::basebackup(self, source, timeout).await
    }

    /// pg_rewind of the stopped data directory to `source`. It must have been stopped cleanly: see
    /// [`Instance::crash_recovery`].
    ///
    /// # Errors
    /// [`Error::StillRunning`], [`Error::ProgramFailed`], [`Error::Timeout`].
    pub async fn rewind(&self, source: &Source, timeout: Duration) -> Result<()> {
        copy::rewind(self, source, timeout).await
    }

    /// Crash recovery in single-user mode: afterwards pg_control says "shut down".
    ///
    /// # Errors
    /// As [`Instance::rewind`].
    pub async fn crash_recovery(&self, timeout: Duration) -> Result<()> {
        copy::crash_recovery(self, timeout).await
    }

    /// Empties the data directory. Only one that holds a cluster or is our own unfinished one, and
    /// only when nothing runs in it. An empty or missing one is fine.
    ///
    /// # Errors
    /// [`Error::DataDir`], [`Error::StillRunning`], [`Error::File`].
    pub async fn remove_data_dir(&self) -> Result<()> {
        datadir::remove(self).await
    }

    /// Renames the data directory to `<data_dir>.failed` (an older one of that name gets removed)
    /// and returns the new path.
    ///
    /// # Errors
    /// As [`Instance::remove_data_dir`].
    pub async fn set_aside(&self) -> Result<PathBuf> {
        datadir::set_aside(self).await
    }

    /// Makes a copy by these methods, one after the other until one succeeds; without a source by those that need none.
    ///
    /// # Errors
    /// Those of the last method.
    pub async fn make_replica(
        &self,
        source: Option<&Source>,
        by: Methods,
        timeout: Duration,
    ) -> Result<()> {
        fill::replica(self, source, by, timeout).await
    }

    /// Gives the data up that are to be made anew: removes them, or leaves that to a command of the user's that may
    /// want to see them. They count as unfinished from then on. As [`Instance::remove_data_dir`].
    ///
    /// # Errors
    /// As [`Instance::remove_data_dir`].
    pub async fn give_data_up(&self) -> Result<()> {
        fill::give_up(self).await
    }

    /// Runs a command line of the user's, `key` of section `postgresql`, to its end; its process group ends with this
    /// future.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::ProgramFailed`] where it does not end with 0, [`Error::Timeout`].
    pub async fn run_command(&self, key: &str, line: &str, timeout: Duration) -> Result<()> {
        let place = format!("postgresql.{key}");
        script::Script::new(self, &place, key, line)?
            .run(timeout)
            .await
    }

    // ---- other servers and history ----

    /// Asks another server (rewind or superuser credentials) what it is.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::Query`], [`Error::Timeout`] (3 s).
    pub async fn ask(&self, source: &Source) -> Result<RemoteFacts> {
        remote::ask(self, source).await
    }

    /// History of timeline `timeline` as `source` has it in pg_wal. Timeline 1 has none: empty.
    ///
    /// # Errors
    /// As [`Instance::ask`].
    pub async fn remote_history(
        &self,
        source: &Source,
        timeline: Timeline,
    ) -> Result<TimelineHistory> {
        remote::history(self, source, timeline).await
    }

    /// Puts a history file into the own pg_wal before a start as standby, so that recovery leaves
    /// the own timeline at the fork instead of replaying past it. Numbers below that have no file
    /// get a placeholder: PostgreSQL looks no further than a gap.
    ///
    /// # Errors
    /// [`Error::File`].
    pub async fn install_history(&self, history: &TimelineHistory) -> Result<()> {
        history::install(self, history).await
    }

    /// The next promotion takes a number above `last`, which somebody else has used. It holds until
    /// the next start as standby or change of the upstream.
    ///
    /// # Errors
    /// [`Error::File`].
    pub async fn reserve_timelines(&self, last: Timeline) -> Result<()> {
        history::reserve(self, last).await
    }

    /// The history file of this timeline in the own pg_wal, with its time: what the `history` key tells,
    /// and by what two timelines of one number are told apart. None on timeline 1.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Unexpected`].
    pub async fn local_history(&self, timeline: Timeline) -> Result<Option<LocalHistory>> {
        history::local(self, timeline).await
    }

    // ---- slots ----

    /// Makes a slot; one of that name and kind that is there already is fine. Physical slots
    /// reserve WAL at once.
    ///
    /// # Errors
    /// As [`Instance::look`].
    pub async fn create_slot(&self, name: &str, kind: &SlotKind) -> Result<()> {
        slots::create(self, name, kind).await
    }

    /// Drops a slot that is not in use; a missing one is fine. Returns false if it is active (left alone).
    ///
    /// # Errors
    /// As [`Instance::look`].
    pub async fn drop_slot(&self, name: &str) -> Result<bool> {
        slots::drop(self, name).await
    }

    /// Makes a permanent logical slot, unless there is one; transactions that are open hold it up.
    ///
    /// # Errors
    /// As [`Instance::look`]; [`Error::Unexpected`] where another slot has its name: that one is left alone.
    pub async fn create_logical_slot(&self, slot: &LogicalSlot, deadline: Duration) -> Result<()> {
        logical::create(self, slot, deadline).await
    }

    /// Moves a logical slot of a standby forward to `lsn`, which must be replayed. One that is not there, is in use or
    /// beyond that is left alone.
    ///
    /// # Errors
    /// As [`Instance::look`].
    pub async fn advance_logical_slot(
        &self,
        slot: &LogicalSlot,
        lsn: Lsn,
        deadline: Duration,
    ) -> Result<()> {
        logical::advance(self, slot, lsn, deadline).await
    }

    /// Reads those of these logical slots of the leader that could be used here.
    ///
    /// # Errors
    /// The leader does not answer or does not let this node read them; [`Error::Unexpected`] where there is none.
    pub async fn read_slots(
        &self,
        leader: &Source,
        slots: &[LogicalSlot],
    ) -> Result<Vec<SlotFile>> {
        logical::read(self, leader, slots).await
    }

    /// Puts them into the data directory of a PostgreSQL that is down; one of the same name is replaced.
    ///
    /// # Errors
    /// [`Error::StillRunning`], [`Error::File`]; [`Error::Unexpected`] where none can be used any more.
    pub async fn place_slots(&self, slots: Vec<SlotFile>) -> Result<()> {
        logical::place(self, slots).await
    }

    /// What the slots here hold back.
    ///
    /// # Errors
    /// As [`Instance::look`].
    pub async fn catalog_xmins(&self) -> Result<CatalogXmins> {
        logical::catalog_xmins(self).await
    }

    /// What the slots of a primary hold back; nothing where it is none.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn remote_catalog_xmins(&self, source: &Source) -> Result<CatalogXmins> {
        logical::remote_xmins(self, source).await
    }

    /// Moves an inactive physical slot forward to `lsn`. Returns false if it is missing, active,
    /// or already there.
    ///
    /// # Errors
    /// As [`Instance::look`].
    pub async fn advance_slot(&self, name: &str, lsn: Lsn) -> Result<bool> {
        slots::advance(self, name, lsn).await
    }
}
