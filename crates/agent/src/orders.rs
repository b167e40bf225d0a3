//! Serves what the REST server asks for, beside the loop, so that neither waits for the other.

use pgherd_dcs::{Picture, Store};
use pgherd_model::{Cluster, Op, Span, Time};
use tokio::sync::{mpsc, oneshot, watch};

use crate::event::Event;
use crate::looks::looks;
use crate::snapshot::Order;
use crate::upgrade::{self, Wish};
use crate::{clock, reload};

/// Longest request of an operator to the lock service.
const STORE: Span = Span::from_secs(5);

/// Ends when the REST server does.
pub(crate) async fn serve(
    mut orders: mpsc::Receiver<Order>,
    store: Store,
    events: mpsc::UnboundedSender<Event>,
    reload: reload::Requests,
) {
    let (clusters, asked) = looks();
    let source = store.clone();
    tokio::spawn(asked.serve(move || {
        let store = source.clone();
        async move { fresh(&store, &store.picture()).await }
    }));
    while let Some(order) = orders.recv().await {
        let clusters = clusters.clone();
        let (store, events) = (store.clone(), events.clone());
        let reload = reload.clone();
        tokio::spawn(async move {
            match order {
                Order::WakeUp => {
                    events.send(Event::WakeUp).ok();
                }
                Order::Reload => {
                    reload.send(reload::Request::Reload).ok();
                }
                Order::FreshCluster { answer } => clusters.ask(answer),
                // These concern the loop: it tells the brain of them at its next look.
                order @ (Order::Restart { .. }
                | Order::ScheduleRestart { .. }
                | Order::ForgetRestart { .. }
                | Order::Reinitialize { .. }) => {
                    events.send(Event::Asked(Box::new(order))).ok();
                }
                Order::Upgrade { answer } => upgrade(answer, &events).await,
                Order::Write { op, answer } => {
                    let done = store.run(&op, clock::now() + STORE).await;
                    events.send(Event::WakeUp).ok();
                    answer.send(done.map_err(|error| error.to_string())).ok();
                }
            }
        });
    }
}

async fn fresh(store: &Store, picture: &watch::Receiver<Picture>) -> Result<Cluster, String> {
    store
        .run(&Op::Refresh, clock::now() + STORE)
        .await
        .map_err(|error| error.to_string())?;
    let cluster = picture.borrow().cluster.clone();
    cluster
        .map(|cluster| cluster.as_ref().clone())
        .ok_or_else(|| "nothing was read yet".to_owned())
}

/// The program is tried before the loop ends for it.
async fn upgrade(
    answer: oneshot::Sender<Result<String, String>>,
    events: &mpsc::UnboundedSender<Event>,
) {
    let asked = clock::now();
    let tried = try_program(asked, events).await;
    answer.send(tried).ok();
}

/// Its version; the loop is told if it would start, for somebody who asked then.
pub(crate) async fn try_program(
    asked: Time,
    events: &mpsc::UnboundedSender<Event>,
) -> Result<String, String> {
    let tried = upgrade::check().await;
    match tried {
        Ok(version) => {
            let wish = Wish::new(asked, clock::now());
            events.send(Event::Upgrade(wish)).ok();
            Ok(version)
        }
        Err(error) => {
            let reason = format!("{error:#}");
            tracing::error!("this agent goes on: {reason}");
            Err(reason)
        }
    }
}
