//! What the configuration of one node says, with its defaults filled in.
//!
//! Settings that may also stand in the dynamic configuration (parameters, pg_hba, callbacks,
//! methods of making a replica, …) are in [`super::EffectivePostgres`]; here they are only kept
//! as text of JSON.

use super::{BootstrapMethod, Given, LogForm, Secret};
use pgherd_model::{CrashHandover, GuardMode, MemberName, Span, Tags};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A configuration that was read without an error.
#[derive(Clone)]
pub struct Loaded {
    /// What it says.
    pub node: NodeConfig,
    /// One line each, for the log: unknown keys, keys without effect yet, doubtful values.
    pub warnings: Vec<String>,
    /// The merged document (files, then environment). Holds secrets: not for logs.
    pub raw: Value,
    /// Every value of it, also those that another took the place of, each with where it stands. Hold secrets.
    pub givens: Vec<Given>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("node", &self.node)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// Configuration of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// `scope`: name of the cluster.
    pub scope: String,
    /// `name`: unique in the cluster.
    pub name: MemberName,
    /// `namespace`, default `/service`; see [`super::super::keys::prefix`].
    pub namespace: String,
    /// `log`.
    pub log: Log,
    /// `restapi`.
    pub restapi: RestApi,
    /// `ctl`: how calls to other members are made.
    pub ctl: Ctl,
    /// `etcd3`.
    pub etcd3: Etcd3,
    /// `bootstrap`.
    pub bootstrap: Bootstrap,
    /// `postgresql`.
    pub postgresql: Postgresql,
    /// `tags`, as they are to be published.
    pub tags: Tags,
    /// `watchdog`.
    pub watchdog: Watchdog,
    /// `pgherd`, the local part.
    pub pgherd: Pgherd,
}

impl NodeConfig {
    /// `conn_url` of the member key: no credentials in it.
    pub fn conn_url(&self) -> String {
        self.database_url(&self.postgresql.connect_address)
    }

    /// `proxy_url` of the member key.
    pub fn proxy_url(&self) -> Option<String> {
        let address = self.postgresql.proxy_address.as_ref()?;
        Some(self.database_url(address))
    }

    /// `api_url` of the member key: where others find this node's `/patroni`.
    pub fn api_url(&self) -> String {
        let scheme = match self.restapi.certfile {
            Some(_) => "https",
            None => "http",
        };
        format!("{scheme}://{}/patroni", self.restapi.connect_address)
    }

    /// Where the journal is written; `None`: it is not. By default beside the data directory, which
    /// a new copy or a person may remove as a whole.
    pub fn journal_path(&self) -> Option<PathBuf> {
        match &self.pgherd.journal {
            Journal::Off => None,
            Journal::At(path) => Some(path.clone()),
            Journal::Beside => {
                let data = &self.postgresql.data_dir;
                let mut name = data.file_name()?.to_owned();
                name.push(".pgherd-journal");
                Some(data.with_file_name(name))
            }
        }
    }

    fn database_url(&self, address: &HostPort) -> String {
        format!("postgres://{address}/{}", self.postgresql.database)
    }
}

/// What `pgherd ctl` needs of a configuration: that of a node, or one made for patronictl.
#[derive(Clone, Debug, PartialEq)]
pub struct CtlConfig {
    /// `scope`, if given.
    pub scope: Option<String>,
    /// `namespace`.
    pub namespace: String,
    /// `etcd3`.
    pub etcd3: Etcd3,
    /// `ctl`.
    pub ctl: Ctl,
}

/// Host and port. Shown with brackets around IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address, without brackets. `*` or empty: all.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// `postgresql.listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Value of `listen_addresses`: comma separated, `*` for all.
    pub addresses: String,
    /// Port.
    pub port: u16,
}

/// User name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// `log.level`, from many lines to few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// DEBUG
    Debug,
    /// INFO
    Info,
    /// WARN, WARNING
    Warning,
    /// ERROR
    Error,
    /// FATAL, CRITICAL
    Critical,
}

/// `log`.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// `type`, `format`, `dateformat` and `static_fields`.
    pub form: LogForm,
    /// `level`, default INFO.
    pub level: LogLevel,
    /// `loggers`: levels of their own, by name.
    pub loggers: BTreeMap<String, LogLevel>,
    /// `dir`: write to `patroni.log` there instead of stderr.
    pub dir: Option<LogDir>,
    /// `file_num`: older files that are kept, default 4; 0: the file is not rotated.
    pub file_num: u32,
    /// `file_size`, bytes, default 25000000; 0: the file is not rotated.
    pub file_size: u64,
    /// `mode` of the file; `None`: umask.
    pub mode: Option<u32>,
    /// `max_queue_size`, lines, default 1000; 0: as many as memory has.
    pub max_queue_size: usize,
    /// `deduplicate_heartbeat_logs`.
    pub deduplicate_heartbeat_logs: bool,
}

/// `log.dir`.
#[derive(Clone, Debug)]
pub struct LogDir {
    /// The directory. Nobody makes it.
    pub path: PathBuf,
    /// Where that was written, for an error about it.
    pub place: String,
}

