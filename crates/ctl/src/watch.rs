//! `-W` and `-w`: the same look again and again.

use crate::Persona;
use crate::error::CtlError;
use crate::output::say;
use pgherd_model::Span;
use std::io::IsTerminal;

/// Begins an empty screen.
const CLEAR: &str = "\x1b[2J\x1b[1;1H";

/// How one look follows another.
pub(crate) struct Watch {
    /// When to look again; `None`: one look.
    every: Option<Span>,
    /// Each look replaces the one before.
    clears: bool,
}

impl Watch {
    /// From `-W` and `-w SECONDS`. For patronictl `-w 0` is as if it were not there.
    pub(crate) fn new(
        persona: Persona,
        every_two: bool,
        every: Option<f64>,
    ) -> Result<Watch, CtlError> {
        let watch = |every| Watch {
            every,
            clears: true,
        };
        let counts = |seconds: &f64| persona == Persona::Pgherd || *seconds != 0.0;
        let Some(seconds) = every.filter(counts) else {
            return Ok(watch(every_two.then_some(Span::from_secs(2))));
        };
        match Span::try_from_secs_f64(seconds) {
            Ok(span) if !span.is_zero() => Ok(watch(Some(span))),
            _ => Err(CtlError::told(format!(
                "-w: expected a number of seconds above 0, found {seconds}"
            ))),
        }
    }

    /// Each look stands below the one before.
    pub(crate) fn below_each_other(self) -> Watch {
        Watch {
            clears: false,
            ..self
        }
    }

    /// Shows one look, on a cleared screen when there will be more; then waits. `false`: it was
    /// the only one.
    pub(crate) async fn show(&self, text: &str) -> Result<bool, CtlError> {
        say(self.before(std::io::stdout().is_terminal()))?;
        say(text)?;
        match self.every {
            None => Ok(false),
            Some(every) => {
                tokio::time::sleep(every).await;
                Ok(true)
            }
        }
    }

    fn before(&self, on_a_terminal: bool) -> &'static str {
        match self.every.is_some() && self.clears && on_a_terminal {
            true => CLEAR,
            false => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_looks_that_replace_each_other_clear_the_screen() {
        let ours = |every_two| Watch::new(Persona::Pgherd, every_two, None).unwrap();
        let watch = || ours(true);
        assert_eq!(watch().before(true), CLEAR);
        assert_eq!(watch().before(false), "");
        assert_eq!(watch().below_each_other().before(true), "");
        assert_eq!(ours(false).before(true), "");
    }

    #[test]
    fn every_0_seconds_is_one_look_for_patronictl() {
        let every = |persona, every_two| {
            let watch = Watch::new(persona, every_two, Some(0.0));
            watch.map(|watch| watch.every)
        };
        assert_eq!(every(Persona::Patronictl, false), Ok(None));
        let two = Span::from_secs(2);
        assert_eq!(every(Persona::Patronictl, true), Ok(Some(two)));
        assert!(every(Persona::Pgherd, false).is_err());
        assert!(Watch::new(Persona::Patronictl, false, Some(-1.0)).is_err());
    }
}
