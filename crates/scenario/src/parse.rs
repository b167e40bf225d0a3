//! From text to [`Scenario`]: one statement a line, each read word by word (docs/scenarios.md lists them).
//! It reads no files and knows nothing about whoever will carry them out.

use std::collections::BTreeMap;
use std::mem::discriminant;

use crate::Span;
use crate::line::{Malformed, Words, either, without_comment};
use crate::words::{
    Bound, Condition, EtcdPart, Expectation, Frozen, Guard, Line, Place, Scenario, Setting,
    Starter, State, Statement, Step, Victim, Who,
};

/// With what a line may begin.
const STATEMENTS: [&str; 24] = [
    "cluster",
    "seed",
    "only",
    "known",
    "start",
    "let",
    "wait",
    "writers",
    "kill",
    "freeze",
    "thaw",
    "fill",
    "clear",
    "cut",
    "heal",
    "switchover",
    "failover",
    "restart",
    "reinitialize",
    "upgrade",
    "pause",
    "resume",
    "set",
    "expect",
];

/// Words that are no names of members.
const TAKEN: [&str; 14] = [
    "a",
    "the",
    "no",
    "not",
    "primary",
    "replica",
    "other",
    "others",
    "etcd",
    "everybody",
    "writes",
    "timeline",
    "pending",
    "packets",
];

/// Reads a scenario; `file` is its name for errors.
///
/// # Errors
/// The first line that is not understood, with what could have stood there.
pub fn parse(file: &str, text: &str) -> Result<Scenario, Malformed> {
    let mut reader = Reader::new(file);
    let mut last = 0;
    for (index, raw) in text.lines().enumerate() {
        last = index + 1;
        let bare = without_comment(raw);
        if bare.is_empty() {
            reader.comment(raw);
            continue;
        }
        let mut words = Words::new(file, last, bare);
        if let Some(statement) = reader.statement(&mut words)? {
            words.end()?;
            reader.add(last, bare, statement);
        }
    }
    reader.finish(last)
}

/// What has been read so far.
struct Reader {
    scenario: Scenario,
    /// The line that named somebody, by name.
    names: BTreeMap<String, usize>,
    started: bool,
    expects: bool,
}

impl Reader {
    fn new(file: &str) -> Reader {
        Reader {
            scenario: Scenario {
                file: file.into(),
                story: String::new(),
                seed: 1,
                only_real: None,
                known_to_fail: None,
                nodes: 0,
                settings: Vec::new(),
                lines: Vec::new(),
            },
            names: BTreeMap::new(),
            started: false,
            expects: false,
        }
    }

    /// What stands above the first statement tells the story.
    fn comment(&mut self, line: &str) {
        let text = line.trim().trim_start_matches('#').trim();
        if self.scenario.nodes == 0 && !text.is_empty() {
            let story = &mut self.scenario.story;
            if !story.is_empty() {
                story.push(' ');
            }
            story.push_str(text);
        }
    }

    fn add(&mut self, number: usize, text: &str, statement: Statement) {
        self.expects |= matches!(statement, Statement::Expect(_));
        self.scenario.lines.push(Line {
            number,
            text: text.into(),
            statement,
        });
    }

    fn finish(self, last: usize) -> Result<Scenario, Malformed> {
        let missing = [
            (self.scenario.nodes == 0, "`cluster`"),
            (!self.started, "`start`"),
            (!self.expects, "`expect`"),
        ];
        match missing.iter().find(|(missing, _)| *missing) {
            Some((_, what)) => Err(Malformed {
                file: self.scenario.file,
                line: last.max(1),
                expected: (*what).into(),
                found: "the end of the file".into(),
            }),
            None => Ok(self.scenario),
        }
    }

