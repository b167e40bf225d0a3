//! A list of orders: its words, and how a text is read.

use std::fmt;

use pgherd_model::Span;

use crate::words::{self, Words, node_name};

/// Of which revision an order says that it was decided on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The one that the member sees.
    Seen,
    /// The one before that.
    Stale,
    /// None: the key was absent.
    Absent,
}

/// Of which term of leadership an order says that it is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// The last one that the member has seen.
    Seen,
    /// The one before that.
    Stale,
}

/// What a member orders: the operations of the product, renewals, and other lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The leader lease.
    Renew,
    /// The member lease.
    KeepAlive,
    /// From the next grant on: the member's and the leader's lease.
    Lives(Span, Span),
    /// `AcquireLeader`.
    Acquire {
        /// On a picture from before the last `status`, not on the present one.
        stale: bool,
    },
    /// `ReattachLeader`.
    Reattach(Term),
    /// `ReleaseLeader`, with last words or without.
    Release {
        /// Term that is held.
        term: Term,
        /// Last change of the key.
        expected: Expected,
        /// With `status` and the member key.
        words: bool,
    },
    /// `PutMember` with this position.
    Member(u64),
    /// `PutInitialize`: a bootstrap begins.
    Claim(Expected),
    /// `PutInitialize`: it is done.
    Initialize(Expected),
    /// `DeleteInitialize`.
    Unclaim(Expected),
    /// `PutConfig` with this `ttl`.
    Config(u64, Expected),
    /// `PutFailover` to this member, or an empty one.
    Failover(Option<usize>, Expected),
    /// The same, scheduled.
    Scheduled(usize, Expected),
    /// `PutStatus` with this position.
    Status(u64, Term),
    /// `PutSync` with this standby.
    Sync(usize, Expected, Term),
    /// `DeleteSync`.
    Unsync(Expected, Term),
    /// `PutFailsafe`.
    Failsafe(Expected, Term),
    /// `PutHistory` with so many lines.
    History(u64, Term),
    /// `LookAtLease` of the lock that the member sees, or of one that nobody was ever granted.
    Look,
    /// `Refresh`.
    Refresh,
}

/// What people do to etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// `leader`, `initialize` or `config` is deleted.
    Delete(&'static str),
    /// `config` is written, with this `ttl`.
    Config(u64),
    /// `failover` is written.
    Failover(usize),
    /// The last leader lease of this member is revoked.
    RevokeLeader(usize),
    /// Its last member lease.
    RevokeMember(usize),
    /// The past is forgotten.
    Compact,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The member sees the lock free.
    NoLeader,
    /// It does not see this member's key any more.
    NoMember(usize),
    /// It sees nobody's claim to `initialize`.
    NoClaim,
    /// Half of the life of the lock's lease is over.
    Half,
    /// It has noticed that etcd does not answer.
    Deaf,
}

/// One line of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A member's agent begins.
    Join(usize),
    /// It is killed.
    Leave(usize),
    /// The member reaches etcd no more.
    Cut(usize),
    /// It does again.
    Mend(usize),
    /// It orders something.
    Order(usize, Order),
    /// Somebody else does something.
    Somebody(Deed),
    /// Time passes until it is so.
    Await(usize, Condition),
}

/// Reads a list; `#` begins a remark.
///
/// # Errors
/// Line and what was expected there.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    words::lines(text, step)
}

fn step(words: &mut Words<'_>) -> Result<Step, String> {
    if words.is_next("somebody") {
        return Ok(Step::Somebody(deed(words)?));
    }
    let member = words.node()?;
    let verb = words.next("what the member does")?;
    let order = match verb {
        "joins" => return Ok(Step::Join(member)),
        "leaves" => return Ok(Step::Leave(member)),
        "cut" => return Ok(Step::Cut(member)),
        "mended" => return Ok(Step::Mend(member)),
        "awaits" => return Ok(Step::Await(member, condition(words)?)),
        verb => order(verb, words)?,
    };
    Ok(Step::Order(member, order))
}

