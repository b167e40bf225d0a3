//! A list of orders: its words, and how a text is read.

use std::fmt;

use crate::words::{Words, node_name};

/// What a node is told, by its agent, by people or by chance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// initdb and first start as primary.
    Bootstrap,
    /// A base backup of that node.
    Copy(usize),
    /// Start in place.
    StartPrimary,
    /// Start in recovery.
    StartStandby {
        /// To stream from it; `None`: from nobody.
        from: Option<usize>,
        /// By the slot with the own name.
        slot: bool,
        /// With the history of that node's timeline, so that recovery leaves the own one at the fork.
        follow: bool,
    },
    /// Fast stop.
    Stop,
    /// Immediate stop.
    Abort,
    /// The fence: postmaster and children are killed.
    Kill,
    /// The postmaster alone is killed, by chance.
    Crash,
    /// The postmaster is stopped.
    Freeze,
    /// It goes on.
    Thaw,
    /// The walreceiver is stopped.
    FreezeReceiver,
    /// It goes on.
    ThawReceiver,
    /// Promote.
    Promote,
    /// Crash recovery in single-user mode.
    Recover,
    /// pg_rewind to that node.
    Rewind(usize),
    /// The data directory is removed.
    Remove,
    /// Another upstream, or none.
    Upstream(Option<usize>),
    /// The walreceiver ends.
    StopReceiving,
    /// `synchronous_standby_names`.
    Sync(String),
    /// A checkpoint.
    Checkpoint,
    /// A slot for that node is made.
    CreateSlot(usize),
    /// It is dropped.
    DropSlot(usize),
    /// It is moved to the position that that node has now.
    AdvanceSlot(usize),
    /// The next promotion takes a number above this one.
    Reserve(u32),
    /// A parameter that needs a restart is written.
    Parameter(String, u64),
    /// A client commits a row.
    Write,
    /// Somebody cancels what waits for a synchronous standby.
    Cancel,
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whom it is about.
    pub node: usize,
    /// What is done there.
    pub order: Order,
}

/// Reads a list; `#` begins a remark.
///
/// # Errors
/// Line and what was expected there.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    crate::words::lines(text, |words| {
        let node = words.node()?;
        let order = order(words)?;
        Ok(Step { node, order })
    })
}

fn order(words: &mut Words<'_>) -> Result<Order, String> {
    Ok(match words.next("what is done")? {
        "bootstrap" => Order::Bootstrap,
        "copy" => Order::Copy(words.node()?),
        "start-primary" => Order::StartPrimary,
        "start-standby" if words.is_next("alone") => Order::StartStandby {
            from: None,
            slot: false,
            follow: false,
        },
        "start-standby" => Order::StartStandby {
            from: Some(words.node()?),
            slot: words.is_next("slot"),
            follow: words.is_next("follow"),
        },
        "stop" => Order::Stop,
        "abort" => Order::Abort,
        "kill" => Order::Kill,
        "crash" => Order::Crash,
        "freeze" => Order::Freeze,
        "thaw" => Order::Thaw,
        "freeze-receiver" => Order::FreezeReceiver,
        "thaw-receiver" => Order::ThawReceiver,
        "promote" => Order::Promote,
        "recover" => Order::Recover,
        "rewind" => Order::Rewind(words.node()?),
        "remove" => Order::Remove,
        "upstream" if words.is_next("nobody") => Order::Upstream(None),
        "upstream" => Order::Upstream(Some(words.node()?)),
        "stop-receiving" => Order::StopReceiving,
        "sync" if words.is_next("nobody") => Order::Sync(String::new()),
        "sync" => Order::Sync(words.rest()),
        "checkpoint" => Order::Checkpoint,
        "create-slot" => Order::CreateSlot(words.node()?),
        "drop-slot" => Order::DropSlot(words.node()?),
        "advance-slot" => Order::AdvanceSlot(words.node()?),
        "reserve" => Order::Reserve(u32::try_from(words.number()?).unwrap_or(u32::MAX)),
        "parameter" => Order::Parameter(words.next("a name")?.into(), words.number()?),
        "write" => Order::Write,
        "cancel" => Order::Cancel,
        other => return Err(format!("`{other}` is nothing that is done to a node")),
    })
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", node_name(self.node))?;
        let one = |f: &mut fmt::Formatter<'_>, verb: &str, node: usize| {
            write!(f, "{verb} {}", node_name(node))
        };
        match &self.order {
            Order::Copy(from) => one(f, "copy", *from),
            Order::Rewind(to) => one(f, "rewind", *to),
            Order::Upstream(Some(to)) => one(f, "upstream", *to),
            Order::Upstream(None) => f.write_str("upstream nobody"),
            Order::CreateSlot(of) => one(f, "create-slot", *of),
            Order::DropSlot(of) => one(f, "drop-slot", *of),
            Order::AdvanceSlot(of) => one(f, "advance-slot", *of),
            Order::StartStandby { from: None, .. } => f.write_str("start-standby alone"),
            Order::StartStandby {
                from: Some(from),
                slot,
                follow,
            } => {
                let slot = if *slot { " slot" } else { "" };
                let follow = if *follow { " follow" } else { "" };
                write!(f, "start-standby {}{slot}{follow}", node_name(*from))
            }
            Order::Sync(names) if names.is_empty() => f.write_str("sync nobody"),
            Order::Sync(names) => write!(f, "sync {names}"),
            Order::Reserve(last) => write!(f, "reserve {last}"),
            Order::Parameter(name, value) => write!(f, "parameter {name} {value}"),
            other => f.write_str(other.verb()),
        }
    }
}