    /// `None`: it belongs to the head.
    fn statement(&mut self, words: &mut Words<'_>) -> Result<Option<Statement>, Malformed> {
        let first = words.peek().unwrap_or("");
        if !STATEMENTS.contains(&first) {
            let expected = format!("a statement ({})", either(&STATEMENTS));
            return Err(words.malformed(&expected));
        }
        if self.scenario.nodes == 0 && first != "cluster" {
            return Err(words.malformed("`cluster` in the first statement"));
        }
        if matches!(first, "cluster" | "seed" | "only" | "known") {
            self.head(words)?;
            words.end()?;
            return Ok(None);
        }
        let begins = first == "start" && !self.started;
        if !begins && !self.started {
            return Err(words.malformed("`start` before anything else happens"));
        }
        words.next("a statement")?;
        let statement = match first {
            "let" => self.name(words)?,
            "expect" => Statement::Expect(self.expectation(words)?),
            "start" if begins => {
                self.started = true;
                Statement::Step(Step::Start)
            }
            other => Statement::Step(self.step(other, words)?),
        };
        Ok(Some(statement))
    }

    fn head(&mut self, words: &mut Words<'_>) -> Result<(), Malformed> {
        if self.started {
            return Err(words.malformed("a statement that may follow `start`"));
        }
        match words.next("a statement")? {
            "cluster" if self.scenario.nodes > 0 => {
                Err(words.other("one cluster", "a second `cluster`"))
            }
            "cluster" => {
                words.exactly("of")?;
                let nodes: Option<usize> = words.peek().and_then(|text| text.parse().ok());
                let nodes = nodes.filter(|nodes| (2..=7).contains(nodes));
                let Some(nodes) = nodes else {
                    return Err(words.malformed("a number of members from 2 to 7"));
                };
                words.next("a number")?;
                self.scenario.nodes = nodes;
                while words.take(",") {
                    add_setting(&mut self.scenario.settings, words)?;
                }
                Ok(())
            }
            "seed" => {
                self.scenario.seed = words.count("a whole number")?;
                Ok(())
            }
            "known" => {
                words.exactly("to fail because")?;
                self.scenario.known_to_fail = Some(words.rest("a reason")?);
                Ok(())
            }
            _ => {
                words.exactly("real because")?;
                self.scenario.only_real = Some(words.rest("a reason")?);
                Ok(())
            }
        }
    }

    /// `let NAME be WHO`.
    fn name(&mut self, words: &mut Words<'_>) -> Result<Statement, Malformed> {
        let word = words.peek().unwrap_or("").to_owned();
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        let good = word.starts_with(|letter: char| letter.is_ascii_lowercase())
            && word.chars().all(plain)
            && !TAKEN.contains(&word.as_str())
            && member_number(&word).is_none();
        if !good {
            return Err(words.malformed("a name of small letters"));
        }
        if let Some(line) = self.names.get(&word) {
            let found = format!("`{word}`, which line {line} has given");
            return Err(words.other("a new name", &found));
        }
        words.next("a name")?;
        words.exactly("be")?;
        let who = self.who(words)?;
        self.names.insert(word.clone(), words.number);
        Ok(Statement::Let { name: word, who })
    }

    fn who(&self, words: &mut Words<'_>) -> Result<Who, Malformed> {
        if words.take("the") {
            return the(words);
        }
        if words.take("primary") {
            return Ok(Who::Primary);
        }
        if words.take("a") {
            words.exactly("replica")?;
            return Ok(Who::Replica);
        }
        let word = words.peek().unwrap_or("");
        let number = member_number(word).filter(|number| *number < self.scenario.nodes);
        let named = self.names.contains_key(word);
        let who = match number {
            Some(number) => Who::Node(number),
            None if named => Who::Named(word.to_owned()),
            None => return Err(words.malformed(&self.members())),
        };
        words.next("a member")?;
        Ok(who)
    }

    fn members(&self) -> String {
        let nodes = self.scenario.nodes;
        format!(
            "a member (`primary`, `a replica`, `the other replica`, `n1` to `n{nodes}` or a name given by `let`)"
        )
    }

