//! Files and directories that a node's configuration names, as the user sees them who runs the agent:
//! what that one may not read, write or make, each with its place and a remedy. By owner and mode
//! alone, as in [`reach`]; nothing is tried, and nothing is made.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::User;
use pgherd_wire::patroni::config::{self, Credentials, Given, NodeConfig};
use serde_json::Value;

use crate::reach::{self, EXECUTE, READ, WRITE};

/// libpq's options that name files.
const FILES_OF_A_ROLE: [&str; 5] = ["sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir"];

/// Those that libpq does without, where they are not there.
const MAY_BE_MISSING: [&str; 2] = ["sslcrl", "sslcrldir"];

/// Parameters of PostgreSQL that name files which it reads when it starts.
const FILES_OF_THE_SERVER: [&str; 5] = [
    "ssl_cert_file",
    "ssl_key_file",
    "ssl_ca_file",
    "ssl_crl_file",
    "ssl_dh_params_file",
];

/// Who needs something, and where it was written that they do.
pub(crate) struct Needs<'a> {
    pub(crate) node: &'a NodeConfig,
    pub(crate) user: &'a User,
    /// Every value of the configuration with its place.
    pub(crate) givens: &'a [Given],
}

/// What keeps a user from a file or directory.
enum Closed {
    /// It is there.
    Itself,
    /// This one on the way to it.
    OnTheWay(PathBuf),
    /// It is not there; the last one on the way that is. The user comes that far.
    Missing(PathBuf),
}

