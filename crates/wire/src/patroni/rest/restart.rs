//! `POST /restart`: what is asked for, and the texts of the answers (contract: patroni-rest, section 8).

use super::switchover::Refusal;
use super::time::parse_schedule;
use crate::patroni::config::seconds;
use jiff::Timestamp;
use pgherd_model::{RestartCondition, Role, Schedule, ScheduledRestart, Span};
use serde_json::{Map, Value};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartWish {
    /// Only then.
    pub condition: RestartCondition,
    /// How long the start may take.
    pub timeout: Option<Span>,
    /// `None`: now.
    pub schedule: Option<Schedule>,
    /// The filters as they were sent.
    filters: Map<String, Value>,
}

fn no<T>(status: u16, text: impl Into<String>) -> Result<T, Refusal> {
    let text = text.into();
    Err(Refusal { status, text })
}

impl RestartWish {
    /// Whether a body asks for a restart at a time, right or wrong: a pause matters to that one only.
    pub fn names_a_time(body: &[u8]) -> bool {
        let request = serde_json::from_slice::<Value>(body).ok();
        request.is_some_and(|request| request.get("schedule").is_some())
    }

    /// Reads a body; `None` or empty: a restart now, whatever the role. The keys are judged in the order
    /// in which they stand.
    ///
    /// # Errors
    /// The answer of the first key that is wrong.
    pub fn read(body: Option<&[u8]>, paused: bool, now: Timestamp) -> Result<RestartWish, Refusal> {
        let body = body.filter(|body| !body.is_empty());
        let request = match body.map(serde_json::from_slice::<Value>) {
            None => Map::new(),
            Some(Ok(Value::Object(request))) => request,
            Some(_) => return no(400, ""),
        };
        let mut wish = RestartWish {
            condition: RestartCondition::default(),
            timeout: None,
            schedule: None,
            filters: Map::new(),
        };
        if paused && request.contains_key("schedule") {
            return no(500, "Can't schedule restart in the paused state");
        }
        for (key, value) in &request {
            wish.take(key, value, now)?;
        }
        wish.filters = request;
        if let (Some(shown), Some(timeout)) = (wish.filters.get_mut("timeout"), wish.timeout) {
            *shown = timeout.as_secs().into();
        }
        Ok(wish)
    }

    fn take(&mut self, key: &str, value: &Value, now: Timestamp) -> Result<(), Refusal> {
        match key {
            "schedule" => {
                let schedule = parse_schedule(&plain(value), now).map_err(|bad| {
                    let (status, text) = bad.answer("restart");
                    Refusal { status, text }
                })?;
                self.schedule = Some(schedule);
            }
            "role" => {
                let roles = [Role::Primary, Role::StandbyLeader, Role::Replica];
                let named = roles.into_iter().find(|role| *value == role.as_str());
                let Some(role) = named else {
                    let text =
                        "PostgreSQL role should be either primary, standby_leader, or replica";
                    return no(400, text);
                };
                self.condition.role = Some(role);
            }
            "postgres_version" => {
                let version = server_version(&plain(value));
                self.condition.older_than =
                    Some(version.map_err(|text| Refusal { status: 400, text })?);
            }
            "timeout" => match whole_seconds(value) {
                Some(timeout) if !timeout.is_zero() => self.timeout = Some(timeout),
                _ => return no(400, "Timeout should be a positive number of seconds"),
            },
            "restart_pending" => self.condition.pending = true,
            other => {
                let text = format!("Unknown filter for the scheduled restart: {other}");
                return no(400, text);
            }
        }
        Ok(())
    }

    /// The schedule, if there is one; `start_time`: `postmaster_start_time` of now.
    pub fn scheduled(&self, start_time: &str) -> Option<ScheduledRestart> {
        let schedule = self.schedule.clone()?;
        let mut document = self.filters.clone();
        document.insert("schedule".into(), schedule.text.clone().into());
        document.insert("postmaster_start_time".into(), start_time.into());
        Some(ScheduledRestart {
            schedule,
            start_time: start_time.to_owned(),
            document: Value::Object(document).to_string(),
        })
    }
}

