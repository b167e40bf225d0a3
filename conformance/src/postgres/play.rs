//! Plays a list on one side and notes what is said and seen after each step.

use std::time::{Duration, Instant};

use pgherd_ha::{Action, JobKind, Origin, StartAs};
use pgherd_model::{StopMode, Timeline, Upstream};

use super::order::{Order, Step};
use super::side::{NODES, Side, Written, name};
use super::state;
use crate::transcript::Transcript;

/// How long a real one may take to become what the fake is.
const PATIENCE: Duration = Duration::from_secs(40);

/// Plays it from the beginning. Where it is known what to expect, that is waited for, and the first
/// difference ends it.
pub async fn play(
    side: &mut impl Side,
    steps: &[Step],
    expected: Option<&Transcript>,
) -> Transcript {
    let mut transcript = Transcript::default();
    let mut rows = 0;
    for (at, step) in steps.iter().enumerate() {
        let answer = carry_out(side, step, &mut rows).await;
        let wanted = expected.and_then(|expected| expected.seen(at));
        let end = Instant::now() + PATIENCE;
        let seen = loop {
            side.settle().await;
            let mut seen = vec![answer.clone()];
            seen.extend(look(side).await);
            let Some(wanted) = wanted else {
                break seen;
            };
            let hopeless = wanted.first() != Some(&answer) || Instant::now() > end;
            if seen == *wanted || hopeless {
                break seen;
            }
        };
        transcript.step(step.to_string());
        let parted = wanted.is_some_and(|wanted| *wanted != seen);
        for line in seen {
            transcript.saw(line);
        }
        if parted {
            break;
        }
    }
    transcript
}

async fn look(side: &mut impl Side) -> Vec<String> {
    let mut facts = Vec::new();
    for node in 0..NODES {
        facts.push(side.facts(node).await);
    }
    let ports = |port: u16| (0..NODES).find(|node| side.address(*node).1 == port);
    state::lines(&facts, &side.acknowledged(), &ports)
}

async fn carry_out(side: &mut impl Side, step: &Step, rows: &mut u64) -> String {
    let node = step.node;
    match &step.order {
        Order::Write => {
            *rows += 1;
            let written = side.write(node, *rows).await;
            let said = match written {
                Written::Acknowledged => "is committed",
                Written::Waits => "waits",
                Written::Refused => "is refused",
            };
            return format!("row {rows} {said}");
        }
        Order::Cancel => side.cancel(node).await,
        Order::Crash => side.kill_postmaster(node).await,
        Order::Freeze => side.freeze(node, true).await,
        Order::Thaw => side.freeze(node, false).await,
        Order::FreezeReceiver => side.freeze_receiver(node, true).await,
        Order::ThawReceiver => side.freeze_receiver(node, false).await,
        Order::Parameter(name, value) => {
            side.set_parameter(node, name, &value.to_string()).await;
        }
        order => {
            let action = action(side, node, order).await;
            return match side.perform(node, action).await {
                Ok(()) => "done".into(),
                Err(reason) => {
                    // Each side has words of its own for it: for whoever looks into a difference.
                    eprintln!("{step}: {reason}");
                    "failed".into()
                }
            };
        }
    }
    "so be it".into()
}

/// The order as the brain gives it.
async fn action(side: &mut impl Side, node: usize, order: &Order) -> Action {
    let stop = |mode| {
        Action::StartJob(JobKind::Stop {
            mode,
            checkpoint_first: false,
        })
    };
    match order {
        Order::Bootstrap => Action::StartJob(JobKind::Bootstrap),
        Order::Copy(from) => Action::StartJob(JobKind::Clone {
            from: Some(Origin {
                name: name(*from),
                address: side.address(*from),
            }),
            far: false,
        }),
        Order::StartPrimary => Action::StartJob(JobKind::Start(StartAs::Primary)),
        Order::StartStandby { from, slot, follow } => {
            let whom = from.filter(|_| *follow);
            let follow = match whom {
                Some(whom) => {
                    let look = side.facts(whom).await.look;
                    let timeline = look.map_or(Timeline(1), |look| look.timeline);
                    Some((name(whom), timeline))
                }
                None => None,
            };
            let upstream = from.map(|from| upstream(side, from, node, *slot));
            Action::StartJob(JobKind::Start(StartAs::Standby { upstream, follow }))
        }
        Order::Stop => stop(StopMode::Fast),
        Order::Abort => stop(StopMode::Immediate),
        Order::Kill => stop(StopMode::Kill),
        Order::Promote => Action::StartJob(JobKind::Promote),
        Order::Recover => Action::StartJob(JobKind::CrashRecovery),
        Order::Rewind(to) => Action::StartJob(JobKind::Rewind {
            from: name(*to),
            address: side.address(*to),
        }),
        Order::Remove => Action::StartJob(JobKind::RemoveData),
        Order::Upstream(to) => Action::SetUpstream(to.map(|to| upstream(side, to, node, false))),
        Order::StopReceiving => Action::StopReceiving,
        Order::Sync(names) => Action::SetSynchronousStandbys(names.clone()),
        Order::CreateSlot(of) => Action::CreateSlot(name(*of).to_string()),
        Order::DropSlot(of) => Action::DropSlot(name(*of).to_string()),
        Order::AdvanceSlot(of) => {
            let look = side.facts(*of).await.look;
            let lsn = look.map_or(pgherd_model::Lsn(0), |look| look.wal.position());
            Action::AdvanceSlot(name(*of).to_string(), lsn)
        }
        Order::Reserve(last) => Action::ReserveTimelines {
            last: Timeline(*last),
        },
        Order::Checkpoint
        | Order::Write
        | Order::Cancel
        | Order::Crash
        | Order::Freeze
        | Order::Thaw
        | Order::FreezeReceiver
        | Order::ThawReceiver
        | Order::Parameter(..) => Action::Checkpoint,
    }
}

fn upstream(side: &impl Side, to: usize, own: usize, slot: bool) -> Upstream {
    let (host, port) = side.address(to);
    Upstream {
        host,
        port,
        slot: slot.then(|| name(own).to_string()),
        others: vec![],
    }
}
