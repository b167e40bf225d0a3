//! Parameters of which a standby must not have less than its primary: while it has, it can neither start nor go on with
//! recovery. So it matters who is restarted first when they change.

use pgherd_model::{Member, MemberName};

const NOT_LOWER: [&str; 5] = [
    "max_connections",
    "max_prepared_transactions",
    "max_locks_per_transaction",
    "max_worker_processes",
    "max_wal_senders",
];

/// Which way such a parameter goes at the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Up,
    Down,
}

/// `None`: it is none of these parameters, or does not change.
fn change(name: &str, old: &str, new: &str) -> Option<Change> {
    let number = |text: &str| text.trim().parse::<i64>().ok();
    let (old, new) = (number(old)?, number(new)?);
    match NOT_LOWER.contains(&name) {
        true if new > old => Some(Change::Up),
        true if new < old => Some(Change::Down),
        _ => None,
    }
}

/// What to do so that a parameter that waits for a restart takes effect.
pub(crate) fn advice(name: &str, old: &str, new: &str) -> &'static str {
    match change(name, old, new) {
        Some(Change::Up) => {
            "a standby must not have less than its primary: restart the standbys first, then the primary (ctl restart does so)"
        }
        Some(Change::Down) => {
            "a standby must not have less than its primary: restart the primary first, then the standbys (ctl restart does so)"
        }
        None => "PostgreSQL takes it only at a start: restart this member",
    }
}

/// Members that are restarted one after the other.
pub(crate) struct Turns<'a> {
    /// In their order: where something only gets less the leader first; else last, also where the order does not
    /// matter: a mistake shows on a replica then.
    pub(crate) members: Vec<&'a Member>,
    leader: Option<&'a MemberName>,
    /// Such a parameter changes.
    matters: bool,
}

impl<'a> Turns<'a> {
    /// Whose turn comes when.
    pub(crate) fn of(mut members: Vec<&'a Member>, leader: Option<&'a MemberName>) -> Turns<'a> {
        let reasons = members
            .iter()
            .flat_map(|member| &member.pending_restart_reason);
        let changes: Vec<Change> = reasons
            .filter_map(|(name, old, new)| change(name, old, new))
            .collect();
        let matters = !changes.is_empty();
        let only_less = matters && !changes.contains(&Change::Up);
        members.sort_by_key(|member| (leader == Some(&member.name)) != only_less);
        Turns {
            members,
            leader,
            matters,
        }
    }

    /// Whether `later` must not be restarted before `earlier` was. Standbys do not wait for each other.
    pub(crate) fn waits(&self, later: &Member, earlier: &Member) -> bool {
        let leads = |member: &Member| self.leader == Some(&member.name);
        self.matters && leads(later) != leads(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::names;
    use pgherd_wire::patroni::dcs;

    /// `n1`, `n2` that leads, and `n3`, all with this reason: their order, and who is left alone after the first one
    /// has failed.
    fn turns(reasons: &str) -> (String, String) {
        let text = format!("{{\"pending_restart_reason\": {{{reasons}}}}}");
        let members: Vec<Member> = ["n1", "n2", "n3"]
            .into_iter()
            .map(|name| dcs::member_from_json(name.into(), &text, 1))
            .collect();
        let leader = "n2".into();
        let turns = Turns::of(members.iter().collect(), Some(&leader));
        let (first, rest) = turns.members.split_first().unwrap();
        let mut left = rest.to_vec();
        left.retain(|member| turns.waits(member, first));
        (names(&turns.members), names(&left))
    }

    fn order(reasons: &str) -> String {
        turns(reasons).0
    }

    fn left(reasons: &str) -> String {
        turns(reasons).1
    }

    #[test]
    fn standbys_never_have_less_than_their_primary() {
        let reason = |name: &str, old: &str, new: &str| {
            format!("\"{name}\": {{\"old_value\": \"{old}\", \"new_value\": \"{new}\"}}")
        };
        let more = reason("max_connections", "90", "100");
        let less = reason("max_wal_senders", "10", "9");
        let other = reason("shared_buffers", "128MB", "64MB");
        assert_eq!(order(&more), "n1, n3, n2");
        assert_eq!(order(&less), "n2, n1, n3");
        assert_eq!(order(&format!("{less}, {other}")), "n2, n1, n3");
        assert_eq!(order(&format!("{less}, {more}")), "n1, n3, n2");
        assert_eq!(order(&other), "n1, n3, n2");
        assert_eq!(order(""), "n1, n3, n2");
        assert_eq!(left(&more), "n2", "n3 is a standby as n1 is");
        assert_eq!(left(&less), "n1, n3");
        assert_eq!(left(&format!("{less}, {more}")), "n2");
        assert_eq!(left(&other), "");
        assert_eq!(left(""), "");
    }

    #[test]
    fn the_advice_is_what_restart_does() {
        let advice = |old, new| advice("max_worker_processes", old, new);
        assert!(advice("8", "16").contains("restart the standbys first"));
        assert!(advice("16", "8").contains("restart the primary first"));
        assert!(advice("8", "8").contains("restart this member"));
    }
}