/// What the status document shows of a scheduled restart: not of which postmaster it was asked.
pub(crate) fn shown_restart(document: &str) -> Option<Value> {
    let mut document: Value = serde_json::from_str(document).ok()?;
    document.as_object_mut()?.remove("postmaster_start_time");
    Some(document)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A time in whole seconds, rounded as Patroni does: half a second is none.
fn whole_seconds(value: &Value) -> Option<Span> {
    let rounded = seconds(value)?.as_secs_f64().round_ties_even();
    Span::try_from_secs_f64(rounded).ok()
}

/// `9.6.24` as 90624, `15.18` as 150018.
fn server_version(text: &str) -> Result<u32, String> {
    let parts: Result<Vec<i64>, _> = text.split('.').map(|part| part.trim().parse()).collect();
    let Ok(parts) = parts else {
        return Err(format!("Invalid PostgreSQL version: {text}"));
    };
    let number = |major: i64, middle: i64, minor: i64| {
        let part = |number: i64| u32::try_from(number).ok();
        let major = part(major)?.checked_mul(10_000)?;
        part(middle)?
            .checked_mul(100)?
            .checked_add(part(minor)?)?
            .checked_add(major)
    };
    match parts.as_slice() {
        [major, minor] if *major >= 10 => number(*major, 0, *minor),
        [major, middle, minor] => number(*major, *middle, *minor),
        _ => None,
    }
    .ok_or_else(|| format!("Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-27T12:00:00Z".parse().unwrap()
    }

    fn refusal(body: &str) -> (u16, String) {
        let refusal = RestartWish::read(Some(body.as_bytes()), false, now()).unwrap_err();
        (refusal.status, refusal.text)
    }

    #[test]
    fn nothing_asks_for_a_restart_now() {
        for body in [None, Some(&b""[..]), Some(b"{}")] {
            let wish = RestartWish::read(body, true, now()).unwrap();
            assert_eq!(wish.condition, RestartCondition::default());
            assert_eq!((wish.timeout, wish.schedule.clone()), (None, None));
            assert_eq!(wish.scheduled("x"), None);
        }
    }

    #[test]
    fn filters_and_schedule_are_kept_and_shown() {
        let body = r#"{"role": "replica", "postgres_version": "15.19", "restart_pending": false,
            "timeout": "2min", "schedule": "2026-11-27T15:00:00+02:00"}"#;
        let wish = RestartWish::read(Some(body.as_bytes()), false, now()).unwrap();
        let condition = RestartCondition {
            role: Some(Role::Replica),
            older_than: Some(150_019),
            pending: true,
        };
        assert_eq!(wish.condition, condition);
        assert_eq!(wish.timeout, Some(Span::from_secs(120)));
        let scheduled = wish.scheduled("2026-11-27 10:00:00.5+00:00").unwrap();
        assert_eq!(
            scheduled.document,
            r#"{"role":"replica","postgres_version":"15.19","restart_pending":false,"timeout":120,"schedule":"2026-11-27T15:00:00+02:00","postmaster_start_time":"2026-11-27 10:00:00.5+00:00"}"#
        );
        let shown = shown_restart(&scheduled.document).unwrap().to_string();
        assert!(!shown.contains("postmaster_start_time") && shown.contains("schedule"));
    }

    #[test]
    fn the_first_wrong_key_answers() {
        let version = "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: ";
        let timeout = "Timeout should be a positive number of seconds";
        for (body, status, text) in [
            ("[]", 400, ""),
            ("nonsense", 400, ""),
            (
                r#"{"role": "leader", "foo": 1}"#,
                400,
                "PostgreSQL role should be either primary, standby_leader, or replica",
            ),
            (
                r#"{"foo": 1, "role": "leader"}"#,
                400,
                "Unknown filter for the scheduled restart: foo",
            ),
            (
                r#"{"postgres_version": "x"}"#,
                400,
                "Invalid PostgreSQL version: x",
            ),
            (
                r#"{"postgres_version": "10"}"#,
                400,
                &format!("{version}10"),
            ),
            (r#"{"postgres_version": 10}"#, 400, &format!("{version}10")),
            (
                r#"{"postgres_version": "9.6"}"#,
                400,
                &format!("{version}9.6"),
            ),
            (
                r#"{"postgres_version": "-15.2"}"#,
                400,
                &format!("{version}-15.2"),
            ),
            (r#"{"timeout": 0}"#, 400, timeout),
            (r#"{"timeout": 0.4}"#, 400, timeout),
            (r#"{"timeout": "1ms"}"#, 400, timeout),
            (r#"{"timeout": -1}"#, 400, timeout),
            (r#"{"timeout": "soon"}"#, 400, timeout),
            (
                r#"{"schedule": "2020-01-01T00:00:00Z"}"#,
                422,
                "Cannot schedule restart in the past",
            ),
            (
                r#"{"schedule": "2030-01-01T00:00:00"}"#,
                400,
                "Timezone information is mandatory for the scheduled restart",
            ),
        ] {
            assert_eq!(refusal(body), (status, text.to_owned()), "{body}");
        }
        let paused = br#"{"schedule": "2030-01-01T00:00:00Z"}"#;
        assert!(RestartWish::names_a_time(paused) && !RestartWish::names_a_time(b"{}"));
        assert!(!RestartWish::names_a_time(b"") && !RestartWish::names_a_time(b"\"schedule\""));
        let refusal = RestartWish::read(Some(paused), true, now()).unwrap_err();
        assert_eq!(refusal.status, 500);
        assert_eq!(refusal.text, "Can't schedule restart in the paused state");
    }

    #[test]
    fn a_timeout_is_whole_seconds() {
        for (timeout, expected) in [
            ("0.6", 1),
            ("1.5", 2),
            ("2.5", 2),
            ("\"600ms\"", 1),
            ("\"1.5min\"", 90),
        ] {
            let body = format!(r#"{{"timeout": {timeout}}}"#);
            let wish = RestartWish::read(Some(body.as_bytes()), false, now()).unwrap();
            assert_eq!(wish.timeout, Some(Span::from_secs(expected)), "{timeout}");
        }
    }

    #[test]
    fn versions_are_numbers() {
        assert_eq!(server_version("9.6.24"), Ok(90_624));
        assert_eq!(server_version("15.18"), Ok(150_018));
        assert!(server_version("999999.1").is_err());
    }
}
