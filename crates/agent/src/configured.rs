//! What this agent has loaded of its configuration, for `GET /pgherd/configuration`: the file may say something else by
//! now. No secret is kept here but as a fingerprint.

use std::path::{Path, absolute};
use std::sync::{Mutex, PoisonError};

use pgherd_wire::journal::Stamp;
use pgherd_wire::patroni::config::{Given, Refusal, Told, tell, text_without_secrets};
use ring::rand::{SecureRandom, SystemRandom};

use crate::clock;

/// Written at the start and by reloads, read by the REST API.
#[derive(Debug, Default)]
pub struct Configured(Mutex<pgherd_wire::patroni::config::Configured>);

impl Configured {
    /// What was read just now, at the start; `path`: the file or directory, `None`: the environment alone.
    pub(crate) fn new(path: Option<&Path>, givens: &[Given]) -> Configured {
        // Where the working directory is gone it is told as it was given.
        let path = path.map(|path| absolute(path).unwrap_or_else(|_| path.to_owned()));
        let salt = salt();
        Configured(Mutex::new(pgherd_wire::patroni::config::Configured {
            file: path.map(|path| path.display().to_string()),
            read_at: now(),
            given: givens.iter().map(|given| tell(given, &salt)).collect(),
            salt,
            refusal: None,
        }))
    }

    /// Another one was read and holds, but for what is kept until the agent is started anew.
    pub(crate) fn change(&self, givens: &[Given]) {
        let mut has = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let salt = has.salt.clone();
        let new = givens.iter().map(|given| tell(given, &salt));
        let new: Vec<Told> = new.filter(|told| !told.is_kept()).collect();
        has.given.retain(Told::is_kept);
        has.given.extend(new);
        has.read_at = now();
        has.refusal = None;
    }

    /// Another one could not be read, or not be used: that of before holds.
    pub(crate) fn refuse(&self, reason: &str) {
        let mut has = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        has.refusal = Some(Refusal {
            at: now(),
            reason: text_without_secrets(reason),
        });
    }

    /// As it is told.
    pub(crate) fn told(&self) -> pgherd_wire::patroni::config::Configured {
        let has = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        has.clone()
    }
}

/// Nobody can prepare for the fingerprints of this run. Empty, so that there are none, where the system gives no random
/// numbers.
fn salt() -> String {
    let mut bytes = [0; 16];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(_) => String::new(),
    }
}

fn now() -> Stamp {
    Stamp(clock::wall().0.div_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn givens(pairs: &[(&str, Value)]) -> Vec<Given> {
        let given = |(path, value): &(&str, Value)| Given {
            path: path.split('.').map(str::to_owned).collect(),
            value: value.clone(),
            place: "n1.yml:1".into(),
            from_environment: false,
        };
        pairs.iter().map(given).collect()
    }

    fn told(configured: &Configured) -> Vec<(String, Value)> {
        let told = configured.told().given.into_iter();
        told.map(|told| (told.path.join("."), told.value)).collect()
    }

    #[test]
    fn a_reload_changes_what_it_can_and_a_refused_one_nothing() {
        let first = [("namespace", json!("/a")), ("log.level", json!("INFO"))];
        let configured = Configured::new(Some(Path::new("n1.yml")), &givens(&first));
        let file = configured.told().file.unwrap();
        assert!(file.starts_with('/') && file.ends_with("/n1.yml"), "{file}");
        assert_eq!(configured.told().salt.len(), 32);
        configured.refuse("n1.yml:1: https://me:s3cret@etcd is wrong");
        let refusal = configured.told().refusal.unwrap();
        assert!(!refusal.reason.contains("s3cret"), "{refusal:?}");
        assert_eq!(told(&configured).len(), 2);
        configured.change(&givens(&[
            ("namespace", json!("/b")),
            ("log.level", json!("ERROR")),
            ("postgresql.data_dir", json!("/d")),
        ]));
        let expected = [
            ("namespace".to_owned(), json!("/a")),
            ("log.level".to_owned(), json!("ERROR")),
        ];
        assert_eq!(told(&configured), expected);
        assert_eq!(configured.told().refusal, None);
    }

    #[test]
    fn no_two_runs_have_the_same_key() {
        let salt = || Configured::new(None, &[]).told().salt;
        assert_ne!(salt(), salt());
    }
}
