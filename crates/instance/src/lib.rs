//! One local PostgreSQL: its processes, files, queries and programs. This crate does what it is
//! told and reports facts; what to do is decided elsewhere.
//!
//! Everything hangs on [`Instance`]: cheap to clone, every method takes `&self`, every wait has a
//! deadline. File work that may hang runs on tokio's blocking threads, so that a current-thread
//! runtime is never held up.

mod apply;
mod archive;
mod bootstrap;
mod check;
mod conf;
mod connection;
mod control;
mod copy;
mod datadir;
mod error;
mod files;
mod fill;
mod glance;
mod history;
mod instance;
mod libpq;
mod locks;
mod logical;
mod look;
mod options;
mod parameters;
mod port;
mod probe;
mod process;
mod program;
mod promote;
mod quote;
mod recovery;
mod remote;
mod script;
mod slots;
mod start;
mod stop;
mod survey;
mod tls;
mod units;
mod user_conf;
mod wal;

pub use check::Refused;
pub use conf::StartAs;
pub use control::{parse_control_file, read_control_file};
pub use datadir::{Marks, OnDisk};
pub use error::Error;
pub use glance::Glance;
pub use history::{LocalHistory, TimelineHistory, TimelineSwitch};
pub use instance::Instance;
pub use logical::{CatalogXmins, SlotFile};
pub use options::{
    BootstrapMethod, Credentials, Far, Method, Methods, Options, ProgramOption, Recovery,
    ReplicaMethod, ServerConfig,
};
pub use pgherd_model::Secret;
pub use probe::Probe;
pub use process::{PostmasterHandle, Readiness, Stopping};
pub use program::is_private;
pub use quote::{conninfo, conninfo_value, identifier, literal};
pub use remote::{RemoteFacts, Source};
pub use script::split_words;
pub use start::StartCommand;
pub use survey::{Parameter, Survey, SurveyTarget, survey};
pub use tls::{connector as tls_connector, mode as tls_mode};
pub use wal::ShutdownPoint;

/// Answer of every fallible operation here.
pub type Result<T> = std::result::Result<T, Error>;
