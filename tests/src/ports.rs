//! TCP ports that no other test takes: below the range of outgoing connections (a port from there
//! could become the source port of somebody's connection between choice and use), each held by a
//! lock file for as long as this process lives.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A free port on `host` (an address of this machine).
///
/// # Panics
/// When the lock files can not be written or all ports are taken.
pub fn free_port(host: &str) -> u16 {
    let dir = std::env::temp_dir().join("pgherd-test-ports");
    std::fs::create_dir_all(&dir).expect("create the directory of port locks");
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or(0);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        // Spread by a prime: processes started after each other begin far apart.
        let slot = (u32::from(start) * 37 + u32::from(step)) % u32::from(COUNT);
        let port = FIRST + u16::try_from(slot).unwrap_or(0);
        let Ok(lock) = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(port.to_string()))
        else {
            continue;
        };
        if lock.try_lock().is_err() || TcpListener::bind((host, port)).is_err() {
            continue;
        }
        HELD.lock().expect("no panic while held").push(lock);
        return port;
    }
    panic!(
        "no free port on {host} between {FIRST} and {}",
        FIRST + COUNT
    );
}
