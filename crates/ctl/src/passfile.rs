//! `~/.pgpass` (or `PGPASSFILE`) as libpq reads it: the password of a server, kept out of command
//! lines.

use pgherd_model::Secret;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What a password is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Host as it is connected to.
    pub(crate) host: &'a str,
    /// Port.
    pub(crate) port: u16,
    /// Database.
    pub(crate) database: &'a str,
    /// User.
    pub(crate) user: &'a str,
}

/// The password of the first line that fits. A file that others can read is not used, and told.
pub(crate) fn password(place: Place<'_>) -> Option<Secret> {
    let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pgpass"));
    let path = named.or_else(home)?;
    let text = read(&path)?;
    text.lines().find_map(|line| fits(line, place))
}

fn read(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    if mode & 0o077 != 0 {
        eprintln!(
            "WARNING: password file \"{}\" has group or world access; permissions should be u=rw (0600) or less",
            path.display()
        );
        return None;
    }
    std::fs::read_to_string(path).ok()
}

/// `host:port:database:user:password`; `*` is anything, `\` quotes.
fn fits(line: &str, place: Place<'_>) -> Option<Secret> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let letter = match letter {
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                continue;
            }
            '\\' => letters.next().unwrap_or('\\'),
            other => other,
        };
        if let Some(field) = fields.last_mut() {
            field.push(letter);
        }
    }
    let [host, port, database, user, password] = fields.as_slice() else {
        return None;
    };
    let number = place.port.to_string();
    let wanted = [place.host, &number, place.database, place.user];
    let given = [host, port, database, user];
    let same =
        |(given, wanted): (&&String, &str)| given.as_str() == "*" || given.as_str() == wanted;
    given
        .iter()
        .zip(wanted)
        .all(same)
        .then(|| Secret::new(password.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_libpqs() {
        let place = Place {
            host: "::1",
            port: 5432,
            database: "db",
            user: "me",
        };
        let found = |line: &str| fits(line, place).map(|secret| secret.expose().to_owned());
        assert_eq!(found("*:*:*:me:pw"), Some("pw".into()));
        assert_eq!(
            found("\\:\\:1:5432:db:me:p\\:\\\\w:x"),
            Some("p:\\w:x".into())
        );
        for other in [
            "",
            "# *:*:*:*:pw",
            "*:5433:*:*:pw",
            "*:*:*:you:pw",
            "*:*:*:me",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
    }
}
