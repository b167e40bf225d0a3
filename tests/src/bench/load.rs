//! Full load of all cores and of the disk, for the soak.

use super::client::{Endpoint, Target};
use anyhow::{Context as _, Result, bail};
use pgherd_tests::process;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// One write of the disk's burden, and after how many it begins again at the file's start.
const BLOCK: usize = 1 << 20;
const BLOCKS: u64 = 256;

/// What burdens the machine; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    /// Blocks that the disk has taken.
    synced: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    pgbench: Option<Child>,
    file: PathBuf,
}

impl Load {
    /// pgbench at `primary` for `length`, one busy loop per core, and a file in `disk` that is
    /// written and synced without pause.
    pub(crate) fn start(primary: &Endpoint, disk: &Path, length: Duration) -> Result<Load> {
        let init = bench(primary, &["-i", "-q", "-s", "10"])?.status()?;
        if !init.success() {
            bail!("pgbench -i failed: {init}");
        }
        let time = length.as_secs().to_string();
        let arguments = ["-n", "-c", "8", "-j", "2", "-T", time.as_str()];
        let mut load = Load {
            stop: Arc::default(),
            synced: Arc::default(),
            threads: Vec::new(),
            pgbench: Some(process::spawn(&mut bench(primary, &arguments)?)?),
            file: disk.join("burden"),
        };
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            let stop = Arc::clone(&load.stop);
            load.threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }));
        }
        let (stop, synced) = (Arc::clone(&load.stop), Arc::clone(&load.synced));
        let mut file = std::fs::File::create(&load.file)?;
        load.threads.push(std::thread::spawn(move || {
            let block = vec![0x5a; BLOCK];
            while !stop.load(Ordering::Relaxed) {
                let count = synced.fetch_add(1, Ordering::Relaxed);
                let begin = count % BLOCKS == 0 && file.seek(SeekFrom::Start(0)).is_err();
                if begin
                    || file
                        .write_all(&block)
                        .and_then(|()| file.sync_data())
                        .is_err()
                {
                    // A full disk shows in the count of blocks, not as a failed soak.
                    return;
                }
            }
        }));
        Ok(load)
    }

    /// MB written and synced so far.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Relaxed)
    }

    /// Whether pgbench still runs.
    pub(crate) fn pgbench_runs(&mut self) -> bool {
        self.pgbench
            .as_mut()
            .is_some_and(|p| matches!(p.try_wait(), Ok(None)))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(mut pgbench) = self.pgbench.take() {
            let _ = pgbench.kill();
            let _ = pgbench.wait();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.file);
    }
}

fn bench(primary: &Endpoint, arguments: &[&str]) -> Result<std::process::Command> {
    let Target::Tcp(host, port) = &primary.target else {
        bail!("pgbench needs an address");
    };
    let program = process::pg_bin().join("pgbench");
    program
        .metadata()
        .with_context(|| format!("{} is missing", program.display()))?;
    let mut command = process::command(&program, None);
    command
        .args(arguments)
        .args([
            "-h",
            host,
            "-p",
            &port.to_string(),
            "-U",
            &primary.user,
            "postgres",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}
