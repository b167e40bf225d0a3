//! The data directory as a directory: what state it is in, and how it is emptied or set aside
//! without ever touching something that is not ours.

use crate::files::{self, blocking};
use crate::{Error, Instance, Result, control, process};
use pgherd_model::{ControlFile, DataDir, Postmaster};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tokio::sync::OwnedMutexGuard;

/// Present in a data directory from the first to the last step of initdb or a copy.
pub(crate) const MARKER: &str = "pgherd.unfinished";
/// Marks a cluster from the end of initdb until its roles are there: without them it is no use. In
/// place before the directory counts as a cluster; whoever made the roles takes it away.
pub(crate) const HALF_MADE: &str = "pgherd.bootstrap";
pub(crate) const HALF_MADE_TEXT: &str =
    "pgherd is creating this cluster; while this file is here it is not finished\n";
/// The programs work in here: they want an empty directory, and the marker must be beside it.
pub(crate) const NEW: &str = ".pgherd-new";

const MARKER_TEXT: &str = "pgherd is making this data directory. If no pgherd agent is at work on \
it, the work was interrupted: everything in here will be removed and made again.\n";

pub(crate) async fn inspect_async(instance: &Instance) -> DataDir {
    let path = instance.path().to_owned();
    match blocking("looking at the data directory", move || Ok(inspect(&path))).await {
        Ok(state) => state,
        Err(e) => DataDir::Unusable(e.to_string()),
    }
}

/// What the files of a data directory say about what it is meant for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// [`Instance::is_half_made`].
    pub half_made: bool,
    /// standby.signal is there: it starts in recovery.
    pub standby_signal: bool,
    /// backup_label is there: a copy that has not been started yet.
    pub backup_label: bool,
}

/// What the files of a data directory say at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDisk {
    /// What it is meant for.
    pub marks: Marks,
    /// Its state.
    pub data: DataDir,
    /// pg_control, if there is a cluster and it can be read.
    pub control: Option<ControlFile>,
}

/// On one thread and in one go: of several in turn each may wake a thread of its own. Where the disk does
/// not answer there are no marks, and what else is said tells of it.
pub(crate) async fn on_disk(instance: &Instance, answers: bool) -> OnDisk {
    let path = instance.path().to_owned();
    let reading = blocking("looking at the data directory", move || {
        let there = |name: &str| path.join(name).exists();
        let marks = Marks {
            half_made: there(HALF_MADE),
            standby_signal: there("standby.signal"),
            backup_label: there("backup_label"),
        };
        let data = match (marks.half_made, answers) {
            (true, _) => DataDir::Unfinished,
            (false, true) => DataDir::Initialized,
            (false, false) => inspect(&path),
        };
        let control = (data == DataDir::Initialized).then(|| control::read(&path));
        Ok((marks, data, control))
    });
    let (marks, data, control) = match reading.await {
        Ok(read) => read,
        Err(_) if answers => (Marks::default(), DataDir::Initialized, None),
        Err(e) => (Marks::default(), DataDir::Unusable(e.to_string()), None),
    };
    let control = match control {
        None => None,
        Some(Ok(read)) => Some(read.file),
        // pg_controldata may understand it.
        Some(Err(_)) => control::control_file(instance).await.ok(),
    };
    OnDisk {
        marks,
        data,
        control,
    }
}

/// Looks at a data directory as PostgreSQL's `checkDataDir` does.
pub(crate) fn inspect(path: &Path) -> DataDir {
    let shown = path.display();
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return DataDir::Empty,
        Err(e) => return DataDir::Unusable(format!("cannot look at {shown}: {e}")),
    };
    if !meta.is_dir() {
        return DataDir::Unusable(format!("{shown} is not a directory"));
    }
    let (owner, me) = (meta.uid(), rustix::process::geteuid().as_raw());
    if owner != me {
        return DataDir::Unusable(format!(
            "{shown} belongs to user id {owner}, but we run as {me}: chown it or run as its owner"
        ));
    }
    let names = match entries(path) {
        Ok(names) => names,
        Err(e) => return DataDir::Unusable(format!("cannot list {shown}: {e}")),
    };
    if names.is_empty() {
        return DataDir::Empty;
    }
    if names.iter().any(|name| name == MARKER) || filling(path).exists() {
        return DataDir::Unfinished;
    }
    match rewinding(path).exists() && names.iter().any(|name| name == "PG_VERSION") {
        true => DataDir::Unfinished,
        false => cluster(path, &meta, &names),
    }
}