impl Needs<'_> {
    /// Everything but the files of TLS between agents and to etcd, which [`Needs::tls`] has.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let postgresql = &self.node.postgresql;
        let mut troubles = Vec::new();
        troubles.extend(self.data());
        if postgresql.config_dir != postgresql.data_dir {
            let wanted = READ | WRITE | EXECUTE;
            let (key, dir) = ("postgresql.config_dir", &postgresql.config_dir);
            troubles.extend(self.directory(key, dir, wanted, "/etc/postgresql"));
        }
        troubles.extend(self.programs());
        troubles.extend(self.pgpass());
        troubles.extend(self.log());
        for (key, file) in self.server() {
            troubles.extend(self.readable(&key, &file));
        }
        troubles.extend(self.server_key());
        for (key, file) in roles(self.node) {
            let optional = MAY_BE_MISSING.iter().any(|name| key.ends_with(name));
            if !optional || file.exists() {
                troubles.extend(self.readable(&key, &file));
            }
        }
        troubles
    }

    /// Files of TLS between agents and to etcd.
    pub(crate) fn tls(&self) -> Vec<String> {
        let files = certificates(self.node).into_iter();
        files
            .filter_map(|(key, file)| self.readable(&key, file))
            .collect()
    }

    /// PostgreSQL wants its own directory, or room to make it.
    fn data(&self) -> Option<String> {
        let (key, dir) = ("postgresql.data_dir", &self.node.postgresql.data_dir);
        let user = &self.user.name;
        if dir.is_relative() {
            return None;
        }
        let problem = match self.look(dir, READ | WRITE | EXECUTE) {
            Ok(()) => {
                let owner = fs::metadata(dir).ok()?.uid();
                if owner == self.user.uid.as_raw() || self.user.uid.is_root() {
                    return None;
                }
                format!(
                    "{} belongs to user id {owner}, and PostgreSQL serves no data of others: {}",
                    dir.display(),
                    chown_all(user, dir)
                )
            }
            Err(Closed::Missing(above)) if self.look(&above, WRITE | EXECUTE).is_ok() => {
                return None;
            }
            Err(Closed::Missing(above)) => format!(
                "user {user} may not make {} in {}: {}",
                dir.display(),
                above.display(),
                make(user, dir)
            ),
            Err(Closed::Itself) => format!(
                "user {user} may not read and write {}: {}, chmod 0700 {}",
                dir.display(),
                chown_all(user, dir),
                word(dir)
            ),
            Err(Closed::OnTheWay(at)) => format!(
                "user {user} does not come to {}, since {} is closed to them: put it elsewhere, below \
                 /var/lib/postgresql for example",
                dir.display(),
                at.display()
            ),
        };
        Some(self.at(key, &problem))
    }

    /// That one that all others of PostgreSQL stand beside.
    fn programs(&self) -> Option<String> {
        let postgresql = &self.node.postgresql;
        let name = postgresql
            .bin_name
            .get("postgres")
            .map_or("postgres", |it| it);
        let dir = postgresql.bin_dir.as_deref()?;
        let program = dir.join(name);
        if program.is_relative() {
            return None;
        }
        let (user, shown) = (&self.user.name, program.display());
        let problem = match self.look(&program, EXECUTE).err()? {
            Closed::Missing(_) => format!(
                "there is no {shown}: install PostgreSQL, or name the directory of its programs"
            ),
            Closed::Itself => {
                format!(
                    "user {user} may not run {shown}: chmod 0755 {}",
                    word(&program)
                )
            }
            Closed::OnTheWay(at) => format!(
                "user {user} may not run {shown}, since {0} is closed to them: chmod 0755 {1}",
                at.display(),
                word(&at)
            ),
        };
        Some(self.at("postgresql.bin_dir", &problem))
    }

    /// The file is made anew each time, in a directory that is there.
    fn pgpass(&self) -> Option<String> {
        let key = "postgresql.pgpass";
        let file = self.node.postgresql.pgpass.as_deref()?;
        if file.is_relative() {
            return None;
        }
        if file.is_dir() {
            let problem = format!("{} is a directory, name a file", file.display());
            return Some(self.at(key, &problem));
        }
        let dir = file.parent().unwrap_or(file);
        let at = match self.look(dir, WRITE | EXECUTE).err()? {
            // It comes with the data, as far as they may be made.
            Closed::Missing(_) if dir.starts_with(&self.node.postgresql.data_dir) => return None,
            Closed::Missing(_) => format!("{} is not there", dir.display()),
            // Not theirs to be given: it may be somebody's home.
            Closed::Itself => format!("{} is closed to them", dir.display()),
            Closed::OnTheWay(at) => format!("{} is closed to them", at.display()),
        };
        let problem = format!(
            "user {} may not write {}, since {at}: put it elsewhere, below /var/lib/postgresql for example",
            self.user.name,
            file.display()
        );
        Some(self.at(key, &problem))
    }

    /// The agent does not start without its log.
    fn log(&self) -> Option<String> {
        let (key, dir) = ("log.dir", self.node.log.dir.as_ref()?.path.as_path());
        let beside = "/var/log/postgresql";
        let problem = self.directory(key, dir, WRITE | EXECUTE, beside);
        problem.or_else(|| {
            let file = dir.join("patroni.log");
            let closed = file.exists() && self.look(&file, WRITE).is_err();
            let user = &self.user.name;
            closed.then(|| {
                let problem = format!(
                    "user {user} may not write {}: chown {user} {}",
                    file.display(),
                    word(&file)
                );
                self.at(key, &problem)
            })
        })
    }

    /// A directory that nobody makes. `beside`: where there is room for such ones.
    fn directory(&self, key: &str, dir: &Path, wanted: u32, beside: &str) -> Option<String> {
        if dir.is_relative() {
            return None;
        }
        let (user, shown) = (&self.user.name, dir.display());
        let (reason, remedy) = match self.look(dir, wanted) {
            Ok(()) if dir.is_dir() => return None,
            Ok(()) => (", which is no directory".to_owned(), "name one".to_owned()),
            Err(Closed::Missing(_)) => (", which is not there".to_owned(), make(user, dir)),
            Err(Closed::Itself) => (
                String::new(),
                format!(
                    "put it elsewhere, below {beside} for example, or chown {user} {}",
                    word(dir)
                ),
            ),
            Err(Closed::OnTheWay(at)) => (
                format!(", since {} is closed to them", at.display()),
                format!("put it elsewhere, below {beside} for example"),
            ),
        };
        let problem = format!("user {user} may not write into {shown}{reason}: {remedy}");
        Some(self.at(key, &problem))
    }

    /// A file that is there before anything starts.
    fn readable(&self, key: &str, file: &Path) -> Option<String> {
        let problem = unreadable(self.user, file, READ)?;
        Some(self.at(key, &problem))
    }

    /// Files of the server, by their keys. One in the data directory comes with the data, perhaps later.
    fn server(&self) -> Vec<(String, PathBuf)> {
        let postgresql = &self.node.postgresql;
        let own = postgresql.custom_conf.clone();
        let own = own.map(|file| ("postgresql.custom_conf".to_owned(), file));
        let parameters = postgresql.shared.get("parameters");
        let parameter = |name: &str| parameters?.get(name);
        let off = parameter("ssl").and_then(config::boolean) == Some(false);
        let named = FILES_OF_THE_SERVER.into_iter().filter(|_| !off);
        let named = named.filter_map(|name| {
            let file = parameter(name).and_then(Value::as_str)?;
            Some((format!("postgresql.parameters.{name}"), PathBuf::from(file)))
        });
        let comes_later = |file: &Path| !file.exists() && file.starts_with(&postgresql.data_dir);
        own.into_iter()
            .chain(named)
            .filter(|(_, file)| file.is_absolute() && !comes_later(file))
            .collect()
    }

    /// PostgreSQL refuses a key that others may read.
    fn server_key(&self) -> Option<String> {
        let mut files = self.server().into_iter();
        let (key, file) = files.find(|(key, _)| key.ends_with("ssl_key_file"))?;
        self.look(&file, READ).ok()?;
        let meta = fs::metadata(&file).ok()?;
        let (shown, user, word) = (file.display(), &self.user.name, word(&file));
        let problem = match meta.uid() {
            uid if uid == self.user.uid.as_raw() && meta.mode() & 0o077 != 0 => {
                format!("PostgreSQL takes no key that others may read, {shown}: chmod 0600 {word}")
            }
            0 if meta.mode() & 0o037 != 0 => {
                format!(
                    "PostgreSQL takes no key that everybody may read, {shown}: chmod 0640 {word}"
                )
            }
            uid if uid != 0 && uid != self.user.uid.as_raw() => {
                format!("PostgreSQL takes no key of another user, {shown}: chown {user} {word}")
            }
            _ => return None,
        };
        // Root looks at it in somebody else's place, and cannot say who that is.
        (!self.user.uid.is_root()).then(|| self.at(&key, &problem))
    }

    fn look(&self, path: &Path, wanted: u32) -> Result<(), Closed> {
        look(self.user, path, wanted)
    }

    /// `FILE:LINE: KEY: PROBLEM`.
    fn at(&self, key: &str, problem: &str) -> String {
        let path = key.split('.');
        let same = |given: &&Given| path.clone().eq(given.path.iter().map(String::as_str));
        match self.givens.iter().rfind(same) {
            Some(given) => format!("{}: {key}: {problem}", given.place),
            // A default, made of another key.
            None => format!("{key}: {problem}"),
        }
    }
}

