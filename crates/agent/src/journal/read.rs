//! The journal as `GET /journal` shows it: the last lines, no more than an answer may have.

use std::io::{ErrorKind, Result};
use std::path::Path;

use pgherd_wire::journal::{Stamp, is_since};

use super::file::before;

/// Largest answer. The reader takes 4 MB at most (`pgherd-peer`).
pub(crate) const ANSWER_BYTES: usize = 2 * 1024 * 1024;

/// The lines since a moment, oldest first, and whether older ones were left out for `limit`.
pub(crate) fn lines(path: &Path, since: Stamp, limit: usize) -> Result<(String, bool)> {
    // The present segment first: should it be put aside meanwhile, its lines come twice and none is
    // missed; readers tell them apart by number.
    let present = text(path)?;
    let earlier = text(&before(path))?;
    let mut kept: Vec<&str> = Vec::new();
    let mut bytes = 0;
    let mut left_out = false;
    for line in present.lines().rev().chain(earlier.lines().rev()) {
        if !is_since(line, since) {
            continue;
        }
        bytes += line.len() + 1;
        if bytes > limit {
            left_out = true;
            break;
        }
        kept.push(line);
    }
    let mut out = String::with_capacity(bytes);
    for line in kept.into_iter().rev() {
        out.push_str(line);
        out.push('\n');
    }
    Ok((out, left_out))
}

fn text(path: &Path) -> Result<String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_both_segments() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let line = |ms: i64| format!("{{\"at\":\"{}\",\"member\":\"n1\"}}\n", Stamp(ms));
        assert_eq!(
            lines(&path, Stamp(0), 1000).unwrap(),
            (String::new(), false)
        );
        std::fs::write(before(&path), line(1) + &line(2)).unwrap();
        std::fs::write(&path, line(3) + "{\"at\":\"20").unwrap();
        let all = line(1) + &line(2) + &line(3);
        assert_eq!(lines(&path, Stamp(0), 1000).unwrap(), (all, false));
        assert_eq!(lines(&path, Stamp(3), 1000).unwrap(), (line(3), false));
        let two = line(2) + &line(3);
        let limit = two.len();
        assert_eq!(lines(&path, Stamp(0), limit).unwrap(), (two, true));
    }
}
