//! Which lines are written: `log.level`, and `log.loggers` with Patroni's names and our own.

use pgherd_wire::patroni::config::{Log, LogLevel};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};

/// Target of an error that Patroni tells as CRITICAL: tracing has no level above ERROR.
pub(crate) const CRITICAL: &str = "pgherd_agent::critical";

/// Where our lines come from.
pub(super) const OURS: &[&str] = &[
    "pgherd",
    "pgherd_agent",
    "pgherd_dcs",
    "pgherd_instance",
    "pgherd_peer",
    "pgherd_guard",
];

/// Patroni's loggers, and what does their work here; a name that is not there counts as the longest
/// part of it that is. Of the libraries only those of HTTP: what others say at DEBUG (that of
/// PostgreSQL, say) can hold passwords.
const PATRONIS: &[(&str, &[&str])] = &[
    ("patroni", OURS),
    (
        "patroni.__main__",
        &["pgherd_agent::start", "pgherd_agent::critical"],
    ),
    ("patroni.daemon", &["pgherd_agent::start"]),
    ("patroni.api", &["pgherd_agent::rest"]),
    (
        "patroni.config",
        &["pgherd_agent::reload", "pgherd_agent::settings"],
    ),
    ("patroni.log", &["pgherd_agent::logging"]),
    ("patroni.request", &["pgherd_peer"]),
    ("patroni.dcs", &["pgherd_dcs"]),
    (
        "patroni.watchdog",
        &[
            "pgherd_guard",
            "pgherd_agent::guarding",
            "pgherd_agent::watchdog",
        ],
    ),
    (
        "patroni.ha",
        &[
            "pgherd_agent::act",
            "pgherd_agent::agent",
            "pgherd_agent::jobs",
            "pgherd_agent::observe",
            "pgherd_agent::orders",
            "pgherd_agent::publish",
            "pgherd_agent::renewal",
        ],
    ),
    ("patroni.postgresql", &["pgherd_instance"]),
    (
        "patroni.postgresql.bootstrap",
        &["pgherd_instance::bootstrap", "pgherd_instance::copy"],
    ),
    (
        "patroni.postgresql.config",
        &[
            "pgherd_instance::apply",
            "pgherd_instance::check",
            "pgherd_instance::conf",
        ],
    ),
    (
        "patroni.postgresql.connection",
        &["pgherd_instance::connection", "pgherd_instance::libpq"],
    ),
    (
        "patroni.postgresql.postmaster",
        &[
            "pgherd_instance::process",
            "pgherd_instance::start",
            "pgherd_instance::stop",
        ],
    ),
    ("patroni.postgresql.rewind", &["pgherd_instance::archive"]),
    (
        "patroni.postgresql.slots",
        &[
            "pgherd_agent::slots",
            "pgherd_instance::logical",
            "pgherd_instance::slots",
        ],
    ),
    ("urllib3", &["reqwest", "hyper", "hyper_util"]),
];

/// Names of Patroni's whose lines nobody writes here: more than their parent is not meant.
const NOBODYS: &[&str] = &[
    "patroni.collections",
    "patroni.psycopg",
    "patroni.scripts",
    "patroni.utils",
    "patroni.validator",
    "patroni.postgresql.available_parameters",
    "patroni.postgresql.callback_executor",
    "patroni.postgresql.citus",
    "patroni.postgresql.mpp",
    "patroni.postgresql.sync",
    "patroni.postgresql.validator",
    "patroni.dcs.consul",
    "patroni.dcs.etcd",
    "patroni.dcs.exhibitor",
    "patroni.dcs.kubernetes",
    "patroni.dcs.raft",
    "patroni.dcs.zookeeper",
];

/// What a name in `log.loggers` means here: prefixes of targets, none if nothing has that name.
pub(super) fn targets(name: &str) -> Vec<String> {
    let own = name.replace('.', "::");
    let (first, _) = own.split_once("::").unwrap_or((&own, ""));
    if own == "pgherd" {
        return OURS.iter().map(|it| (*it).to_owned()).collect();
    }
    if OURS.contains(&first) {
        return vec![own];
    }
    if NOBODYS.contains(&name) {
        return Vec::new();
    }
    let mut known = name;
    loop {
        if let Some((_, targets)) = PATRONIS.iter().find(|(patronis, _)| *patronis == known) {
            // A module that nobody knows is not all of Patroni.
            let all = known == "patroni" && known != name;
            let targets = targets.iter().filter(|_| !all);
            return targets.map(|it| (*it).to_owned()).collect();
        }
        match known.rsplit_once('.') {
            Some((parent, _)) => known = parent,
            None => return Vec::new(),
        }
    }
}

/// Least level by target.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// The longest prefix counts and comes first.
    rules: Vec<(String, LogLevel)>,
}