/// Why a user may not read (or whatever is wanted) a file, and what to do.
pub(crate) fn unreadable(user: &User, file: &Path, wanted: u32) -> Option<String> {
    let closed = look(user, file, wanted).err()?;
    let (user, shown) = (&user.name, file.display());
    let (reason, remedy) = match closed {
        Closed::Missing(_) => (String::new(), "it is not there".to_owned()),
        Closed::Itself => (String::new(), format!("chown {user} {}", word(file))),
        Closed::OnTheWay(at) => (
            format!(", since {} is closed to them", at.display()),
            "put it elsewhere, below /etc/pgherd for example".to_owned(),
        ),
    };
    Some(format!(
        "user {user} may not read {shown}{reason}: {remedy}"
    ))
}

fn look(user: &User, path: &Path, wanted: u32) -> Result<(), Closed> {
    let Err(at) = reach::may(user, path, wanted) else {
        return Ok(());
    };
    if let Ok(whole) = fs::canonicalize(path) {
        return Err(match whole == at {
            true => Closed::Itself,
            false => Closed::OnTheWay(at),
        });
    }
    let above = path.ancestors().skip(1).find(|place| place.exists());
    let above = above.unwrap_or(Path::new("/"));
    Err(match reach::may(user, above, EXECUTE) {
        Ok(()) => Closed::Missing(above.to_owned()),
        Err(at) => Closed::OnTheWay(at),
    })
}

/// Files of TLS that are there before the agent starts, by their keys.
pub(crate) fn certificates(node: &NodeConfig) -> Vec<(String, &Path)> {
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

/// Files that connections of the roles name, by their keys; also paths from where one is.
pub(crate) fn files_of_roles(node: &NodeConfig) -> Vec<(String, PathBuf)> {
    let roles = &node.postgresql.authentication;
    let mut files = files_of("superuser", &roles.superuser);
    files.extend(files_of("replication", &roles.replication));
    let rewind = roles.rewind.iter();
    files.extend(rewind.flat_map(|role| files_of("rewind", role)));
    files
}

/// Those that are the same file from everywhere.
fn roles(node: &NodeConfig) -> Vec<(String, PathBuf)> {
    let files = files_of_roles(node).into_iter();
    files.filter(|(_, file)| file.is_absolute()).collect()
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

fn make(user: &str, dir: &Path) -> String {
    format!("install -d -m 0700 -o {user} {}", word(dir))
}

fn chown_all(user: &str, dir: &Path) -> String {
    format!("chown -R {user} {}", word(dir))
}

fn word(path: &Path) -> String {
    shell(&path.to_string_lossy())
}

/// A word of a shell's command line.
pub(crate) fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests;
