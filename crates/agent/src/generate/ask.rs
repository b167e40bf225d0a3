//! A secret from the person at the terminal: nothing of it is shown, and nobody is waited for
//! for ever. Where there is no terminal nobody is asked.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::time::Duration;

use pgherd_model::Secret;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Somebody may have to look it up.
const PATIENCE: Duration = Duration::from_secs(300);

/// Shows what is typed again, whatever happens.
struct Hidden<'t> {
    terminal: &'t File,
    before: Termios,
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// `None`: there is no terminal, nothing was typed, or nobody has answered.
pub(super) fn secret(question: &str) -> Option<Secret> {
    let mut options = OpenOptions::new();
    let mut terminal = options.read(true).write(true).open("/dev/tty").ok()?;
    let before = tcgetattr(&terminal).ok()?;
    let mut quiet = before.clone();
    quiet.local_modes &= !LocalModes::ECHO;
    tcsetattr(&terminal, OptionalActions::Flush, &quiet).ok()?;
    let line = {
        let hidden = Hidden {
            terminal: &terminal.try_clone().ok()?,
            before,
        };
        write!(terminal, "{question} (empty: to be filled in later): ").ok()?;
        line(hidden.terminal)
    };
    writeln!(terminal).ok();
    let line = line?;
    let answer = line.trim_end_matches(['\r', '\n']);
    (!answer.is_empty()).then(|| Secret::new(answer))
}

/// The terminal gives whole lines.
fn line(terminal: &File) -> Option<String> {
    let patience = Timespec::try_from(PATIENCE).ok()?;
    let mut ready = [PollFd::new(terminal, PollFlags::IN)];
    if poll(&mut ready, Some(&patience)).ok()? == 0 {
        return None;
    }
    let mut line = String::new();
    BufReader::new(terminal).read_line(&mut line).ok()?;
    Some(line)
}
