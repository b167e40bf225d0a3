//! The story on paper: for people, or as JSON.

use super::Told;
use super::merge::text;
use super::phases::Handover;
use super::vacancy::Vacancy;
use crate::table::{Column, draw};
use serde_json::{Value, json};

/// For people: headings, lines, tables, and what is to be known about the sources.
pub(super) fn pretty(told: &Told) -> String {
    let mut out = String::new();
    let mut handovers = told.handovers.iter().peekable();
    let mut from = told.lines.first().map_or(0, |line| line.at);
    let width = told.lines.iter().map(|line| line.member.chars().count());
    let width = width.max().unwrap_or(0);
    let mut shown: Option<&Handover> = None;
    let mut vacancy = told.vacancy.as_ref();
    for line in &told.lines {
        if let Some(next) = handovers.next_if(|next| next.begun <= line.at) {
            finish(&mut out, shown.replace(next));
            out.push_str(&format!("{}\n\n", heading(next)));
            from = next.begun;
        }
        if let Some(begun) = vacancy.take_if(|vacancy| vacancy.begun <= line.at) {
            finish(&mut out, shown.take());
            out.push_str(&vacant(begun));
            from = begun.begun;
        }
        let at = text(line.at);
        let clock = at.get(11..23).unwrap_or_default();
        let (offset, member) = (signed(line.at - from), &line.member);
        out.push_str(&format!(
            "{clock}  {offset:>9}  {member:width$}  {}\n",
            line.text
        ));
    }
    finish(&mut out, shown);
    for late in handovers {
        finish(&mut out, Some(late));
    }
    if let Some(late) = vacancy {
        out.push_str(&format!("\n{}", vacant(late)));
    }
    if told.handovers.is_empty() && told.vacancy.is_none() {
        out.push_str("\nno failover or switchover in what is shown\n");
    }
    for note in &told.notes {
        out.push_str(&format!("\nNote: {note}"));
    }
    if !told.notes.is_empty() {
        out.push('\n');
    }
    out
}

fn heading(handover: &Handover) -> String {
    let Handover { kind, to, term, .. } = handover;
    let kind: String = kind
        .chars()
        .take(1)
        .flat_map(char::to_uppercase)
        .chain(kind.chars().skip(1))
        .collect();
    let who = match &handover.from {
        Some(from) if from != to => format!("from {from} to {to}"),
        _ => format!("of {to}"),
    };
    let timeline = match handover.timeline {
        Some(timeline) => format!(", timeline {timeline}"),
        None => String::new(),
    };
    let at = day_and_clock(handover.begun);
    format!("{kind} {who}, {at} UTC, term {term}{timeline}")
}

fn vacant(vacancy: &Vacancy) -> String {
    let since = day_and_clock(vacancy.since);
    format!(
        "No leader since {since} UTC, before that {}\n\n",
        vacancy.former
    )
}

fn day_and_clock(at: i64) -> String {
    let at = text(at);
    let (day, clock) = (at.get(..10), at.get(11..23));
    format!("{} {}", day.unwrap_or_default(), clock.unwrap_or_default())
}

/// The table of a handover whose lines were shown.
fn finish(out: &mut String, handover: Option<&Handover>) {
    let Some(handover) = handover else { return };
    out.push('\n');
    out.push_str(&table(handover));
    out.push('\n');
}

fn table(handover: &Handover) -> String {
    let column = |name: &str, right| Column {
        name: name.to_owned(),
        right,
    };
    let columns = [
        column("Until", false),
        column("Member", false),
        column("Took", true),
        column("At", true),
    ];
    let span = |ms: i64| format!("{} s", super::merge::seconds(ms));
    let mut rows = Vec::new();
    for phase in &handover.phases {
        let took = span(phase.took_ms);
        let at = signed(phase.offset_ms);
        rows.push(vec![phase.until.to_owned(), phase.member.clone(), took, at]);
    }
    let total = span(handover.total_ms);
    rows.push(vec!["total".into(), String::new(), total, String::new()]);
    if let Some(ms) = handover.without_primary_ms {
        rows.push(vec![
            "without a primary".into(),
            String::new(),
            span(ms),
            String::new(),
        ]);
    }
    draw(" Phases ", &columns, &rows)
}

fn signed(ms: i64) -> String {
    let sign = if ms < 0 { '-' } else { '+' };
    format!("{sign}{}", super::merge::seconds(ms.abs()))
}

/// For programs.
pub(super) fn json(told: &Told) -> Value {
    let handovers = told.handovers.iter().map(|handover| {
        let mut value = serde_json::to_value(handover).unwrap_or_default();
        value["begun"] = text(handover.begun).into();
        value
    });
    let events = told.lines.iter().map(|line| {
        let handovers = told.handovers.iter().map(|it| it.begun);
        let mut begun = handovers.chain(told.vacancy.iter().map(|it| it.begun));
        let from = begun.rfind(|begun| *begun <= line.at);
        json!({
            "at": text(line.at),
            "offset_ms": from.map(|from| line.at - from),
            "member": line.member,
            "text": line.text,
        })
    });
    let vacancy = told.vacancy.as_ref().map(|vacancy| {
        json!({
            "since": text(vacancy.since),
            "begun": text(vacancy.begun),
            "before": vacancy.former,
        })
    });
    json!({
        "handovers": handovers.collect::<Vec<_>>(),
        "no_leader": vacancy,
        "events": events.collect::<Vec<_>>(),
        "journals": told.journals,
        "notes": told.notes,
    })
}
