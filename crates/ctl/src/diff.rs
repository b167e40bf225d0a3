//! A unified diff, line for line as Python's `difflib` makes it: people and scripts compare what
//! `edit-config` prints. Libraries find other, equally short ways from one text to the other.

use std::collections::HashMap;
use std::ops::Range;

/// Lines around a change.
const CONTEXT: usize = 3;

/// Lines `a` and `b` that are the same: where they begin, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Same {
    a: usize,
    b: usize,
    count: usize,
}

/// What becomes of lines: the ranges of both sides, and whether they are equal.
#[derive(Clone, Debug)]
struct Step {
    a: Range<usize>,
    b: Range<usize>,
    equal: bool,
}

/// The diff with its two heading lines, without file names; empty when nothing differs.
pub(crate) fn unified(before: &str, after: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let hunks = hunks(steps(&a, &b));
    if hunks.is_empty() {
        return String::new();
    }
    let mut out = String::from("--- \n+++ \n");
    for hunk in hunks {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else {
            continue;
        };
        let old = span(first.a.start..last.a.end);
        let new = span(first.b.start..last.b.end);
        out.push_str(&format!("@@ -{old} +{new} @@\n"));
        for step in &hunk {
            let mut push = |mark: char, lines: &[&str]| {
                for line in lines {
                    out.push_str(&format!("{mark}{line}\n"));
                }
            };
            match step.equal {
                true => push(' ', &a[step.a.clone()]),
                false => {
                    push('-', &a[step.a.clone()]);
                    push('+', &b[step.b.clone()]);
                }
            }
        }
    }
    out
}

/// `4,2`; one line is `4`, none is the line before it.
fn span(lines: Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        count => format!("{},{count}", lines.start + 1),
    }
}

/// From the first line to the last, equal and changed in turns.
fn steps(a: &[&str], b: &[&str]) -> Vec<Step> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, line) in b.iter().enumerate() {
        places.entry(line).or_default().push(at);
    }
    let mut same = Vec::new();
    let mut open = vec![(0..a.len(), 0..b.len())];
    while let Some((in_a, in_b)) = open.pop() {
        let best = longest(a, &places, in_a.clone(), in_b.clone());
        if best.count > 0 {
            open.push((in_a.start..best.a, in_b.start..best.b));
            open.push((best.a + best.count..in_a.end, best.b + best.count..in_b.end));
            same.push(best);
        }
    }
    same.sort_unstable();
    same.push(Same {
        a: a.len(),
        b: b.len(),
        count: 0,
    });
    let (mut steps, mut at_a, mut at_b): (Vec<Step>, _, _) = (Vec::new(), 0, 0);
    for Same { a, b, count } in same {
        if at_a < a || at_b < b {
            steps.push(Step {
                a: at_a..a,
                b: at_b..b,
                equal: false,
            });
        }
        (at_a, at_b) = (a + count, b + count);
        if count > 0 {
            match steps.last_mut() {
                Some(last) if last.equal => (last.a.end, last.b.end) = (at_a, at_b),
                _ => steps.push(Step {
                    a: a..at_a,
                    b: b..at_b,
                    equal: true,
                }),
            }
        }
    }
    steps
}

/// The longest run of equal lines; of several the earliest in `a`, then in `b`.
fn longest(
    a: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    in_a: Range<usize>,
    in_b: Range<usize>,
) -> Same {
    let mut best = Same {
        a: in_a.start,
        b: in_b.start,
        count: 0,
    };
    // Lengths of the runs that end at the line before, by their line of `b`.
    let mut before: HashMap<usize, usize> = HashMap::new();
    for at_a in in_a {
        let mut now = HashMap::new();
        let found = places.get(a[at_a]).map(Vec::as_slice).unwrap_or_default();
        for &at_b in found.iter().filter(|at| in_b.contains(at)) {
            let run = at_b.checked_sub(1).and_then(|last| before.get(&last));
            let count = run.copied().unwrap_or(0) + 1;
            now.insert(at_b, count);
            if count > best.count {
                best = Same {
                    a: at_a + 1 - count,
                    b: at_b + 1 - count,
                    count,
                };
            }
        }
        before = now;
    }
    best
}

/// Changes with their context; those that are near each other together.
fn hunks(steps: Vec<Step>) -> Vec<Vec<Step>> {
    let mut hunks: Vec<Vec<Step>> = Vec::new();
    let mut hunk: Vec<Step> = Vec::new();
    let last = steps.len().saturating_sub(1);
    for (at, mut step) in steps.into_iter().enumerate() {
        if step.equal {
            let count = step.a.len();
            if at == 0 {
                cut_begin(&mut step, count.saturating_sub(CONTEXT));
            } else if at == last || count > 2 * CONTEXT {
                let mut end = step.clone();
                let rest = count.saturating_sub(CONTEXT);
                (end.a.end, end.b.end) = (end.a.end - rest, end.b.end - rest);
                hunk.push(end);
                hunks.push(std::mem::take(&mut hunk));
                if at == last {
                    break;
                }
                cut_begin(&mut step, rest);
            }
        }
        hunk.push(step);
    }
    if !hunk.is_empty() {
        hunks.push(hunk);
    }
    hunks.retain(|hunk| hunk.iter().any(|step| !step.equal));
    hunks
}

fn cut_begin(step: &mut Step, count: usize) {
    step.a.start += count;
    step.b.start += count;
}

#[cfg(test)]
mod tests {
    use super::unified;

    /// The right side is what Python 3.11's difflib answered.
    #[test]
    fn diffs_are_pythons() {
        let numbers = |range: std::ops::RangeInclusive<u32>| -> String {
            range.map(|n| format!("{n}\n")).collect()
        };
        assert_eq!(unified("a\nb\n", "a\nb\n"), "");
        assert_eq!(unified("a\n", "b\n"), "--- \n+++ \n@@ -1 +1 @@\n-a\n+b\n");
        assert_eq!(
            unified("", "b\nc\n"),
            "--- \n+++ \n@@ -0,0 +1,2 @@\n+b\n+c\n"
        );
        let far = numbers(1..=20).replace("2\n", "two\n").replace("19\n", "");
        assert_eq!(
            unified(&numbers(1..=20), &far),
            "--- \n+++ \n@@ -1,5 +1,5 @@\n 1\n-2\n+two\n 3\n 4\n 5\n@@ -9,12 +9,11 @@\n 9\n 10\n 11\n\
             -12\n+1two\n 13\n 14\n 15\n 16\n 17\n 18\n-19\n 20\n"
        );
    }
}
