//! Lock files that a killed postmaster leaves behind and that PostgreSQL itself never replaces: those
//! that name a zombie (it answers signal 0, so PostgreSQL takes it for alive), those whose number has
//! gone to another process of this user, and empty ones (killed between making the file and writing
//! it). Everything else is PostgreSQL's own to judge.
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

/// The variable by which a server is told of a process that is not its rival: made for the shell above
/// pg_ctl, used as Patroni does. There is room for one.
pub(crate) const NO_RIVAL: &str = "PG_GRANDPARENT_PID";

/// Why a lock file can never be of use again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Useless {
    Empty,
    Zombie,
    /// Its number belongs to somebody else now.
    Stranger,
}

/// Removes the useless ones before a start; what `NO_RIVAL` has to be for the one that stays, so that
/// PostgreSQL judges it by the shared memory that it names.
pub(crate) async fn clear(instance: &Instance) -> Result<Option<u32>> {
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
        for path in &sockets {
            // PostgreSQL says it in its own words when this was of no help.
            if let Err(e) = clear_socket_lock(path, &data_dir, &server) {
                tracing::warn!(error = %e, "a lock file of a dead postmaster stays");
            }
        }
        no_rival(&own, &sockets, &data_dir, &server)
    })
    .await
}

/// The process that postmaster.pid names and that is no server of this directory.
fn no_rival(
    own: &Path,
    sockets: &[PathBuf],
    data_dir: &Path,
    server: &[String],
) -> Result<Option<u32>> {
    let Some(pid) = read(own).and_then(|text| living(&text)) else {
        return Ok(None);
    };
    refuse_servers(data_dir, server)?;
    // It would count for every lock file, so also for that of another cluster's server at our port.
    let named = |path: &PathBuf| read(path).and_then(|text| living(&text)) == Some(pid);
    if sockets.iter().any(named) {
        return Ok(None);
    }
    tracing::warn!(
        pid,
        "postmaster.pid was left behind, its process id belongs to another program now"
    );
    Ok(Some(pid))
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
/// is about to write, and one that names a process must name our data directory too.
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
    if found == Some(Useless::Empty) {
        return remove(path, Useless::Empty, data_dir, server);
    }
    let text = read(path).unwrap_or_default();
    let named = text.lines().nth(1).map(Path::new).and_then(process::place);
    if named.is_none() || named != process::place(data_dir) {
        return Ok(());
    }
    // No server of this directory is left, which `remove` makes sure of: it is somebody else.
    match found.or_else(|| living(&text).map(|_| Useless::Stranger)) {
        Some(why) => remove(path, why, data_dir, server),
        None => Ok(()),
    }
}

/// Looks at one lock file of this user.
fn useless(path: &Path, server: &[String]) -> Option<Useless> {
    let text = read(path)?;
    // A machine that lost power may leave zeros where the text had not reached the disk.
    if text.chars().all(|c| c == '\0' || c.is_ascii_whitespace()) {
        return Some(Useless::Empty);
    }
    let pid = number(&text)?;
    (process::is_zombie_of(pid, server) && !memory_is_attached(&text)).then_some(Useless::Zombie)
}

/// The text of one lock file of this user.
fn read(path: &Path) -> Option<String> {
    let meta = fs::symlink_metadata(path).ok()?;
    if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The process id in a lock file; negative there: a single-user server's.
fn number(text: &str) -> Option<u32> {
    let number: i64 = text.lines().next()?.trim().parse().ok()?;
    u32::try_from(number.unsigned_abs()).ok()
}

/// The process id in a lock file, if it is one now: also that of a zombie or a thread, since all of them
/// answer signal 0.
fn living(text: &str) -> Option<u32> {
    number(text).filter(|pid| process::exists(*pid))
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
    refuse_servers(data_dir, server)?;
    files::remove(path)?;
    tracing::warn!(file = %path.display(), ?why, "removed a lock file of a dead postmaster");
    Ok(())
}

fn refuse_servers(data_dir: &Path, server: &[String]) -> Result<()> {
    if process::members(&[data_dir.to_owned()], server).is_empty() {
        Ok(())
    } else {
        Err(Error::StillRunning(data_dir.to_owned()))
    }
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

    #[test]
    fn a_number_that_somebody_else_has_now() {
        let (home, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let own = home.path().join("postmaster.pid");
        let socket = home.path().join(".s.PGSQL.5433.lock");
        let sockets = [socket.clone()];
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let ours = format!("{}\n{}\n", child.id(), home.path().display());
        let theirs = format!("{}\n{}\n", child.id(), other.path().display());
        let server = ["postgres".to_owned()];
        let look = || no_rival(&own, &sockets, home.path(), &server).unwrap();
        assert_eq!(look(), None);
        fs::write(&own, format!("{}\n", i32::MAX)).unwrap();
        assert_eq!(look(), None, "PostgreSQL copes");
        for text in [&ours, &format!("-{ours}")] {
            fs::write(&own, text).unwrap();
            assert_eq!(look(), Some(child.id()));
        }
        // It is a server after all, of another cluster with the same socket.
        fs::write(&socket, &theirs).unwrap();
        clear_socket_lock(&socket, home.path(), &server).unwrap();
        assert_eq!(look(), None);
        fs::write(&socket, &ours).unwrap();
        clear_socket_lock(&socket, home.path(), &server).unwrap();
        assert!(!socket.exists());
        assert_eq!(look(), Some(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(look(), None);
    }

    /// A server that runs is never taken for a stranger.
    #[test]
    fn a_server_of_this_directory_is_a_rival() {
        let home = tempfile::tempdir().unwrap();
        let own = home.path().join("postmaster.pid");
        let mut child = Command::new("sleep")
            .arg("600")
            .current_dir(home.path())
            .spawn()
            .unwrap();
        fs::write(&own, format!("{}\n{}\n", child.id(), home.path().display())).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        // Until it has become the other program.
        while no_rival(&own, &[], home.path(), &sleep()).is_ok() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(2));
        }
        let socket = home.path().join(".s.PGSQL.5433.lock");
        fs::copy(&own, &socket).unwrap();
        assert!(clear_socket_lock(&socket, home.path(), &sleep()).is_err());
        assert!(socket.exists());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
