//! Settings of a scenario as the file of settings has them.

use crate::yaml;
use pgherd_scenario::Span;
use pgherd_scenario::words::{Guard, Setting};
use serde_json::{Value, json};

/// `bootstrap.dcs`, or the body of `PATCH /config`.
pub(super) fn document(settings: &[Setting]) -> Value {
    let mut all = json!({});
    for setting in settings {
        yaml::merge(&mut all, &one(*setting));
    }
    all
}

fn one(setting: Setting) -> Value {
    let seconds = |span: Span| span.as_secs();
    match setting {
        Setting::Lease(span) => json!({"pgherd": {"lease_ttl": seconds(span)}}),
        Setting::Ttl(span) => json!({"ttl": seconds(span)}),
        Setting::Loop(span) => json!({"loop_wait": seconds(span)}),
        Setting::Retry(span) => json!({"retry_timeout": seconds(span)}),
        Setting::Hang(span) => json!({"pgherd": {"hang_timeout": seconds(span)}}),
        Setting::StartTimeout(span) => json!({"primary_start_timeout": seconds(span)}),
        Setting::LagLimit(bytes) => json!({"maximum_lag_on_failover": bytes}),
        Setting::Asynchronous => modes(false, false),
        Setting::Synchronous => modes(true, false),
        Setting::Strict => modes(true, true),
        Setting::Guard(guard) => {
            let guard = match guard {
                Guard::Automatic => "automatic",
                Guard::Required => "required",
                Guard::Off => "off",
            };
            json!({"pgherd": {"guard": guard}})
        }
        Setting::HandOver => json!({"pgherd": {"crash_handover": "sync"}}),
        Setting::Rewind => json!({"postgresql": {"use_pg_rewind": true}}),
        Setting::CopyAnew => json!({"postgresql": {
            "remove_data_directory_on_rewind_failure": true,
            "remove_data_directory_on_diverged_timelines": true,
        }}),
    }
}

fn modes(synchronous: bool, strict: bool) -> Value {
    json!({"synchronous_mode": synchronous, "synchronous_mode_strict": strict})
}

/// Whether rows wait for a standby from now on; `None`: as before.
pub(super) fn synchronous(settings: &[Setting]) -> Option<bool> {
    settings.iter().find_map(|setting| match setting {
        Setting::Synchronous | Setting::Strict => Some(true),
        Setting::Asynchronous => Some(false),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_the_names_of_the_file() {
        let lease = Setting::Lease(Span::from_secs(5));
        let all = [lease, Setting::Guard(Guard::Required), Setting::Strict];
        let expected = json!({
            "pgherd": {"lease_ttl": 5, "guard": "required"},
            "synchronous_mode": true,
            "synchronous_mode_strict": true,
        });
        assert_eq!(document(&all), expected);
        assert_eq!(synchronous(&all), Some(true));
        assert_eq!(synchronous(&[lease]), None);
        assert_eq!(synchronous(&[lease, Setting::Asynchronous]), Some(false));
    }
}
