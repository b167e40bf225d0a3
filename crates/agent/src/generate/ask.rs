//! A secret from the person at the terminal: nothing of it is shown, and nobody is waited for
//! for ever. Where there is no terminal nobody is asked. However it ends, the terminal is left as it
//! was: an interrupt is read here as a key, since its signal would leave no time for that.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::time::Duration;

use anyhow::{Result, bail};
use pgherd_model::Secret;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// Somebody may have to look it up.
const PATIENCE: Duration = Duration::from_secs(300);
/// Ctrl-C, where the terminal has no other key for it.
const INTERRUPT: u8 = 0x03;
/// A terminal gives no longer line.
const LINE_BYTES: usize = 4096;

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

impl Hidden<'_> {
    /// The terminal shows nothing that is typed, and sends no signals for it.
    fn hide(&self) -> Option<()> {
        let mut quiet = self.before.clone();
        quiet.local_modes &= !(LocalModes::ECHO | LocalModes::ISIG);
        quiet.local_modes |= LocalModes::ICANON;
        // It ends a line, so that it is read at once.
        quiet.special_codes[SpecialCodeIndex::VEOL] = self.interrupt();
        tcsetattr(self.terminal, OptionalActions::Flush, &quiet).ok()
    }

    /// The key that interrupts.
    fn interrupt(&self) -> u8 {
        match self.before.special_codes[SpecialCodeIndex::VINTR] {
            0 => INTERRUPT,
            key => key,
        }
    }

    /// The line that is typed; `None`: none is.
    fn line(&self, question: &str) -> Option<Vec<u8>> {
        let mut terminal = self.terminal;
        write!(terminal, "{question} (empty: to be filled in later): ").ok()?;
        let patience = Timespec::try_from(PATIENCE).ok()?;
        let mut ready = [PollFd::new(terminal, PollFlags::IN)];
        if poll(&mut ready, Some(&patience)).ok()? == 0 {
            return None;
        }
        let mut line = vec![0; LINE_BYTES];
        let length = terminal.read(&mut line).ok()?;
        line.truncate(length);
        Some(line)
    }
}

/// `None`: there is no terminal, nothing was typed, or nobody has answered.
///
/// # Errors
/// It was interrupted.
pub(super) fn secret(question: &str) -> Result<Option<Secret>> {
    let mut options = OpenOptions::new();
    let terminal = options.read(true).write(true).open("/dev/tty");
    let Ok(mut terminal) = terminal else {
        return Ok(None);
    };
    let Ok(before) = tcgetattr(&terminal) else {
        return Ok(None);
    };
    let hidden = Hidden {
        terminal: &terminal,
        before,
    };
    let interrupt = hidden.interrupt();
    let line = hidden.hide().and_then(|()| hidden.line(question));
    drop(hidden);
    // The end of the line was not shown either.
    writeln!(terminal).ok();
    let line = line.unwrap_or_default();
    if line.contains(&interrupt) {
        bail!("interrupted: nothing was written");
    }
    Ok(answer(&line))
}

fn answer(line: &[u8]) -> Option<Secret> {
    let answer = std::str::from_utf8(line).ok()?;
    let answer = answer.trim_end_matches(['\r', '\n']);
    (!answer.is_empty()).then(|| Secret::new(answer))
}
