//! What this machine has: programs, PostgreSQL's directories, the distribution, who we are.

use std::path::{Path, PathBuf};

/// Programs of one PostgreSQL installation that a node needs.
const POSTGRES_PROGRAMS: [&str; 5] = ["postgres", "initdb", "pg_ctl", "pg_basebackup", "pg_rewind"];

/// Where `program` is: on PATH, or in the system directories that only root has on PATH.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The directory with the newest complete PostgreSQL: the distribution's, else the one on PATH.
pub(crate) fn postgres_bin_dir() -> Option<PathBuf> {
    let complete = |folder: &PathBuf| {
        POSTGRES_PROGRAMS
            .iter()
            .all(|program| is_program(&folder.join(program)))
    };
    let mut majors: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .filter(|(_, folder)| complete(folder))
        .collect();
    majors.sort();
    let on_path = || {
        let folder = find_program("postgres")?.parent()?.to_path_buf();
        complete(&folder).then_some(folder)
    };
    majors.pop().map(|(_, folder)| folder).or_else(on_path)
}

/// Do we run as root?
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A value of /etc/os-release, without quotes.
pub(crate) fn os_release(key: &str) -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    value_of(&text, key)
}

fn value_of(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name == key).then(|| value.trim_matches(['"', '\'']).to_owned())
    })
}

/// Is this Debian, Ubuntu or a child of theirs: does it have their package manager?
pub(crate) fn is_debian_like() -> bool {
    let family = ["ID", "ID_LIKE"]
        .into_iter()
        .filter_map(os_release)
        .collect::<Vec<_>>()
        .join(" ");
    family
        .split_whitespace()
        .any(|name| name == "debian" || name == "ubuntu")
        && find_program("apt-get").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read_with_and_without_quotes() {
        let text = "ID=debian\nVERSION_ID=\"12\"\nID_LIKE='a b'\n";
        assert_eq!(value_of(text, "ID").as_deref(), Some("debian"));
        assert_eq!(value_of(text, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(value_of(text, "ID_LIKE").as_deref(), Some("a b"));
        assert_eq!(value_of(text, "NAME"), None);
    }

    #[test]
    fn a_program_that_every_machine_has_is_found() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-anywhere").is_none());
    }
}
