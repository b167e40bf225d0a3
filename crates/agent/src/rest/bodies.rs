//! Bodies of requests: how large one may be, how long it may take, and how much memory all of them take
//! together, however many clients send at a time. Who may send one at all is asked before (`access`).

use super::answer::{self, Answer};
use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use pgherd_model::Span;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// How long a client may take to send its body, and to wait for room before.
const PATIENCE: Span = Span::from_secs(10);

/// A body of no more needs no room, so that no crowd of large ones keeps away a wish, or the question of a
/// leader that cannot reach the lock service. As many as there may be connections take 16 MB.
const FREE_BYTES: usize = 4 * 1024;

/// By how much the room of a body grows that is longer than it said.
const STEP_BYTES: usize = 64 * 1024;

/// Room for the bodies of all whose access was checked.
const ROOM_BYTES: usize = 8 * 1024 * 1024;

/// Room for the bodies of all others, apart, so that they are in nobody's way.
const STRANGERS_BYTES: usize = 1024 * 1024;

/// What a body is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An event, of whoever it may be.
    Stranger,
    /// A wish or a question: some names and a time.
    Wish,
    /// A configuration.
    Config,
}

impl Kind {
    /// Largest body that is read.
    fn limit(self) -> usize {
        match self {
            Kind::Stranger | Kind::Wish => 64 * 1024,
            Kind::Config => 1024 * 1024,
        }
    }
}

/// The memory for bodies. What one takes is given back when nobody has its bytes any more.
#[derive(Debug)]
pub(super) struct Bodies {
    room: Room,
    strangers: Room,
    patience: Span,
}

impl Default for Bodies {
    fn default() -> Bodies {
        Bodies {
            room: Room::of(ROOM_BYTES),
            strangers: Room::of(STRANGERS_BYTES),
            patience: PATIENCE,
        }
    }
}

impl Bodies {
    /// Reads a body of a length that was said, as Patroni wants it; `Err`: the answer to give instead.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        kind: Kind,
    ) -> Result<Bytes, Box<Answer>> {
        let Some(length) = headers.get(CONTENT_LENGTH) else {
            return Err(Box::new(answer::page(411)));
        };
        let said = length.to_str().ok().and_then(|text| text.parse().ok());
        let mut receiving = Receiving {
            room: match kind {
                Kind::Stranger => &self.strangers,
                Kind::Wish | Kind::Config => &self.room,
            },
            limit: kind.limit(),
            deadline: Instant::now() + self.patience,
            had: Received::default(),
        };
        receiving.provide(said.unwrap_or(0)).await?;
        receiving.receive(body).await?;
        Ok(Bytes::from_owner(receiving.had))
    }
}

/// So many bytes, for as many bodies as fit.
#[derive(Debug)]
struct Room {
    free: Arc<Semaphore>,
    told: AtomicBool,
}

impl Room {
    fn of(bytes: usize) -> Room {
        Room {
            free: Arc::new(Semaphore::new(bytes)),
            told: AtomicBool::default(),
        }
    }

    async fn take(&self, bytes: usize, by: Instant) -> Result<OwnedSemaphorePermit, Box<Answer>> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let taking = self.free.clone().acquire_many_owned(bytes);
        match timeout_at(by, taking).await {
            // Room that comes when the time is over, since it is for those who had it too, is of no use.
            Ok(Ok(permit)) if Instant::now() < by => {
                self.told.store(false, Ordering::Relaxed);
                return Ok(permit);
            }
            _ => {}
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the REST API receives more than it keeps in memory: requests with large bodies are refused until others are through"
            );
        }
        let text =
            "too many large requests at once: there is no room for this one, repeat it later";
        Err(Box::new(answer::closing(answer::text(503, text))))
    }
}

/// The bytes, and the room that they take.
#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    taken: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body under way.
struct Receiving<'a> {
    room: &'a Room,
    limit: usize,
    deadline: Instant,
    had: Received,
}