    /// `of WHO`.
    fn of(&self, words: &mut Words<'_>) -> Result<Who, Malformed> {
        words.exactly("of")?;
        self.who(words)
    }

    fn step(&self, first: &str, words: &mut Words<'_>) -> Result<Step, Malformed> {
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

    fn expectation(&self, words: &mut Words<'_>) -> Result<Expectation, Malformed> {
        let condition = self.condition(words)?;
        let both: [(&str, MakeBound); 2] = [("within", Bound::Within), ("for", Bound::For)];
        let table = match condition {
            Condition::NoRowLost => {
                let bound = Bound::Now;
                return Ok(Expectation { condition, bound });
            }
            Condition::NoGap(_) | Condition::NoWrites => &both[1..],
            Condition::Writes => &both[..1],
            Condition::Primary { .. }
            | Condition::NoPrimary
            | Condition::Is { .. }
            | Condition::Whole
            | Condition::Timeline(_)
            | Condition::PendingRestart { .. } => &both[..],
        };
        let bound = words.one_of(table)?;
        let bound = bound(words.span()?);
        Ok(Expectation { condition, bound })
    }

    fn condition(&self, words: &mut Words<'_>) -> Result<Condition, Malformed> {
        match words.peek() {
            Some("no") => {
                words.next("no")?;
                self.nothing(words)
            }
            Some("a") => {
                words.next("a")?;
                self.one(words)
            }
            Some("writes") => {
                words.next("writes")?;
                Ok(Condition::Writes)
            }
            Some("timeline") => {
                words.next("timeline")?;
                Ok(Condition::Timeline(words.count("a number")?))
            }
            Some("pending") => self.pending(words, true),
            Some(word) if self.is_member(word) => {
                let who = self.who(words)?;
                is(who, words)
            }
            _ => {
                let expected = format!(
                    "a condition (`a primary`, `no primary`, `a whole cluster`, `writes`, `no writes`, `no gap`, `no acknowledged row lost`, `timeline`, `pending restart`) or {}",
                    self.members()
                );
                Err(words.malformed(&expected))
            }
        }
    }

    fn is_member(&self, word: &str) -> bool {
        matches!(word, "primary" | "the")
            || self.names.contains_key(word)
            || member_number(word).is_some()
    }

    /// What follows `a`.
    fn one(&self, words: &mut Words<'_>) -> Result<Condition, Malformed> {
        match words.one_of(&[("primary", 0), ("whole", 1), ("replica", 2)])? {
            0 => {
                let mut other_than = None;
                if words.take("other") {
                    words.exactly("than")?;
                    other_than = Some(self.who(words)?);
                }
                Ok(Condition::Primary { other_than })
            }
            1 => {
                words.exactly("cluster")?;
                Ok(Condition::Whole)
            }
            _ => is(Who::Replica, words),
        }
    }

    /// What follows `no`.
    fn nothing(&self, words: &mut Words<'_>) -> Result<Condition, Malformed> {
        let what = [
            ("primary", 0),
            ("writes", 1),
            ("gap", 2),
            ("acknowledged", 3),
            ("pending", 4),
        ];
        if words.peek() == Some("pending") {
            return self.pending(words, false);
        }
        Ok(match words.one_of(&what)? {
            0 => Condition::NoPrimary,
            1 => Condition::NoWrites,
            2 => {
                words.exactly("in writes above")?;
                Condition::NoGap(words.span()?)
            }
            _ => {
                words.exactly("row lost")?;
                Condition::NoRowLost
            }
        })
    }

    fn pending(&self, words: &mut Words<'_>, pending: bool) -> Result<Condition, Malformed> {
        words.exactly("pending restart on")?;
        let who = self.who(words)?;
        Ok(Condition::PendingRestart { who, pending })
    }
}

/// What follows `the`.
fn the(words: &mut Words<'_>) -> Result<Who, Malformed> {
    match words.one_of(&[("primary", true), ("other", false)])? {
        true => Ok(Who::Primary),
        false => {
            words.exactly("replica")?;
            Ok(Who::OtherReplica)
        }
    }
}

/// `[not] to be STATE`.
fn is(who: Who, words: &mut Words<'_>) -> Result<Condition, Malformed> {
    let be = !words.take("not");
    words.exactly("to be")?;
    let state = match words.take("a") {
        true => {
            words.exactly("replica")?;
            State::Replica
        }
        // What stands in the second place is for the error only.
        false => words.one_of(&[
            ("primary", State::Primary),
            ("a replica", State::Replica),
            ("read-only", State::ReadOnly),
            ("down", State::Down),
        ])?,
    };
    Ok(Condition::Is { who, be, state })
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

fn add_setting(settings: &mut Vec<Setting>, words: &mut Words<'_>) -> Result<(), Malformed> {
    let word = words.peek().unwrap_or("");
    let setting = setting(words)?;
    let mode = |it: &Setting| {
        matches!(
            it,
            Setting::Asynchronous | Setting::Synchronous | Setting::Strict
        )
    };
    let same =
        |it: &Setting| discriminant(it) == discriminant(&setting) || (mode(it) && mode(&setting));
    if settings.iter().any(same) {
        return Err(words.other("each setting once", &format!("`{word}` again")));
    }
    settings.push(setting);
    Ok(())
}

type MakeBound = fn(Span) -> Bound;
type MakeSetting = fn(Span) -> Setting;

/// Settings that are a time.
const TIMES: [(&str, MakeSetting); 5] = [
    ("lease", Setting::Lease),
    ("ttl", Setting::Ttl),
    ("loop", Setting::Loop),
    ("retry", Setting::Retry),
    ("hang", Setting::Hang),
];

/// All others.
const SETTINGS: [&str; 8] = [
    "start timeout",
    "lag limit",
    "asynchronous",
    "synchronous",
    "strictly synchronous",
    "guard",
    "crash handover",
    "copy anew",
];

fn setting(words: &mut Words<'_>) -> Result<Setting, Malformed> {
    let word = words.peek().unwrap_or("");
    if let Some((_, make)) = TIMES.iter().find(|(name, _)| *name == word) {
        words.next("a setting")?;
        let least = Span::from_secs(if word == "lease" { 2 } else { 1 });
        let text = words.peek().unwrap_or("").to_owned();
        let span = words.seconds()?;
        if span < least {
            let least = least.as_secs();
            return Err(words.other(&format!("{least}s or more"), &format!("`{text}`")));
        }
        return Ok(make(span));
    }
    if words.take("rewind") {
        return Ok(Setting::Rewind);
    }
    let known = SETTINGS
        .iter()
        .find(|name| name.split(' ').next() == Some(word));
    let Some(name) = known else {
        let times = TIMES.iter().map(|(name, _)| *name);
        let all: Vec<&str> = times.chain(SETTINGS).chain(["rewind"]).collect();
        return Err(words.malformed(&format!("a setting ({})", either(&all))));
    };
    words.exactly(name)?;
    Ok(match *name {
        "start timeout" => Setting::StartTimeout(words.seconds()?),
        "lag limit" => Setting::LagLimit(words.bytes()?),
        "asynchronous" => Setting::Asynchronous,
        "synchronous" => Setting::Synchronous,
        "strictly synchronous" => Setting::Strict,
        "guard" => Setting::Guard(words.one_of(&[
            ("automatic", Guard::Automatic),
            ("required", Guard::Required),
            ("off", Guard::Off),
        ])?),
        "crash handover" => Setting::HandOver,
        _ => Setting::CopyAnew,
    })
}

/// `n1` is 0.
fn member_number(word: &str) -> Option<usize> {
    let digits = word.strip_prefix('n')?;
    let plain = digits.len() == 1 && digits != "0";
    digits
        .parse::<usize>()
        .ok()
        .filter(|_| plain)
        .map(|number| number - 1)
}
