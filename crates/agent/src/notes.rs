//! Which decisions go into the log: one line per change, not one per look.
//!
//! A node that waits says several things in turn (it asks, it waits for answers, it waits for a
//! lease), several times a second. Each of them is told once as long as nothing else changes.

use std::collections::BTreeMap;

use pgherd_ha::{Severity, Why};
use pgherd_model::{MemberName, Span, Time};

/// What nobody has said for that long is news when it comes back.
const FORGET: Span = Span::from_secs(30);

/// What was told.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Under whose lock: under another one everything is news again.
    leader: Option<MemberName>,
    /// When each sentence was last decided on.
    told: BTreeMap<String, Time>,
    last: Option<(String, Time)>,
}

impl Notes {
    /// Whether this decision is to be logged. What is routine is a sign of life as well: it comes
    /// once per `loop_wait`, as from Patroni.
    pub(crate) fn is_news(
        &mut self,
        now: Time,
        leader: Option<&MemberName>,
        why: &Why,
        loop_wait: Span,
    ) -> bool {
        if self.leader.as_ref() != leader {
            self.told.clear();
            self.leader = leader.cloned();
        }
        let text = why.to_string();
        self.told.retain(|_, at| now.since(*at) < FORGET);
        let known = self.told.insert(text.clone(), now).is_some();
        let news = match (why.severity, &self.last) {
            (Severity::Routine, Some((last, at))) => *last != text || now.since(*at) >= loop_wait,
            (Severity::Routine, None) => true,
            (Severity::Info | Severity::Warning | Severity::Error, _) => !known,
        };
        if news {
            self.last = Some((text, now));
        }
        news
    }

    /// When the next sign of life is due, where everything stays as it is.
    pub(crate) fn next(&self, loop_wait: Span) -> Option<Time> {
        self.last.as_ref().map(|(_, at)| *at + loop_wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOP_WAIT: Span = Span::from_secs(10);

    fn why(text: &str) -> Why {
        Why {
            rule: "rule",
            severity: match text {
                "no action" => Severity::Routine,
                _ => Severity::Info,
            },
            reason: String::from(text).into(),
        }
    }

    /// `seconds leader sentence` per line; gives the lines that are logged.
    fn logged(script: &str) -> Vec<String> {
        let mut notes = Notes::default();
        let lines = script.lines().map(str::trim).filter(|it| !it.is_empty());
        let news = lines.filter(|line| {
            let mut words = line.splitn(3, ' ');
            let now = words.next().unwrap().parse::<f64>().unwrap() * 1000.0;
            let leader = MemberName::from(words.next().unwrap());
            let why = why(words.next().unwrap());
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small"
            )]
            let now = Time::from_millis(now as u64);
            notes.is_news(now, Some(&leader), &why, LOOP_WAIT)
        });
        news.map(str::to_owned).collect()
    }

    #[test]
    fn what_alternates_is_told_once() {
        let script = "
            100 a asking
            100.1 a waiting for answers
            100.3 a vanished early
            101 a asking
            101.1 a waiting for answers
            101.3 a vanished early
            110 a vanished early
            119 a vanished early
            120 b vanished early";
        assert_eq!(
            logged(script),
            [
                "100 a asking",
                "100.1 a waiting for answers",
                "100.3 a vanished early",
                "120 b vanished early"
            ]
        );
    }

    #[test]
    fn what_comes_back_after_a_while_is_news() {
        let script = "
            100 a not streaming
            101 a no action
            111 a no action
            129 a not streaming
            160 a not streaming";
        assert_eq!(
            logged(script),
            [
                "100 a not streaming",
                "101 a no action",
                "111 a no action",
                "160 a not streaming"
            ]
        );
    }

    #[test]
    fn routine_is_a_sign_of_life_once_per_loop_wait() {
        let script = "
            100 a no action
            101 a no action
            109.9 a no action
            110 a no action
            111 a no action
            112 a asking
            113 a no action
            114 a asking
            115 a no action";
        assert_eq!(
            logged(script),
            [
                "100 a no action",
                "110 a no action",
                "112 a asking",
                "113 a no action"
            ]
        );
    }
}
