//! What PostgreSQL or the lock service says at this moment, for all who ask at once: one read runs at a
//! time, and whoever asks meanwhile shares the next one, which begins after the asking. So however many
//! clients ask, there is one query, on a connection that is not the loop's, and none of them gets an
//! answer older than its question.

use std::time::Duration;

use pgherd_instance::Instance;
use pgherd_model::Look;
use tokio::sync::{mpsc, oneshot};

/// Longest read.
const LIMIT: Duration = Duration::from_secs(1);

/// Where a look is asked for; at PostgreSQL, unless said otherwise.
#[derive(Clone, Debug)]
pub struct Looks<T = Option<Look>>(mpsc::UnboundedSender<oneshot::Sender<T>>);

/// Who waits for one.
#[derive(Debug)]
pub struct Asked<T = Option<Look>>(mpsc::UnboundedReceiver<oneshot::Sender<T>>);

/// Both ends.
pub fn looks<T>() -> (Looks<T>, Asked<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Looks(sender), Asked(receiver))
}

impl<T> Looks<T> {
    /// By a read that begins from now on; `None`: nobody reads any more.
    pub async fn now(&self) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.ask(answer);
        answered.await.ok()
    }

    /// The same, answered there.
    pub fn ask(&self, answer: oneshot::Sender<T>) {
        // Dropped, it tells that nobody reads any more.
        self.0.send(answer).ok();
    }
}

impl Asked {
    /// [`Asked::serve`], of this PostgreSQL; `None`: it does not answer.
    pub(crate) async fn serve_from(self, instance: Instance) {
        self.serve(|| {
            let instance = instance.clone();
            async move {
                let look = tokio::time::timeout(LIMIT, instance.look_beside()).await;
                look.ok().and_then(Result::ok)
            }
        })
        .await;
    }
}

impl<T: Clone> Asked<T> {
    /// Reads for those who wait, until nobody can ask any more.
    pub async fn serve<R: Future<Output = T>>(mut self, read: impl Fn() -> R) {
        while let Some(first) = self.0.recv().await {
            let mut waiting = vec![first];
            while let Ok(next) = self.0.try_recv() {
                waiting.push(next);
            }
            // Some have gone meanwhile: their time was over, or their client left.
            waiting.retain(|answer| !answer.is_closed());
            if waiting.is_empty() {
                continue;
            }
            let look = read().await;
            for answer in waiting {
                answer.send(look.clone()).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use tokio::sync::Semaphore;

    /// Reads that each wait for leave; how many have begun.
    fn reader(leave: Arc<Semaphore>) -> (Looks<usize>, Arc<AtomicUsize>) {
        let (looks, asked) = looks();
        let begun: Arc<AtomicUsize> = Arc::default();
        let count = begun.clone();
        tokio::spawn(asked.serve(move || {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let leave = leave.clone();
            async move {
                leave.acquire().await.unwrap().forget();
                number
            }
        }));
        (looks, begun)
    }

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_asks_during_a_read_shares_the_next_one() {
        let leave = Arc::new(Semaphore::new(0));
        let (looks, begun) = reader(leave.clone());
        let ended: Arc<Mutex<Vec<usize>>> = Arc::default();
        let ask = |number: usize| {
            let (looks, ended) = (looks.clone(), ended.clone());
            tokio::spawn(async move {
                looks.now().await;
                ended.lock().unwrap().push(number);
            })
        };
        let first = ask(0);
        until(|| begun.load(Ordering::SeqCst) == 1).await;
        let later: Vec<_> = (1..100).map(ask).collect();
        tokio::task::yield_now().await;
        leave.add_permits(1);
        first.await.unwrap();
        until(|| begun.load(Ordering::SeqCst) == 2).await;
        assert_eq!(*ended.lock().unwrap(), [0], "older than the question");
        leave.add_permits(1);
        for one in later {
            one.await.unwrap();
        }
        assert_eq!(ended.lock().unwrap().len(), 100);
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn nothing_is_read_for_those_who_have_gone() {
        let leave = Arc::new(Semaphore::new(0));
        let (looks, begun) = reader(leave.clone());
        let ask = || {
            let looks = looks.clone();
            tokio::spawn(async move { looks.now().await })
        };
        let first = ask();
        until(|| begun.load(Ordering::SeqCst) == 1).await;
        let gone = ask();
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        leave.add_permits(1);
        first.await.unwrap();
        leave.add_permits(1);
        looks.now().await;
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }
}