/// What is in a directory of ours that is not being made.
fn cluster(path: &Path, meta: &fs::Metadata, names: &[OsString]) -> DataDir {
    let shown = path.display();
    if !names.iter().any(|name| name == "PG_VERSION") {
        return DataDir::Unusable(format!(
            "{shown} is not empty and holds no PostgreSQL cluster (no PG_VERSION): empty it or \
             set another postgresql.data_dir"
        ));
    }
    if !path.join("global/pg_control").exists() {
        return DataDir::Unusable(format!(
            "{shown} holds half a PostgreSQL cluster (no global/pg_control): remove it if it is \
             the rest of a broken copy"
        ));
    }
    let mode = meta.mode() & 0o777;
    if mode & 0o027 != 0 {
        return DataDir::Unusable(format!(
            "{shown} has mode {mode:04o}, PostgreSQL wants 0700 or 0750: chmod 0700 {shown}"
        ));
    }
    DataDir::Initialized
}

/// Beside the data directory while pg_rewind is at work, since that removes what its source does
/// not have. Found later, the work was interrupted and the copy is of no use.
pub(crate) fn rewinding(path: &Path) -> PathBuf {
    files::beside(path, ".rewinding")
}

/// Beside the data directory while a command of the user's fills it, which wants to find there nothing but data. Found
/// later, that was interrupted.
pub(crate) fn filling(path: &Path) -> PathBuf {
    files::beside(path, ".filling")
}

/// Marks the directory as one that a command of the user's is about to fill.
pub(crate) fn begin_filling(path: &Path) {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).ok();
    }
    if let Err(e) = files::write_durably(&filling(path), MARKER_TEXT.as_bytes(), 0o600) {
        tracing::warn!(error = %e, "the data directory goes unmarked while a command fills it");
    }
}

/// The command has failed: whatever it has left is no cluster, wherever that can be written down.
pub(crate) fn filled_in_vain(path: &Path) -> Result<()> {
    let left = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    match left {
        false => files::remove(&filling(path)).map(|_| ()),
        true if filling(path).exists() => Ok(()),
        true => mark(path),
    }
}

/// The command has done its work: whether there is a cluster now.
pub(crate) fn filled(path: &Path) -> Result<()> {
    let looked = fs::metadata(path).and_then(|meta| Ok((meta, entries(path)?)));
    let state = match looked {
        Ok((meta, names)) => cluster(path, &meta, &names),
        Err(e) => DataDir::Unusable(format!("cannot look at {}: {e}", path.display())),
    };
    match state {
        DataDir::Initialized => Ok(()),
        state => Err(Error::DataDir {
            what: "a start after the command that made it",
            path: path.to_owned(),
            state,
        }),
    }
}

/// The marks of unfinished work go.
pub(crate) fn end_filling(path: &Path) -> Result<()> {
    files::remove(&path.join(MARKER))?;
    files::remove(&rewinding(path))?;
    files::remove(&filling(path)).map(|_| ())
}

fn entries(path: &Path) -> std::io::Result<Vec<OsString>> {
    fs::read_dir(path)?
        .map(|entry| entry.map(|e| e.file_name()))
        .collect()
}

/// Begins to fill an empty directory: makes it, marks it, and returns where the program is to work.
pub(crate) fn begin(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).map_err(Error::file("create", path))?;
    files::write_durably(&path.join(MARKER), MARKER_TEXT.as_bytes(), 0o600)?;
    // Of a command that came to nothing before it had made anything.
    files::remove(&filling(path))?;
    let new = path.join(NEW);
    fs::create_dir(&new).map_err(Error::file("create", &new))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o700))
        .map_err(Error::file("chmod", &new))?;
    files::sync_parent(&new)?;
    Ok(new)
}

/// Ends it: moves everything from the working directory up, and takes the mark away last.
pub(crate) fn finish(path: &Path) -> Result<()> {
    let new = path.join(NEW);
    let mode = fs::metadata(&new)
        .map_err(Error::file("look at", &new))?
        .mode();
    for entry in fs::read_dir(&new).map_err(Error::file("list", &new))? {
        let entry = entry.map_err(Error::file("list", &new))?;
        let target = path.join(entry.file_name());
        fs::rename(entry.path(), &target).map_err(Error::file("rename to", &target))?;
    }
    fs::remove_dir(&new).map_err(Error::file("remove", &new))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o777))
        .map_err(Error::file("chmod", path))?;
    files::sync_parent(&path.join(MARKER))?;
    files::remove(&path.join(MARKER))?;
    Ok(())
}

