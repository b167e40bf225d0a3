//! Names of keys below `/<namespace>/<scope>/` (contract: patroni-dcs, section 1).

use pgherd_model::MemberName;

/// One of the keys that a cluster consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// `initialize`
    Initialize,
    /// `leader`
    Leader,
    /// `members/<name>`
    Member(MemberName),
    /// `config`
    Config,
    /// `status`
    Status,
    /// `optime/leader`: the position alone, as versions before 2.1 wrote it.
    Optime,
    /// `sync`
    Sync,
    /// `failover`
    Failover,
    /// `failsafe`
    Failsafe,
    /// `history`
    History,
}

impl Key {
    /// Reads what follows [`prefix`]; `None`: a key nobody knows, to be left alone (Citus groups
    /// too: a cluster without `citus` in its configuration has nothing to do with them).
    pub fn parse(path: &str) -> Option<Key> {
        Some(match path {
            "initialize" => Key::Initialize,
            "leader" => Key::Leader,
            "config" => Key::Config,
            "status" => Key::Status,
            "optime/leader" => Key::Optime,
            "sync" => Key::Sync,
            "failover" => Key::Failover,
            "failsafe" => Key::Failsafe,
            "history" => Key::History,
            _ => {
                let name = path.strip_prefix("members/")?;
                if name.is_empty() || name.contains('/') {
                    return None;
                }
                Key::Member(name.into())
            }
        })
    }

    /// What follows [`prefix`].
    pub fn path(&self) -> String {
        match self {
            Key::Initialize => "initialize".into(),
            Key::Leader => "leader".into(),
            Key::Member(name) => format!("members/{name}"),
            Key::Config => "config".into(),
            Key::Status => "status".into(),
            Key::Optime => "optime/leader".into(),
            Key::Sync => "sync".into(),
            Key::Failover => "failover".into(),
            Key::Failsafe => "failsafe".into(),
            Key::History => "history".into(),
        }
    }
}

/// `/<namespace>/<scope>/`, repeated slashes squeezed, with a slash at its end.
pub fn prefix(namespace: &str, scope: &str) -> String {
    let mut prefix = String::from("/");
    for part in namespace.split('/').chain(scope.split('/')) {
        if !part.is_empty() {
            prefix.push_str(part);
            prefix.push('/');
        }
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_squeezed() {
        for namespace in ["service", "/service", "/service/", "//service//"] {
            assert_eq!(prefix(namespace, "demo"), "/service/demo/");
        }
        assert_eq!(prefix("/a//b", "c"), "/a/b/c/");
        assert_eq!(prefix("/", "demo"), "/demo/");
    }

    #[test]
    fn keys_round_trip() {
        for path in [
            "initialize",
            "leader",
            "config",
            "status",
            "optime/leader",
            "sync",
            "failover",
            "failsafe",
            "history",
            "members/n0",
        ] {
            assert_eq!(Key::parse(path).unwrap().path(), path);
        }
        for foreign in ["", "members/", "members/a/b", "0/leader", "Leader"] {
            assert_eq!(Key::parse(foreign), None, "{foreign}");
        }
    }
}
