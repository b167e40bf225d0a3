//! The query string, as Python's `parse_qs` reads it, and sizes with units in it.

use axum::extract::Query as AxumQuery;
use axum::http::Uri;

/// Parameters of a request. Empty values count as absent, of repeated names the first one counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads it; what can not be read is empty.
    pub(crate) fn of(uri: &Uri) -> Query {
        let mut pairs: Vec<(String, String)> = AxumQuery::try_from_uri(uri)
            .map(|AxumQuery(pairs)| pairs)
            .unwrap_or_default();
        pairs.retain(|(_, value)| !value.is_empty());
        Query(pairs)
    }

    /// First value of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// `tag_NAME=VALUE` parameters, without the prefix; of each name the first.
    pub(crate) fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().enumerate().filter_map(|(at, (key, value))| {
            let first = !self.0[..at].iter().any(|(earlier, _)| earlier == key);
            let name = key.strip_prefix("tag_")?;
            first.then_some((name, value.as_str()))
        })
    }
}

/// A number of bytes such as `16777216`, `16MB`, `0x10`, `1.5 GB`; `None`: unreadable. Units as
/// PostgreSQL writes them, case counts.
pub(crate) fn bytes(text: &str) -> Option<i128> {
    let text = text.trim();
    let (number, unit) = if let Some(hex) = text.strip_prefix("0x") {
        let end = hex
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(hex.len());
        // `0x1B` is 27: Patroni takes as many digits as there are, too.
        let digits = i128::from_str_radix(hex.get(..end)?, 16).ok()?;
        return digits.checked_mul(factor(hex[end..].trim())?);
    } else {
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+')))
            .unwrap_or(text.len());
        text.split_at(end)
    };
    let factor = factor(unit.trim())?;
    if let Ok(whole) = number.parse::<i64>() {
        return i128::from(whole).checked_mul(factor);
    }
    let real: f64 = number.parse().ok()?;
    // Saturates far outside of what a position can be.
    Some((real * factor as f64).round_ties_even() as i128)
}

fn factor(unit: &str) -> Option<i128> {
    Some(match unit {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_postgresqls_units() {
        for (text, size) in [
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("16MB", Some(16 << 20)),
            ("10 kB", Some(10 << 10)),
            ("1TB", Some(1 << 40)),
            ("1.5kB", Some(1536)),
            ("0x10", Some(16)),
            ("-1", Some(-1)),
            ("16mb", None),
            ("MB", None),
            ("ten", None),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
    }

    #[test]
    fn first_value_counts_and_blanks_do_not() {
        let query = Query::of(&Uri::from_static(
            "/x?lag=&lag=1%20kB&lag=2&tag_a=b+c&tag_a=d",
        ));
        assert_eq!(query.get("lag"), Some("1 kB"));
        assert_eq!(query.tags().collect::<Vec<_>>(), [("a", "b c")]);
    }
}
