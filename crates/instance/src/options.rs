//! What this crate has to know about a node: fixed [`Options`] and changeable [`ServerConfig`].

use pgherd_model::{MemberName, Secret, Upstream};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// One role of `postgresql.authentication`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Role name; None: the operating-system user's name.
    pub username: Option<String>,
    /// Password; None: the server asks for none.
    pub password: Option<Secret>,
    /// `sslpassword`, kept apart because it is secret.
    pub sslpassword: Option<Secret>,
    /// The other libpq keys: sslmode, sslcert, sslkey, sslrootcert, sslcrl, sslcrldir,
    /// gssencmode, channel_binding, sslnegotiation. Keys newer than the server are left out.
    pub settings: BTreeMap<String, String>,
}

/// An option of initdb or pg_basebackup, as `bootstrap.initdb` and `postgresql.basebackup` give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramOption {
    /// `data-checksums`: becomes `--data-checksums`.
    Flag(String),
    /// `encoding: UTF8`: becomes `--encoding=UTF8`.
    Value(String, String),
}

/// A command of the user's that makes a data directory.
#[derive(Clone, PartialEq, Eq)]
pub struct Method {
    /// What it is called.
    pub name: String,
    /// Its command line.
    pub command: String,
    /// It gets none of the usual arguments.
    pub no_params: bool,
    /// `--name=value`, in order.
    pub arguments: Vec<(String, String)>,
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Commands and their arguments may hold what the user considers secret.
        f.write_str(&self.name)
    }
}

/// `bootstrap.method` other than initdb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapMethod {
    /// The command.
    pub method: Method,
    /// What follows it.
    pub recovery: Recovery,
}

/// How data that a command has brought become a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// As after a crash, or as the backup label says: what is left of another recovery goes.
    Crash,
    /// As the command has prepared it.
    Kept,
    /// With these settings: `recovery_conf`.
    Given(BTreeMap<String, String>),
}

/// One of `postgresql.create_replica_methods`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaMethod {
    /// pg_basebackup.
    Basebackup,
    /// A command.
    Custom {
        /// It.
        method: Method,
        /// It needs nobody to copy.
        no_leader: bool,
        /// It makes use of what is in the data directory.
        keep_data: bool,
    },
}

/// By which methods a copy is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// By pg_basebackup, whatever is configured.
    Basebackup,
    /// As for any replica: [`Options::replica_methods`].
    Replica,
    /// As for whoever leads a standby cluster: [`Options::far_methods`].
    Far,
}

/// What does not change while the agent runs (changes need a new [`crate::Instance`]).
#[derive(Clone, Debug)]
pub struct Options {
    /// `scope`: becomes `cluster_name`.
    pub scope: String,
    /// `name`: becomes `application_name` of replication connections.
    pub name: MemberName,
    /// `postgresql.data_dir`.
    pub data_dir: PathBuf,
    /// `postgresql.config_dir`; None: the data directory.
    pub config_dir: Option<PathBuf>,
    /// `postgresql.config_base_name`, default `postgresql`.
    pub config_base_name: String,
    /// `postgresql.bin_dir`; None: `PATH`.
    pub bin_dir: Option<PathBuf>,
    /// `postgresql.bin_name`: program (`postgres`, `initdb`, ...) to file name.
    pub bin_name: BTreeMap<String, String>,
    /// Addresses of `postgresql.listen`, comma separated, `*` allowed.
    pub listen_addresses: String,
    /// Port of `postgresql.listen`.
    pub port: u16,
    /// Host of `postgresql.connect_address`.
    pub connect_host: String,
    /// Port of `postgresql.connect_address`.
    pub connect_port: u16,
    /// `authentication.superuser`.
    pub superuser: Credentials,
    /// `authentication.replication`.
    pub replication: Credentials,
    /// `authentication.rewind`; None: the superuser rewinds.
    pub rewind: Option<Credentials>,
    /// `postgresql.pgpass`.
    pub pgpass: PathBuf,
    /// `postgresql.database`, default `postgres`.
    pub database: String,
    /// `use_unix_socket`.
    pub use_unix_socket: bool,
    /// `use_unix_socket_repl`.
    pub use_unix_socket_repl: bool,
    /// `krbsrvname`.
    pub krbsrvname: Option<String>,
    /// `bootstrap.initdb`.
    pub initdb: Vec<ProgramOption>,
    /// `bootstrap.pg_hba`: used only where [`ServerConfig::pg_hba`] is None.
    pub bootstrap_pg_hba: Vec<String>,
    /// `bootstrap.method`; None: initdb.
    pub bootstrap_method: Option<BootstrapMethod>,
    /// `bootstrap.post_bootstrap` (or `post_init`): a command line.
    pub post_bootstrap: Option<String>,
    /// `postgresql.create_replica_methods`, in the order in which they are tried.
    pub replica_methods: Vec<ReplicaMethod>,
    /// `standby_cluster.create_replica_methods`: for a copy of another cluster's primary.
    pub far_methods: Vec<ReplicaMethod>,
    /// `postgresql.basebackup`.
    pub basebackup: Vec<ProgramOption>,
    /// Where stdout and stderr of the server go; None: to the agent's own (as Patroni does).
    pub server_log: Option<PathBuf>,
}