impl PartialEq for LogDir {
    /// A line that moved within its file changes nothing.
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

/// `restapi`.
#[derive(Clone, Debug, PartialEq)]
pub struct RestApi {
    /// `listen`.
    pub listen: HostPort,
    /// `connect_address`: where others find it.
    pub connect_address: HostPort,
    /// `authentication`: asked for on unsafe requests.
    pub authentication: Option<Login>,
    /// `certfile`: switches TLS on. PEM, may hold the key too.
    pub certfile: Option<PathBuf>,
    /// `keyfile`; `None`: the key is in `certfile`.
    pub keyfile: Option<PathBuf>,
    /// `keyfile_password`.
    pub keyfile_password: Option<Secret>,
    /// `cafile`.
    pub cafile: Option<PathBuf>,
    /// `ciphers`: a list in OpenSSL's language.
    pub ciphers: Option<String>,
    /// `verify_client`.
    pub verify_client: VerifyClient,
    /// `allowlist`: names, addresses and networks.
    pub allowlist: Vec<String>,
    /// `allowlist_include_members`.
    pub allowlist_include_members: bool,
    /// `http_extra_headers`.
    pub http_extra_headers: BTreeMap<String, String>,
    /// `https_extra_headers`: under TLS in addition.
    pub https_extra_headers: BTreeMap<String, String>,
    /// `request_queue_size`: backlog of the socket.
    pub request_queue_size: u32,
    /// `server_tokens`.
    pub server_tokens: ServerTokens,
}

/// `restapi.verify_client`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyClient {
    /// Certificates are not asked for.
    None,
    /// Needed for unsafe requests.
    Optional,
    /// Needed for every connection.
    Required,
}

/// `restapi.server_tokens`: what the header `Server` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerTokens {
    /// `original`.
    Original,
    /// `minimal`: product and version.
    Minimal,
    /// `productonly`.
    ProductOnly,
}

/// `ctl`, with what it takes over from `restapi`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ctl {
    /// `authentication`, else that of `restapi`.
    pub authentication: Option<Login>,
    /// `insecure`: certificates of members are not checked by `ctl`.
    pub insecure: bool,
    /// `cacert`, else `restapi.cafile`.
    pub cacert: Option<PathBuf>,
    /// `certfile`: client certificate.
    pub certfile: Option<PathBuf>,
    /// `keyfile`.
    pub keyfile: Option<PathBuf>,
    /// `keyfile_password`.
    pub keyfile_password: Option<Secret>,
}

/// `etcd3`.
#[derive(Clone, Debug, PartialEq)]
pub struct Etcd3 {
    /// URLs of the endpoints, `http://host:port`, in the order given; one at least.
    pub endpoints: Vec<String>,
    /// `use_proxies`, or given as `proxy`: the endpoints are not to be replaced by those of the
    /// member list.
    pub use_proxies: bool,
    /// `username` and `password`.
    pub login: Option<Login>,
    /// `cacert`.
    pub cacert: Option<PathBuf>,
    /// `cert`: client certificate.
    pub cert: Option<PathBuf>,
    /// `key`; `None` with a certificate: the key is in `cert`.
    pub key: Option<PathBuf>,
}

/// `bootstrap`.
#[derive(Clone, Default, PartialEq)]
pub struct Bootstrap {
    /// The section is there: this node may make a new cluster.
    pub configured: bool,
    /// `dcs`: first dynamic configuration, an object.
    pub dcs: Value,
    /// `method`; `None`: initdb.
    pub method: Option<BootstrapMethod>,
    /// `initdb`.
    pub initdb: Vec<InitdbOption>,
    /// `pg_hba`: lines for pg_hba.conf when `postgresql.pg_hba` is absent.
    pub pg_hba: Vec<String>,
    /// `post_bootstrap` (or `post_init`): command line.
    pub post_bootstrap: Option<String>,
}

impl fmt::Debug for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Command lines and the dynamic configuration may hold what the user considers secret.
        f.debug_struct("Bootstrap")
            .field("configured", &self.configured)
            .field("initdb", &self.initdb)
            .finish_non_exhaustive()
    }
}

/// One option of `bootstrap.initdb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitdbOption {
    /// Without the dashes.
    pub name: String,
    /// `None`: a flag.
    pub value: Option<String>,
}

