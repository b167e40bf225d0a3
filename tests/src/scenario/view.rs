//! Whether what a scenario expects is so, by what was last seen of the cluster.

use super::looks::{Look, Looks, Picture, Seen};
use pgherd_scenario::words::State;
use serde_json::Value;
use tokio::time::Instant;

/// A member: where its PostgreSQL is, and what was seen.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// `host:port` of PostgreSQL.
    pub(super) address: String,
    pub(super) seen: Seen,
}

/// The whole cluster.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) members: Vec<Member>,
    picture: Picture,
    /// What a replica must have received to be one: where the primary wrote after the last step.
    mark: u64,
}

impl View {
    /// `None`: somebody was not looked at since `after`. `names` are names, addresses, and whether the machine
    /// is without power.
    pub(super) fn since(
        after: Instant,
        looks: &Looks,
        names: &[(String, String, bool)],
    ) -> Option<View> {
        let picture = looks.picture.clone().filter(|it| it.begun >= after)?;
        let fresh = |look: &&Look| look.begun >= after;
        let members = names.iter().zip(&looks.members);
        let members = members.map(|((name, address, dark), look)| {
            let seen = match dark {
                true => Seen::Dark,
                false => look.as_ref().filter(fresh)?.seen.clone(),
            };
            Some(Member {
                name: name.clone(),
                address: address.clone(),
                seen,
            })
        });
        Some(View {
            members: members.collect::<Option<Vec<Member>>>()?,
            picture,
            mark: 0,
        })
    }

    /// From now on a replica must have received as much.
    pub(super) fn with_mark(mut self, mark: u64) -> View {
        self.mark = mark;
        self
    }

    fn accepts(&self, node: usize) -> bool {
        matches!(self.members[node].seen, Seen::Primary { refused: None, .. })
    }

    /// Whoever accepts a write.
    pub(super) fn writable(&self) -> Vec<usize> {
        (0..self.members.len())
            .filter(|node| self.accepts(*node))
            .collect()
    }

    /// Whoever holds the lock and accepts writes.
    pub(super) fn primary(&self) -> Option<usize> {
        let leader = self.picture.leader.as_deref()?;
        let node = self.members.iter().position(|it| it.name == leader)?;
        self.accepts(node).then_some(node)
    }

    /// Of the primary: its timeline, and where it writes.
    pub(super) fn writes(&self) -> Option<(u32, u64)> {
        match self.members[self.primary()?].seen {
            Seen::Primary {
                timeline, written, ..
            } => Some((timeline, written)),
            _ => None,
        }
    }

    /// Members that stream from the primary, by their word and by its.
    pub(super) fn replicas(&self) -> Vec<usize> {
        let Some(primary) = self.primary().map(|node| &self.members[node]) else {
            return Vec::new();
        };
        let Seen::Primary { senders, .. } = &primary.seen else {
            return Vec::new();
        };
        let streams = |member: &Member| match &member.seen {
            Seen::Standby { received, upstream } => {
                upstream.as_ref() == Some(&primary.address)
                    && senders.contains(&member.name)
                    && *received >= self.mark
            }
            _ => false,
        };
        let all = 0..self.members.len();
        all.filter(|node| streams(&self.members[*node])).collect()
    }

    /// By what is to be seen from outside: whether processes are left tells [`super::world::World::is_down`].
    pub(super) fn is(&self, node: usize, state: State) -> bool {
        match state {
            State::Primary => self.primary() == Some(node),
            State::Replica => self.replicas().contains(&node),
            State::ReadOnly => matches!(self.members[node].seen, Seen::Standby { .. }),
            State::Down => false,
        }
    }

    fn published(&self, node: usize) -> Option<&Value> {
        self.picture.members.get(&self.members[node].name)
    }

    /// One primary, every other member streams from it, and all publish that they run.
    pub(super) fn whole(&self) -> bool {
        let all = self.members.len();
        let runs = |node: &usize| {
            self.published(*node)
                .is_some_and(|it| it["state"] == "running")
        };
        self.writable().len() == 1
            && self.replicas().len() == all - 1
            && (0..all).filter(runs).count() == all
    }

