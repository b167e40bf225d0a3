//! Tests that can not run on every machine. A person is told and goes on; where nobody reads what a
//! passing test has written (`CI` is set), and where it was asked for (`PGHERD_REQUIRE_ROOT`,
//! `PGHERD_REQUIRE_ORACLE`, `PGHERD_REQUIRE_SYSTEMD`, `PGHERD_REQUIRE_FAULTS`), a test that does not run has failed. Such a
//! variable at `0` allows it there too.

/// What a machine can lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Namespaces, mounts, owners.
    Root,
    /// `systemd-analyze`.
    Systemd,
    /// Genuine Patroni.
    Patroni,
    /// What the kernel and its tools must do for a fault: drop packets, fill or freeze a disk.
    Faults,
}

impl Need {
    fn variable(self) -> &'static str {
        match self {
            Need::Root => "PGHERD_REQUIRE_ROOT",
            Need::Systemd => "PGHERD_REQUIRE_SYSTEMD",
            Need::Patroni => "PGHERD_REQUIRE_ORACLE",
            Need::Faults => "PGHERD_REQUIRE_FAULTS",
        }
    }
}

/// Says why a test does not run; every skip passes through here.
///
/// # Panics
/// Where tests may not skip themselves.
pub fn lacking(need: Need, why: &str) {
    let variable = need.variable();
    let asked = std::env::var(variable).ok();
    let ci = std::env::var_os("CI").is_some();
    assert!(
        !required(asked.as_deref(), ci),
        "{why} (required, because {} is set; {variable}=0 skips such tests)",
        if asked.is_some() { variable } else { "CI" }
    );
    eprintln!("skipped: {why}");
}

fn required(asked: Option<&str>, ci: bool) -> bool {
    asked.map_or(ci, |value| value != "0")
}

#[cfg(test)]
mod tests {
    use super::required;

    #[test]
    fn the_variable_outranks_ci() {
        assert!(!required(None, false));
        assert!(required(None, true));
        assert!(required(Some("1"), false));
        assert!(!required(Some("0"), true));
    }
}