/// Removes what is in the directory, and the directory where that can be: as Patroni leaves it to a command that is to
/// make it.
pub(crate) fn clear(path: &Path) -> Result<()> {
    abandon(path)?;
    // Not where something is mounted on it, or the directory above is not ours.
    fs::remove_dir(path).ok();
    Ok(())
}

/// Undoes a [`begin`] that came to nothing, or removes a cluster; keeps the (then empty) directory.
pub(crate) fn abandon(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    mark(path)?;
    remove_outside(path)?;
    remove_outside(&path.join(NEW))?;
    empty(path)
}

/// From here on it is no cluster any more, whatever is still in it. Durable before the first file
/// goes, wherever that lies: half a cluster must never pass for a whole one.
fn mark(path: &Path) -> Result<()> {
    let marker = path.join(MARKER);
    if marker.exists() {
        return files::sync_parent(&marker);
    }
    files::write_durably(&marker, MARKER_TEXT.as_bytes(), 0o600)
}

/// Removes everything in the directory, the mark last, so that a crash leaves it recognisable.
fn empty(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path).map_err(Error::file("list", path))? {
        let entry = entry.map_err(Error::file("list", path))?;
        if entry.file_name() != MARKER {
            remove_any(&entry.path())?;
        }
    }
    files::sync_parent(&path.join(MARKER))?;
    end_filling(path)
}

fn remove_any(path: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(path).map_err(Error::file("look at", path))?;
    if meta.is_dir() {
        fs::remove_dir_all(path).map_err(Error::file("remove", path))
    } else {
        fs::remove_file(path).map_err(Error::file("remove", path))
    }
}

