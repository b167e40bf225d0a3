//! Command line of `pgherd ctl`, word for word as patronictl has it.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `pgherd ctl ...`: global options and a command.
#[derive(Clone, Debug, Args)]
pub struct CtlArgs {
    /// Configuration file (the node's YAML)
    #[arg(
        short = 'c',
        long = "config-file",
        value_name = "FILE",
        env = "PATRONICTL_CONFIG_FILE",
        global = true
    )]
    pub config_file: Option<PathBuf>,
    /// The DCS connect url, such as etcd3://127.0.0.1:2379/service
    #[arg(
        short = 'd',
        long = "dcs-url",
        visible_alias = "dcs",
        value_name = "URL",
        env = "DCS_URL",
        global = true
    )]
    pub dcs_url: Option<String>,
    /// Allow connections to SSL sites without certs
    #[arg(short = 'k', long = "insecure", global = true)]
    pub insecure: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the members of a cluster
    List(ListArgs),
    /// Switch over to another member of a healthy cluster
    Switchover(SwitchoverArgs),
    /// Fail over to a chosen member, also without a leader
    Failover(FailoverArgs),
    /// Say why a member does or does not act: the ladder of its rules
    Explain(ExplainArgs),
    /// Tell what happened, from the journals of all members: the last failover or switchover
    Timeline(TimelineArgs),
}

/// Forms of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table with a frame
    #[default]
    Pretty,
    /// Tab-separated values
    Tsv,
    /// JSON on one line
    Json,
    /// YAML
    #[value(alias = "yml")]
    Yaml,
}

/// `list`.
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Clusters (default: scope of the configuration)
    #[arg(value_name = "CLUSTER_NAMES")]
    pub clusters: Vec<String>,
    /// Show some extra information
    #[arg(short = 'e', long = "extended")]
    pub extended: bool,
    /// Print timestamp
    #[arg(short = 't', long = "timestamp")]
    pub timestamp: bool,
    /// Output
    #[arg(short = 'f', long = "format", value_enum, default_value_t = Format::Pretty)]
    pub format: Format,
    /// Auto update the screen every 2 seconds
    #[arg(short = 'W')]
    pub watch2: bool,
    /// Auto update the screen every X seconds
    #[arg(short = 'w', long = "watch", value_name = "SECONDS")]
    pub watch: Option<f64>,
}

/// `switchover`.
#[derive(Clone, Debug, Args)]
pub struct SwitchoverArgs {
    /// Cluster (default: scope of the configuration)
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// The name of the current leader
    #[arg(long = "leader", visible_alias = "primary")]
    pub leader: Option<String>,
    /// The name of the candidate
    #[arg(long = "candidate")]
    pub candidate: Option<String>,
    /// Timestamp of a scheduled switchover in unambiguous format (e.g. ISO 8601)
    #[arg(long = "scheduled")]
    pub scheduled: Option<String>,
    /// Do not ask for confirmation at any point
    #[arg(long = "force")]
    pub force: bool,
}

/// `failover`.
#[derive(Clone, Debug, Args)]
pub struct FailoverArgs {
    /// Cluster (default: scope of the configuration)
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// The name of the candidate
    #[arg(long = "candidate")]
    pub candidate: Option<String>,
    /// Do not ask for confirmation at any point
    #[arg(long = "force")]
    pub force: bool,
}

/// `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// Member (default: every member)
    #[arg(value_name = "MEMBER")]
    pub member: Option<String>,
    /// Cluster (default: scope of the configuration)
    #[arg(long = "cluster", value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Output
    #[arg(short = 'f', long = "format", value_enum, default_value_t = ExplainFormat::Text)]
    pub format: ExplainFormat,
}

/// Forms of output of `explain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// One line for each rule
    #[default]
    Text,
    /// JSON on one line
    Json,
}

/// `timeline`.
#[derive(Clone, Debug, Args)]
pub struct TimelineArgs {
    /// Cluster (default: scope of the configuration)
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Everything since then: how long ago (10m, 2h) or a time (2026-11-21T00:21:27Z)
    #[arg(long = "since", value_name = "TIME")]
    pub since: Option<String>,
    /// Only the last events of it
    #[arg(long = "last", value_name = "EVENTS")]
    pub last: Option<usize>,
    /// Journal of a member that does not answer, also more than once
    #[arg(long = "file", value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Output
    #[arg(short = 'f', long = "format", value_enum, default_value_t = TimelineFormat::Pretty)]
    pub format: TimelineFormat,
}

/// Forms of output of `timeline`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TimelineFormat {
    /// One line for each event, and a table of the phases
    #[default]
    Pretty,
    /// JSON on one line
    Json,
}
