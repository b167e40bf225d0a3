//! The configuration of a node: YAML file(s), `PATRONI_*` variables and the dynamic
//! configuration from etcd (contract: patroni-config).
//!
//! [`load`] reads what belongs to this node alone into [`NodeConfig`]; [`effective`] joins it
//! with the dynamic configuration into what holds at this moment.

mod effective;
mod error;
mod node;
mod secret;

pub use effective::{
    Basebackup, Callbacks, Effective, EffectivePostgres, PhysicalSlot, effective, is_owned,
    merge_patch,
};
pub use error::ConfigError;
pub use node::{
    Authentication, Bootstrap, BootstrapMethod, Credentials, Ctl, CtlConfig, Etcd3, HostPort,
    InitdbOption, Listen, Loaded, Log, LogLevel, Login, NodeConfig, Pgherd, Postgresql, RestApi,
    ServerTokens, VerifyClient, Watchdog, WatchdogMode,
};
pub use secret::Secret;

use std::collections::BTreeMap;
use std::path::Path;

/// Reads a node's configuration: a file, or a directory whose `*.yml` and `*.yaml` are merged in
/// the order of their names (`null` deletes), then the `PATRONI_*` variables of `env`.
///
/// # Errors
/// The first thing that is missing, of a wrong type or unreadable, as one line.
pub fn load(path: &Path, env: &BTreeMap<String, String>) -> Result<Loaded, ConfigError> {
    let _ = env;
    Err(ConfigError::new(path.display(), "not readable yet"))
}

/// Reads a node's configuration where no file was named: `PATRONI_CONFIGURATION` holds the YAML
/// (and other variables are not looked at), else `PATRONI_*` variables alone.
///
/// # Errors
/// As [`load`]; nothing set at all is `Config is empty.`.
pub fn load_environment(env: &BTreeMap<String, String>) -> Result<Loaded, ConfigError> {
    let _ = env;
    Err(ConfigError::new("environment", "Config is empty."))
}

/// Reads what `pgherd ctl` needs, from a node's file or one made for patronictl; `None`: from
/// the environment. Also returns warnings.
///
/// # Errors
/// As [`load`].
pub fn load_ctl(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
) -> Result<(CtlConfig, Vec<String>), ConfigError> {
    let _ = (path, env);
    Err(ConfigError::new("environment", "Config is empty."))
}
