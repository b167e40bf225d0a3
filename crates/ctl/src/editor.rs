//! A text in the editor of a person, and what it takes that their work is not lost: neither by Ctrl-C, which a
//! terminal sends to everybody there, nor by a mistake that is noticed afterwards.

use crate::error::CtlError;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use std::io::Write;
use std::process::Command;
use tempfile::NamedTempFile;

/// A file that goes when this goes, unless it is [`Draft::kept`].
#[derive(Debug)]
pub(crate) struct Draft(NamedTempFile);

impl Draft {
    /// What a person makes of `text`.
    pub(crate) fn edit(scope: &str, text: &str) -> Result<Draft, CtlError> {
        let draft = Draft::new(scope, text)?;
        // By a shell: EDITOR may have arguments. It catches what we catch: else it would end before the editor.
        let script = format!("trap : INT QUIT; {} \"$1\"", editor()?);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, "sh"]).arg(draft.0.path());
        let status = {
            let _deaf = Deaf::new()?;
            command.status()?
        };
        match (status.success(), status.code()) {
            (true, _) => Ok(draft),
            (false, Some(code)) => Err(CtlError::told(format!(
                "Editor exited with return code {code}"
            ))),
            (false, None) => Err(CtlError::told(format!("Editor ended: {status}"))),
        }
    }

    fn new(scope: &str, text: &str) -> Result<Draft, CtlError> {
        // Readable by its owner only: commands in it may hold what is secret.
        let mut file = tempfile::Builder::new()
            .prefix(&format!("{scope}-config-"))
            .suffix(".yaml")
            .tempfile()?;
        file.write_all(text.as_bytes())?;
        file.flush()?;
        Ok(Draft(file))
    }

    /// As it was left. Read by its name: an editor may have written another file and renamed it.
    pub(crate) fn text(&self) -> Result<String, CtlError> {
        Ok(std::fs::read_to_string(self.0.path())?)
    }

    /// The file stays, and the error says where. A command that was broken off by its person leaves nothing.
    pub(crate) fn kept(self, error: CtlError) -> CtlError {
        let CtlError::Told(text) = error else {
            return error;
        };
        CtlError::Told(match self.0.into_temp_path().keep() {
            Ok(path) => format!(
                "{text}\nWhat was edited is kept in {path}: edit-config --replace {path} applies it, once it is right",
                path = path.display()
            ),
            Err(cause) => format!("{text}\nWhat was edited could not be kept: {cause}"),
        })
    }
}

fn editor() -> Result<String, CtlError> {
    let named = std::env::var("EDITOR").ok();
    if let Some(editor) = named.filter(|editor| !editor.trim().is_empty()) {
        return Ok(editor);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &&str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let known = ["editor", "vi"].into_iter().find(there);
    known.map(str::to_owned).ok_or_else(|| {
        CtlError::told("EDITOR environment variable is not set. editor or vi are not available")
    })
}

/// Signals from the keyboard do nothing here while this is there. They are caught and not ignored: what is
/// ignored stays so in the editor or pager.
pub(crate) struct Deaf(Vec<(Signal, SigAction)>);

impl Deaf {
    pub(crate) fn new() -> std::io::Result<Deaf> {
        let mut before = Deaf(Vec::new());
        let handler = SigHandler::Handler(nothing);
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            before.0.push((signal, set(signal, &action)?));
        }
        Ok(before)
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        for (signal, action) in &self.0 {
            // It was there before, so the system takes it again.
            let _ = set(*signal, action);
        }
    }
}

extern "C" fn nothing(_: std::ffi::c_int) {}

/// Sets what a signal does; what it did before.
#[allow(unsafe_code)]
fn set(signal: Signal, action: &SigAction) -> nix::Result<SigAction> {
    // SAFETY: the handler is one that does nothing, or one that the system has given back for this signal.
    unsafe { nix::sys::signal::sigaction(signal, action) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::raise;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static HEARD: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn count(_: std::ffi::c_int) {
        HEARD.fetch_add(1, Ordering::SeqCst);
    }

    #[test]
    fn keys_are_the_editors_while_it_runs() {
        let handler = SigHandler::Handler(count);
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        let signals = [Signal::SIGINT, Signal::SIGQUIT];
        let before = signals.map(|signal| set(signal, &action).unwrap());
        let heard = || {
            for signal in signals {
                raise(signal).unwrap();
            }
            HEARD.load(Ordering::SeqCst)
        };
        let deaf = Deaf::new().unwrap();
        assert_eq!(heard(), 0);
        drop(deaf);
        assert_eq!(heard(), 2, "as before");
        for (signal, before) in signals.iter().zip(&before) {
            set(*signal, before).unwrap();
        }
    }

    #[test]
    fn work_that_cannot_be_taken_is_kept() {
        let draft = Draft::new("x", "ttl: [\n").unwrap();
        let path = draft.0.path().to_owned();
        let CtlError::Told(text) = draft.kept(CtlError::told("it is wrong")) else {
            panic!("another error");
        };
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "it is wrong");
        assert!(lines[1].contains(&path.display().to_string()), "{text}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "ttl: [\n");
        std::fs::remove_file(&path).unwrap();

        let draft = Draft::new("x", "").unwrap();
        let path = draft.0.path().to_owned();
        assert_eq!(draft.kept(CtlError::Aborted), CtlError::Aborted);
        assert!(!path.exists());
    }
}
