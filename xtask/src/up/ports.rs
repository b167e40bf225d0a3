//! Ports that nobody uses.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, TcpListener};

/// Different free ports on the loopback address, chosen by the system.
pub(super) fn free(count: usize) -> Result<Vec<u16>> {
    // All are held until all are known: else the system may name one twice.
    let held = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<Vec<_>, _>>()
        .context("cannot find a free port")?;
    held.iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_differ() {
        let mut ports = super::free(20).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }
}
