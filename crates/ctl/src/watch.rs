//! `-W` and `-w`: the same look again and again.

use crate::error::CtlError;
use crate::output::say;
use pgherd_model::Span;
use std::io::IsTerminal;

/// When to look again; `None`: one look.
pub(crate) struct Watch(Option<Span>);

impl Watch {
    /// From `-W` and `-w SECONDS`.
    pub(crate) fn new(every_two: bool, every: Option<f64>) -> Result<Watch, CtlError> {
        let Some(seconds) = every else {
            return Ok(Watch(every_two.then_some(Span::from_secs(2))));
        };
        match Span::try_from_secs_f64(seconds) {
            Ok(span) if !span.is_zero() => Ok(Watch(Some(span))),
            _ => Err(CtlError::told(format!(
                "-w: expected a number of seconds above 0, found {seconds}"
            ))),
        }
    }

    /// Shows one look, on a cleared screen when there will be more; then waits. `false`: it was
    /// the only one.
    pub(crate) async fn show(&self, text: &str) -> Result<bool, CtlError> {
        if self.0.is_some() && std::io::stdout().is_terminal() {
            say("\x1b[2J\x1b[1;1H")?;
        }
        say(text)?;
        match self.0 {
            None => Ok(false),
            Some(every) => {
                tokio::time::sleep(every).await;
                Ok(true)
            }
        }
    }
}
