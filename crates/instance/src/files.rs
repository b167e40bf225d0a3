//! Writing files so that a crash leaves either the old or the new content, and running file work
//! where it cannot hold up the runtime.

use crate::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest time that file work of one step may take before it is given up as hung.
const FILE_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs `work` on a blocking thread, at most [`FILE_TIMEOUT`]. The thread of a hung disk is left
/// to the kernel.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::time::timeout(FILE_TIMEOUT, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Error::Unexpected {
            what,
            reason: "the worker thread ended early".to_owned(),
        }),
        Err(_) => Err(Error::Timeout {
            what: what.to_owned(),
            after: FILE_TIMEOUT,
            last: "the file system does not answer".to_owned(),
        }),
    }
}

/// Reads a text file; None if it is not there.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file("read", path)(e)),
    }
}

/// Mode for files beside PGDATA's: group-readable where the data directory is.
pub(crate) fn mode_like(data_dir: &Path) -> u32 {
    match fs::metadata(data_dir) {
        Ok(meta) if meta.mode() & 0o040 != 0 => 0o640,
        _ => 0o600,
    }
}

/// Replaces `path` by `content`: temporary file, fsync, rename, fsync of the directory. Returns
/// whether the content was different; an equal file is left alone.
pub(crate) fn replace(path: &Path, content: &str, mode: u32) -> Result<bool> {
    if let Ok(old) = fs::read(path)
        && old == content.as_bytes()
        && fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o777 == mode)
    {
        return Ok(false);
    }
    write_durably(path, content.as_bytes(), mode)?;
    Ok(true)
}

/// The write of [`replace`], unconditional.
pub(crate) fn write_durably(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let temporary = beside(path, ".pgherd-tmp");
    let result = (|| {
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if let Err(e) = result {
        let _ = fs::remove_file(&temporary);
        return Err(Error::file("write", path)(e));
    }
    sync_parent(path)
}

/// Writes a file that need not outlive a crash.
pub(crate) fn write_scratch(path: &Path, content: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(Error::file("write", path))
}

/// Makes a rename, creation or removal in `path`'s directory durable.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::file("sync", parent))
}

/// Removes a file durably; a missing one is fine. Returns whether it was there.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::file("remove", path)(e)),
    }
}

/// `path` with `suffix` added to its last part.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replace_is_quiet_when_nothing_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.conf");
        assert!(replace(&path, "a", 0o600).unwrap());
        assert!(!replace(&path, "a", 0o600).unwrap());
        assert!(replace(&path, "a", 0o640).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert!(replace(&path, "b", 0o640).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
    }
}
