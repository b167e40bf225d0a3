//! Requests that reached etcd, as it counts them itself: every message from a client, also those of
//! streams (watches, lives of leases).

use anyhow::{Context as _, Result, bail};
use pgherd_tests::{Etcd, rest};

/// Of each method of its interface.
const COUNTER: &str = "grpc_server_msg_received_total{";

/// Messages so far, of all members.
pub(crate) async fn count(etcd: &Etcd) -> Result<f64> {
    let mut sum = 0.0;
    for host in etcd.hosts() {
        let url = format!("http://{host}/metrics");
        let answer = rest::request("GET", &url, None, None).await;
        let answer = answer.map_err(anyhow::Error::msg)?;
        if answer.status != 200 {
            bail!("{url} answers {}", answer.status);
        }
        sum += counted(&answer.body).with_context(|| format!("no {COUNTER} in {url}"))?;
    }
    Ok(sum)
}

fn counted(metrics: &str) -> Option<f64> {
    let lines = metrics.lines().filter(|line| line.starts_with(COUNTER));
    let values = lines.map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn messages_of_all_methods_are_counted() {
        let text = "# HELP x\ngrpc_server_msg_received_total{grpc_method=\"Range\"} 3\n\
                    grpc_server_msg_received_total{grpc_method=\"Put\"} 4\n\
                    grpc_server_msg_sent_total{grpc_method=\"Put\"} 9\n";
        assert_eq!(counted(text), Some(7.0));
    }
}
