//! Where lines go: standard error, or `patroni.log` in `log.dir` with its older files.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pgherd_wire::patroni::config::Log;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// As Patroni calls it.
const NAME: &str = "patroni.log";

pub(super) enum Target {
    Stderr,
    File(LogFile),
}

impl Target {
    /// # Errors
    /// One line: where the setting stands, what is wrong, what to do.
    pub(super) fn open(log: &Log) -> Result<Target, String> {
        // The agent is about to refuse to run as root: a file of root's would be in its way later.
        let root = rustix::process::geteuid().is_root();
        let Some(dir) = log.dir.as_ref().filter(|_| !root) else {
            return Ok(Target::Stderr);
        };
        let file = LogFile::open(&dir.path, log).map_err(|error| {
            format!(
                "{}: log.dir: {} cannot be written: {error}: the directory must be there, and it and \
                 the file belong to the user who runs the agent",
                dir.place,
                dir.path.join(NAME).display()
            )
        })?;
        Ok(Target::File(file))
    }
}

/// All of it, however long that takes: only the thread that writes the log calls this.
///
/// # Errors
/// Nobody reads it any more.
pub(super) fn to_stderr(mut bytes: &[u8]) -> io::Result<()> {
    // Without the lock of std, which whoever panics would wait for.
    let stderr = io::stderr();
    while !bytes.is_empty() {
        match rustix::io::write(&stderr, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
                match poll(&mut fds, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// An open file that is replaced by an empty one when it would become too large.
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    file: File,
    most_bytes: u64,
    keep: u32,
    mode: Option<u32>,
    /// The last line is not whole: the disk was full.
    torn: bool,
    /// The last attempt to begin another file has failed, and that was told.
    stuck: bool,
}

impl LogFile {
    fn open(dir: &Path, log: &Log) -> io::Result<LogFile> {
        let path = dir.join(NAME);
        Ok(LogFile {
            file: open(&path, log.mode)?,
            path,
            most_bytes: log.file_size,
            keep: log.file_num,
            mode: log.mode,
            torn: false,
            stuck: false,
        })
    }

    /// One line at the end of the file. `Ok`: what went wrong with another file, if that is news.
    ///
    /// # Errors
    /// The line is not there, or not all of it.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<Option<io::Error>> {
        let size = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let turned = self.turn(size);
        let news = turned.as_ref().is_err_and(|_| !self.stuck);
        self.stuck = turned.is_err();
        if self.torn {
            self.put(b"\n")?;
            self.torn = false;
        }
        self.put(line)?;
        Ok(turned.err().filter(|_| news))
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut begun = false;
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    begun = true;
                    bytes = &bytes[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.torn |= begun;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Begins another file if a line of this size does not fit into this one.
    fn turn(&mut self, line: u64) -> io::Result<()> {
        if self.most_bytes == 0 || self.keep == 0 {
            return Ok(());
        }
        // Asked each time, since others may have made it shorter.
        let file = self.file.metadata()?;
        let size = file.len();
        if !file.is_file() || size == 0 || size.saturating_add(line) < self.most_bytes {
            return Ok(());
        }
        // Where it is gone already, only the new one is missing.
        if self.path.try_exists()? {
            for number in (1..=self.keep).rev() {
                let older = match number {
                    1 => self.path.clone(),
                    number => self.numbered(number - 1),
                };
                match std::fs::rename(older, self.numbered(number)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        self.file = open(&self.path, self.mode)?;
        self.torn = false;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

fn open(path: &Path, mode: Option<u32>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    // A pipe that nobody reads would be waited for.
    #[expect(clippy::cast_possible_wrap, reason = "a flag of the system")]
    options.custom_flags(OFlags::NONBLOCK.bits() as i32);
    options.mode(mode.unwrap_or(0o666));
    let file = options.open(path)?;
    if let Some(mode) = mode {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(file)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::record::tests::log_of;
    use super::*;

    /// `patroni.log` in a directory, whoever runs the test.
    pub(in crate::logging) fn file(dir: &Path, section: &str) -> io::Result<LogFile> {
        LogFile::open(dir, &log_of(section))
    }

    fn read(dir: &Path, name: &str) -> String {
        std::fs::read_to_string(dir.join(name)).unwrap_or_else(|error| error.kind().to_string())
    }

    #[test]
    fn files_are_numbered_from_young_to_old() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut file = file(dir, "{file_size: 10, file_num: 2, mode: 0640}").unwrap();
        for line in [
            "1234567\n",
            "a\n",
            "b\n",
            "a line that is too long\n",
            "c\n",
        ] {
            file.write(line.as_bytes()).unwrap();
        }
        assert_eq!(read(dir, NAME), "c\n");
        assert_eq!(read(dir, "patroni.log.1"), "a line that is too long\n");
        assert_eq!(read(dir, "patroni.log.2"), "a\nb\n");
        assert!(!dir.join("patroni.log.3").exists());
        for name in [NAME, "patroni.log.1"] {
            let mode = std::fs::metadata(dir.join(name)).unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o640);
        }
        // Another program has taken it away: only a new one is begun.
        std::fs::rename(dir.join(NAME), dir.join("away")).unwrap();
        file.write(b"12345678\n").unwrap();
        file.write(b"d\n").unwrap();
        assert_eq!(read(dir, "away"), "c\n");
        assert_eq!(read(dir, NAME), "d\n");
        assert_eq!(read(dir, "patroni.log.1"), "12345678\n");
    }

    #[test]
    fn none_are_kept_without_a_number_or_a_size() {
        for section in ["{file_size: 0}", "{file_size: 1, file_num: 0}"] {
            let dir = tempfile::tempdir().unwrap();
            let mut file = file(dir.path(), section).unwrap();
            file.write(b"1\n").unwrap();
            file.write(b"2\n").unwrap();
            assert_eq!(read(dir.path(), NAME), "1\n2\n", "{section}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_replaced_goes_on_growing() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        // A directory is in the way.
        std::fs::create_dir_all(dir.join("patroni.log.1/x")).unwrap();
        let mut file = file(dir, "{file_size: 1, file_num: 1}").unwrap();
        assert!(file.write(b"1\n").unwrap().is_none());
        assert!(file.write(b"2\n").unwrap().is_some(), "told");
        assert!(file.write(b"3\n").unwrap().is_none(), "told once");
        assert_eq!(read(dir, NAME), "1\n2\n3\n");
    }

    #[test]
    fn what_cannot_be_opened_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let missing = file(&dir.path().join("missing"), "{}").err().unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let name = dir.path().join(NAME);
        rustix::fs::mkfifoat(rustix::fs::CWD, &name, 0o600.into()).unwrap();
        assert!(file(dir.path(), "{}").is_err(), "nobody reads it");
    }
}
