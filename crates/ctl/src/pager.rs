//! A text that may be longer than the screen: at a terminal through a pager, as patronictl shows its diff; anywhere
//! else as it is.

use crate::editor::Deaf;
use crate::error::CtlError;
use crate::output::say;
use std::io::{IsTerminal as _, Write as _};
use std::process::{Command, Stdio};

/// Shows it.
pub(crate) fn page(text: &str) -> Result<(), CtlError> {
    let pager = match std::io::stdout().is_terminal() && !text.is_empty() {
        true => pager(),
        false => None,
    };
    match pager {
        Some(pager) if through(&pager, text)? => Ok(()),
        // Where there is none, patronictl changes nothing. Nobody needs one to see a few lines.
        _ => say(text),
    }
}

fn pager() -> Option<String> {
    let named = std::env::var("PAGER").ok();
    if let Some(pager) = named.filter(|pager| !pager.trim().is_empty()) {
        return Some(pager);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &&str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    ["less", "more"].into_iter().find(there).map(str::to_owned)
}

/// `false`: there is no such program.
fn through(pager: &str, text: &str) -> Result<bool, CtlError> {
    // By a shell, and deaf, as an editor: PAGER may have arguments, and Ctrl-C is for the pager.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("trap : INT QUIT; {pager}")]);
    if std::env::var_os("LESS").is_none() {
        // What fits on the screen is shown and left there. Long lines are not cut (S): nobody could scroll then.
        command.env("LESS", "FRX");
    }
    let _deaf = Deaf::new()?;
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // Its reader may have seen enough.
        let _ = input.write_all(text.as_bytes());
    }
    let status = child.wait()?;
    Ok(!matches!(status.code(), Some(126 | 127)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pager_gets_the_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("seen");
        let pager = format!("cat >{}", file.display());
        assert_eq!(through(&pager, "+ttl: 30\n"), Ok(true));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "+ttl: 30\n");
        // It reads nothing, and more was to come than a pipe holds.
        assert_eq!(through("exit 1", &"x".repeat(1 << 20)), Ok(true));
        assert_eq!(through("/nonexistent/less -R", "x"), Ok(false));
    }
}