impl Order {
    /// First words of all orders.
    pub const VERBS: [&str; 27] = [
        "bootstrap",
        "copy",
        "start-primary",
        "start-standby",
        "stop",
        "abort",
        "kill",
        "crash",
        "freeze",
        "thaw",
        "freeze-receiver",
        "thaw-receiver",
        "promote",
        "recover",
        "rewind",
        "remove",
        "upstream",
        "stop-receiving",
        "sync",
        "checkpoint",
        "create-slot",
        "drop-slot",
        "advance-slot",
        "reserve",
        "parameter",
        "write",
        "cancel",
    ];

    /// Its first word.
    pub fn verb(&self) -> &'static str {
        match self {
            Order::Bootstrap => "bootstrap",
            Order::StartPrimary => "start-primary",
            Order::Stop => "stop",
            Order::Abort => "abort",
            Order::Kill => "kill",
            Order::Crash => "crash",
            Order::Freeze => "freeze",
            Order::Thaw => "thaw",
            Order::FreezeReceiver => "freeze-receiver",
            Order::ThawReceiver => "thaw-receiver",
            Order::Promote => "promote",
            Order::Recover => "recover",
            Order::Remove => "remove",
            Order::Upstream(_) => "upstream",
            Order::StopReceiving => "stop-receiving",
            Order::Checkpoint => "checkpoint",
            Order::Write => "write",
            Order::Cancel => "cancel",
            Order::Copy(_) => "copy",
            Order::StartStandby { .. } => "start-standby",
            Order::Rewind(_) => "rewind",
            Order::Sync(_) => "sync",
            Order::CreateSlot(_) => "create-slot",
            Order::DropSlot(_) => "drop-slot",
            Order::AdvanceSlot(_) => "advance-slot",
            Order::Reserve(_) => "reserve",
            Order::Parameter(..) => "parameter",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_reads_as_it_was() {
        for (name, text) in crate::lists("postgres") {
            let list = parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let again: Vec<String> = list.iter().map(Step::to_string).collect();
            assert_eq!(parse(&again.join("\n")).unwrap(), list, "{name}");
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = parse("n1 bootstrap\nn1 dance").unwrap_err();
        assert_eq!(error, "line 2: `dance` is nothing that is done to a node");
    }
}
