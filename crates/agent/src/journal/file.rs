//! The file of the journal: two segments of bounded size, written by a thread that is there while
//! there is something to write.
//!
//! Nobody who decides or renews ever waits for this disk: entries go through a bounded queue, and
//! what does not fit into it is counted and lost. Nothing is synced: a killed agent loses what
//! still waits in the queue, a machine that loses its power the last lines too.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pgherd_wire::journal::Entry;
use rustix::fs::OFlags;

/// Largest segment; there are two, the one that is written and the one before.
const SEGMENT_BYTES: u64 = 2 * 1024 * 1024;
/// Entries that wait for the disk. A failover of a large cluster has a few hundred.
const QUEUE: usize = 1024;
/// Longest line. A larger one is a mistake of ours; the limit keeps the segments bounded.
const LINE_BYTES: usize = 64 * 1024;
/// How long the thread waits for more before it ends: a node that is at rest has nothing to tell.
const QUIET: Duration = Duration::from_secs(5);
/// How often it is looked whether the file is still the one of that name: people move and delete files.
const STILL_THERE: Duration = Duration::from_secs(1);
/// How long the end of the agent waits for the last lines.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The queue before the disk. Dropped, it waits a moment until the last lines are written.
pub(crate) struct Queue {
    shared: Arc<Shared>,
}

/// What the queue and the thread that writes have in common.
struct Shared {
    state: Mutex<State>,
    /// An entry has come, or none is left.
    news: Condvar,
}

struct State {
    entries: VecDeque<Entry>,
    /// Entries for which there was no room since the last one that has come in.
    dropped: u64,
    /// Where it rests while no thread writes: there is one only while there is something to tell.
    writer: Option<Writer>,
    ending: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: writes what comes until nothing has come for a while.
    fn write(&self, mut writer: Writer) {
        loop {
            let mut state = self.state();
            if state.entries.is_empty() && !state.ending {
                let waited = self.news.wait_timeout(state, QUIET);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            let Some(entry) = state.entries.pop_front() else {
                state.writer = Some(writer);
                self.news.notify_all();
                return;
            };
            // Never held while the disk is waited for.
            drop(state);
            writer.take(entry);
        }
    }
}

impl Queue {
    /// Nothing is opened yet.
    pub(crate) fn start(path: PathBuf) -> Queue {
        Queue::with_size(path, SEGMENT_BYTES)
    }

    fn with_size(path: PathBuf, size: u64) -> Queue {
        let state = State {
            entries: VecDeque::new(),
            dropped: 0,
            writer: Some(Writer::new(path, size)),
            ending: false,
        };
        Queue {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                news: Condvar::new(),
            }),
        }
    }

    /// Never waits.
    pub(crate) fn push(&self, mut entry: Entry) {
        let mut state = self.shared.state();
        if state.entries.len() >= QUEUE {
            state.dropped += 1;
            return;
        }
        entry.dropped = std::mem::take(&mut state.dropped);
        state.entries.push_back(entry);
        let Some(writer) = state.writer.take() else {
            self.shared.news.notify_all();
            return;
        };
        drop(state);
        self.begin(writer);
    }

    fn begin(&self, writer: Writer) {
        let resting = writer.resting();
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("journal".into());
        if thread.spawn(move || shared.write(writer)).is_err() {
            // The next entry tries again.
            self.shared.state().writer = Some(resting);
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.ending = true;
        self.shared.news.notify_all();
        let written = |state: &mut State| state.writer.is_none();
        let waited = self
            .shared
            .news
            .wait_timeout_while(state, LAST_WORDS, written);
        drop(waited);
    }
}

