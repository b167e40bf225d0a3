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
        matches!(self, Error::Query { .. }) && self.state() == Some(code)
    }

    /// Whether a server that is well says no: to this role, password, address or database, for want of
    /// a free connection, or since it gives out no transaction ids any more. One that ends, cannot
    /// write or cancels what takes too long is not meant.
    pub(crate) fn is_refusal(&self) -> bool {
        const CLASSES: [&str; 6] = [
            "25", // read only, as the role's or database's default
            "28", // password, pg_hba, no login
            "3D", // no such database
            "42", // no privilege
            "54", // the limit before wraparound
            "55", // a database that allows no connections
        ];
        let refused = |code: &str| {
            // Too many connections, of all or of this role and database.
            code == "53300" || CLASSES.iter().any(|class| code.starts_with(class))
        };
        self.state().is_some_and(refused)
    }

    /// The SQLSTATE of PostgreSQL's answer, with which its text ends (`connection::reason`).
    fn state(&self) -> Option<&str> {
        let (Error::Connect { reason, .. } | Error::Query { reason, .. }) = self else {
            return None;
        };
        let code = reason.strip_suffix(')')?.rsplit_once(" (")?.1;
        let is_code = code.len() == 5 && code.bytes().all(|b| b.is_ascii_alphanumeric());
        is_code.then_some(code)
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

#[cfg(test)]
mod tests {
    use super::Error;

    #[test]
    fn a_server_that_is_well_may_say_no() {
        let connect = |reason: &str| Error::Connect {
            place: "127.0.0.1:5432".into(),
            reason: reason.into(),
        };
        for refusal in [
            "FATAL: password authentication failed for user \"postgres\" (28P01)",
            "FATAL: no pg_hba.conf entry for host \"::1\" (28000)",
            "FATAL: sorry, too many clients already (53300)",
            "ERROR: database is not accepting commands to avoid wraparound data loss (54000)",
        ] {
            assert!(connect(refusal).is_refusal(), "{refusal}");
        }
        for other in [
            "error connecting to server: Connection refused (os error 111)",
            "ERROR: canceling statement due to statement timeout (57014)",
            "PANIC: could not fdatasync file: Input/output error (58030)",
            "FATAL: the database system is shutting down (57P03)",
        ] {
            assert!(!connect(other).is_refusal(), "{other}");
        }
    }
}
