//! Numbers with a unit, as PostgreSQL shows them (`SHOW shared_buffers`: 128MB, not 16384).

const MEMORY: [(&str, i128); 5] = [
    ("TB", 1 << 40),
    ("GB", 1 << 30),
    ("MB", 1 << 20),
    ("kB", 1 << 10),
    ("B", 1),
];

/// In microseconds.
const TIME: [(&str, i128); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1000),
    ("us", 1),
];

/// A whole number of `unit` (pg_settings.unit: `8kB`, `ms`, ...) in the largest unit that leaves it
/// whole. Anything else, and what is not above zero, stays as it is.
pub(crate) fn shown(value: &str, unit: &str) -> String {
    let digits = unit
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(unit.len());
    let (times, base) = unit.split_at(digits);
    let times: i128 = times.parse().unwrap_or(1);
    let number: Option<i64> = value.trim().parse().ok().filter(|number| *number > 0);
    for table in [&MEMORY[..], &TIME[..]] {
        let size = table.iter().find(|(name, _)| *name == base);
        if let (Some(number), Some((_, size))) = (number, size) {
            let total = i128::from(number) * times * size;
            if let Some((name, size)) = table.iter().find(|(_, size)| total % size == 0) {
                return format!("{}{name}", total / size);
            }
        }
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_postgres_shows_them() {
        assert_eq!(shown("16384", "8kB"), "128MB");
        assert_eq!(shown("16385", "8kB"), "131080kB");
        assert_eq!(shown("300", "s"), "5min");
        assert_eq!(shown("1500", "ms"), "1500ms");
        assert_eq!(shown("1024", "MB"), "1GB");
        assert_eq!(shown("-1", "kB"), "-1");
        assert_eq!(shown("256MB", "8kB"), "256MB");
        assert_eq!(shown("100", ""), "100");
        assert_eq!(shown("on", ""), "on");
    }
}
