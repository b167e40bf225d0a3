//! The licence's probe: whether PostgreSQL answers somebody new, and commits.
//!
//! Two things are asked, since neither says anything of the other. Somebody new knocks: connects, asks for encryption
//! and goes when a process that was started for him has answered. And a commit goes over a session that is
//! kept: a login each time would cost more than all the rest, for the password alone.

use crate::connection::{CONNECT_TIMEOUT, Connection, connect_local, local_place};
use crate::look::within;
use crate::{Error, Instance, Result, process};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It was committed.
    Committed,
    /// PostgreSQL answers, but says no to the superuser, with these words: whether others can commit is
    /// not known.
    Refused(String),
}

/// What is kept from probe to probe.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    session: Mutex<Option<Connection>>,
    door: Mutex<Option<Door>>,
}

/// Where a postmaster is reached, which stays as long as it lives.
#[derive(Clone, Debug)]
struct Door {
    pid: u32,
    host: String,
    port: u16,
}

/// Commits something that has to reach the disk. A transactional logical message is the smallest
/// such thing that touches no table; an assigned transaction id alone is committed asynchronously.
/// In recovery the CASE leaves it out.
const COMMIT: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN NULL \
 ELSE pg_logical_emit_message(true, 'pgherd', 'alive') END";
const WHAT: &str = "committing a probe";

/// So many knocks fit into the whole time at least: one that is lost must not take it all.
const KNOCKS: u32 = 5;
/// The part of the time after which a session that does not answer may be the only thing that hangs: another one tries
/// as well.
const ALONE: u32 = 3;

/// `GSSENCRequest`. Unlike a request for TLS it may be left there after the answer, whatever that is, without a
/// line in the server's log.
const REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

pub(crate) async fn probe_commit(instance: &Instance, timeout: Duration) -> Result<Probe> {
    let work = async {
        knock(instance, (timeout / KNOCKS).min(CONNECT_TIMEOUT)).await?;
        let refusal = match commit(instance, timeout).await {
            Ok(()) => return Ok(Probe::Committed),
            Err(error) if error.is_refusal() => error,
            Err(error) => return Err(error),
        };
        // Whoever says no to a new login may still commit for those who are in.
        let kept = &instance.inner.connections.work;
        match kept.run(instance, WHAT, COMMIT, timeout).await {
            Ok(_) => Ok(Probe::Committed),
            Err(error) if error.is_refusal() => Ok(Probe::Refused(refusal.to_string())),
            Err(error) => Err(error),
        }
    };
    within("the probe commit", timeout, work).await
}

/// On the session of the last probe; on a new one, which is kept then, where that is gone or does not answer.
async fn commit(instance: &Instance, timeout: Duration) -> Result<()> {
    let session = lock(&instance.inner.connections.probe.session).take();
    let living = process::handle(instance).await.map(|handle| handle.pid);
    let session = session.filter(|session| session.is_open_to(living));
    let before = async {
        let session = session?;
        session.run(WHAT, COMMIT, timeout).await.ok()?;
        Some(session)
    };
    tokio::pin!(before);
    let answer = tokio::time::timeout(timeout / ALONE, &mut before).await;
    let committed = match answer {
        Ok(Some(session)) => session,
        Ok(None) => anew(instance, timeout).await?,
        Err(_) => tokio::select! {
            Some(session) = before => session,
            session = anew(instance, timeout) => session?,
        },
    };
    *lock(&instance.inner.connections.probe.session) = Some(committed);
    Ok(())
}

async fn anew(instance: &Instance, timeout: Duration) -> Result<Connection> {
    let database = &instance.options().database;
    let session = connect_local(instance, database, timeout, timeout).await?;
    session.run(WHAT, COMMIT, timeout).await?;
    Ok(session)
}

/// Whether a process answers that was started for a new connection. It is started, and answers, also where
/// there are too many of them and while PostgreSQL starts or stops: what it has to say then is said to a login.
async fn knock(instance: &Instance, limit: Duration) -> Result<()> {
    let door = door(instance).await?;
    let place = door.place();
    let failed = |reason: String| Error::Connect {
        place: place.clone(),
        reason,
    };
    let work = async {
        if door.host.starts_with('/') {
            let path = format!("{}/.s.PGSQL.{}", door.host, door.port);
            return answer(UnixStream::connect(path).await?).await;
        }
        answer(TcpStream::connect((door.host.as_str(), door.port)).await?).await
    };
    let said = match tokio::time::timeout(limit, work).await {
        Ok(Ok(said)) => said,
        Ok(Err(error)) => {
            lock(&instance.inner.connections.probe.door).take();
            return Err(failed(error.to_string()));
        }
        Err(_) => {
            return Err(Error::Timeout {
                what: format!("an answer of PostgreSQL at {place} to a new connection"),
                after: limit,
                last: String::new(),
            });
        }
    };
    match said.first() {
        // "No" from a server that does not encrypt this way, or "go on".
        Some(b'N' | b'G') => Ok(()),
        // By the postmaster itself: it can start no process.
        Some(b'E') => {
            let text = String::from_utf8_lossy(&said[1..]);
            let shown = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
            Err(failed(shown.to_owned()))
        }
        Some(other) => Err(failed(format!("an answer of unknown form ({other})"))),
        None => Err(failed("closed without an answer".to_owned())),
    }
}

/// What is answered, to its end as far as it fits; nothing may be left unread, or the server would tell its log of
/// a connection that was reset.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<Vec<u8>> {
    stream.write_all(&REQUEST).await?;
    let mut said = vec![0; 256];
    let length = stream.read(&mut said).await?;
    said.truncate(length);
    Ok(said)
}

async fn door(instance: &Instance) -> Result<Door> {
    let Some(postmaster) = process::handle(instance).await else {
        return Err(Error::NotRunning(instance.path().to_owned()));
    };
    let kept = lock(&instance.inner.connections.probe.door).clone();
    if let Some(door) = kept.filter(|door| door.pid == postmaster.pid) {
        return Ok(door);
    }
    let (host, port) = local_place(instance).await;
    let door = Door {
        pid: postmaster.pid,
        host,
        port,
    };
    *lock(&instance.inner.connections.probe.door) = Some(door.clone());
    Ok(door)
}

impl Door {
    fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// A panic elsewhere does not make what is kept untrue.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
