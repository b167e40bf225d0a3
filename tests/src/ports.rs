//! TCP ports that no other test takes: below the range of outgoing connections (a port from there
//! could become the source port of somebody's connection between choice and use), each held by a
//! name in the kernel's abstract socket space for as long as this process lives. Such a name is
//! the same for all users, needs no file and ends with its process.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);
static HELD: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());

/// A free port on `host` (an address of this machine).
///
/// # Panics
/// When all ports are taken.
pub fn free_port(host: &str) -> u16 {
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or(0);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        // Spread by a prime: processes started after each other begin far apart.
        let slot = (u32::from(start) * 37 + u32::from(step)) % u32::from(COUNT);
        let port = FIRST + u16::try_from(slot).unwrap_or(0);
        // Two processes may try the same port at once: whoever has the name looks at the port.
        let name = SocketAddr::from_abstract_name(format!("pgherd-test-port-{port}"));
        let Ok(lock) = UnixDatagram::bind_addr(&name.expect("a short name")) else {
            continue;
        };
        if TcpListener::bind((host, port)).is_err() {
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