/// `postgresql`: what can only stand in the local configuration, with defaults.
#[derive(Clone, PartialEq)]
pub struct Postgresql {
    /// `listen`.
    pub listen: Listen,
    /// `connect_address`: where others find it.
    pub connect_address: HostPort,
    /// `proxy_address`.
    pub proxy_address: Option<HostPort>,
    /// `data_dir`.
    pub data_dir: PathBuf,
    /// `config_dir`, default `data_dir`.
    pub config_dir: PathBuf,
    /// `config_base_name`, default `postgresql`.
    pub config_base_name: String,
    /// `custom_conf`: included instead of `postgresql.base.conf`.
    pub custom_conf: Option<PathBuf>,
    /// `bin_dir`; `None`: PATH.
    pub bin_dir: Option<PathBuf>,
    /// `bin_name`: names of programs that differ.
    pub bin_name: BTreeMap<String, String>,
    /// `pgpass`; `None`: `pgpass` in the home directory.
    pub pgpass: Option<PathBuf>,
    /// `authentication`.
    pub authentication: Authentication,
    /// `use_unix_socket`.
    pub use_unix_socket: bool,
    /// `use_unix_socket_repl`.
    pub use_unix_socket_repl: bool,
    /// `database`, default `postgres`.
    pub database: String,
    /// `krbsrvname`.
    pub krbsrvname: Option<String>,
    /// The local values of everything that may also come from the dynamic configuration; typed
    /// in [`super::EffectivePostgres`].
    pub shared: Map<String, Value>,
}

impl fmt::Debug for Postgresql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `shared` may hold what the user considers secret, e.g. in a restore command.
        f.debug_struct("Postgresql")
            .field("listen", &self.listen)
            .field("connect_address", &self.connect_address)
            .field("data_dir", &self.data_dir)
            .field("config_dir", &self.config_dir)
            .field("bin_dir", &self.bin_dir)
            .field("authentication", &self.authentication)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// `postgresql.authentication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// `superuser`.
    pub superuser: Credentials,
    /// `replication`.
    pub replication: Credentials,
    /// `rewind`; `None`: superuser.
    pub rewind: Option<Credentials>,
}

/// One role of `postgresql.authentication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `username`.
    pub username: String,
    /// `password`.
    pub password: Option<Secret>,
    /// `sslpassword`.
    pub sslpassword: Option<Secret>,
    /// libpq's options as they are to stand in a connection string: `sslmode sslcert sslkey
    /// sslrootcert sslcrl sslcrldir gssencmode channel_binding sslnegotiation`.
    pub options: BTreeMap<String, String>,
}

/// `watchdog.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogMode {
    /// Not used.
    Off,
    /// Used if it is there.
    Automatic,
    /// No leadership without it.
    Required,
}

/// `watchdog.driver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogDriver {
    /// The interface of Linux.
    Default,
    /// What would be told to a device is written to a file or pipe, to be looked at.
    Testing,
}

/// `watchdog`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// `mode`.
    pub mode: WatchdogMode,
    /// `device`.
    pub device: PathBuf,
    /// `safety_margin`; `None`: -1, which means half of what there is.
    pub safety_margin: Option<Span>,
    /// `driver`.
    pub driver: WatchdogDriver,
    /// The section is there: a device that is not is worth a warning.
    pub configured: bool,
}

/// `pgherd`: our own settings, as given locally. What holds is in `model::Settings`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pgherd {
    /// `lease_ttl`, whole seconds, 2 or more.
    pub lease_ttl: Option<Span>,
    /// `hang_timeout`.
    pub hang_timeout: Option<Span>,
    /// `guard`.
    pub guard: Option<GuardMode>,
    /// `crash_handover`.
    pub crash_handover: Option<CrashHandover>,
    /// `journal`: only in the node's own configuration.
    pub journal: Journal,
}

/// `pgherd.journal`: where this node keeps its last decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Journal {
    /// `DATA_DIR.pgherd-journal`.
    #[default]
    Beside,
    /// Nowhere.
    Off,
    /// In this file.
    At(PathBuf),
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Journal::Beside => f.write_str("the default"),
            Journal::Off => f.write_str("off"),
            Journal::At(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load_environment;
    use super::*;

    /// The journal lies beside the data, wherever they are, or where it is told to.
    #[test]
    fn the_journal_lies_beside_the_data() {
        let path = |data_dir: &str, more: &str| {
            let text = format!(
                "scope: demo\nname: n1\nrestapi: {{listen: '127.0.0.1:8008'}}\n\
                 etcd3: {{hosts: '127.0.0.1:2379'}}\npostgresql:\n  listen: 127.0.0.1:5432\n  \
                 data_dir: {data_dir}\n  authentication: {{superuser: {{username: p}}, \
                 replication: {{username: r}}}}\n{more}"
            );
            let env = [("PATRONI_CONFIGURATION".to_owned(), text)];
            let loaded = load_environment(&BTreeMap::from(env)).unwrap();
            let path = loaded.node.journal_path();
            path.map(|path| path.display().to_string())
        };
        let beside = |path: &str| Some(format!("{path}.pgherd-journal"));
        assert_eq!(
            path("/var/lib/pg/15/main", ""),
            beside("/var/lib/pg/15/main")
        );
        assert_eq!(path("/pg/data/", ""), beside("/pg/data"));
        assert_eq!(path("data/n1", ""), beside("data/n1"));
        for off in ["off", "false", "'off'"] {
            assert_eq!(path("/d", &format!("pgherd: {{journal: {off}}}\n")), None);
        }
        let at = path("/d", "pgherd: {journal: /var/log/j, lease_ttl: 5}\n");
        assert_eq!(at.as_deref(), Some("/var/log/j"));
    }
}