fn order(verb: &str, words: &mut Words<'_>) -> Result<Order, String> {
    Ok(match verb {
        "renew" => Order::Renew,
        "keep-alive" => Order::KeepAlive,
        "lives" => Order::Lives(seconds(words)?, seconds(words)?),
        "acquire" => Order::Acquire {
            stale: words.is_next("stale"),
        },
        "reattach" => Order::Reattach(term(words)?),
        "release" => Order::Release {
            term: term(words)?,
            expected: expected(words)?,
            words: words.is_next("words"),
        },
        "member" => Order::Member(words.number()?),
        "claim" => Order::Claim(expected(words)?),
        "initialize" => Order::Initialize(expected(words)?),
        "unclaim" => Order::Unclaim(expected(words)?),
        "config" => Order::Config(words.number()?, expected(words)?),
        "failover" if words.is_next("nobody") => Order::Failover(None, expected(words)?),
        "failover" => Order::Failover(Some(words.node()?), expected(words)?),
        "scheduled" => Order::Scheduled(words.node()?, expected(words)?),
        "status" => Order::Status(words.number()?, term(words)?),
        "sync" => Order::Sync(words.node()?, expected(words)?, term(words)?),
        "unsync" => Order::Unsync(expected(words)?, term(words)?),
        "failsafe" => Order::Failsafe(expected(words)?, term(words)?),
        "history" => Order::History(words.number()?, term(words)?),
        "look" => Order::Look,
        "refresh" => Order::Refresh,
        other => return Err(format!("`{other}` is no order")),
    })
}

fn seconds(words: &mut Words<'_>) -> Result<Span, String> {
    words.number().map(Span::from_secs)
}

fn expected(words: &mut Words<'_>) -> Result<Expected, String> {
    match words.next("seen, stale or absent")? {
        "seen" => Ok(Expected::Seen),
        "stale" => Ok(Expected::Stale),
        "absent" => Ok(Expected::Absent),
        other => Err(format!("`{other}` is none of seen, stale, absent")),
    }
}

fn term(words: &mut Words<'_>) -> Result<Term, String> {
    match words.next("seen or stale")? {
        "seen" => Ok(Term::Seen),
        "stale" => Ok(Term::Stale),
        other => Err(format!("`{other}` is none of seen, stale")),
    }
}

fn deed(words: &mut Words<'_>) -> Result<Deed, String> {
    let what = |key: &str| match key {
        "leader" => Ok("leader"),
        "initialize" => Ok("initialize"),
        "config" => Ok("config"),
        other => Err(format!("nobody deletes `{other}`")),
    };
    Ok(match words.next("what somebody does")? {
        "deletes" => Deed::Delete(what(words.next("a key")?)?),
        "config" => Deed::Config(words.number()?),
        "failover" => Deed::Failover(words.node()?),
        "revokes-leader" => Deed::RevokeLeader(words.node()?),
        "revokes-member" => Deed::RevokeMember(words.node()?),
        "compacts" => Deed::Compact,
        other => return Err(format!("`{other}` is nothing that somebody does")),
    })
}

