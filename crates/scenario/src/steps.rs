//! What is done: the statements that are neither of the head, nor `let`, nor `expect`.

use crate::line::{Malformed, Words};
use crate::parse::{Reader, the};
use crate::settings::add_setting;
use crate::words::{EtcdPart, Frozen, Place, Starter, Step, Victim};

impl Reader {
    pub(crate) fn step(&self, first: &str, words: &mut Words<'_>) -> Result<Step, Malformed> {
        Ok(match first {
            "start" => start_again(self, words)?,
            "wait" => Step::Wait(words.span()?),
            "writers" => Step::Writers(words.one_of(&[("run", true), ("stop", false)])?),
            "kill" => kill(self, words)?,
            "freeze" | "thaw" => {
                let what = words.one_of(&[
                    ("agent", Frozen::Agent),
                    ("guard", Frozen::Guard),
                    ("postmaster", Frozen::Postmaster),
                    ("walreceiver", Frozen::Walreceiver),
                    ("disk", Frozen::Disk),
                ])?;
                Step::Freeze(what, self.of(words)?, first == "freeze")
            }
            "fill" | "clear" => {
                words.exactly("disk")?;
                Step::FillDisk(self.of(words)?, first == "fill")
            }
            "cut" => self.cut(words)?,
            "heal" => {
                words.exactly("network")?;
                Step::HealNetwork
            }
            "switchover" if words.peek().is_none() => Step::Switchover(None),
            "switchover" => {
                words.exactly("to")?;
                Step::Switchover(Some(self.who(words)?))
            }
            "failover" => {
                words.exactly("to")?;
                Step::Failover(self.who(words)?)
            }
            "restart" => {
                words.exactly("postgres")?;
                Step::Restart(self.of(words)?)
            }
            "reinitialize" => Step::Reinitialize(self.who(words)?),
            "upgrade" => {
                words.exactly("agent")?;
                Step::Upgrade(self.of(words)?)
            }
            "pause" | "resume" => Step::Pause(first == "pause"),
            _ => set(words)?,
        })
    }

    /// `A from B`, or one way: `packets from A to B`.
    fn cut(&self, words: &mut Words<'_>) -> Result<Step, Malformed> {
        let both_ways = !words.take("packets");
        if !both_ways {
            words.exactly("from")?;
        }
        let from = self.place(words)?;
        words.exactly(if both_ways { "from" } else { "to" })?;
        let to = self.place(words)?;
        let members = [&from, &to];
        let members = members
            .iter()
            .filter(|place| matches!(place, Place::Member(_)));
        if members.count() == 0 {
            return Err(words.other("a member at one end of the cut", "none"));
        }
        if from == to {
            return Err(words.other("two ends of the cut", "the same one twice"));
        }
        Ok(Step::Cut {
            from,
            to,
            both_ways,
        })
    }

    fn place(&self, words: &mut Words<'_>) -> Result<Place, Malformed> {
        if words.take("etcd") {
            return Ok(Place::Etcd);
        }
        if words.take("everybody") {
            return Ok(Place::Everybody);
        }
        if words.take("the") {
            if words.take("others") {
                return Ok(Place::Others);
            }
            return the(words).map(Place::Member);
        }
        self.who(words).map(Place::Member)
    }
}

fn start_again(reader: &Reader, words: &mut Words<'_>) -> Result<Step, Malformed> {
    let what = words.one_of(&[
        ("agent", Some(Starter::Agent)),
        ("node", Some(Starter::Node)),
        ("etcd", None),
    ])?;
    match what {
        None => Ok(Step::StartEtcd),
        Some(what) => Ok(Step::StartAgain(what, reader.of(words)?)),
    }
}

fn kill(reader: &Reader, words: &mut Words<'_>) -> Result<Step, Malformed> {
    let what = words.one_of(&[
        ("agent", Some(Victim::Agent)),
        ("guard", Some(Victim::Guard)),
        ("postmaster", Some(Victim::Postmaster)),
        ("postgres", Some(Victim::Postgres)),
        ("node", Some(Victim::Node)),
        ("etcd", None),
    ])?;
    if let Some(what) = what {
        return Ok(Step::Kill(what, reader.of(words)?));
    }
    let part = words.one_of(&[
        ("leader", EtcdPart::Leader),
        ("minority", EtcdPart::Minority),
        ("majority", EtcdPart::Majority),
    ])?;
    Ok(Step::KillEtcd(part))
}

/// Settings, or one parameter of PostgreSQL.
fn set(words: &mut Words<'_>) -> Result<Step, Malformed> {
    if words.take("parameter") {
        let name = words.next("the name of a parameter")?.to_owned();
        words.exactly("to")?;
        let value = words.next("its value")?.to_owned();
        return Ok(Step::SetParameter { name, value });
    }
    let mut settings = Vec::new();
    loop {
        add_setting(&mut settings, words)?;
        if !words.take(",") {
            return Ok(Step::Set(settings));
        }
    }
}
