//! Questions on the terminal, with click's words.

use crate::error::CtlError;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use std::io::{BufRead, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// Asks for a text; an empty answer takes the default.
pub(crate) fn ask(question: &str, default: &str) -> Result<String, CtlError> {
    let answer = line(&format!("{question} [{default}]: "))?;
    Ok(if answer.is_empty() {
        default.to_owned()
    } else {
        answer
    })
}

/// Asks for a text until there is one.
pub(crate) fn ask_for(question: &str) -> Result<String, CtlError> {
    loop {
        let answer = line(&format!("{question}: "))?;
        if !answer.is_empty() {
            return Ok(answer);
        }
    }
}

/// Asks for yes or no; no answer is no.
pub(crate) fn confirm(question: &str) -> Result<bool, CtlError> {
    loop {
        match line(&format!("{question} [y/N]: "))?
            .to_lowercase()
            .as_str()
        {
            "y" | "yes" => return Ok(true),
            "" | "n" | "no" => return Ok(false),
            _ => println!("Error: invalid input"),
        }
    }
}

/// Asks for something that is not shown while it is typed.
pub(crate) fn ask_secret(question: &str) -> Result<String, CtlError> {
    eprint!("{question}: ");
    let stdin = std::io::stdin();
    let answer = hidden(stdin.as_fd(), &mut stdin.lock());
    eprintln!();
    answer
}

/// Ctrl-C, where the terminal does not say which key it is.
const CTRL_C: u8 = 3;

/// A terminal that shows nothing of what is typed, until this is gone. A signal would leave it so: the key that
/// sends one ends the line instead, and is looked for in it.
struct Quiet<'t> {
    terminal: BorrowedFd<'t>,
    before: Termios,
    interrupt: u8,
}

impl Quiet<'_> {
    /// `None`: it is no terminal.
    fn new(terminal: BorrowedFd<'_>) -> Option<Quiet<'_>> {
        let before = tcgetattr(terminal).ok()?;
        let interrupt = match before.special_codes[SpecialCodeIndex::VINTR] {
            0 => CTRL_C,
            key => key,
        };
        let mut modes = before.clone();
        modes
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ISIG);
        modes.special_codes[SpecialCodeIndex::VEOL] = interrupt;
        // From here on the terminal is set back, whatever happens.
        let quiet = Quiet {
            terminal,
            before,
            interrupt,
        };
        // A terminal that cannot do this shows what is typed; the person sees that.
        let _ = tcsetattr(terminal, OptionalActions::Flush, &modes);
        Some(quiet)
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// A line from a terminal that does not show it, or from anything else.
fn hidden(terminal: BorrowedFd<'_>, input: &mut impl BufRead) -> Result<String, CtlError> {
    let quiet = Quiet::new(terminal);
    let interrupt = quiet.as_ref().map(|quiet| quiet.interrupt);
    let mut typed = Vec::new();
    loop {
        let part = match input.fill_buf() {
            Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
            part => part?,
        };
        if part.is_empty() && typed.is_empty() {
            return Err(CtlError::Aborted);
        }
        let ends = |byte: &u8| *byte == b'\n' || Some(*byte) == interrupt;
        let end = part.iter().position(ends);
        let aborted = end.is_some_and(|at| part[at] != b'\n');
        let taken = end.map_or(part.len(), |at| at + 1);
        typed.extend_from_slice(&part[..taken]);
        input.consume(taken);
        if aborted {
            return Err(CtlError::Aborted);
        }
        if end.is_some() || taken == 0 {
            break;
        }
    }
    let text = String::from_utf8(typed)
        .map_err(|_| CtlError::told("what was typed is no UTF-8 text: nothing is done with it"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// One line; the end of the input aborts the command.
fn line(prompt: &str) -> Result<String, CtlError> {
    let mut out = std::io::stdout();
    out.write_all(prompt.as_bytes())?;
    out.flush()?;
    let mut answer = String::new();
    if std::io::stdin().lock().read_line(&mut answer)? == 0 {
        return Err(CtlError::Aborted);
    }
    Ok(answer.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::fs::File;
    use std::io::BufReader;
    use std::os::fd::{AsFd, OwnedFd};
    use std::time::{Duration, Instant};

    fn terminal() -> (File, File) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let keyboard: OwnedFd = openpt(flags).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let terminal = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
        (keyboard.into(), terminal.into())
    }

    /// What comes of these keys, typed when nothing is shown any more.
    fn answer(keys: &[u8]) -> Result<String, CtlError> {
        let (mut keyboard, terminal) = terminal();
        let before = tcgetattr(&terminal).unwrap().local_modes;
        assert!(before.contains(LocalModes::ECHO | LocalModes::ISIG));
        let answer = std::thread::scope(|scope| {
            scope.spawn(|| {
                let deadline = Instant::now() + Duration::from_secs(20);
                let shows = || {
                    let modes = tcgetattr(&terminal).unwrap().local_modes;
                    modes.intersects(LocalModes::ECHO | LocalModes::ISIG)
                };
                while shows() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(1));
                }
                keyboard.write_all(keys).unwrap();
            });
            hidden(terminal.as_fd(), &mut BufReader::new(&terminal))
        });
        assert_eq!(tcgetattr(&terminal).unwrap().local_modes, before);
        answer
    }

    #[test]
    fn ctrl_c_at_a_password_leaves_the_terminal_as_it_was() {
        assert_eq!(answer(b"half of it\x03"), Err(CtlError::Aborted));
        assert_eq!(answer(b"\x03"), Err(CtlError::Aborted));
        assert_eq!(answer(b"all of it\n"), Ok("all of it".to_owned()));
        // Others that would stop or end the program are of no use in a password.
        assert_eq!(answer(b"a\x1cb\n"), Ok("a\x1cb".to_owned()));
    }

    #[test]
    fn what_is_no_terminal_is_read_as_it_is() {
        let null = File::open("/dev/null").unwrap();
        let read = |text: &[u8]| hidden(null.as_fd(), &mut BufReader::new(text));
        assert_eq!(read(b"a\x03b\nc\n"), Ok("a\x03b".to_owned()));
        assert_eq!(read(b"end"), Ok("end".to_owned()));
        assert_eq!(read(b""), Err(CtlError::Aborted));
        assert!(matches!(read(b"\xff\n"), Err(CtlError::Told(_))));
    }
}
