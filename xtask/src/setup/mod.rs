//! Set-up: finds what a task needs and this machine lacks, says exactly what would be installed,
//! asks, and installs it with the distribution's package manager. Where nothing is missing it
//! neither asks nor calls the package manager.

mod apt;
mod needs;
mod patroni;

use crate::machine;
use anyhow::{Result, bail};
use std::io::{IsTerminal, Write};

pub(crate) use needs::Need;
pub(crate) use patroni::offer as offer_patroni;

/// Installs what `needs` lack, after asking unless `yes`. Fails if something is still missing then.
pub(crate) fn ensure(needs: &[Need], yes: bool) -> Result<()> {
    let missing = needs::missing(needs);
    let patroni = needs.contains(&Need::Patroni) && !patroni::is_there();
    if missing.is_empty() && !patroni {
        return Ok(());
    }
    eprintln!("This task needs what this machine does not have yet:");
    for lack in &missing {
        eprintln!("  - {}", lack.what);
    }
    if patroni {
        eprintln!("  - {}", patroni::what());
    }
    if !missing.is_empty() && !machine::is_debian_like() {
        bail!(
            "packages are installed by themselves on Debian and Ubuntu only: install the above with \
             this system's package manager and run the same command again"
        );
    }
    if !missing.is_empty() {
        apt::install(&missing, yes)?;
    }
    if patroni {
        patroni::install(yes)?;
    }
    let still = needs::missing(needs);
    if let Some(lack) = still.first() {
        bail!(
            "still missing after the installation: {}; the package manager's messages above say more",
            lack.what
        );
    }
    Ok(())
}

/// Asks for a yes. Without a terminal nobody can answer: then it fails and names `--yes`.
fn agreed(question: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("nobody is here to answer \"{question}\": run again with --yes to agree");
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if !is_yes(&answer) {
        bail!("nothing was installed");
    }
    Ok(())
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_a_yes() {
        assert!(is_yes("y\n") && is_yes("Yes\n"));
        assert!(!is_yes("") && !is_yes("n\n") && !is_yes("yesterday\n"));
    }
}
