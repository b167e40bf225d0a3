//! `reinit --wait`: until the copies are made. A member says itself what it does; one that says nothing for long,
//! or gets stuck before or behind the copy, is given up.

use crate::clock;
use crate::error::CtlError;
use crate::members::{Ending, ask, names};
use crate::output::line;
use pgherd_model::{Member, Span, Time};
use pgherd_peer::Peers;
use serde_json::Value;

/// How long a status may take.
const STATUS_LIMIT: Span = Span::from_secs(10);
/// Between two looks.
const PAUSE: Span = Span::from_secs(2);
/// How long all of it may take: a copy of many terabytes takes hours.
const WAIT_LIMIT: Span = Span::from_secs(7 * 86_400);
/// After how much silence a person is told of it: an agent that was restarted is back by then.
const SILENCE_TOLD: Span = Span::from_secs(60);
/// How long a member may say nothing, or stand between the old data and the copy, or behind it: an immediate
/// shutdown, the removal of the old data and a start are a matter of minutes.
const PATIENCE: Span = Span::from_secs(15 * 60);

/// Waits until no member is being made any more. Those that are given up are printed and noted in `ending`.
pub(super) async fn all(
    peers: &Peers,
    members: Vec<&Member>,
    ending: &mut Ending,
) -> Result<(), CtlError> {
    let deadline = clock::now() + WAIT_LIMIT;
    let mut open: Vec<Watched<'_>> = members.into_iter().map(Watched::new).collect();
    announce(&open)?;
    while !open.is_empty() {
        if clock::now() > deadline {
            return Err(CtlError::told(format!(
                "{} not made within {} s: look at the log there",
                names_of(&open),
                WAIT_LIMIT.as_secs()
            )));
        }
        tokio::time::sleep(PAUSE).await;
        let mut left = Vec::new();
        let mut begun = open.into_iter();
        while let Some(mut watched) = begun.next() {
            let state = state(peers, watched.member).await;
            match watched.judge(state, clock::now()) {
                Verdict::Wait => left.push(watched),
                Verdict::Tell(text) => {
                    eprintln!("{text}");
                    left.push(watched);
                }
                Verdict::Done(text) => {
                    line(&text)?;
                    announce(left.iter().chain(begun.as_slice()))?;
                }
                Verdict::GivenUp(text) => {
                    eprintln!("{text}");
                    ending.fail();
                }
            }
        }
        open = left;
    }
    Ok(())
}

fn names_of<'w, 'm: 'w>(open: impl IntoIterator<Item = &'w Watched<'m>>) -> String {
    let members: Vec<&Member> = open.into_iter().map(|watched| watched.member).collect();
    names(&members)
}

fn announce<'w, 'm: 'w>(open: impl IntoIterator<Item = &'w Watched<'m>>) -> Result<(), CtlError> {
    match names_of(open).as_str() {
        "" => Ok(()),
        names => line(&format!("Waiting for reinitialize to complete on: {names}")),
    }
}

/// `state` of a member's status document; else why there is none.
async fn state(peers: &Peers, member: &Member) -> Result<String, String> {
    let answer = ask(peers, member, ("GET", "patroni"), None, STATUS_LIMIT).await;
    let answer = answer.map_err(|cause| cause.to_string())?;
    let status: Value = serde_json::from_str(&answer.text).unwrap_or(Value::Null);
    let state = status["state"].as_str().map(str::to_owned);
    state.ok_or_else(|| format!("it answered {} without a status document", answer.status))
}

/// One member, and since when it has not come on.
#[derive(Debug)]
struct Watched<'m> {
    member: &'m Member,
    /// Since when it has said nothing.
    silent: Option<Time>,
    /// A person was told so.
    told: bool,
    /// Since when it has been between the old data and the copy, or between the copy and its start.
    between: Option<Time>,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Wait,
    /// Wait, and say this.
    Tell(String),
    /// The copy is made.
    Done(String),
    /// It will not be waited for any more.
    GivenUp(String),
}