fn condition(words: &mut Words<'_>) -> Result<Condition, String> {
    Ok(match words.next("what is waited for")? {
        "no-leader" => Condition::NoLeader,
        "no-member" => Condition::NoMember(words.node()?),
        "no-claim" => Condition::NoClaim,
        "half" => Condition::Half,
        "deaf" => Condition::Deaf,
        other => return Err(format!("`{other}` is nothing to wait for")),
    })
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Expected::Seen => "seen",
            Expected::Stale => "stale",
            Expected::Absent => "absent",
        })
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Term::Seen => "seen",
            Term::Stale => "stale",
        })
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Renew => f.write_str("renew"),
            Order::KeepAlive => f.write_str("keep-alive"),
            Order::Lives(ttl, lease) => write!(f, "lives {} {}", ttl.as_secs(), lease.as_secs()),
            Order::Acquire { stale: false } => f.write_str("acquire"),
            Order::Acquire { stale: true } => f.write_str("acquire stale"),
            Order::Reattach(term) => write!(f, "reattach {term}"),
            Order::Release {
                term,
                expected,
                words,
            } => {
                let words = if *words { " words" } else { "" };
                write!(f, "release {term} {expected}{words}")
            }
            Order::Member(position) => write!(f, "member {position}"),
            Order::Claim(expected) => write!(f, "claim {expected}"),
            Order::Initialize(expected) => write!(f, "initialize {expected}"),
            Order::Unclaim(expected) => write!(f, "unclaim {expected}"),
            Order::Config(ttl, expected) => write!(f, "config {ttl} {expected}"),
            Order::Failover(None, expected) => write!(f, "failover nobody {expected}"),
            Order::Failover(Some(to), expected) => {
                write!(f, "failover {} {expected}", node_name(*to))
            }
            Order::Scheduled(to, expected) => {
                write!(f, "scheduled {} {expected}", node_name(*to))
            }
            Order::Status(position, term) => write!(f, "status {position} {term}"),
            Order::Sync(with, expected, term) => {
                write!(f, "sync {} {expected} {term}", node_name(*with))
            }
            Order::Unsync(expected, term) => write!(f, "unsync {expected} {term}"),
            Order::Failsafe(expected, term) => write!(f, "failsafe {expected} {term}"),
            Order::History(lines, term) => write!(f, "history {lines} {term}"),
            Order::Look => f.write_str("look"),
            Order::Refresh => f.write_str("refresh"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Join(who) => write!(f, "{} joins", node_name(*who)),
            Step::Leave(who) => write!(f, "{} leaves", node_name(*who)),
            Step::Cut(who) => write!(f, "{} cut", node_name(*who)),
            Step::Mend(who) => write!(f, "{} mended", node_name(*who)),
            Step::Order(who, order) => write!(f, "{} {order}", node_name(*who)),
            Step::Somebody(Deed::Delete(key)) => write!(f, "somebody deletes {key}"),
            Step::Somebody(Deed::Config(ttl)) => write!(f, "somebody config {ttl}"),
            Step::Somebody(Deed::Failover(to)) => {
                write!(f, "somebody failover {}", node_name(*to))
            }
            Step::Somebody(Deed::RevokeLeader(of)) => {
                write!(f, "somebody revokes-leader {}", node_name(*of))
            }
            Step::Somebody(Deed::RevokeMember(of)) => {
                write!(f, "somebody revokes-member {}", node_name(*of))
            }
            Step::Somebody(Deed::Compact) => f.write_str("somebody compacts"),
            Step::Await(who, Condition::NoLeader) => {
                write!(f, "{} awaits no-leader", node_name(*who))
            }
            Step::Await(who, Condition::NoMember(of)) => {
                write!(f, "{} awaits no-member {}", node_name(*who), node_name(*of))
            }
            Step::Await(who, Condition::NoClaim) => {
                write!(f, "{} awaits no-claim", node_name(*who))
            }
            Step::Await(who, Condition::Half) => write!(f, "{} awaits half", node_name(*who)),
            Step::Await(who, Condition::Deaf) => write!(f, "{} awaits deaf", node_name(*who)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{MEMBERS, draw};
    use super::*;

    #[test]
    fn what_is_written_reads_as_it_was() {
        for seed in 0..50 {
            let list = draw(seed);
            let text: Vec<String> = list.iter().map(Step::to_string).collect();
            assert_eq!(parse(&text.join("\n")).unwrap(), list);
        }
        let rest = "n1 cut\nn1 awaits deaf\nn1 mended\nn2 awaits no-member n3\nn2 awaits half\n\
                    n1 awaits no-claim\nsomebody compacts";
        let list = parse(rest).unwrap();
        let text: Vec<String> = list.iter().map(Step::to_string).collect();
        assert_eq!(text.join("\n"), rest);
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, complaint) in [
            (
                "n1 joins\nn9 joins",
                format!("line 2: `n9` is no node (n1 to n{MEMBERS})"),
            ),
            ("n1 sings", "line 1: `sings` is no order".to_owned()),
            ("n1 config x seen", "line 1: `x` is no number".to_owned()),
            (
                "n1 acquire now",
                "line 1: `now` was not expected".to_owned(),
            ),
            (
                "n1 status 3",
                "line 1: it ends where seen or stale was expected".to_owned(),
            ),
        ] {
            assert_eq!(parse(text), Err(complaint));
        }
    }
}
