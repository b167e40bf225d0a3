//! Value of `members/<name>`.

use super::super::lenient::{as_u64, truthy};
use super::super::rest::reasons;
use super::{parse, tags_from_value, tags_in_force};
use pgherd_model::{Lsn, Member, MemberName, PostgresState, Role, Timeline, Version};
use serde_json::{Map, Value, json};

/// Reads a member's value. `name` is the last part of the key, `lease` the key's lease (0: not
/// known). A value that is not JSON gives a member of which nothing but the name is known; one
/// that begins with `postgres` is the legacy form, a URL with `?application_name=<api_url>`.
pub fn member_from_json(name: MemberName, text: &str, lease: i64) -> Member {
    if text.starts_with("postgres") {
        let mut member = member_from_value(name, &Value::Null, lease);
        let (url, api_url) = split_application_name(text.trim());
        member.conn_url = without_credentials(url);
        member.address = host_and_port(url);
        member.api_url = api_url;
        return member;
    }
    member_from_value(name, &parse(text), lease)
}

fn member_from_value(name: MemberName, value: &Value, lease: i64) -> Member {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let lsn = |key: &str| value.get(key).and_then(as_u64).map(Lsn);
    let document = |key: &str| {
        let found = value.get(key).filter(|found| !found.is_null());
        found.map(Value::to_string)
    };
    let flag = |key: &str| value.get(key).is_some_and(truthy);
    let conn_url = text("conn_url").unwrap_or_default();
    Member {
        name,
        conn_url: without_credentials(conn_url),
        address: host_and_port(conn_url),
        api_url: text("api_url").unwrap_or_default().to_owned(),
        proxy_url: text("proxy_url").map(without_credentials),
        state: text("state").and_then(PostgresState::parse),
        role: text("role").and_then(Role::parse),
        version: text("version").and_then(version_from_text),
        xlog_location: lsn("xlog_location"),
        receive_lsn: lsn("receive_lsn"),
        replay_lsn: lsn("replay_lsn"),
        timeline: value
            .get("timeline")
            .and_then(as_u64)
            .and_then(|timeline| u32::try_from(timeline).ok())
            .map(Timeline),
        replication_state: text("replication_state").map(str::to_owned),
        checkpoint_after_promote: value.get("checkpoint_after_promote").map(truthy),
        tags: value.get("tags").map(tags_from_value).unwrap_or_default(),
        guard_missing: value.get("guard").is_some_and(|guard| guard == "missing"),
        pending_restart: flag("pending_restart"),
        pending_restart_reason: reasons_from(value.get("pending_restart_reason")),
        leaves_sync: false,
        scheduled_restart: document("scheduled_restart"),
        pause: flag("pause"),
        lease,
    }
}

/// `{"name": {"old_value": "…", "new_value": "…"}}`, sorted by name.
fn reasons_from(value: Option<&Value>) -> Vec<(String, String, String)> {
    let reasons = value.and_then(Value::as_object).into_iter().flatten();
    let mut reasons: Vec<_> = reasons
        .map(|(name, diff)| {
            let text = |key: &str| match diff.get(key) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            (name.clone(), text("old_value"), text("new_value"))
        })
        .collect();
    reasons.sort();
    reasons
}

/// Writes a member's value. Fields that are not set are left out, also flags that are false.
pub fn member_to_json(member: &Member) -> String {
    let mut object = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            object.insert(key.into(), value);
        }
    };
    let flag = |set: bool| set.then_some(Value::Bool(true));
    let lsn = |lsn: Option<Lsn>| lsn.map(|lsn| json!(lsn.0));
    let version = member
        .version
        .map(|Version(a, b, c)| format!("{a}.{b}.{c}"));
    let tags = tags_in_force(&member.tags, member.leaves_sync);
    let tags = (!tags.is_empty()).then_some(Value::Object(tags));
    put("conn_url", Some(json!(member.conn_url)));
    put("api_url", Some(json!(member.api_url)));
    put("state", member.state.map(|state| json!(state.as_str())));
    put("role", member.role.map(|role| json!(role.as_str())));
    put("version", version.map(Value::String));
    put("proxy_url", member.proxy_url.clone().map(Value::String));
    put(
        "checkpoint_after_promote",
        member.checkpoint_after_promote.map(Value::Bool),
    );
    put("tags", tags);
    put("guard", member.guard_missing.then(|| json!("missing")));
    put("pending_restart", flag(member.pending_restart));
    let reason = &member.pending_restart_reason;
    put(
        "pending_restart_reason",
        (!reason.is_empty()).then(|| reasons(reason)),
    );
    put("xlog_location", lsn(member.xlog_location));
    put("receive_lsn", lsn(member.receive_lsn));
    put("replay_lsn", lsn(member.replay_lsn));
    put(
        "replication_state",
        member.replication_state.clone().map(Value::String),
    );
    put(
        "timeline",
        member.timeline.map(|timeline| json!(timeline.0)),
    );
    put(
        "scheduled_restart",
        member.scheduled_restart.as_deref().map(parse),
    );
    put("pause", flag(member.pause));
    Value::Object(object).to_string()
}

/// Host and port of `postgres://[user[:password]@]host[:port][/…]`, default port 5432; IPv6 in
/// brackets, which are removed. `None` if it is no such URL.
pub fn host_and_port(url: &str) -> Option<(String, u16)> {
    let Url { authority, .. } = split_url(url)?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            let port = if rest.is_empty() {
                ""
            } else {
                rest.strip_prefix(':')?
            };
            (host, port)
        }
        None => authority.rsplit_once(':').unwrap_or((authority, "")),
    };
    let port = match port {
        "" => 5432,
        digits => digits.parse().ok()?,
    };
    let plain = !host.is_empty() && !host.contains(char::is_whitespace);
    plain.then(|| (host.to_owned(), port))
}

struct Url<'a> {
    scheme: &'a str,
    has_user: bool,
    authority: &'a str,
    rest: &'a str,
}

fn split_url(url: &str) -> Option<Url<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    if !matches!(scheme, "postgres" | "postgresql") {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let user = authority.rsplit_once('@');
    Some(Url {
        scheme,
        has_user: user.is_some(),
        authority: user.map_or(authority, |(_, authority)| authority),
        rest,
    })
}

/// Somebody else's member may publish user and password: they must not reach logs or answers.
fn without_credentials(url: &str) -> String {
    match split_url(url) {
        Some(parts) if parts.has_user => {
            format!("{}://{}{}", parts.scheme, parts.authority, parts.rest)
        }
        Some(_) => url.to_owned(),
        // No URL: what stands before an `@` may be a password all the same.
        None => url
            .rsplit_once('@')
            .map_or(url, |(_, rest)| rest)
            .to_owned(),
    }
}

/// The legacy form: (URL, api_url).
fn split_application_name(text: &str) -> (&str, String) {
    let Some((url, query)) = text.split_once('?') else {
        return (text, String::new());
    };
    let api_url = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("application_name="))
        .map(percent_decoded)
        .unwrap_or_default();
    (url, api_url)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match code {
            Some((high, low)) => {
                bytes.push(high * 16 + low);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    let digit = char::from(digit).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// Dotted integers; further parts are dropped. Anything else is `None`, an ancient version.
fn version_from_text(text: &str) -> Option<Version> {
    let mut parts = [0_u32; 3];
    for (index, part) in text.split('.').enumerate() {
        let number = part.parse().ok()?;
        if let Some(slot) = parts.get_mut(index) {
            *slot = number;
        }
    }
    let [major, minor, patch] = parts;
    Some(Version(major, minor, patch))
}
