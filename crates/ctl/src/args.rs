//! Command line of `pgherd ctl`, word for word as patronictl has it. The first three options stand before
//! the command, as there: behind it some of the letters mean something else.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `pgherd ctl ...`: global options and a command.
#[derive(Clone, Debug, Args)]
pub struct CtlArgs {
    /// Configuration file (the node's YAML) [env: PATRONICTL_CONFIG_FILE]
    // The variable is read in `session`: an empty one counts as none, and clap refuses it.
    #[arg(short = 'c', long = "config-file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// The DCS connect url, such as etcd3://127.0.0.1:2379/service [env: DCS_URL]
    // As above.
    #[arg(
        short = 'd',
        long = "dcs-url",
        visible_alias = "dcs",
        value_name = "URL"
    )]
    pub dcs_url: Option<String>,
    /// Allow connections to SSL sites without certs
    #[arg(short = 'k', long = "insecure")]
    pub insecure: bool,
    /// Citus group: taken where patronictl takes it, behind the command, and refused with the reason.
    #[arg(long = "group", value_name = "GROUP", global = true, hide = true)]
    pub group: Option<String>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// As click reads a command line, and so patronictl: of an option that is given twice the last one counts, and the
/// word behind an option is its value whatever it begins with.
pub fn like_click(command: clap::Command) -> clap::Command {
    let valued = |arg: clap::Arg| match !arg.is_positional() && arg.get_action().takes_values() {
        true => arg.allow_hyphen_values(true),
        false => arg,
    };
    command
        .args_override_self(true)
        .mut_args(valued)
        .mut_subcommands(like_click)
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the members of a cluster
    List(ListArgs),
    /// Draw who replicates from whom
    Topology(TopologyArgs),
    /// Print host and port of a member
    Dsn(DsnArgs),
    /// Send SQL to a member's PostgreSQL
    Query(QueryArgs),
    /// Show past failovers and switchovers
    History(HistoryArgs),
    /// Show the dynamic configuration
    ShowConfig(ClusterArgs),
    /// Change the dynamic configuration
    EditConfig(EditConfigArgs),
    /// Say where the settings of a node come from
    ExplainConfig(ExplainConfigArgs),
    /// Switch automatic failover off
    Pause(PauseArgs),
    /// Switch automatic failover on again
    Resume(PauseArgs),
    /// Make members read their configuration again
    Reload(MembersArgs),
    /// Restart PostgreSQL of members, now or later
    Restart(RestartArgs),
    /// Make replicas anew from a copy of the leader
    Reinit(ReinitArgs),
    /// Discard what is scheduled
    Flush(FlushArgs),
    /// Switch over to another member of a healthy cluster
    Switchover(SwitchoverArgs),
    /// Fail over to a chosen member, also without a leader
    Failover(FailoverArgs),
    /// Say why a member does or does not act: the ladder of its rules
    Explain(ExplainArgs),
    /// Tell what happened, from the journals of all members: the last failover or switchover
    Timeline(TimelineArgs),
    /// Make a cluster a copy of another one
    DemoteCluster(DemoteClusterArgs),
    /// Make a copy of another cluster one of its own
    PromoteCluster(PromoteClusterArgs),
    /// Delete everything about a cluster from the lock service
    Remove(RemoveArgs),
    /// Have the program that was installed take over from the running agents, without a restart of PostgreSQL
    UpgradeAgent(UpgradeArgs),
    /// Print the version of this program and of members
    Version(VersionArgs),
}

/// Which members are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Whoever holds the lock
    Leader,
    /// The leader, of a cluster that is no standby cluster
    Primary,
    /// The leader of a standby cluster
    StandbyLeader,
    /// Everybody but the leader
    Replica,
    /// The same as replica
    Standby,
    /// Everybody
    #[default]
    Any,
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

/// `topology`.
#[derive(Clone, Debug, Args)]
pub struct TopologyArgs {
    /// Clusters (default: scope of the configuration)
    #[arg(value_name = "CLUSTER_NAMES")]
    pub clusters: Vec<String>,
    /// Auto update the screen every 2 seconds
    #[arg(short = 'W')]
    pub watch2: bool,
    /// Auto update the screen every X seconds
    #[arg(short = 'w', long = "watch", value_name = "SECONDS")]
    pub watch: Option<f64>,
}

/// `dsn`.
#[derive(Clone, Debug, Args)]
pub struct DsnArgs {
    /// Cluster (default: scope of the configuration)
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Only members with this role
    #[arg(short = 'r', long = "role", value_enum)]
    pub role: Option<RoleArg>,
    /// This member
    #[arg(short = 'm', long = "member")]
    pub member: Option<String>,
}

