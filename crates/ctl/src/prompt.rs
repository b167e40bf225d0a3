//! Questions on the terminal, with click's words.

use crate::error::CtlError;
use rustix::termios::{LocalModes, OptionalActions, isatty, tcgetattr, tcsetattr};
use std::io::{BufRead, Write};

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
    let stdin = std::io::stdin();
    let known = isatty(&stdin).then(|| tcgetattr(&stdin).ok()).flatten();
    let echo = |on: bool| {
        if let Some(mut modes) = known.clone() {
            modes.local_modes.set(LocalModes::ECHO, on);
            // A terminal that can not do this shows what is typed; the person sees that.
            let _ = tcsetattr(&stdin, OptionalActions::Flush, &modes);
        }
    };
    eprint!("{question}: ");
    echo(false);
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    echo(true);
    eprintln!();
    match read? {
        0 => Err(CtlError::Aborted),
        _ => Ok(answer.trim_end_matches(['\r', '\n']).to_owned()),
    }
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
