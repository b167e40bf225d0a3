//! Basic authentication of requests that change something (contract: patroni-rest, section 2).

use super::answer::{Answer, unauthorized};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgherd_wire::patroni::config::Login;
use ring::hmac;
use ring::rand::SystemRandom;

/// Knows the credentials only as a keyed hash; comparing takes the same time for every guess.
pub(crate) struct Door {
    expected: Option<(hmac::Key, hmac::Tag)>,
}

impl Door {
    /// A door for this login; `None`: it stands open. `Err`: no random numbers.
    pub(crate) fn new(login: Option<&Login>) -> Result<Door, String> {
        let Some(login) = login else {
            return Ok(Door { expected: None });
        };
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| "the system gives no random numbers".to_owned())?;
        let pair = format!("{}:{}", login.username, login.password.expose());
        let tag = hmac::sign(&key, pair.as_bytes());
        Ok(Door {
            expected: Some((key, tag)),
        })
    }

    /// Whether a request with these headers may pass; `Err`: the answer to give instead.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Box<Answer>> {
        let Some((key, tag)) = &self.expected else {
            return Ok(());
        };
        let Some(header) = headers.get(AUTHORIZATION) else {
            return Err(Box::new(unauthorized("no auth header received")));
        };
        let given = header
            .to_str()
            .ok()
            .and_then(|header| header.strip_prefix("Basic "))
            .and_then(|coded| STANDARD.decode(coded.trim()).ok());
        match given {
            Some(pair) if hmac::verify(key, &pair, tag.as_ref()).is_ok() => Ok(()),
            _ => Err(Box::new(unauthorized("not authenticated"))),
        }
    }
}
