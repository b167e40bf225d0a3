//! Clients that ask an HTTP server the same question without pause, as many as told, each on a thread of
//! its own; and what they saw.

use anyhow::{Result, anyhow, bail};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// How many ask at once.
pub(crate) const CLIENTS: usize = 8;
/// An answer that takes longer is an error.
const LIMIT: Duration = Duration::from_secs(5);

/// Whether a connection serves one question or many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// One each.
    Each,
    /// Kept as long as the server keeps it.
    Kept,
}

/// What all clients of one run saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Good answers per second.
    pub(crate) rate: f64,
    /// Of a hundred answers the slowest but one took so long.
    pub(crate) p99_ms: f64,
    /// Connections that broke, and answers other than 200.
    pub(crate) errors: usize,
}

/// Asks `GET path` for so long.
pub(crate) fn ask(port: u16, path: &str, habit: Habit, length: Duration) -> Result<Seen> {
    let question = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n",
        match habit {
            Habit::Each => "Connection: close\r\n",
            Habit::Kept => "",
        }
    );
    let begun = Instant::now();
    let end = begun + length;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let question = question.clone();
            thread::spawn(move || client(port, question.as_bytes(), habit, end))
        })
        .collect();
    let (mut took, mut errors) = (Vec::new(), 0);
    for client in clients {
        let (more, bad) = client.join().map_err(|_| anyhow!("a client panicked"))?;
        took.extend(more);
        errors += bad;
    }
    let seconds = begun.elapsed().as_secs_f64();
    if took.is_empty() {
        bail!("no answer of 127.0.0.1:{port}{path} was good");
    }
    took.sort_unstable();
    let slow = took[took.len() * 99 / 100];
    Ok(Seen {
        rate: f64::from(u32::try_from(took.len())?) / seconds,
        p99_ms: slow.as_secs_f64() * 1000.0,
        errors,
    })
}

/// Durations of the good answers, and how many were bad.
fn client(port: u16, question: &[u8], habit: Habit, end: Instant) -> (Vec<Duration>, usize) {
    let (mut took, mut errors) = (Vec::new(), 0);
    let mut kept: Option<TcpStream> = None;
    while Instant::now() < end {
        let begun = Instant::now();
        let reused = kept.is_some();
        match one(kept.take(), port, question) {
            Ok(connection) => {
                took.push(begun.elapsed());
                kept = connection.filter(|_| habit == Habit::Kept);
            }
            // The server had enough of a connection that served before: that is its right.
            Err(_) if reused => {}
            Err(_) => errors += 1,
        }
    }
    (took, errors)
}

/// One question; the connection, if the server keeps it.
fn one(kept: Option<TcpStream>, port: u16, question: &[u8]) -> Result<Option<TcpStream>> {
    let mut connection = match kept {
        Some(kept) => kept,
        None => {
            let fresh = TcpStream::connect(("127.0.0.1", port))?;
            fresh.set_nodelay(true)?;
            fresh.set_read_timeout(Some(LIMIT))?;
            fresh
        }
    };
    connection.write_all(question)?;
    let mut answer = [0; 16 * 1024];
    let mut size = 0;
    let (end_of_head, body) = loop {
        let more = connection.read(&mut answer[size..])?;
        if more == 0 {
            bail!("the answer has no head");
        }
        size += more;
        if let Some(found) = head(&answer[..size])? {
            break found;
        }
    };
    match body {
        Body::Sized(length) => {
            while size < end_of_head + length {
                let more = connection.read(&mut answer)?;
                if more == 0 {
                    bail!("the answer was cut");
                }
                size += more;
            }
            Ok(Some(connection))
        }
        Body::UntilClosed => {
            while connection.read(&mut answer)? > 0 {}
            Ok(None)
        }
    }
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Sized(usize),
    UntilClosed,
}

/// Length of the head and the way of the body, once the head is whole.
fn head(answer: &[u8]) -> Result<Option<(usize, Body)>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = str::from_utf8(&answer[..end])?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("{status}");
    }
    let mut closes = status.starts_with("HTTP/1.0");
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.parse()?);
        } else if name.eq_ignore_ascii_case("connection") {
            closes |= value.eq_ignore_ascii_case("close");
        }
    }
    let body = match length {
        Some(length) if !closes => Body::Sized(length),
        _ => Body::UntilClosed,
    };
    Ok(Some((end + 4, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_answers() {
        let kept = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{}";
        assert_eq!(head(kept).unwrap(), Some((39, Body::Sized(12))));
        let old = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(head(old).unwrap(), Some((38, Body::UntilClosed)));
        let closes = b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 2\r\n\r\n";
        assert_eq!(head(closes).unwrap().unwrap().1, Body::UntilClosed);
        assert_eq!(head(b"HTTP/1.1 200 OK\r\n").unwrap(), None);
        assert!(head(b"HTTP/1.1 503 no\r\n\r\n").is_err());
    }
}