/// `query`.
#[derive(Clone, Debug, Args)]
pub struct QueryArgs {
    /// Cluster (default: scope of the configuration)
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Output
    #[arg(long = "format", value_enum, default_value_t = Format::Tsv)]
    pub format: Format,
    /// Execute the SQL of this file; `-`: of standard input
    #[arg(short = 'f', long = "file", value_name = "FILENAME")]
    pub file: Option<PathBuf>,
    /// Ask for the password
    #[arg(long = "password")]
    pub password: bool,
    /// Database user
    #[arg(short = 'U', long = "username")]
    pub username: Option<String>,
    /// Auto update the screen every 2 seconds
    #[arg(short = 'W')]
    pub watch2: bool,
    /// Auto update the screen every X seconds
    #[arg(short = 'w', long = "watch", value_name = "SECONDS")]
    pub watch: Option<f64>,
    /// Only members with this role
    #[arg(short = 'r', long = "role", value_enum)]
    pub role: Option<RoleArg>,
    /// This member
    #[arg(short = 'm', long = "member")]
    pub member: Option<String>,
    /// Between columns
    #[arg(long = "delimiter", default_value = "\t")]
    pub delimiter: String,
    /// The SQL to execute
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    pub command: Option<String>,
    /// Database
    #[arg(short = 'd', long = "dbname")]
    pub dbname: Option<String>,
}

/// `history`.
#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    /// Cluster (default: scope of the configuration)
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Output
    #[arg(short = 'f', long = "format", value_enum, default_value_t = Format::Pretty)]
    pub format: Format,
}

/// `show-config`.
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    /// Cluster (default: scope of the configuration)
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
}

/// `edit-config`.
#[derive(Clone, Debug, Args)]
pub struct EditConfigArgs {
    /// Cluster (default: scope of the configuration)
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Do not show changes
    #[arg(short = 'q', long = "quiet")]
    pub quiet: bool,
    /// Set a value: `ttl=30`, `postgresql.use_slots=true`; `null` removes it
    #[arg(short = 's', long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Set a parameter of PostgreSQL: short for `-s postgresql.parameters.NAME=VALUE`
    #[arg(short = 'p', long = "pg", value_name = "NAME=VALUE")]
    pub pg: Vec<String>,
    /// Merge this YAML file into the configuration; `-`: standard input
    #[arg(long = "apply", value_name = "FILE")]
    pub apply: Option<String>,
    /// Replace the configuration by this YAML file; `-`: standard input
    #[arg(long = "replace", value_name = "FILE")]
    pub replace: Option<String>,
    /// Do not ask for confirmation at any point
    #[arg(long = "force")]
    pub force: bool,
}

/// `explain-config`.
#[derive(Clone, Debug, Args)]
pub struct ExplainConfigArgs {
    /// Setting, such as `ttl`, or parameter of PostgreSQL (default: everything that is set)
    #[arg(value_name = "PARAMETER")]
    pub parameter: Option<String>,
    /// Output
    #[arg(short = 'f', long = "format", value_enum, default_value_t = ExplainConfigFormat::Pretty)]
    pub format: ExplainConfigFormat,
}

/// Forms of output of `explain-config`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExplainConfigFormat {
    /// For people
    #[default]
    Pretty,
    /// JSON on one line
    Json,
}

/// `pause` and `resume`.
#[derive(Clone, Debug, Args)]
pub struct PauseArgs {
    /// Cluster (default: scope of the configuration)
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Wait until all members have noticed
    #[arg(long = "wait")]
    pub wait: bool,
}

/// `reload`, and whatever else is for members of a role.
#[derive(Clone, Debug, Args)]
pub struct MembersArgs {
    /// Cluster
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: String,
    /// Members (default: all of the role)
    #[arg(value_name = "MEMBER_NAMES")]
    pub members: Vec<String>,
    /// Only members with this role
    #[arg(short = 'r', long = "role", value_enum)]
    pub role: Option<RoleArg>,
    /// Do not ask for confirmation at any point
    #[arg(long = "force")]
    pub force: bool,
}

/// `upgrade-agent`.
#[derive(Clone, Debug, Args)]
pub struct UpgradeArgs {
    /// Whose agents
    #[command(flatten)]
    pub of: MembersArgs,
    /// How long each member may take until the new program answers
    #[arg(long = "wait", value_name = "SECONDS", default_value_t = 60.0)]
    pub wait: f64,
}

/// `restart`.
#[derive(Clone, Debug, Args)]
pub struct RestartArgs {
    /// Cluster
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: String,
    /// Members (default: all of the role)
    #[arg(value_name = "MEMBER_NAMES")]
    pub members: Vec<String>,
    /// Only members with this role
    #[arg(short = 'r', long = "role", value_enum)]
    pub role: Option<RoleArg>,
    /// Restart a single member only
    #[arg(long = "any")]
    pub any: bool,
    /// Time in an unambiguous format (e.g. ISO 8601)
    #[arg(long = "scheduled", value_name = "TIMESTAMP")]
    pub scheduled: Option<String>,
    /// Only if PostgreSQL's version is less than this (e.g. 9.5.2)
    #[arg(long = "pg-version", value_name = "VERSION")]
    pub pg_version: Option<String>,
    /// Only if a restart is pending
    #[arg(long = "pending")]
    pub pending: bool,
    /// Return an error, and fail over if necessary, when it takes longer than this
    #[arg(long = "timeout")]
    pub timeout: Option<String>,
    /// Do not ask for confirmation at any point
    #[arg(long = "force")]
    pub force: bool,
}

