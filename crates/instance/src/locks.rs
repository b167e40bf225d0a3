//! Lock files that a killed postmaster leaves behind and that PostgreSQL itself never replaces: those
//! that name a zombie (it answers signal 0, so PostgreSQL takes it for alive) and empty ones (killed
//! between making the file and writing it). Everything else is PostgreSQL's own to judge.
//! Rules: `CreateLockFile` of PostgreSQL's miscinit.c.

use crate::files::{self, blocking};
use crate::{Error, Instance, Result, conf, process};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// An empty socket lock file this old has no writer: PostgreSQL writes it at once after making it.
const SETTLED: Duration = Duration::from_millis(500);

/// Directories that PostgreSQL is built with when nothing else is configured.
const BUILT_IN: &str = "/var/run/postgresql,/tmp";

/// Why a lock file can never be of use again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Useless {
    Empty,
    Zombie,
}

/// Removes the useless ones before a start.
pub(crate) async fn clear(instance: &Instance) -> Result<()> {
    let (data_dir, looked_at) = (instance.path().to_owned(), instance.clone());
    let effective = conf::effective(instance);
    let configured = effective.values.get("unix_socket_directories");
    let sockets = socket_locks(
        &data_dir,
        configured.map_or(BUILT_IN, String::as_str),
        instance.options().port,
    );
    blocking("looking at lock files", move || {
        let server = process::server_names(&looked_at);
        let own = data_dir.join("postmaster.pid");
        if let Some(why) = useless(&own, &server) {
            remove(&own, why, &data_dir, &server)?;
        }
        for path in sockets {
            // PostgreSQL says it in its own words when this was of no help.
            if let Err(e) = clear_socket_lock(&path, &data_dir, &server) {
                tracing::warn!(error = %e, "a lock file of a dead postmaster stays");
            }
        }
        Ok(())
    })
    .await
}

/// Lock files of the sockets in `directories` (PostgreSQL's list: commas, quotes where needed,
/// relative to the data directory; `@` is an abstract socket, which has none).
fn socket_locks(data_dir: &Path, directories: &str, port: u16) -> Vec<PathBuf> {
    directories
        .split(',')
        .map(|dir| dir.trim().trim_matches('"'))
        .filter(|dir| !dir.is_empty() && !dir.starts_with('@'))
        .map(|dir| data_dir.join(dir).join(format!(".s.PGSQL.{port}.lock")))
        .collect()
}

/// A socket's directory is shared with other clusters: an empty file may be one that somebody else
/// is about to write, and one that names a zombie must name our data directory too.
fn clear_socket_lock(path: &Path, data_dir: &Path, server: &[String]) -> Result<()> {
    let mut found = useless(path, server);
    if found == Some(Useless::Empty) {
        let age = fs::metadata(path)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        if let Some(rest) = age.and_then(|age| SETTLED.checked_sub(age)) {
            std::thread::sleep(rest);
            found = useless(path, server);
        }
    }
    let ours = || {
        let text = files::read_text(path).ok().flatten().unwrap_or_default();
        let named = text.lines().nth(1).map(Path::new).and_then(process::place);
        named.is_some() && named == process::place(data_dir)
    };
    match found {
        Some(why) if why == Useless::Empty || ours() => remove(path, why, data_dir, server),
        _ => Ok(()),
    }
}

/// Looks at one lock file of this user.
fn useless(path: &Path, server: &[String]) -> Option<Useless> {
    let meta = fs::symlink_metadata(path).ok()?;
    if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    // A machine that lost power may leave zeros where the text had not reached the disk.
    if bytes.iter().all(|b| *b == 0 || b.is_ascii_whitespace()) {
        return Some(Useless::Empty);
    }
    let text = String::from_utf8_lossy(&bytes);
    // Negative: a single-user server's.
    let number: i64 = text.lines().next()?.trim().parse().ok()?;
    let pid = u32::try_from(number.unsigned_abs()).ok()?;
    (process::is_zombie_of(pid, server) && !memory_is_attached(&text)).then_some(Useless::Zombie)
}

/// Whether the shared memory that postmaster.pid names (line 7: key and id) has users. PostgreSQL
/// would ask the same of a file whose process is gone; with the file we would take the question away.
fn memory_is_attached(pid_file: &str) -> bool {
    let mut numbers = pid_file.lines().nth(6).unwrap_or("").split_whitespace();
    let (Some(key), Some(id)) = (numbers.next(), numbers.next()) else {
        return false;
    };
    let Ok(segments) = fs::read_to_string("/proc/sysvipc/shm") else {
        return true;
    };
    // key shmid perms size cpid lpid nattch ... (the key signed in one place, unsigned in the other)
    segments.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let same_key = match (key.parse::<i64>(), fields.first().map(|f| f.parse::<i64>())) {
            (Ok(a), Some(Ok(b))) => a as u32 == b as u32,
            _ => false,
        };
        same_key && fields.get(1) == Some(&id) && fields.get(6) != Some(&"0")
    })
}

/// Removes a file that was looked at before. The scan comes after that look: whoever makes a lock
/// file works in the data directory already, and nobody can replace one that PostgreSQL refuses.
fn remove(path: &Path, why: Useless, data_dir: &Path, server: &[String]) -> Result<()> {
    if !process::members(&[data_dir.to_owned()], server).is_empty() {
        return Err(Error::StillRunning(data_dir.to_owned()));
    }
    files::remove(path)?;
    tracing::warn!(file = %path.display(), ?why, "removed a lock file of a dead postmaster");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn directories_of_sockets() {
        let of = |text| socket_locks(Path::new("/data"), text, 5433);
        assert_eq!(of(""), Vec::<PathBuf>::new());
        assert_eq!(
            of(" /run/a, \"/run/b c\",@abstract,here"),
            ["/run/a", "/run/b c", "/data/here"]
                .map(|dir| Path::new(dir).join(".s.PGSQL.5433.lock"))
        );
    }

    fn sleep() -> [String; 1] {
        ["sleep".to_owned()]
    }

    #[test]
    fn only_what_is_surely_dead() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("postmaster.pid");
        let look = |text: &str| {
            fs::write(&path, text).unwrap();
            useless(&path, &sleep())
        };
        assert_eq!(useless(&path, &sleep()), None);
        assert_eq!(look(""), Some(Useless::Empty));
        assert_eq!(look("\0\0\0"), Some(Useless::Empty));
        assert_eq!(look("nonsense"), None);
        // A process of another pid namespace, or of a boot before: no such number here.
        assert_eq!(look(&format!("{}\n", i32::MAX)), None);

        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let text = format!("{}\n{}\n", child.id(), home.path().display());
        assert_eq!(look(&text), None, "it lives");
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while look(&text) != Some(Useless::Zombie) {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(
            useless(&path, &["postgres".to_owned()]),
            None,
            "another program's"
        );
        assert_eq!(look(&format!("-{text}")), Some(Useless::Zombie));
        // Another cluster's socket.
        let other = format!("{}\n/elsewhere\n", child.id());
        fs::write(&path, other).unwrap();
        clear_socket_lock(&path, home.path(), &sleep()).unwrap();
        assert!(path.exists());
        fs::write(&path, &text).unwrap();
        clear_socket_lock(&path, home.path(), &sleep()).unwrap();
        assert!(!path.exists());
        child.wait().unwrap();
        assert_eq!(look(&text), None, "reaped: PostgreSQL copes");
    }
}
