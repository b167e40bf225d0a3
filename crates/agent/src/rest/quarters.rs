//! Where the REST API lives: a thread with a runtime of its own, so that however many clients come, the
//! loop waits for none of them, and a bound on connections, so that files are left for everything else.

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use pgherd_model::Span;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::AsyncWrite;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_io_timeout::TimeoutWriter;
use tower::Layer;

/// How many files the agent wants to be able to open, where the system allows that many.
const FILES: u64 = 16_384;
/// Most connections at a time, whatever the system allows.
const CONNECTIONS: u64 = 4096;

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Quarters {
    /// Its runtime.
    pub(super) runtime: Handle,
    _end: oneshot::Sender<()>,
}

impl Quarters {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread or no runtime.
    pub(super) fn open() -> io::Result<Quarters> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("rest".into())
            .spawn(move || drop(runtime.block_on(ended)))?;
        Ok(Quarters {
            runtime: handle,
            _end: end,
        })
    }
}

/// Lets so many connections in at a time; those beyond are closed at once.
#[derive(Clone, Debug)]
pub(super) struct Entrance {
    free: Arc<Semaphore>,
    most: usize,
    told: Arc<AtomicBool>,
}

impl Entrance {
    /// As many as leave files for PostgreSQL's connections, etcd and the data directory.
    pub(super) fn new() -> Entrance {
        let most = usize::try_from((files() / 2).min(CONNECTIONS)).unwrap_or(1);
        Entrance {
            free: Arc::new(Semaphore::new(most)),
            most,
            told: Arc::default(),
        }
    }

    fn admit(&self) -> io::Result<Arc<OwnedSemaphorePermit>> {
        match self.free.clone().try_acquire_owned() {
            Ok(permit) => {
                self.told.store(false, Ordering::Relaxed);
                Ok(Arc::new(permit))
            }
            Err(_) => {
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "the REST API has {} connections: more are closed until one of them ends",
                        self.most
                    );
                }
                Err(io::Error::other("too many connections"))
            }
        }
    }
}

/// How many files may be open; raised to what is wanted where the system allows it.
fn files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = FILES.min(limit.maximum.unwrap_or(FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        let before = limit.current;
        limit.current = Some(wanted);
        if setrlimit(Resource::Nofile, limit).is_err() {
            limit.current = before;
        }
    }
    limit.current.unwrap_or(FILES)
}

/// A listener's acceptor behind the entrance: a connection keeps its place until it ends, which it does when
/// the client takes nothing of its answers any more.
#[derive(Clone, Debug)]
pub(super) struct Bounded<A> {
    inner: A,
    entrance: Entrance,
    patience: Span,
}

impl<A> Bounded<A> {
    /// `patience`: how long a write may make no progress.
    pub(super) fn new(inner: A, entrance: Entrance, patience: Span) -> Bounded<A> {
        Bounded {
            inner,
            entrance,
            patience,
        }
    }
}

type Place = Arc<OwnedSemaphorePermit>;

/// A connection on which a write ends that makes no progress.
pub(super) type Moving<I> = Pin<Box<TimeoutWriter<I>>>;

impl<A, I, S> Accept<I, S> for Bounded<A>
where
    A: Accept<Moving<I>, S>,
    A::Future: Send + 'static,
    A::Service: Send + 'static,
    A::Stream: Send + 'static,
    I: AsyncWrite,
{
    type Stream = A::Stream;
    type Service = AddExtension<A::Service, Place>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let place = match self.entrance.admit() {
            Ok(place) => place,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        // Below TLS, so that its own messages count, too.
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(self.patience));
        let accepted = self.inner.accept(Box::pin(stream), service);
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            Ok((stream, Extension(place).layer(service)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_let_in_where_all_places_are_taken() {
        let entrance = Entrance {
            free: Arc::new(Semaphore::new(1)),
            most: 1,
            told: Arc::default(),
        };
        let first = entrance.admit().unwrap();
        assert!(entrance.admit().is_err());
        drop(first);
        assert!(entrance.admit().is_ok());
    }

    #[test]
    fn half_of_the_files_are_left_for_others() {
        let most = Entrance::new().most as u64;
        assert!((1..=CONNECTIONS).contains(&most) && most <= files() / 2);
    }
}
