//! Questions on the terminal, with click's words.

use crate::error::CtlError;
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
