//! Short lists from a seed.

use pgherd_sim::Rng;

use super::order::{Deed, Expected, Order, Step, Term};
use super::side::MEMBERS;

/// The list of this seed: it waits for nothing and cuts nobody off, so it is quick on both sides.
pub fn draw(seed: u64) -> Vec<Step> {
    let mut rng = Rng::new(seed ^ 0x000C_04F0_4A4C_E000);
    let mut joined = vec![0];
    let mut steps = vec![Step::Join(0)];
    if rng.chance(700) {
        steps.push(Step::Join(1));
        joined.push(1);
    }
    if rng.chance(500) {
        steps.extend(
            [Order::Renew, Order::Acquire { stale: false }].map(|order| Step::Order(0, order)),
        );
    }
    let length = rng.between(10, 18);
    for _ in 0..length {
        let step = match rng.below(20) {
            0 | 1 => come_or_go(&mut rng, &mut joined),
            2 | 3 => Some(Step::Somebody(deed(&mut rng))),
            _ => None,
        };
        steps.push(step.unwrap_or_else(|| {
            let who = rng.pick(&joined);
            Step::Order(who, order(&mut rng))
        }));
    }
    steps
}

fn come_or_go(rng: &mut Rng, joined: &mut Vec<usize>) -> Option<Step> {
    let who = usize::try_from(rng.below(MEMBERS as u64)).unwrap_or(0);
    match joined.iter().position(|it| *it == who) {
        None => {
            joined.push(who);
            Some(Step::Join(who))
        }
        Some(at) if joined.len() > 1 => {
            joined.remove(at);
            Some(Step::Leave(who))
        }
        Some(_) => None,
    }
}

fn someone(rng: &mut Rng) -> usize {
    usize::try_from(rng.below(MEMBERS as u64)).unwrap_or(0)
}

fn deed(rng: &mut Rng) -> Deed {
    match rng.below(8) {
        0 => Deed::Delete("leader"),
        1 => Deed::Delete("initialize"),
        2 => Deed::Delete("config"),
        3 => Deed::Config(rng.between(20, 60)),
        4 => Deed::Failover(someone(rng)),
        5 | 6 => Deed::RevokeLeader(someone(rng)),
        _ => Deed::RevokeMember(someone(rng)),
    }
}

fn order(rng: &mut Rng) -> Order {
    match rng.below(35) {
        0..=3 => Order::Renew,
        4..=8 => Order::Acquire {
            stale: rng.chance(200),
        },
        9 => Order::KeepAlive,
        10 => Order::Reattach(term(rng)),
        11 | 12 => Order::Release {
            term: term(rng),
            expected: mostly_seen(rng),
            words: rng.chance(600),
        },
        13..=15 => Order::Member(rng.between(1, 900)),
        16 => Order::Claim(mostly_seen(rng)),
        17 => Order::Initialize(mostly_seen(rng)),
        18 => Order::Unclaim(mostly_seen(rng)),
        19 | 32 => Order::Config(rng.between(20, 60), mostly_seen(rng)),
        20 => {
            let to = rng.chance(700).then(|| someone(rng));
            Order::Failover(to, mostly_seen(rng))
        }
        21 => Order::Scheduled(someone(rng), mostly_seen(rng)),
        22 | 23 => Order::Status(rng.between(1, 900), term(rng)),
        24 | 25 => Order::Sync(someone(rng), mostly_seen(rng), term(rng)),
        26 | 27 => Order::Unsync(mostly_seen(rng), term(rng)),
        28 => Order::Failsafe(mostly_seen(rng), term(rng)),
        29 => Order::History(rng.between(1, 2), term(rng)),
        30 | 31 => Order::Look,
        _ => Order::Refresh,
    }
}

fn mostly_seen(rng: &mut Rng) -> Expected {
    match rng.below(10) {
        0 => Expected::Absent,
        1 | 2 => Expected::Stale,
        _ => Expected::Seen,
    }
}

fn term(rng: &mut Rng) -> Term {
    match rng.chance(150) {
        true => Term::Stale,
        false => Term::Seen,
    }
}
