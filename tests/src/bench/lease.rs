//! A lease in etcd as an agent holds one, for the floor of a lost node.

use anyhow::{Context as _, Result, anyhow, bail};
use etcd_client::{Client, EventType, PutOptions, WatchStream};
use pgherd_tests::Etcd;
use std::time::Duration;
use tokio::task::JoinHandle;

const KEY: &str = "/bench/hand/leader";

/// A held lease of L seconds, renewed every L/5, and a watch on the key that lives under it.
pub(crate) struct Lease {
    seconds: u32,
    renewal: JoinHandle<()>,
    // Order of fields matters: the watch ends before its client.
    watch: WatchStream,
    _client: Client,
}

impl Lease {
    /// Takes the lease.
    pub(crate) async fn take(etcd: &Etcd, seconds: u32) -> Result<Lease> {
        let mut client = etcd.client(0).await.map_err(|e| anyhow!(e))?;
        let id = client.lease_grant(i64::from(seconds), None).await?.id();
        client
            .put(KEY, "hand", Some(PutOptions::new().with_lease(id)))
            .await?;
        // A second connection, without the time limit that the library sets for single requests.
        let hosts = etcd.hosts();
        let mut watcher = Client::connect(&hosts[..1], None).await?;
        let watch = watcher.watch(KEY, None).await?;
        let (mut keeper, mut answers) = watcher.lease_keep_alive(id).await?;
        let pause = Duration::from_secs(u64::from(seconds)) / 5;
        let renewal = tokio::spawn(async move {
            while keeper.keep_alive().await.is_ok() && answers.message().await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        });
        Ok(Lease {
            seconds,
            renewal,
            watch,
            _client: watcher,
        })
    }

    /// Stops renewing and waits until etcd says that the key is gone.
    pub(crate) async fn lose(mut self) -> Result<()> {
        self.renewal.abort();
        let limit = Duration::from_secs(u64::from(self.seconds) + 10);
        let gone = async {
            while let Some(answer) = self.watch.message().await? {
                if answer
                    .events()
                    .iter()
                    .any(|e| e.event_type() == EventType::Delete)
                {
                    return Ok(());
                }
            }
            bail!("etcd ended the watch")
        };
        tokio::time::timeout(limit, gone)
            .await
            .with_context(|| format!("etcd kept a lease of {} s for {limit:?}", self.seconds))?
    }
}
