//! Lines for a person, on standard output.

use crate::error::CtlError;
use std::io::Write;

/// Writes text as it is.
pub(crate) fn say(text: &str) -> Result<(), CtlError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes a line.
pub(crate) fn line(text: &str) -> Result<(), CtlError> {
    say(&format!("{text}\n"))
}

/// `2026-11-21 03:15:43` and so many digits of the second, at most 6.
pub(crate) fn timestamp(digits: usize) -> String {
    let text = jiff::Zoned::now()
        .strftime("%Y-%m-%d %H:%M:%S%.6f")
        .to_string();
    let cut = if digits == 0 { 7 } else { 6 - digits.min(6) };
    text.get(..text.len() - cut).unwrap_or(&text).to_owned()
}