/// Removes a cluster's parts that lie elsewhere: WAL behind a `pg_wal` link, and its own version's
/// directory in tablespaces. The directories themselves stay.
fn remove_outside(cluster: &Path) -> Result<()> {
    let wal = cluster.join("pg_wal");
    if fs::symlink_metadata(&wal).is_ok_and(|meta| meta.is_symlink()) && wal.is_dir() {
        for entry in fs::read_dir(&wal).map_err(Error::file("list", &wal))? {
            remove_any(&entry.map_err(Error::file("list", &wal))?.path())?;
        }
    }
    let Some(version) = files::read_text(&cluster.join("PG_VERSION"))? else {
        return Ok(());
    };
    let prefix = format!("PG_{}_", version.trim());
    let Ok(spaces) = fs::read_dir(cluster.join("pg_tblspc")) else {
        return Ok(());
    };
    for space in spaces.flatten() {
        let is_link = space.file_type().is_ok_and(|kind| kind.is_symlink());
        let Some(inside) = fs::read_dir(space.path()).ok().filter(|_| is_link) else {
            continue;
        };
        for entry in inside.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                remove_any(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// Refuses unless the directory is a cluster or ours, and nothing runs in it.
pub(crate) async fn ours_and_quiet(instance: &Instance, what: &'static str) -> Result<DataDir> {
    let state = inspect_async(instance).await;
    match &state {
        DataDir::Unusable(_) => {
            return Err(Error::DataDir {
                what,
                path: instance.path().to_owned(),
                state,
            });
        }
        DataDir::Unfinished => process::end_programs(instance).await?,
        DataDir::Initialized | DataDir::Empty => {}
    }
    if process::postmaster(instance).await != Postmaster::Down {
        return Err(Error::StillRunning(instance.path().to_owned()));
    }
    Ok(state)
}

/// Refuses while a removal is at work: it goes on when the job that began it is given up.
pub(crate) fn no_removal(instance: &Instance) -> Result<OwnedMutexGuard<()>> {
    let removal = instance.inner.removal.clone();
    removal.try_lock_owned().map_err(|_| Error::Unexpected {
        what: "removing the data directory",
        reason: "an earlier removal is still at work: the next try waits for its end".to_owned(),
    })
}

pub(crate) async fn remove(instance: &Instance) -> Result<()> {
    let alone = no_removal(instance)?;
    if ours_and_quiet(instance, "removal").await? == DataDir::Empty {
        return Ok(());
    }
    let path = instance.path().to_owned();
    tracing::info!(data_dir = %path.display(), "removing the data directory");
    let work = tokio::task::spawn_blocking(move || {
        let _alone = alone;
        abandon(&path)
    });
    work.await.map_err(|e| Error::Unexpected {
        what: "removing the data directory",
        reason: e.to_string(),
    })?
}

/// Durably: a mark that came back after a power cut would cost a cluster in use its data.
pub(crate) async fn end_bootstrap(instance: &Instance) -> Result<()> {
    let mark = instance.path().join(HALF_MADE);
    blocking("taking the mark of a new cluster away", move || {
        files::remove(&mark).map(|_| ())
    })
    .await
}

pub(crate) async fn set_aside(instance: &Instance) -> Result<PathBuf> {
    ours_and_quiet(instance, "being set aside").await?;
    let path = instance.path().to_owned();
    let failed = files::beside(&path, ".failed");
    tracing::warn!(from = %path.display(), to = %failed.display(), "setting the data directory aside");
    blocking("setting the data directory aside", move || {
        if fs::symlink_metadata(&failed).is_ok() {
            remove_any(&failed)?;
        }
        fs::rename(&path, &failed).map_err(Error::file("rename", &path))?;
        files::remove(&filling(&path))?;
        files::sync_parent(&path)?;
        Ok(failed)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_a_directory() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        assert_eq!(inspect(&dir), DataDir::Empty);
        fs::create_dir(&dir).unwrap();
        assert_eq!(inspect(&dir), DataDir::Empty);
        fs::write(dir.join("x"), "x").unwrap();
        assert!(matches!(inspect(&dir), DataDir::Unusable(why) if why.contains("no PG_VERSION")));
        fs::write(dir.join("PG_VERSION"), "15\n").unwrap();
        assert!(matches!(inspect(&dir), DataDir::Unusable(why) if why.contains("half")));
        fs::create_dir(dir.join("global")).unwrap();
        fs::write(dir.join("global/pg_control"), "").unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(inspect(&dir), DataDir::Unusable(why) if why.contains("0755")));
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o750)).unwrap();
        assert_eq!(inspect(&dir), DataDir::Initialized);
        let file = dir.join("x");
        assert!(
            matches!(inspect(&file), DataDir::Unusable(why) if why.contains("not a directory"))
        );
    }

    /// Two at work in one directory would take away what a copy has just put there.
    #[tokio::test]
    async fn nothing_begins_beside_a_removal() {
        let home = tempfile::tempdir().unwrap();
        let role = crate::Credentials::default;
        let dir = home.path().join("data");
        let options = crate::Options::new("c", "n", &dir, ("127.0.0.1", 1), role(), role());
        let instance = Instance::new(options, crate::ServerConfig::default()).unwrap();
        let at_work = no_removal(&instance).unwrap();
        for answer in [
            remove(&instance).await,
            crate::bootstrap::fillable(&instance, "a base backup").await,
        ] {
            let reason = answer.unwrap_err().to_string();
            assert!(reason.contains("still at work"), "{reason}");
        }
        drop(at_work);
        remove(&instance).await.unwrap();
        let fillable = crate::bootstrap::fillable(&instance, "a base backup").await;
        fillable.unwrap();
    }

    #[test]
    fn begin_finish_abandon() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/data");
        let new = begin(&dir).unwrap();
        assert_eq!(inspect(&dir), DataDir::Unfinished);
        fs::write(new.join("PG_VERSION"), "15").unwrap();
        fs::create_dir(new.join("global")).unwrap();
        abandon(&dir).unwrap();
        assert_eq!(inspect(&dir), DataDir::Empty);
        let new = begin(&dir).unwrap();
        fs::write(new.join("PG_VERSION"), "15").unwrap();
        fs::create_dir(new.join("global")).unwrap();
        fs::write(new.join("global/pg_control"), "").unwrap();
        finish(&dir).unwrap();
        assert_eq!(inspect(&dir), DataDir::Initialized);
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        // An interrupted pg_rewind.
        fs::write(rewinding(&dir), "").unwrap();
        assert_eq!(inspect(&dir), DataDir::Unfinished);
        abandon(&dir).unwrap();
        assert_eq!(inspect(&dir), DataDir::Empty);
        assert!(!rewinding(&dir).exists());
    }
}