impl Receiving<'_> {
    async fn receive(&mut self, mut body: Body) -> Result<(), Box<Answer>> {
        loop {
            let next = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
            let frame = match timeout_at(self.deadline, next).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Ok(()),
                Ok(Some(Err(_))) => return Err(Box::new(answer::page(400))),
                Err(_) => return Err(Box::new(answer::page(408))),
            };
            // Trailers say nothing to us.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let length = self.had.bytes.len() + data.len();
            if length > self.had.bytes.capacity() {
                let ahead = match length {
                    ..=FREE_BYTES => length,
                    _ => (length + STEP_BYTES).min(self.limit).max(length),
                };
                self.provide(ahead).await?;
            }
            self.had.bytes.extend_from_slice(&data);
        }
    }

    /// Makes room for so many bytes in all.
    async fn provide(&mut self, bytes: usize) -> Result<(), Box<Answer>> {
        if bytes > self.limit {
            return Err(Box::new(answer::page(413)));
        }
        let taken = &mut self.had.taken;
        let had = taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if bytes > FREE_BYTES && bytes > had {
            let more = self.room.take(bytes - had, self.deadline).await?;
            match taken {
                Some(taken) => taken.merge(more),
                None => *taken = Some(more),
            }
        }
        let present = self.had.bytes.len();
        self.had.bytes.reserve_exact(bytes.saturating_sub(present));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderValue, StatusCode};

    fn small(bytes: usize) -> Bodies {
        Bodies {
            room: Room::of(bytes),
            strangers: Room::of(bytes),
            patience: Span::from_millis(100),
        }
    }

    /// Reads a body of this length that says to have another.
    async fn read(bodies: &Bodies, kind: Kind, said: usize, length: usize) -> Result<Bytes, u16> {
        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(said))]);
        let body = Body::from(vec![b'x'; length]);
        let read = bodies.read(&headers, body, kind).await;
        read.map_err(|answer| answer.status().as_u16())
    }

    #[tokio::test]
    async fn what_is_received_has_room_until_nobody_needs_it() {
        let bodies = small(100_000);
        let first = read(&bodies, Kind::Config, 60_000, 60_000).await.unwrap();
        assert_eq!(first.len(), 60_000);
        let part = first.slice(..10);
        drop(first);
        assert_eq!(read(&bodies, Kind::Config, 60_000, 60_000).await, Err(503));
        // What is not long needs none, and strangers have their own.
        let short = read(&bodies, Kind::Wish, FREE_BYTES, FREE_BYTES).await;
        assert_eq!(short.unwrap().len(), FREE_BYTES);
        let other = read(&bodies, Kind::Stranger, 60_000, 60_000).await;
        assert_eq!(
            read(&bodies, Kind::Stranger, 60_000, 60_000).await,
            Err(503)
        );
        drop((part, other));
        for kind in [Kind::Config, Kind::Wish, Kind::Stranger] {
            assert!(read(&bodies, kind, 60_000, 60_000).await.is_ok());
        }
        assert_eq!(bodies.room.free.available_permits(), 100_000);
    }

    /// A body that comes in chunks may be longer than it said.
    #[tokio::test]
    async fn what_is_longer_than_it_said_takes_more_room() {
        let bodies = small(150_000);
        let long = read(&bodies, Kind::Config, 2, 80_000).await.unwrap();
        assert_eq!(long.len(), 80_000);
        assert!(bodies.room.free.available_permits() <= 70_000);
        assert_eq!(read(&bodies, Kind::Config, 2, 80_000).await, Err(503));
        drop(long);
        let short = read(&bodies, Kind::Config, 0, 2).await.unwrap();
        assert_eq!(bodies.room.free.available_permits(), 150_000);
        assert_eq!(short, "xx");
    }

    #[tokio::test]
    async fn every_kind_has_its_limit() {
        let bodies = Bodies::default();
        for kind in [Kind::Config, Kind::Wish, Kind::Stranger] {
            let most = kind.limit();
            assert_eq!(read(&bodies, kind, most, most).await.unwrap().len(), most);
            // What says that it is too long is not even read.
            assert_eq!(read(&bodies, kind, most + 1, 0).await, Err(413));
            assert_eq!(read(&bodies, kind, 0, most + 1).await, Err(413));
        }
        let headers = HeaderMap::new();
        let none = bodies.read(&headers, Body::empty(), Kind::Wish).await;
        let status = none.unwrap_err().status();
        assert_eq!(status, StatusCode::LENGTH_REQUIRED);
    }
}