/// The user's home as a shell's `~` has it: HOME, else what the system knows of the user.
fn home(variable: Option<OsString>) -> PathBuf {
    let named = variable.filter(|home| !home.is_empty());
    let known = || nix::unistd::User::from_uid(nix::unistd::geteuid()).ok()?;
    let home = named
        .map(PathBuf::from)
        .or_else(|| known().map(|user| user.dir));
    home.unwrap_or_else(|| PathBuf::from("/"))
}

impl Options {
    /// Options with the contract's defaults for everything that has one.
    pub fn new(
        scope: &str,
        name: &str,
        data_dir: impl Into<PathBuf>,
        listen: (&str, u16),
        superuser: Credentials,
        replication: Credentials,
    ) -> Self {
        Options {
            scope: scope.to_owned(),
            name: name.into(),
            data_dir: data_dir.into(),
            config_dir: None,
            config_base_name: "postgresql".to_owned(),
            bin_dir: None,
            bin_name: BTreeMap::new(),
            listen_addresses: listen.0.to_owned(),
            port: listen.1,
            connect_host: listen.0.to_owned(),
            connect_port: listen.1,
            superuser,
            replication,
            rewind: None,
            pgpass: home(std::env::var_os("HOME")).join("pgpass"),
            database: "postgres".to_owned(),
            use_unix_socket: false,
            use_unix_socket_repl: false,
            krbsrvname: None,
            initdb: Vec::new(),
            bootstrap_pg_hba: Vec::new(),
            bootstrap_method: None,
            post_bootstrap: None,
            replica_methods: vec![ReplicaMethod::Basebackup],
            far_methods: vec![ReplicaMethod::Basebackup],
            basebackup: Vec::new(),
            server_log: None,
        }
    }
}

/// What the dynamic and local configuration say about the server now
/// (contract: patroni-config, section 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerConfig {
    /// `postgresql.parameters`, merged (local over dynamic), without those the agent owns being
    /// taken from the local file. Values as text: `100`, `on`, `128MB`.
    pub parameters: BTreeMap<String, String>,
    /// `postgresql.pg_hba`: the whole file, or None: left alone.
    pub pg_hba: Option<Vec<String>>,
    /// `postgresql.pg_ident`.
    pub pg_ident: Option<Vec<String>>,
    /// `postgresql.custom_conf`: included instead of `postgresql.base.conf`.
    pub custom_conf: Option<String>,
    /// `postgresql.recovery_conf`: restore_command, recovery_min_apply_delay, ...
    pub recovery: BTreeMap<String, String>,
    /// What holds only while this server follows the primary of another cluster.
    pub far: Option<Far>,
    /// Text for `patroni.dynamic.json`; None: left alone.
    pub dynamic_json: Option<String>,
}

/// The primary of another cluster, of which this one is a copy (`standby_cluster`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Far {
    /// Where it is looked for.
    pub places: Vec<(String, u16)>,
    /// Recovery settings of whoever streams from there: `recovery_min_apply_delay`.
    pub recovery: BTreeMap<String, String>,
}

impl Far {
    /// Whether this is from where it is to be followed.
    pub(crate) fn is(&self, upstream: Option<&Upstream>) -> bool {
        let there = self
            .places
            .iter()
            .map(|(host, port)| (host.as_str(), *port));
        there.eq(upstream.into_iter().flat_map(Upstream::places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passfile_without_a_home_is_no_relative_path() {
        assert_eq!(home(Some("/home/me".into())), PathBuf::from("/home/me"));
        for nothing in [None, Some(OsString::new())] {
            assert!(home(nothing).is_absolute());
        }
    }
}
