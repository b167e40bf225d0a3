//! People: they schedule switchovers and change their minds, and clocks are set. They draw from a
//! generator of their own, so that a world without them stays the story that it was.

use pgherd_model::{Failover, MemberName, Schedule, Span, Time, WallTime};

use crate::event::{Event, NODES};
use crate::rng::Rng;
use crate::world::World;

/// Whoever does it.
pub(crate) struct Calendar {
    rng: Rng,
    /// Deeds that are left.
    deeds: u64,
    scheduled: u64,
}

impl Calendar {
    pub(crate) fn draw(seed: u64) -> Calendar {
        let mut rng = Rng::new(seed ^ 0x0A11_C10C_05E7_7E12);
        let deeds = if rng.chance(400) {
            rng.between(1, 8)
        } else {
            0
        };
        Calendar {
            rng,
            deeds,
            scheduled: 0,
        }
    }

    /// Nobody does anything.
    pub(crate) fn calm(seed: u64) -> Calendar {
        Calendar {
            deeds: 0,
            ..Calendar::draw(seed)
        }
    }

    /// No two clocks show the same.
    pub(crate) fn wall_offset(&mut self) -> i64 {
        self.micros(2_000)
    }

    fn micros(&mut self, millis: u64) -> i64 {
        let drawn = i64::try_from(self.rng.below(2 * millis * 1000)).unwrap_or(0);
        drawn - i64::try_from(millis * 1000).unwrap_or(0)
    }
}

impl World {
    pub(crate) fn next_deed(&mut self) {
        if self.calendar.deeds > 0 {
            let wait = self.calendar.rng.between(500, 25_000);
            self.at(self.now + Span::from_millis(wait), Event::Calendar);
        }
    }

    pub(crate) fn on_calendar(&mut self) {
        if self.chaos.healed.is_some() {
            return;
        }
        let picture = self.etcd.picture();
        if let Some(leader) = picture.leader_name() {
            self.calendar.deeds -= 1;
            match self.calendar.rng.below(10) {
                0..=5 => self.schedule(leader.clone()),
                6 => self.withdraw(),
                _ => self.set_clock(),
            }
        }
        self.next_deed();
    }

    /// As `POST /switchover` with a time: who leads then is seen then.
    fn schedule(&mut self, mut leader: MemberName) {
        if self.present().pause {
            return;
        }
        let rng = &mut self.calendar.rng;
        if rng.chance(100) {
            leader = self.nodes[below(rng, NODES)].name.clone();
        }
        let named = rng.chance(600).then(|| below(rng, NODES));
        let member = named.map(|node| self.nodes[node].name.clone());
        let ahead = rng.between(100, 20_000);
        let at = WallTime(self.true_wall().0 + i64::try_from(ahead * 1000).unwrap_or(0));
        self.calendar.scheduled += 1;
        // Every one has a text of its own: what is carried out twice is seen.
        let text = format!("schedule {}", self.calendar.scheduled);
        self.say(|| format!("{text}: {leader} to {member:?} in {ahead} ms"));
        let request = Failover {
            leader: Some(leader),
            member: member.filter(|member| self.etcd.picture().leader_name() != Some(member)),
            scheduled_at: Some(Schedule { text, at: Some(at) }),
        };
        self.etcd.request(request);
        self.happened("switchover scheduled");
        self.announce();
    }

    /// As `DELETE /switchover`.
    pub(crate) fn withdraw(&mut self) {
        let picture = self.etcd.picture();
        let request = picture.failover_request();
        if request.is_some_and(|request| request.scheduled_at.is_some()) {
            self.say(|| "the schedule is withdrawn".into());
            self.etcd.request(Failover::default());
            self.happened("schedule withdrawn");
            self.announce();
        }
    }

    fn set_clock(&mut self) {
        let node = below(&mut self.calendar.rng, NODES);
        let by = self.calendar.micros(20_000);
        self.say(|| format!("{node} the clock is set by {by} microseconds"));
        let now = self.now;
        let node = &mut self.nodes[node];
        node.wall_before = Some((now, node.wall_offset));
        node.wall_offset += by;
        self.happened("clock set");
    }

    pub(crate) fn happened(&mut self, what: &'static str) {
        *self.seen.faults.entry(what).or_default() += 1;
        self.upset(what);
    }

    /// Earliest and latest that a decision of this moment, or of shortly before, may have seen.
    pub(crate) fn walls(&self, node: usize) -> (WallTime, WallTime) {
        let shown = self.wall(node);
        let lately = |at: Time| self.now.since(at) < Span::from_secs(4);
        let it = &self.nodes[node];
        match it.wall_before.filter(|(at, _)| lately(*at)) {
            Some((_, before)) => {
                let other = WallTime(shown.0 - it.wall_offset + before);
                (shown.min(other), shown.max(other))
            }
            None => (shown, shown),
        }
    }
}

fn below(rng: &mut Rng, sides: usize) -> usize {
    usize::try_from(rng.below(sides as u64)).unwrap_or(0)
}