/// The segment before the present one.
pub(crate) fn before(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

struct Writer {
    path: PathBuf,
    size: u64,
    file: Option<Open>,
    bytes: u64,
    /// The file may end within a line.
    torn: bool,
    failing: bool,
    /// Entries that could not be written.
    lost: u64,
}

/// The file, and which one it is.
struct Open {
    file: File,
    device: u64,
    inode: u64,
    /// When that was last looked at.
    looked: Instant,
}

impl Writer {
    /// Nothing is opened yet.
    fn new(path: PathBuf, size: u64) -> Writer {
        Writer {
            path,
            size,
            file: None,
            bytes: 0,
            torn: false,
            failing: false,
            lost: 0,
        }
    }

    /// The same before its file is opened.
    fn resting(&self) -> Writer {
        Writer {
            failing: self.failing,
            lost: self.lost,
            ..Writer::new(self.path.clone(), self.size)
        }
    }

    fn take(&mut self, mut entry: Entry) {
        let missed = self.lost + entry.dropped;
        entry.dropped = missed;
        let written = match entry.to_line() {
            Ok(line) if line.len() <= LINE_BYTES => self.append(&line),
            Ok(line) => Err(Error::other(format!("a line of {} bytes", line.len()))),
            Err(error) => Err(Error::other(error)),
        };
        match written {
            Ok(()) => {
                self.lost = 0;
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the journal {} is written again", self.path.display());
                }
            }
            Err(error) => {
                self.lost = missed + 1;
                self.file = None;
                // Once per outage: entries follow each other quickly when there is much to tell.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(
                        "the journal {} cannot be written: {error}; `pgherd ctl timeline` will know \
                         nothing of this node: give its directory to the agent's user, or name \
                         another file in pgherd.journal (off: none)",
                        self.path.display()
                    );
                }
            }
        }
    }

    fn append(&mut self, line: &str) -> Result<()> {
        self.look();
        if self.file.is_none() {
            self.open()?;
        }
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.size {
            self.rotate()?;
        }
        let none = || Error::other("it is not open");
        let file = &mut self.file.as_mut().ok_or_else(none)?.file;
        // In one write, so that a crash tears the last line at most.
        let text = match self.torn {
            true => format!("\n{line}"),
            false => line.to_owned(),
        };
        self.torn = true;
        file.write_all(text.as_bytes())?;
        self.torn = false;
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Lets go of a file that has another name by now, or none: nobody would find what is written to it.
    fn look(&mut self) {
        let now = Instant::now();
        let Some(open) = &mut self.file else { return };
        if now.duration_since(open.looked) < STILL_THERE {
            return;
        }
        open.looked = now;
        match std::fs::symlink_metadata(&self.path) {
            Ok(about) if (about.dev(), about.ino()) == (open.device, open.inode) => {
                // Somebody may have emptied it.
                self.bytes = about.len();
            }
            Ok(_) | Err(_) => self.file = None,
        }
    }

    fn open(&mut self) -> Result<()> {
        // A link may lead anywhere, and a pipe would wait for its reader.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
            .open(&self.path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(Error::new(ErrorKind::InvalidInput, "it is no plain file"));
        }
        if about.permissions().mode() & 0o077 != 0 {
            file.set_permissions(PermissionsExt::from_mode(0o600))?;
        }
        self.bytes = about.len();
        self.torn = ends_within_a_line(&mut file)?;
        self.file = Some(Open {
            file,
            device: about.dev(),
            inode: about.ino(),
            looked: Instant::now(),
        });
        Ok(())
    }

    /// The present segment becomes the one before, in one step; that one goes.
    fn rotate(&mut self) -> Result<()> {
        match std::fs::rename(&self.path, before(&self.path)) {
            Ok(()) => {}
            // It was moved or deleted: a new one is begun.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) => {
                // Its bound counts more than its content.
                if let Some(open) = &self.file {
                    open.file.set_len(0)?;
                }
                (self.bytes, self.torn) = (0, false);
                return Ok(());
            }
        }
        self.file = None;
        self.open()
    }
}