impl<'m> Watched<'m> {
    fn new(member: &'m Member) -> Watched<'m> {
        Watched {
            member,
            silent: None,
            told: false,
            between: None,
        }
    }

    fn judge(&mut self, state: Result<String, String>, now: Time) -> Verdict {
        match state {
            Ok(state) => {
                (self.silent, self.told) = (None, false);
                self.judge_state(&state, now)
            }
            Err(cause) => self.judge_silence(&cause, now),
        }
    }

    fn judge_state(&mut self, state: &str, now: Time) -> Verdict {
        let name = &self.member.name;
        let done = || Verdict::Done(format!("Reinitialize is completed on: {name}"));
        match state {
            "creating replica" => {
                self.between = None;
                Verdict::Wait
            }
            // The copy has not begun, or does not run yet. A member that is stopped at once says `crashed`.
            "stopping" | "stopped" | "crashed" | "starting" | "start failed" => {
                let since = *self.between.get_or_insert(now);
                match (now.since(since) >= PATIENCE, state) {
                    (false, _) => Verdict::Wait,
                    // The copy is there; how long its recovery takes is not asked.
                    (true, "starting") => done(),
                    (true, _) => Verdict::GivenUp(format!(
                        "Failed: reinitialize for member {name}: {state} for {} s: look at the log there",
                        PATIENCE.as_secs()
                    )),
                }
            }
            _ => done(),
        }
    }

    /// A member that does not answer may be at it still.
    fn judge_silence(&mut self, cause: &str, now: Time) -> Verdict {
        let name = &self.member.name;
        let since = *self.silent.get_or_insert(now);
        let silent = now.since(since);
        if silent >= PATIENCE {
            let seconds = PATIENCE.as_secs();
            return Verdict::GivenUp(format!(
                "Failed: reinitialize for member {name}: no answer for {seconds} s, whether it is made is not known: {cause}"
            ));
        }
        if silent >= SILENCE_TOLD && !self.told {
            self.told = true;
            return Verdict::Tell(format!(
                "Member {name} has not answered for {} s, it is waited for until {} s: {cause}",
                SILENCE_TOLD.as_secs(),
                PATIENCE.as_secs()
            ));
        }
        Verdict::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_wire::patroni::dcs;

    /// What is said at which second; the verdicts that are no [`Verdict::Wait`], as `second: text`.
    fn story(heard: &[(u64, Result<&str, &str>)]) -> Vec<String> {
        let member = dcs::member_from_json("n2".into(), "{}", 1);
        let mut watched = Watched::new(&member);
        let mut told = Vec::new();
        for (second, state) in heard {
            let state = state.map(str::to_owned).map_err(str::to_owned);
            match watched.judge(state, Time::from_millis(second * 1000)) {
                Verdict::Wait => {}
                Verdict::Tell(text) | Verdict::Done(text) | Verdict::GivenUp(text) => {
                    told.push(format!("{second}: {text}"));
                }
            }
        }
        told
    }

    #[test]
    fn the_stop_before_the_copy_and_the_start_behind_it_are_no_end() {
        let heard = [
            (2, Ok("stopping")),
            (4, Ok("crashed")),
            (6, Ok("stopped")),
            (8, Ok("creating replica")),
            (20_000, Ok("creating replica")),
            (20_002, Ok("stopped")),
            (20_004, Ok("starting")),
            (20_006, Ok("running")),
        ];
        assert_eq!(story(&heard), ["20006: Reinitialize is completed on: n2"]);
    }

    #[test]
    fn who_gets_stuck_is_given_up() {
        let heard = [
            (10, Ok("stopped")),
            (900, Ok("stopping")),
            (910, Ok("stopped")),
        ];
        assert_eq!(
            story(&heard),
            ["910: Failed: reinitialize for member n2: stopped for 900 s: look at the log there"]
        );
        let heard = [
            (10, Ok("starting")),
            (900, Ok("starting")),
            (910, Ok("starting")),
        ];
        assert_eq!(story(&heard), ["910: Reinitialize is completed on: n2"]);
    }

    #[test]
    fn silence_is_told_once_and_ends() {
        let gone = Err("gone");
        let heard = [(10, gone), (69, gone), (70, gone), (80, gone), (910, gone)];
        assert_eq!(
            story(&heard),
            [
                "70: Member n2 has not answered for 60 s, it is waited for until 900 s: gone",
                "910: Failed: reinitialize for member n2: no answer for 900 s, whether it is made is not known: gone"
            ]
        );
        // Any answer begins it anew.
        let heard = [
            (10, gone),
            (60, Ok("creating replica")),
            (70, gone),
            (129, gone),
            (1000, Ok("running")),
        ];
        assert_eq!(story(&heard), ["1000: Reinitialize is completed on: n2"]);
    }
}