/// Libraries speak up only when something is wrong.
const LIBRARIES: LogLevel = LogLevel::Warning;

impl Filter {
    pub(super) fn of(log: &Log) -> Filter {
        let ours = OURS.iter().map(|target| ((*target).to_owned(), log.level));
        let mut rules: Vec<(String, LogLevel)> = ours.collect();
        // The more exact name wins, as with Python's tree of loggers.
        let mut names: Vec<_> = log.loggers.iter().collect();
        names.sort_by_key(|(name, _)| name.len());
        for (name, level) in names {
            for target in targets(name) {
                match rules.iter_mut().find(|(known, _)| *known == target) {
                    Some(rule) => rule.1 = *level,
                    None => rules.push((target, *level)),
                }
            }
        }
        rules.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        Filter { rules }
    }

    pub(super) fn lets(&self, metadata: &Metadata<'_>) -> bool {
        level_of(metadata) >= self.least(metadata.target())
    }

    fn least(&self, target: &str) -> LogLevel {
        let within = |prefix: &str| {
            let rest = target.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let rule = self.rules.iter().find(|(prefix, _)| within(prefix));
        rule.map_or(LIBRARIES, |(_, level)| *level)
    }

    /// No event beyond this is let through.
    pub(super) fn hint(&self) -> LevelFilter {
        let levels = self.rules.iter().map(|(_, level)| *level);
        match levels.chain([LIBRARIES]).min() {
            Some(LogLevel::Debug) => LevelFilter::DEBUG,
            Some(LogLevel::Info) => LevelFilter::INFO,
            Some(LogLevel::Warning) => LevelFilter::WARN,
            Some(LogLevel::Error | LogLevel::Critical) | None => LevelFilter::ERROR,
        }
    }
}

/// The level as Patroni has it. TRACE is what nobody can ask for: it counts as less than DEBUG by
/// being left out of [`Filter::hint`].
pub(super) fn level_of(metadata: &Metadata<'_>) -> LogLevel {
    match *metadata.level() {
        Level::ERROR if metadata.target() == CRITICAL => LogLevel::Critical,
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warning,
        Level::INFO => LogLevel::Info,
        Level::DEBUG | Level::TRACE => LogLevel::Debug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn filter(level: LogLevel, loggers: &[(&str, LogLevel)]) -> Filter {
        let mut log = super::super::record::tests::log();
        log.level = level;
        let loggers = loggers.iter();
        log.loggers = loggers
            .map(|(name, level)| ((*name).to_owned(), *level))
            .collect::<BTreeMap<_, _>>();
        Filter::of(&log)
    }

    #[test]
    fn libraries_keep_quiet() {
        let debug = filter(LogLevel::Debug, &[("tokio_postgres", LogLevel::Debug)]);
        for (target, least) in [
            ("pgherd_agent::rest::access", LogLevel::Debug),
            ("pgherd_dcs", LogLevel::Debug),
            ("pgherd_agentx", LogLevel::Warning),
            ("tokio_postgres::query", LogLevel::Warning),
            ("h2::client", LogLevel::Warning),
        ] {
            assert_eq!(debug.least(target), least, "{target}");
        }
        assert_eq!(debug.hint(), LevelFilter::DEBUG);
        assert_eq!(filter(LogLevel::Critical, &[]).hint(), LevelFilter::WARN);
    }

    #[test]
    fn the_more_exact_name_wins() {
        let filter = filter(
            LogLevel::Info,
            &[
                ("patroni", LogLevel::Error),
                ("patroni.postgresql", LogLevel::Debug),
                ("patroni.postgresql.slots", LogLevel::Critical),
                ("pgherd_agent.rest", LogLevel::Warning),
                ("urllib3.connectionpool", LogLevel::Error),
            ],
        );
        for (target, least) in [
            ("pgherd_agent::agent", LogLevel::Error),
            ("pgherd_instance::start", LogLevel::Debug),
            ("pgherd_instance::slots", LogLevel::Critical),
            ("pgherd_agent::rest::access", LogLevel::Warning),
            ("hyper_util::client", LogLevel::Error),
        ] {
            assert_eq!(filter.least(target), least, "{target}");
        }
    }

    #[test]
    fn names_that_nothing_has() {
        for name in [
            "kazoo.client",
            "patroni.unheard_of",
            "patroni.dcs.consul",
            "pgherd_unheard",
            "tokio_postgres",
        ] {
            assert_eq!(targets(name), Vec::<String>::new(), "{name}");
        }
        assert_eq!(targets("patroni.dcs.etcd3"), ["pgherd_dcs"]);
        assert_eq!(targets("pgherd_agent::rest"), ["pgherd_agent::rest"]);
        assert_eq!(targets("pgherd").len(), OURS.len());
    }
}
