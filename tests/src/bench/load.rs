//! Full load of all cores and of the disk, for the soak. Load that ends too early is an error: a soak
//! without it proves nothing.

use super::client::{Endpoint, Session, Target};
use anyhow::{Context as _, Result, bail};
use pgherd_tests::process;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// One write of the disk's burden, and after how many it begins again at the file's start.
const BLOCK: usize = 1 << 20;
const BLOCKS: u64 = 256;
/// What the slowest machine must do at least, transactions and MB: less is a burden that hangs.
const LEAST_PER_SECOND: f64 = 1.0;

/// What was done in all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    /// Transactions of pgbench.
    pub(crate) transactions: f64,
    /// MB written and synced beside it.
    pub(crate) synced: f64,
}

/// What burdens the machine; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    /// Blocks that the disk has taken.
    synced: Arc<AtomicU64>,
    disk: Option<JoinHandle<std::io::Result<()>>>,
    spinning: Vec<JoinHandle<()>>,
    pgbench: Pgbench,
    file: PathBuf,
}

impl Load {
    /// pgbench at `primary` for `length` at most, one busy loop per core, and a file in `disk` that
    /// is written and synced without pause.
    pub(crate) fn start(primary: &Endpoint, disk: &Path, length: Duration) -> Result<Load> {
        let pgbench = Pgbench::start(primary, &disk.join("pgbench.log"), length)?;
        let (stop, synced) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let file = disk.join("burden");
        let burden = File::create(&file).with_context(|| file.display().to_string())?;
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&synced));
        let disk = std::thread::spawn(move || sync_on_and_on(burden, &stopped, &count));
        let disk = Some(disk);
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let spin = |_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let spinning = (0..cores).map(spin).collect();
        Ok(Load {
            stop,
            synced,
            disk,
            spinning,
            pgbench,
            file,
        })
    }

    /// What part of the load has ended, and why; nothing while all of it goes on.
    pub(crate) fn ended(&mut self) -> Option<String> {
        if self.disk.as_ref().is_some_and(JoinHandle::is_finished) {
            // Its reason is told at the end.
            return Some("the writer that burdens the disk has ended".to_owned());
        }
        self.pgbench.ended()
    }

    /// Lets pgbench begin anew at the present primary, if it has ended or works elsewhere.
    pub(crate) fn move_to(&mut self, primary: &Endpoint) -> Result<()> {
        if self.pgbench.node != primary.node || self.pgbench.ended().is_some() {
            self.pgbench.run(primary)?;
        }
        Ok(())
    }

    /// Ends the load after `length`.
    ///
    /// # Errors
    /// When a part of it had ended before, or did next to nothing.
    pub(crate) async fn stop(mut self, primary: &Session, length: Duration) -> Result<Amount> {
        let ended = self.ended();
        self.halt()
            .with_context(|| format!("cannot burden the disk with {}", self.file.display()))?;
        if let Some(reason) = ended {
            bail!("{reason}");
        }
        // pgbench writes a line here in each transaction; only its own `-i` empties the table.
        let sql = "SELECT pg_catalog.count(*) FROM public.pgbench_history";
        let rows = primary.rows(sql).await?;
        let count = rows.first().and_then(|r| r.first()).context("no count")?;
        let amount = Amount {
            transactions: count.parse()?,
            synced: self.synced.load(Ordering::Relaxed) as f64,
        };
        enough(amount, length)?;
        Ok(amount)
    }

    /// Ends everything; how the disk's writer fared.
    fn halt(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.pgbench.end();
        for thread in self.spinning.drain(..) {
            let _ = thread.join();
        }
        let fared = self.disk.take().map(JoinHandle::join);
        let _ = std::fs::remove_file(&self.file);
        match fared {
            Some(Err(_)) => bail!("its thread panicked"),
            Some(Ok(result)) => Ok(result?),
            None => Ok(()),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.halt();
    }
}

