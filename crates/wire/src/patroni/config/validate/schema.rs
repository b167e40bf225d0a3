//! What `patroni --validate-config` asks of each key (as Patroni 4.1.5), as one table in the order in
//! which its problems are told.
//!
//! Only for validation: what the agent itself needs is read, more leniently, elsewhere in this folder.

/// One or several keys of a section.
pub(super) enum Field {
    /// It must be there.
    Needed(&'static str, Rule),
    /// It is looked at where it is.
    Maybe(&'static str, Rule),
    /// It is looked at also where it is not: as empty text.
    OrEmpty(&'static str, Rule),
    /// One of these must be there.
    OneOf(&'static [(&'static str, Rule)]),
    /// Not two of these.
    AtMostOne(&'static [(&'static str, Rule)]),
}

/// What a value must be.
pub(super) enum Rule {
    Text,
    Flag,
    Whole,
    /// A mapping with any keys.
    Mapping,
    /// A number, also as text with a unit.
    Number(Number),
    /// One of these words.
    Word(&'static [&'static str]),
    /// The same without regard to case.
    FoldedWord(&'static [&'static str]),
    Section(&'static [Field]),
    List(&'static Rule),
    /// Text or a mapping: an option of initdb.
    ProgramOption,
    /// Where this node listens: host and port, nobody there yet.
    Listen {
        several: bool,
    },
    /// Where others find this node.
    Connect,
    /// Somebody answers there.
    Reached,
    /// The same, as list or comma separated.
    AllReached,
    DataDir,
    /// Name of a program in `bin_dir`.
    Program,
    BinDir,
    LogFormat,
    WatchdogMode,
    SynchronousMode,
}

/// Limits of a number.
#[derive(Clone, Copy)]
pub(super) struct Number {
    pub(super) least: i64,
    pub(super) most: i64,
    pub(super) unit: Unit,
    /// Text is refused.
    pub(super) whole: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Unit {
    None,
    Seconds,
    /// In steps of 64 kB.
    Blocks,
}

use Field::{AtMostOne, Maybe, Needed, OneOf, OrEmpty};
use Rule::{
    AllReached, BinDir, Connect, DataDir, Flag, FoldedWord, List, Listen, LogFormat, Mapping,
    Program, ProgramOption, Reached, Section, SynchronousMode, Text, WatchdogMode, Whole, Word,
};

const fn least(least: i64) -> Rule {
    between(least, i64::MAX)
}

const fn between(least: i64, most: i64) -> Rule {
    Rule::Number(Number {
        least,
        most,
        unit: Unit::None,
        whole: false,
    })
}

/// No text.
const fn whole(least: i64, most: i64) -> Rule {
    Rule::Number(Number {
        least,
        most,
        unit: Unit::None,
        whole: true,
    })
}

/// The whole document.
pub(super) const ROOT: &[Field] = &[
    Needed("name", Text),
    Needed("scope", Text),
    Maybe("thread_pool_size", whole(5, i64::MAX)),
    Maybe(
        "thread_stack_size",
        Rule::Number(Number {
            least: 65536,
            most: i64::MAX,
            unit: Unit::Blocks,
            whole: true,
        }),
    ),
    Maybe("log", Section(LOG)),
    Maybe("ctl", Section(CTL)),
    Needed("restapi", Section(RESTAPI)),
    Maybe("bootstrap", Section(BOOTSTRAP)),
    OneOf(&[("etcd3", Section(ETCD))]),
    Maybe(
        "citus",
        Section(&[
            Needed("database", Text),
            Needed("group", whole(0, i64::MAX)),
        ]),
    ),
    Needed("postgresql", Section(POSTGRESQL)),
    Maybe(
        "watchdog",
        Section(&[
            Maybe("mode", WatchdogMode),
            Maybe("device", Text),
            Maybe("safety_margin", whole(-1, i64::MAX)),
        ]),
    ),
    Maybe("tags", Section(TAGS)),
];

const LOG: &[Field] = &[
    Maybe("type", Word(&["plain", "json"])),
    Maybe(
        "level",
        Word(&[
            "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL",
        ]),
    ),
    Maybe("traceback_level", FoldedWord(&["DEBUG", "ERROR"])),
    Maybe("format", LogFormat),
    Maybe("dateformat", Text),
    Maybe("static_fields", Mapping),
    Maybe("max_queue_size", Whole),
    Maybe("dir", Text),
    Maybe("file_num", Whole),
    Maybe("file_size", Whole),
    Maybe("mode", whole(0, 0o777)),
    Maybe("loggers", Mapping),
    Maybe("deduplicate_heartbeat_logs", Flag),
];

const CTL: &[Field] = &[
    Maybe("insecure", Flag),
    Maybe("cacert", Text),
    Maybe("certfile", Text),
    Maybe("keyfile", Text),
    Maybe("keyfile_password", Text),
];

const RESTAPI: &[Field] = &[
    Maybe("thread_pool_size", whole(5, i64::MAX)),
    Needed("listen", Listen { several: false }),
    Needed("connect_address", Connect),
    Maybe(
        "authentication",
        Section(&[Needed("username", Text), Needed("password", Text)]),
    ),
    Maybe("certfile", Text),
    Maybe("keyfile", Text),
    Maybe("keyfile_password", Text),
    Maybe("cafile", Text),
    Maybe("ciphers", Text),
    Maybe("verify_client", Word(&["none", "optional", "required"])),
    Maybe("allowlist", List(&Text)),
    Maybe("allowlist_include_members", Flag),
    Maybe("http_extra_headers", Mapping),
    Maybe("https_extra_headers", Mapping),
    Maybe("request_queue_size", whole(0, 4096)),
    Maybe(
        "server_tokens",
        FoldedWord(&["minimal", "productonly", "original"]),
    ),
];

const BOOTSTRAP: &[Field] = &[
    Needed("dcs", Section(DCS)),
    Maybe("initdb", List(&ProgramOption)),
    Maybe("method", Text),
];

const DCS: &[Field] = &[
    Maybe("ttl", least(20)),
    Maybe("loop_wait", least(1)),
    Maybe("retry_timeout", least(3)),
    Maybe("maximum_lag_on_failover", least(0)),
    Maybe("maximum_lag_on_syncnode", least(-1)),
    Maybe(
        "member_slots_ttl",
        Rule::Number(Number {
            least: 0,
            most: i64::MAX,
            unit: Unit::Seconds,
            whole: false,
        }),
    ),
    Maybe(
        "postgresql",
        Section(&[
            Maybe(
                "parameters",
                Section(&[
                    Maybe("max_connections", between(1, 262_143)),
                    Maybe("max_locks_per_transaction", between(10, 2_147_483_647)),
                    Maybe("max_prepared_transactions", between(0, 262_143)),
                    Maybe("max_replication_slots", between(0, 262_143)),
                    Maybe("max_wal_senders", between(0, 262_143)),
                    Maybe("max_worker_processes", between(0, 262_143)),
                ]),
            ),
            Maybe("use_pg_rewind", Flag),
            Maybe("pg_hba", List(&Text)),
            Maybe("pg_ident", List(&Text)),
            Maybe("pg_ctl_timeout", least(0)),
            Maybe("use_slots", Flag),
        ]),
    ),
    Maybe("primary_start_timeout", least(0)),
    Maybe("primary_stop_timeout", least(0)),
    Maybe(
        "standby_cluster",
        Section(&[
            OneOf(&[
                ("host", Text),
                ("port", whole(i64::MIN, 65535)),
                ("restore_command", Text),
            ]),
            Maybe("primary_slot_name", Text),
            Maybe("create_replica_methods", List(&Text)),
            Maybe("archive_cleanup_command", Text),
            Maybe("recovery_min_apply_delay", Text),
        ]),
    ),
    Maybe("synchronous_mode", SynchronousMode),
    Maybe("synchronous_mode_strict", Flag),
    Maybe("synchronous_node_count", least(1)),
];

const ETCD: &[Field] = &[
    OneOf(&[
        ("host", Reached),
        ("hosts", AllReached),
        ("srv", Text),
        ("srv_suffix", Text),
        ("url", Text),
        ("proxy", Text),
    ]),
    Maybe("protocol", Text),
    Maybe("username", Text),
    Maybe("password", Text),
    Maybe("cacert", Text),
    Maybe("cert", Text),
    Maybe("key", Text),
];

const ROLE: &[Field] = &[Needed("username", Text), Maybe("password", Text)];

const POSTGRESQL: &[Field] = &[
    Needed("listen", Listen { several: true }),
    Needed("connect_address", Connect),
    Maybe("proxy_address", Connect),
    Needed(
        "authentication",
        Section(&[
            Needed("replication", Section(ROLE)),
            Needed("superuser", Section(ROLE)),
            Maybe("rewind", Section(ROLE)),
        ]),
    ),
    Needed("data_dir", DataDir),
    Maybe(
        "bin_name",
        Section(&[
            Maybe("pg_ctl", Program),
            Maybe("initdb", Program),
            Maybe("pg_controldata", Program),
            Maybe("pg_basebackup", Program),
            Maybe("postgres", Program),
            Maybe("pg_isready", Program),
            Maybe("pg_rewind", Program),
        ]),
    ),
    OrEmpty("bin_dir", BinDir),
    Maybe(
        "parameters",
        Section(&[Maybe("unix_socket_directories", Text)]),
    ),
    Maybe("pg_hba", List(&Text)),
    Maybe("pg_ident", List(&Text)),
    Maybe("pg_ctl_timeout", least(0)),
    Maybe("use_pg_rewind", Flag),
];

const TAGS: &[Field] = &[
    AtMostOne(&[
        ("nofailover", Flag),
        ("failover_priority", whole(0, i64::MAX)),
    ]),
    Maybe("clonefrom", Flag),
    Maybe("noloadbalance", Flag),
    Maybe("replicatefrom", Text),
    AtMostOne(&[("nosync", Flag), ("sync_priority", whole(0, i64::MAX))]),
    Maybe("nostream", Flag),
];
