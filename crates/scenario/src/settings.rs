//! Settings, of `cluster` and of `set`.

use std::mem::discriminant;

use crate::Span;
use crate::line::{Malformed, Words, either};
use crate::words::{Guard, Setting};

pub(crate) fn add_setting(
    settings: &mut Vec<Setting>,
    words: &mut Words<'_>,
) -> Result<(), Malformed> {
    let word = words.peek().unwrap_or("");
    let setting = setting(words)?;
    let mode = |it: &Setting| {
        matches!(
            it,
            Setting::Asynchronous | Setting::Synchronous | Setting::Strict
        )
    };
    let same =
        |it: &Setting| discriminant(it) == discriminant(&setting) || (mode(it) && mode(&setting));
    if settings.iter().any(same) {
        return Err(words.other("each setting once", &format!("`{word}` again")));
    }
    settings.push(setting);
    Ok(())
}

type MakeSetting = fn(Span) -> Setting;

/// Settings that are a time.
const TIMES: [(&str, MakeSetting); 5] = [
    ("lease", Setting::Lease),
    ("ttl", Setting::Ttl),
    ("loop", Setting::Loop),
    ("retry", Setting::Retry),
    ("hang", Setting::Hang),
];

/// All others.
const SETTINGS: [&str; 8] = [
    "start timeout",
    "lag limit",
    "asynchronous",
    "synchronous",
    "strictly synchronous",
    "guard",
    "crash handover",
    "copy anew",
];

fn setting(words: &mut Words<'_>) -> Result<Setting, Malformed> {
    let word = words.peek().unwrap_or("");
    if let Some((_, make)) = TIMES.iter().find(|(name, _)| *name == word) {
        words.next("a setting")?;
        let least = Span::from_secs(if word == "lease" { 2 } else { 1 });
        let text = words.peek().unwrap_or("").to_owned();
        let span = words.seconds()?;
        if span < least {
            let least = least.as_secs();
            return Err(words.other(&format!("{least}s or more"), &format!("`{text}`")));
        }
        return Ok(make(span));
    }
    if words.take("rewind") {
        return Ok(Setting::Rewind);
    }
    let known = SETTINGS
        .iter()
        .find(|name| name.split(' ').next() == Some(word));
    let Some(name) = known else {
        let times = TIMES.iter().map(|(name, _)| *name);
        let all: Vec<&str> = times.chain(SETTINGS).chain(["rewind"]).collect();
        return Err(words.malformed(&format!("a setting ({})", either(&all))));
    };
    words.exactly(name)?;
    Ok(match *name {
        "start timeout" => Setting::StartTimeout(words.seconds()?),
        "lag limit" => Setting::LagLimit(words.bytes()?),
        "asynchronous" => Setting::Asynchronous,
        "synchronous" => Setting::Synchronous,
        "strictly synchronous" => Setting::Strict,
        "guard" => Setting::Guard(words.one_of(&[
            ("automatic", Guard::Automatic),
            ("required", Guard::Required),
            ("off", Guard::Off),
        ])?),
        "crash handover" => Setting::HandOver,
        _ => Setting::CopyAnew,
    })
}