/// Fails when that was no load.
fn enough(amount: Amount, length: Duration) -> Result<()> {
    let least = length.as_secs_f64() * LEAST_PER_SECOND;
    if amount.transactions < least {
        bail!(
            "pgbench made only {} transactions in {length:?}: that is no load",
            amount.transactions
        );
    }
    if amount.synced < least {
        bail!(
            "only {} MB were synced in {length:?}: that is no load",
            amount.synced
        );
    }
    Ok(())
}

/// The disk's burden, until it is stopped or the disk refuses.
fn sync_on_and_on(mut file: File, stop: &AtomicBool, synced: &AtomicU64) -> std::io::Result<()> {
    let block = vec![0x5a; BLOCK];
    while !stop.load(Ordering::Relaxed) {
        if synced.load(Ordering::Relaxed).is_multiple_of(BLOCKS) {
            file.seek(SeekFrom::Start(0))?;
        }
        file.write_all(&block)?;
        file.sync_data()?;
        synced.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Eight clients of pgbench.
#[derive(Debug)]
struct Pgbench {
    child: Option<Child>,
    node: usize,
    /// What it says goes here.
    log: PathBuf,
    length: Duration,
}

impl Pgbench {
    /// Fills its tables and begins.
    fn start(primary: &Endpoint, log: &Path, length: Duration) -> Result<Pgbench> {
        let mut pgbench = Pgbench {
            child: None,
            node: primary.node,
            log: log.to_owned(),
            length,
        };
        let init = pgbench
            .command(primary, &["-i", "-q", "-s", "10"])?
            .status()?;
        if !init.success() {
            bail!("pgbench -i ended with {init}: {}", pgbench.said());
        }
        pgbench.run(primary)?;
        Ok(pgbench)
    }

    /// Begins (anew) at `primary`.
    fn run(&mut self, primary: &Endpoint) -> Result<()> {
        self.end();
        let time = self.length.as_secs().to_string();
        let arguments = ["-n", "-c", "8", "-j", "2", "-T", time.as_str()];
        self.child = Some(process::spawn(&mut self.command(primary, &arguments)?)?);
        self.node = primary.node;
        Ok(())
    }

    /// Why it does not work any more, or not with all of its clients.
    fn ended(&mut self) -> Option<String> {
        let said = self.said();
        if said.contains("aborted") {
            return Some(format!("clients of pgbench have ended: {said}"));
        }
        match self.child.as_mut()?.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("pgbench ended with {status}: {said}")),
            Err(e) => Some(format!("pgbench: {e}")),
        }
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its first complaint: what follows is the other clients' same one.
    fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let complaint = text.lines().find(|l| l.contains("error"));
        complaint.unwrap_or("it says nothing").to_owned()
    }

    fn command(&self, primary: &Endpoint, arguments: &[&str]) -> Result<Command> {
        let Target::Tcp(host, port) = &primary.target else {
            bail!("pgbench needs an address");
        };
        let program = process::pg_bin().join("pgbench");
        program
            .metadata()
            .with_context(|| format!("{} is missing", program.display()))?;
        let log = File::create(&self.log).with_context(|| self.log.display().to_string())?;
        let mut command = process::command(&program, None);
        command.args(arguments).args(["-h", host, "-p"]);
        command.arg(port.to_string());
        command.args(["-U", primary.user.as_str(), "postgres"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Ok(command)
    }
}

impl Drop for Pgbench {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_ends_the_burden_with_its_reason() {
        let full = File::options().write(true).open("/dev/full");
        let (stop, synced) = (AtomicBool::new(false), AtomicU64::new(0));
        let end = sync_on_and_on(full.expect("/dev/full"), &stop, &synced);
        let error = end.expect_err("nothing can be written there");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(synced.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn next_to_nothing_is_no_load() {
        let check = |transactions, synced| {
            let amount = Amount {
                transactions,
                synced,
            };
            enough(amount, Duration::from_secs(60)).map_err(|e| e.to_string())
        };
        assert_eq!(check(10_000.0, 20_000.0), Ok(()));
        let slow = check(59.0, 20_000.0).expect_err("one transaction per second at least");
        assert!(slow.contains("59 transactions"), "{slow}");
        let slow = check(10_000.0, 0.0).expect_err("one MB per second at least");
        assert!(slow.contains("0 MB"), "{slow}");
    }
}
