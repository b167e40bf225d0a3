//! What would keep the unit from starting as this node's agent, each with a remedy. The unit gets
//! neither the directory nor the variables of whoever installs it, and reads files as another user.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::User;
use pgherd_wire::patroni::config::{self, Credentials, Loaded, NodeConfig};

use super::{reach, shell};

/// libpq's options that name files.
const FILES_OF_A_ROLE: [&str; 5] = ["sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir"];

/// The unit as far as it can go wrong.
pub(super) struct Plan<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) user: &'a User,
    pub(super) program: &'a Path,
    /// File or directory.
    pub(super) config: &'a Path,
    /// Names of variables of the configuration that are set here.
    pub(super) variables: &'a [String],
}

impl Plan<'_> {
    pub(super) fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if let Err(at) = reach::may(self.user, self.program, reach::EXECUTE) {
            troubles.push(format!(
                "user {} may not run {} ({}): copy it to /usr/local/bin (install -m 755) and run it from there",
                self.user.name,
                self.program.display(),
                at.display()
            ));
        }
        if !self.variables.is_empty() {
            troubles.push(missing(self.variables));
        }
        troubles.extend(self.configuration());
        for (key, file) in certificates(&self.loaded.node) {
            troubles.extend(self.unreadable(file, reach::READ, &format!(" ({key})")));
        }
        troubles.extend(relative(&self.loaded.node));
        troubles
    }

    /// Of the file, or of the directory and each file in it.
    fn configuration(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if self.config.is_dir() {
            let list = reach::READ | reach::EXECUTE;
            troubles.extend(self.unreadable(self.config, list, ""));
        }
        for file in config::files(self.config).unwrap_or_default() {
            troubles.extend(self.unreadable(&file, reach::READ, ""));
            if reach::by_everybody(&file) && holds_secrets(&file) {
                troubles.push(format!(
                    "every user of this machine may read the passwords in {}: chmod 0600 {}",
                    file.display(),
                    shell(&file.to_string_lossy())
                ));
            }
        }
        troubles
    }

    fn unreadable(&self, file: &Path, wanted: u32, key: &str) -> Option<String> {
        let at = reach::may(self.user, file, wanted).err()?;
        let itself = fs::canonicalize(file).is_ok_and(|whole| whole == at);
        let user = &self.user.name;
        let (reason, remedy) = match (itself, file.exists()) {
            (_, false) => (String::new(), "it is not there".to_owned()),
            (true, true) => (
                String::new(),
                format!("chown {user} {}", shell(&at.to_string_lossy())),
            ),
            (false, true) => (
                format!(", since {} is closed to them", at.display()),
                "put it elsewhere, below /etc/pgherd for example".to_owned(),
            ),
        };
        let file = file.display();
        Some(format!(
            "user {user} may not read {file}{key}{reason}: {remedy}"
        ))
    }
}

/// Variables that the unit's agent will not have.
pub(super) fn missing(variables: &[String]) -> String {
    let put = match variables.len() {
        1 => "put it into the file",
        _ => "put them into the file",
    };
    format!(
        "the unit will not have {}: {put}, and take it out of this shell's environment (env -u)",
        variables.join(", ")
    )
}

/// A file that cannot be read as one has been told of already.
fn holds_secrets(file: &Path) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    let document = config::read_document(&text, &file.to_string_lossy());
    document.is_ok_and(|document| config::holds_secrets(&document))
}

/// Files that are there before the agent starts, by their keys.
fn certificates(node: &NodeConfig) -> Vec<(String, &Path)> {
    let files = [
        ("restapi.certfile", &node.restapi.certfile),
        ("restapi.keyfile", &node.restapi.keyfile),
        ("restapi.cafile", &node.restapi.cafile),
        ("ctl.cacert", &node.ctl.cacert),
        ("ctl.certfile", &node.ctl.certfile),
        ("ctl.keyfile", &node.ctl.keyfile),
        ("etcd3.cacert", &node.etcd3.cacert),
        ("etcd3.cert", &node.etcd3.cert),
        ("etcd3.key", &node.etcd3.key),
    ];
    let given = files.into_iter();
    let given = given.filter_map(|(key, file)| Some((key.to_owned(), file.as_deref()?)));
    let mut given: Vec<_> = given.collect();
    // ctl.cacert is restapi.cafile where nothing else is said.
    given.dedup_by(|later, earlier| later.1 == earlier.1);
    given
}

/// Each path that would be another one for the unit.
fn relative(node: &NodeConfig) -> Vec<String> {
    let postgresql = &node.postgresql;
    let maybe = |key: &str, path: &Option<PathBuf>| Some((key.to_owned(), path.clone()?));
    let mut paths = vec![(
        "postgresql.data_dir".to_owned(),
        postgresql.data_dir.clone(),
    )];
    if postgresql.config_dir != postgresql.data_dir {
        paths.push((
            "postgresql.config_dir".to_owned(),
            postgresql.config_dir.clone(),
        ));
    }
    paths.extend(maybe("postgresql.bin_dir", &postgresql.bin_dir));
    paths.extend(maybe("postgresql.pgpass", &postgresql.pgpass));
    let log = node.log.dir.as_ref().map(|dir| dir.path.clone());
    paths.extend(maybe("log.dir", &log));
    let files = certificates(node).into_iter();
    paths.extend(files.map(|(key, file)| (key, file.to_owned())));
    let roles = &postgresql.authentication;
    paths.extend(files_of("superuser", &roles.superuser));
    paths.extend(files_of("replication", &roles.replication));
    paths.extend(
        roles
            .rewind
            .iter()
            .flat_map(|role| files_of("rewind", role)),
    );
    let relative = paths.into_iter().filter(|(_, path)| path.is_relative());
    relative
        .map(|(key, path)| {
            let whole = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
            format!(
                "{key}: {} is a path from where you are now, and the unit starts at /: write the whole path, {}",
                path.display(),
                whole.display()
            )
        })
        .collect()
}

fn files_of(role: &str, credentials: &Credentials) -> Vec<(String, PathBuf)> {
    let named = |option: &str| {
        let path = credentials.options.get(option)?;
        // A word of libpq's, not a file.
        let is_file = !path.is_empty() && path != "system";
        let key = format!("postgresql.authentication.{role}.{option}");
        is_file.then(|| (key, PathBuf::from(path)))
    };
    FILES_OF_A_ROLE.into_iter().filter_map(named).collect()
}
