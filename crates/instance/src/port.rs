//! Is the port free that PostgreSQL is to listen on, and who has it if not?
//!
//! PostgreSQL itself says it only in its log, and only after initdb or a base backup.

use crate::files::blocking;
use crate::{Error, Instance, Result};
use std::net::{TcpListener, ToSocketAddrs as _};
use std::path::Path;

pub(crate) async fn check(instance: &Instance) -> Result<()> {
    let options = &instance.options();
    let (addresses, port) = (options.listen_addresses.clone(), options.port);
    blocking("checking the port", move || is_free(&addresses, port)).await
}

/// Tries to bind every listen address.
fn is_free(addresses: &str, port: u16) -> Result<()> {
    for address in addresses
        .split(',')
        .map(str::trim)
        .filter(|a| !a.is_empty())
    {
        let host = if address == "*" { "0.0.0.0" } else { address };
        // A name that does not resolve is PostgreSQL's to complain about.
        for place in (host, port).to_socket_addrs().into_iter().flatten() {
            if let Err(e) = TcpListener::bind(place)
                && e.kind() == std::io::ErrorKind::AddrInUse
            {
                return Err(Error::PortInUse {
                    address: address.to_owned(),
                    port,
                    holder: holder(port),
                });
            }
        }
    }
    Ok(())
}

/// Who listens there, as far as this user may know (proc(5)).
fn holder(port: u16) -> String {
    let sockets = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| listeners(&table, port));
    let wanted: Vec<String> = sockets.map(|inode| format!("socket:[{inode}]")).collect();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    // By their numbers only: `self` is there as well.
    let is_process = |entry: &std::fs::DirEntry| {
        let name = entry.file_name();
        name.to_string_lossy().bytes().all(|b| b.is_ascii_digit())
    };
    let owner = processes
        .filter(is_process)
        .map(|entry| entry.path())
        .find(|process| holds(process, &wanted));
    match owner {
        Some(process) => {
            let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
            let pid = process.file_name().unwrap_or_default().to_string_lossy();
            format!("{} (process {pid})", name.trim())
        }
        None => "a process of another user (as root, `ss -ltnp` shows it)".to_owned(),
    }
}

/// Inodes of the sockets that listen on this port.
fn listeners(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let end = format!(":{port:04X}");
    let lines = table.lines().skip(1);
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(1)?.ends_with(&end) && *fields.get(3)? == LISTEN;
            listens.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
        })
        .collect()
}

fn holds(process: &Path, wanted: &[String]) -> bool {
    let files = std::fs::read_dir(process.join("fd"));
    files.into_iter().flatten().flatten().any(|file| {
        std::fs::read_link(file.path())
            .is_ok_and(|target| wanted.iter().any(|socket| target.as_os_str() == &**socket))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_occupied_port_is_named_with_its_holder() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = is_free("127.0.0.1", port).unwrap_err().to_string();
        let me = format!("(process {})", std::process::id());
        let start = format!("port {port} on 127.0.0.1 is already in use by ");
        assert!(error.starts_with(&start), "{error}");
        assert!(error.contains(&me), "{error}");
        assert!(error.contains("postgresql.listen"), "{error}");
        drop(taken);
        is_free("127.0.0.1", port).unwrap();
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 4711 1 x\n\
             1: 0100007F:1538 0100007F:9999 01 00000000:00000000 00:00000000 00000000   105        0 4712 1 x\n\
             2: 0100007F:1539 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 4713 1 x\n";
        assert_eq!(listeners(table, 5432), ["4711"]);
    }
}
