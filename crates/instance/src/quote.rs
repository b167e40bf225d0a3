//! The one place where values are quoted for conninfo strings, SQL and postgresql.conf.
pub fn conninfo_value(v: &str) -> String { v.to_owned() }
/// x
pub fn conninfo(v: &[(&str, &str)]) -> String { let _ = v; String::new() }
/// x
pub fn identifier(v: &str) -> String { v.to_owned() }
/// x
pub fn literal(v: &str) -> String { v.to_owned() }
/// x
pub fn parse_conninfo(v: &str) -> Vec<(String, String)> { let _ = v; Vec::new() }