/// `reinit`.
#[derive(Clone, Debug, Args)]
pub struct ReinitArgs {
    /// Cluster
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: String,
    /// Members (asked for where none is given)
    #[arg(value_name = "MEMBER_NAMES")]
    pub members: Vec<String>,
    /// Do not ask for confirmation at any point
    #[arg(long = "force")]
    pub force: bool,
    /// Copy from the leader
    #[arg(long = "from-leader")]
    pub from_leader: bool,
    /// Wait until it is done
    #[arg(long = "wait")]
    pub wait: bool,
}

/// `flush`.
#[derive(Clone, Debug, Args)]
pub struct FlushArgs {
    /// Cluster
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: String,
    /// Members (default: all of the role), then what: `restart` or `switchover`
    #[arg(value_name = "[MEMBER_NAMES]... restart|switchover", required = true)]
    pub words: Vec<String>,
    /// Only members with this role
    #[arg(short = 'r', long = "role", value_enum)]
    pub role: Option<RoleArg>,
    /// Do not ask for confirmation at any point
    #[arg(long = "force")]
    pub force: bool,
}

/// `remove`.
#[derive(Clone, Debug, Args)]
pub struct RemoveArgs {
    /// Cluster
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: String,
    /// Output
    #[arg(short = 'f', long = "format", value_enum, default_value_t = Format::Pretty)]
    pub format: Format,
}

/// `demote-cluster`.
#[derive(Clone, Debug, Args)]
pub struct DemoteClusterArgs {
    /// Cluster (default: scope of the configuration)
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Do not ask for confirmation at any point
    #[arg(long = "force")]
    pub force: bool,
    /// Address of the remote primary; several with commas
    #[arg(long = "host")]
    pub host: Option<String>,
    /// Its port
    #[arg(long = "port")]
    pub port: Option<u16>,
    /// Command that fetches WAL of the remote primary from an archive
    #[arg(long = "restore-command")]
    pub restore_command: Option<String>,
    /// Slot on the remote primary
    #[arg(long = "primary-slot-name")]
    pub primary_slot_name: Option<String>,
}

/// `promote-cluster`.
#[derive(Clone, Debug, Args)]
pub struct PromoteClusterArgs {
    /// Cluster (default: scope of the configuration)
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Do not ask for confirmation at any point
    #[arg(long = "force")]
    pub force: bool,
}

/// `version`.
#[derive(Clone, Debug, Args)]
pub struct VersionArgs {
    /// Cluster
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Members (default: all)
    #[arg(value_name = "MEMBER_NAMES")]
    pub members: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, FromArgMatches, Parser};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CtlArgs,
    }

    fn read(words: &[&str]) -> Command {
        let words = ["patronictl"].iter().chain(words);
        let mut matches = like_click(Line::command())
            .try_get_matches_from(words)
            .unwrap();
        let line = Line::from_arg_matches_mut(&mut matches).unwrap();
        line.args.command
    }

    #[test]
    fn of_an_option_that_is_given_twice_the_last_counts() {
        let words = ["-k", "-k", "-c", "a", "-c", "b", "list", "-e", "-e"];
        let more = ["x", "-f", "pretty", "-f", "json", "-w", "1", "-w", "2", "y"];
        let Command::List(list) = read(&[&words[..], &more].concat()) else {
            panic!("no list");
        };
        assert_eq!((list.format, list.watch), (Format::Json, Some(2.0)));
        assert_eq!(list.clusters, ["x", "y"]);
        // Those that are meant to be given more than once still are.
        let edit = read(&["edit-config", "-s", "a=1", "-s", "b=2", "-p", "c=3"]);
        let Command::EditConfig(edit) = edit else {
            panic!("no edit-config");
        };
        assert_eq!(edit.set, ["a=1", "b=2"]);
        assert_eq!(edit.pg, ["c=3"]);
    }

    #[test]
    fn values_may_begin_with_a_hyphen() {
        for sql in ["-- x", "--force", "-1", "-W", "--"] {
            let Command::Query(query) = read(&["query", "-c", sql, "-r", "any"]) else {
                panic!("no query");
            };
            assert_eq!((query.command.as_deref(), query.watch2), (Some(sql), false));
            assert_eq!(query.role, Some(RoleArg::Any));
        }
        let Command::Restart(restart) = read(&["restart", "x", "--timeout", "-1", "--force"])
        else {
            panic!("no restart");
        };
        assert_eq!(restart.timeout.as_deref(), Some("-1"));
        assert!(restart.force);
        let Command::Query(query) = read(&["query", "--command=-- x", "-f-"]) else {
            panic!("no query");
        };
        assert_eq!(query.command.as_deref(), Some("-- x"));
    }
}
