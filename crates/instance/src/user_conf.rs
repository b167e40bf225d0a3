//! What the user's own configuration files set, with all that they include. Only whether a parameter is
//! named there is asked: which of several lines wins is PostgreSQL's business.

use crate::files::read_text;
use crate::quote::parse_conf_value;
use std::path::{Path, PathBuf};

/// As deep as PostgreSQL itself follows files that include others (guc-file.l, `CONF_FILE_MAX_DEPTH`).
const DEPTH: u32 = 10;

/// Whether this file, or one that it includes, sets the parameter. A file that is not there, or cannot be
/// read, sets nothing: PostgreSQL says what it thinks of it.
pub(crate) fn sets(file: &Path, parameter: &str) -> bool {
    search(file, parameter, DEPTH)
}

fn search(file: &Path, parameter: &str, depth: u32) -> bool {
    let Ok(Some(text)) = read_text(file) else {
        return false;
    };
    let beside = file.parent().unwrap_or(Path::new(""));
    text.lines().any(|line| {
        let (word, rest) = split(line);
        if word.eq_ignore_ascii_case(parameter) {
            return true;
        }
        let further = |path: &Path| depth > 0 && search(path, parameter, depth - 1);
        match word.to_ascii_lowercase().as_str() {
            "include" | "include_if_exists" => further(&beside.join(value(rest))),
            "include_dir" => configurations(&beside.join(value(rest)))
                .iter()
                .any(|path| further(path)),
            _ => false,
        }
    })
}

/// The first word of a line, and what follows it; `=` is optional.
fn split(line: &str) -> (&str, &str) {
    let line = line.trim_start();
    let end = line.find(|c: char| c.is_whitespace() || c == '=' || c == '\'');
    let (word, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    (word, rest.strip_prefix('=').unwrap_or(rest).trim_start())
}

/// Quoted, or one word.
fn value(text: &str) -> String {
    let bare = || {
        let word = text.split(|c: char| c.is_whitespace() || c == '#').next();
        word.unwrap_or_default().to_owned()
    };
    parse_conf_value(text).unwrap_or_else(bare)
}

/// What `include_dir` takes: `*.conf` without those that begin with a dot.
fn configurations(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".conf") && !name.starts_with('.')
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_wherever_postgresql_would_find_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir(root.join("conf.d")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
        let found = |name: &str| sets(&root.join(name), "recovery_init_sync_method");
        write(
            "own.conf",
            "work_mem = 4MB\nRecovery_Init_Sync_Method fsync\n",
        );
        write("equals.conf", "recovery_init_sync_method='fsync'");
        write(
            "comment.conf",
            "#recovery_init_sync_method = fsync\nrecovery_init_sync_methods = 1\n",
        );
        write("conf.d/10.conf", " recovery_init_sync_method = fsync");
        write("conf.d/.20.conf", "");
        write("dir.conf", "include_dir 'conf.d'");
        write("one.conf", "include = 'own.conf' # see there");
        write("two.conf", "INCLUDE_IF_EXISTS one.conf");
        write(
            "missing.conf",
            "include_if_exists 'nowhere.conf'\ninclude_dir 'nowhere'",
        );
        write("round.conf", "include 'round.conf'");
        for name in ["own", "equals", "dir", "one", "two"] {
            assert!(found(&format!("{name}.conf")), "{name}");
        }
        for name in ["comment", "missing", "round", "nowhere"] {
            assert!(!found(&format!("{name}.conf")), "{name}");
        }
    }
}
