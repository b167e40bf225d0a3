//! What would keep the unit from starting as this node's agent, each with a remedy. The unit gets
//! neither the directory nor the variables of whoever installs it, and reads files as another user.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::User;
use pgherd_wire::patroni::config::{self, Loaded, NodeConfig};

use crate::needs::{self, Needs, shell, unreadable};
use crate::reach;

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
        troubles.extend(self.needs());
        troubles.extend(relative(&self.loaded.node));
        troubles
    }

    /// Of files and directories that the configuration names.
    fn needs(&self) -> Vec<String> {
        // What has been loaded can be read again, but for an accident: then places are left out.
        let givens = config::givens(Some(self.config), &BTreeMap::new()).unwrap_or_default();
        let needs = Needs {
            node: &self.loaded.node,
            user: self.user,
            givens: &givens,
        };
        let mut troubles = needs.tls();
        troubles.extend(needs.troubles());
        troubles
    }

    /// Of the file, or of the directory and each file in it.
    fn configuration(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if self.config.is_dir() {
            let list = reach::READ | reach::EXECUTE;
            troubles.extend(unreadable(self.user, self.config, list));
        }
        for file in config::files(self.config).unwrap_or_default() {
            troubles.extend(unreadable(self.user, &file, reach::READ));
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
    let files = needs::certificates(node).into_iter();
    paths.extend(files.map(|(key, file)| (key, file.to_owned())));
    paths.extend(needs::files_of_roles(node));
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
