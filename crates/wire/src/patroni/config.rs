//! The configuration of a node: YAML file(s), `PATRONI_*` variables and the dynamic
//! configuration from etcd (contract: patroni-config).
//!
//! [`load`] reads what belongs to this node alone into [`NodeConfig`]; [`effective`] joins it
//! with the dynamic configuration into what holds at this moment.

mod dynamic;
mod effective;
mod emit;
mod environment;
mod error;
mod generate;
mod held;
mod known;
mod load;
mod log_form;
mod methods;
mod node;
mod parameters;
mod read;
mod read_bootstrap;
mod read_etcd3;
mod read_log;
mod read_postgresql;
mod scalar;
mod secrets;
mod section;
mod shape;
mod slots;
mod standby;
mod told;
mod units;
mod validate;
mod yaml;

pub use effective::{
    Basebackup, Callbacks, Effective, EffectivePostgres, effective, is_owned, merge_patch,
};
pub use emit::to_yaml;
pub use error::ConfigError;
pub use generate::{Found, generate, owned_parameters, placeholders};
pub use held::{held, local_settings};
pub use known::{Stands, is_taken, stands, top_level};
pub use load::{Given, files, givens, load, load_ctl, load_environment, read_document, rebuilt};
pub use log_form::{LogAttribute, LogForm, LogPiece, LogShape, LogSpec, LogValue};
pub use methods::{BootstrapMethod, BootstrapRecovery, ReplicaMethod};
pub use node::{
    Authentication, Bootstrap, Credentials, Ctl, CtlConfig, Etcd3, HostPort, InitdbOption, Journal,
    Listen, Loaded, Log, LogDir, LogLevel, Login, NodeConfig, Pgherd, Postgresql, RestApi,
    ServerTokens, VerifyClient, Watchdog, WatchdogDriver, WatchdogMode,
};
pub use parameters::{accepts, is_fixed, owned_default};
pub use pgherd_model::Secret;
pub use secrets::{HIDDEN, holds_secrets, text_without_secrets, without_secrets};
pub use standby::FarPostgres;
pub use told::{Configured, KEPT_UNTIL_START, Refusal, Told, in_force, tell};
pub(crate) use units::seconds;
pub use units::{boolean, bytes};
pub use validate::{Finding, Probe, Strictness, Validated, validate};

/// Stands where a person has to put a value of their own (as Patroni's generated files have it).
pub const PLACEHOLDER: &str = "#FIXME";

#[cfg(test)]
mod tests;
