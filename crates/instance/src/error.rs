//! What can go wrong with one PostgreSQL: cause, place and remedy in one sentence each.

use pgherd_model::DataDir;
use std::path::PathBuf;
use std::time::Duration;

/// Why an operation on the local PostgreSQL did not succeed. Texts never hold passwords.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be read or written.
    #[error("cannot {what} {}: {source}{}", path.display(), remedy(source))]
    File {
        /// `read`, `write`, `rename`, ...
        what: &'static str,
        /// Which one.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A PostgreSQL program is not there.
    #[error(
        "PostgreSQL program {program} not found in {place}: install PostgreSQL's server package or set postgresql.bin_dir"
    )]
    ProgramMissing {
        /// `initdb`, `pg_rewind`, ...
        program: String,
        /// The directory, or `PATH`.
        place: String,
    },
    /// A program ended badly.
    #[error("{program} failed ({status}): {}{}", said(tail), advice(program, tail))]
    ProgramFailed {
        /// `initdb`, `pg_rewind`, ...
        program: String,
        /// Exit status or signal.
        status: String,
        /// Last lines that it wrote.
        tail: String,
    },
    /// An operation did not end in time.
    #[error("{what} did not finish within {} ms{}", after.as_millis(), detail(last))]
    Timeout {
        /// What was waited for.
        what: String,
        /// The limit.
        after: Duration,
        /// Last obstacle seen, may be empty.
        last: String,
    },
    /// The server port is taken by somebody else.
    #[error(
        "port {port} on {address} is already in use by {holder}: stop what listens there or change postgresql.listen"
    )]
    PortInUse {
        /// Address of `listen`.
        address: String,
        /// Port of `listen`.
        port: u16,
        /// Who has it, as far as that can be seen.
        holder: String,
    },
    /// The operation needs another state of the data directory.
    #[error("data directory {} is not fit for {what}: {}", path.display(), words(state))]
    DataDir {
        /// Operation.
        what: &'static str,
        /// Data directory.
        path: PathBuf,
        /// What was found.
        state: DataDir,
    },
    /// pg_control could not be understood.
    #[error("{} : {reason}", path.display())]
    ControlFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The server died while starting.
    #[error(
        "PostgreSQL ended while starting ({status}){}: see its log",
        detail(tail)
    )]
    DiedAtStart {
        /// Exit status or signal.
        status: String,
        /// Last lines of its log if known.
        tail: String,
    },
    /// Not running although the operation needs it.
    #[error("PostgreSQL is not running in {}", .0.display())]
    NotRunning(PathBuf),
    /// Running, or leftovers of it, although the operation needs it stopped.
    #[error("PostgreSQL (or a left-over process of it) is running in {}: stop it first", .0.display())]
    StillRunning(PathBuf),
    /// Running, but does not accept connections yet or any more.
    #[error("PostgreSQL does not accept connections now: {0}")]
    NotReady(String),
    /// No connection could be made.
    #[error("cannot connect to PostgreSQL at {place}: {reason}")]
    Connect {
        /// host:port or socket.
        place: String,
        /// Cause.
        reason: String,
    },
    /// A query failed.
    #[error("{what} failed on {place}: {reason}")]
    Query {
        /// Purpose of the query.
        what: &'static str,
        /// host:port or socket.
        place: String,
        /// The server's answer.
        reason: String,
    },
    /// The server answers something that the operation does not expect.
    #[error("{what}: {reason}")]
    Unexpected {
        /// Operation.
        what: &'static str,
        /// What was wrong.
        reason: String,
    },
    /// The configuration cannot be used.
    #[error("{key}: {reason}")]
    Config {
        /// Key as in the YAML.
        key: String,
        /// What was expected.
        reason: String,
    },
}

impl Error {
    /// Whether it is PostgreSQL's answer with this SQLSTATE.
    pub(crate) fn is_state(&self, code: &str) -> bool {
        matches!(self, Error::Query { reason, .. } if reason.ends_with(&format!("({code})")))
    }

    /// The `map_err` of file operations.
    pub(crate) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { what, path, source }
    }
}

fn remedy(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::PermissionDenied => {
            ": give the user who runs this program access to it"
        }
        std::io::ErrorKind::StorageFull => ": free space on that file system",
        _ => "",
    }
}

fn words(state: &DataDir) -> &str {
    match state {
        DataDir::Empty => "it is empty",
        DataDir::Initialized => "it holds a cluster already",
        DataDir::Unfinished => "it holds an unfinished cluster of ours",
        DataDir::Unusable(why) => why,
    }
}

/// A program that says nothing leaves its status only.
fn said(tail: &str) -> &str {
    match tail.trim() {
        "" => "it wrote no reason to standard error",
        tail => tail,
    }
}

fn advice(program: &str, tail: &str) -> &'static str {
    if tail.contains("No space left on device") {
        " (the disk is full: free space on that file system)"
    } else if program == "initdb" {
        " (its options come from bootstrap.initdb)"
    } else {
        ""
    }
}

fn detail(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}