fn ends_within_a_line(file: &mut File) -> Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_wire::journal::{What, read};

    fn entry(seq: u64) -> Entry {
        Entry {
            member: "n1".into(),
            seq,
            what: What::Start {
                version: "x".repeat(100),
            },
            ..Entry::default()
        }
    }

    fn seqs(path: &Path) -> (Vec<u64>, usize) {
        let (entries, unreadable) = read(&std::fs::read_to_string(path).unwrap());
        (entries.iter().map(|entry| entry.seq).collect(), unreadable)
    }

    fn wait_written(path: &Path, seq: u64) {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        let last = || {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            read(&text).0.last().map(|entry| entry.seq)
        };
        while last() != Some(seq) {
            assert!(std::time::Instant::now() < deadline, "{seq} is not there");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn two_segments_hold_the_last_entries_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let queue = Queue::with_size(path.clone(), 4000);
        for seq in 0..1000 {
            queue.push(entry(seq));
            if seq % 100 == 0 {
                // More than the queue holds would be left out, where the thread that writes has no turn for a while.
                wait_written(&path, seq);
            }
        }
        wait_written(&path, 999);
        drop(queue);
        for file in [path.clone(), before(&path)] {
            let about = std::fs::metadata(&file).unwrap();
            assert!(about.len() <= 4000, "{}", about.len());
            assert_eq!(about.permissions().mode() & 0o777, 0o600);
        }
        let (mut all, torn) = seqs(&before(&path));
        let (last, torn_too) = seqs(&path);
        all.extend(last);
        assert_eq!((torn, torn_too), (0, 0));
        assert_eq!(all.last(), Some(&999));
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_torn_line_stays_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        drop({
            let queue = Queue::start(path.clone());
            queue.push(entry(1));
            queue
        });
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{}", &whole[..30])).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let queue = Queue::start(path.clone());
        queue.push(entry(2));
        drop(queue);
        assert_eq!(seqs(&path), (vec![1, 2], 1));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "what was open to others is closed");
    }

    #[test]
    fn what_cannot_be_written_is_counted_in_the_next_line_that_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later/journal");
        let queue = Queue::start(path.clone());
        queue.push(entry(1));
        queue.push(entry(2));
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        // The thread takes them one by one; a third one is lost as well until the directory is there.
        let mut seq = 3;
        while !path.exists() {
            assert!(std::time::Instant::now() < deadline);
            std::fs::create_dir_all(dir.path().join("later")).unwrap();
            queue.push(entry(seq));
            seq += 1;
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(queue);
        let (entries, _) = read(&std::fs::read_to_string(&path).unwrap());
        let first = entries.first().unwrap();
        assert_eq!(first.dropped, first.seq - 1, "{first:?}");
    }

    /// Pushes entries until the file is there.
    fn comes_back(queue: &Queue, path: &Path) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut seq = 100;
        while !path.exists() {
            assert!(Instant::now() < deadline, "it is not written again");
            queue.push(entry(seq));
            seq += 1;
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_file_that_is_deleted_or_moved_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let moved = dir.path().join("moved");
        let queue = Queue::start(path.clone());
        comes_back(&queue, &path);
        std::fs::remove_file(&path).unwrap();
        comes_back(&queue, &path);
        std::fs::rename(&path, &moved).unwrap();
        comes_back(&queue, &path);
        drop(queue);
        let (last, torn) = seqs(&path);
        assert!(!last.is_empty() && torn == 0);
        assert!(!seqs(&moved).0.is_empty());
    }

    /// Also before anybody has looked.
    #[test]
    fn a_segment_that_is_gone_when_it_is_full_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut writer = Writer::new(path.clone(), 200);
        writer.take(entry(1));
        std::fs::remove_file(&path).unwrap();
        writer.take(entry(2));
        assert_eq!(seqs(&path), (vec![2], 0));
        assert!(!before(&path).exists());
        writer.take(entry(3));
        assert_eq!(seqs(&path), (vec![3], 0));
        assert_eq!(seqs(&before(&path)), (vec![2], 0));
    }

    /// What there was no room for is told by the next entry that finds some, not by one before it.
    #[test]
    fn what_does_not_fit_into_the_queue_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        // Nobody takes anything out: the writer is away.
        let queue = Queue::start(dir.path().join("journal"));
        let writer = queue.shared.state().writer.take();
        for seq in 0..QUEUE as u64 + 3 {
            queue.push(entry(seq));
        }
        queue.shared.state().entries.pop_front();
        queue.push(entry(9999));
        let state = queue.shared.state();
        let told: Vec<(u64, u64)> = state
            .entries
            .iter()
            .map(|it| (it.seq, it.dropped))
            .collect();
        assert_eq!(told.last(), Some(&(9999, 3)));
        assert!(
            told[..told.len() - 1]
                .iter()
                .all(|(_, dropped)| *dropped == 0)
        );
        drop(state);
        queue.shared.state().writer = writer;
    }

    #[test]
    fn neither_links_nor_pipes_are_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        std::fs::write(&target, "").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for path in [link, pipe, dir.path().to_owned()] {
            let queue = Queue::start(path);
            queue.push(entry(1));
            let begun = std::time::Instant::now();
            drop(queue);
            assert!(begun.elapsed() < LAST_WORDS, "the thread waits");
        }
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "");
    }
}