    /// What a member publishes about a restart.
    pub(super) fn pending_restart(&self, node: usize) -> Option<bool> {
        self.published(node).map(|it| it["pending_restart"] == true)
    }

    /// One line per member.
    pub(super) fn lines(&self) -> Vec<String> {
        let lines = self.members.iter().map(|member| {
            let lock = match self.picture.leader.as_ref() == Some(&member.name) {
                true => ", holds the lock",
                false => "",
            };
            format!("{}: {}{lock}", member.name, member.seen)
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn standby(upstream: &str, received: u64) -> Seen {
        Seen::Standby {
            received,
            upstream: Some(upstream.into()),
        }
    }

    fn primary(senders: &[&str]) -> Seen {
        Seen::Primary {
            timeline: 3,
            written: 100,
            senders: senders.iter().map(|name| (*name).into()).collect(),
            refused: None,
        }
    }

    /// `n1` to `n3` at `a1` to `a3`, all looked at, `n1` holds the lock.
    fn looks(seen: [Seen; 3]) -> (Instant, Looks, Vec<(String, String, bool)>) {
        let begun = Instant::now();
        let members = seen.map(|seen| Some(Look { begun, seen }));
        let running = (1..=3).map(|number| (format!("n{number}"), json!({"state": "running"})));
        let picture = Picture {
            begun,
            leader: Some("n1".into()),
            members: running.collect::<BTreeMap<_, _>>(),
        };
        let looks = Looks {
            members: members.to_vec(),
            picture: Some(picture),
        };
        let names = (1..=3).map(|number| (format!("n{number}"), format!("a{number}"), false));
        (begun, looks, names.collect())
    }

    fn view(seen: [Seen; 3]) -> View {
        let (begun, looks, names) = looks(seen);
        View::since(begun, &looks, &names).expect("all were looked at")
    }

    #[test]
    fn a_whole_cluster_has_one_primary_from_which_all_stream() {
        let whole = view([
            primary(&["n2", "n3"]),
            standby("a1", 100),
            standby("a1", 50),
        ]);
        assert_eq!(whole.primary(), Some(0));
        assert_eq!(whole.replicas(), [1, 2]);
        assert!(whole.whole());
        assert_eq!(whole.writes(), Some((3, 100)));
        assert!(!whole.with_mark(100).whole(), "n3 has not received enough");
        let elsewhere = view([primary(&["n2", "n3"]), standby("a1", 1), standby("a2", 1)]);
        assert_eq!(elsewhere.replicas(), [1]);
        let not_sent = view([primary(&["n2"]), standby("a1", 1), standby("a1", 1)]);
        assert_eq!(not_sent.replicas(), [1]);
    }

    #[test]
    fn who_writes_without_the_lock_is_no_primary() {
        let other = view([standby("a2", 1), primary(&["n1"]), Seen::Silent]);
        assert_eq!((other.primary(), other.writable()), (None, vec![1]));
        assert!(!other.is(1, State::Primary));
        assert!(other.is(0, State::ReadOnly) && !other.is(0, State::Replica));
        assert!(!other.is(2, State::ReadOnly));
    }

    #[test]
    fn nothing_is_judged_by_what_was_seen_before_the_step() {
        let (begun, mut looks, mut names) = looks([primary(&[]), Seen::Silent, Seen::Silent]);
        let later = begun + Duration::from_secs(1);
        assert!(View::since(later, &looks, &names).is_none());
        for number in 1..3 {
            looks.members[number].as_mut().expect("a look").begun = later;
        }
        looks.picture.as_mut().expect("a picture").begun = later;
        assert!(
            View::since(later, &looks, &names).is_none(),
            "n1 was not looked at"
        );
        names[0].2 = true;
        let dark = View::since(later, &looks, &names).expect("nobody looks at n1");
        assert_eq!(dark.members[0].seen, Seen::Dark);
        assert_eq!(dark.writable(), Vec::<usize>::new());
    }
}
