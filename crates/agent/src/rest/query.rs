//! The query string, as Python's `parse_qs` reads it, and sizes with units in it.

use axum::extract::Query as AxumQuery;
use axum::http::Uri;
use pgherd_wire::patroni::config;
use serde_json::Value;

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

/// A number of bytes such as `16777216`, `16MB`, `0x10`, `1.5 GB`, read as in the configuration; `None`:
/// unreadable.
pub(crate) fn bytes(text: &str) -> Option<i128> {
    config::bytes(&Value::from(text)).map(i128::from)
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
            ("0x100000000", Some(1 << 32)),
            // As everywhere in Patroni and PostgreSQL.
            ("010", Some(8)),
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
