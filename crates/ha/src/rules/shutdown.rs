//! The agent is to end: PostgreSQL is stopped in order, then the lock is released.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{Op, PostgresState, Span, StopMode};

use crate::ctx::{Ctx, Verdict};
use crate::decision::{Action, JobKind};
use crate::memory::Memory;
use crate::rules::{restart_order, switchover};

/// How long the member key may take to say that PostgreSQL is stopped.
const FAREWELL: Span = Span::from_secs(1);
/// How soon that is tried again.
const FAREWELL_AGAIN: Span = Span::from_millis(50);

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if !ctx.view.orders.shutdown {
        return Verdict::pass("nobody asked the agent to end");
    }
    let stopping = ctx
        .view
        .running_job()
        .is_some_and(|job| matches!(job.kind, JobKind::Stop { .. }));
    if stopping {
        return switchover::end_senders(ctx, memory, "the agent ends")
            .unwrap_or_else(|| Verdict::only(vec![], "PostgreSQL is being stopped"));
    }
    if let Some(verdict) = step_out(ctx, memory) {
        return verdict;
    }
    if !ctx.view.is_down() || ctx.view.running_job().is_some() {
        // A stop that failed is followed by the one that cannot.
        let failed = ctx.view.local.job.as_ref().is_some_and(|job| {
            matches!(job.kind, JobKind::Stop { .. }) && job.outcome != Some(crate::Outcome::Done)
        });
        let mode = if failed {
            StopMode::Kill
        } else {
            StopMode::Fast
        };
        let stop = JobKind::Stop {
            mode,
            checkpoint_first: false,
        };
        return Verdict::only(
            vec![Action::StartJob(stop)],
            "the agent ends: stopping PostgreSQL",
        );
    }
    if let Some(term) = ctx.holding() {
        let release = ctx.release(term, memory);
        return Verdict::only(vec![release], "the agent ends: releasing the lock");
    }
    let exit = Action::Exit {
        code: 0,
        message: String::from("PostgreSQL is stopped"),
    };
    let mut actions = farewell(ctx, memory);
    let again = ctx.now() + FAREWELL_AGAIN;
    actions.push(exit);
    Verdict::only(actions, "the agent ends").wake(again)
}

/// A synchronous standby asks to be let go first: commits would wait for it once it is down.
fn step_out(ctx: &Ctx<'_>, memory: &mut Memory) -> Option<Verdict> {
    let led = ctx.view.fresh().is_some() && ctx.other_leader().is_some();
    if !led || !restart_order::waited_for(ctx) {
        return None;
    }
    let since = *memory.stepping_out.get_or_insert(ctx.now());
    let until = since + ctx.view.settings.loop_wait * 2;
    let reason = "the agent ends: asking to be let out of synchronous duty first";
    (ctx.now() < until).then(|| Verdict::stay(reason).wake(until))
}

/// The member key says that PostgreSQL is stopped (as Patroni leaves it), unless it says so already
/// or that takes too long: an absent lock service must not hold up the end.
fn farewell(ctx: &Ctx<'_>, memory: &mut Memory) -> Vec<Action> {
    let published = ctx
        .view
        .fresh()
        .and_then(|cluster| cluster.member(ctx.me()));
    if published.is_none_or(|member| member.state == Some(PostgresState::Stopped)) {
        return vec![];
    }
    let since = *memory.farewell_since.get_or_insert(ctx.now());
    if ctx.now().since(since) >= FAREWELL {
        return vec![];
    }
    let mut member = ctx.own_member(memory);
    member.state = Some(PostgresState::Stopped);
    vec![Action::Store(Op::PutMember(member))]
}
