//! How every Rust source begins, and how long files and functions may be.

use super::tree::File;
use std::collections::BTreeMap;

const FILE_LINES: usize = 800;
const FUNCTION_LINES: usize = 70;

/// Places that are longer, `path lines` or `path::function lines`. It may only shrink.
const LONG: &str = include_str!("long.txt");
const LONG_PATH: &str = "xtask/src/tidy/long.txt";

/// Broken rules.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut long = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        if !file.text.starts_with("//!") {
            broken.push(format!(
                "{}: must open with `//!` and say what it is for",
                file.path
            ));
        }
        let lines = file.text.lines().count();
        if lines > FILE_LINES {
            long.insert(file.path.clone(), lines);
        }
        for (name, lines) in functions(&file.text) {
            if lines > FUNCTION_LINES {
                long.insert(format!("{}::{name}", file.path), lines);
            }
        }
    }
    broken.extend(compare(&long, &allowed(LONG)));
    broken
}

fn allowed(list: &str) -> BTreeMap<String, usize> {
    list.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(place, lines)| Some((place.to_owned(), lines.parse().ok()?)))
        .collect()
}

fn compare(long: &BTreeMap<String, usize>, allowed: &BTreeMap<String, usize>) -> Vec<String> {
    let mut broken = Vec::new();
    for (place, lines) in long {
        match allowed.get(place) {
            None => broken.push(format!(
                "{place}: {lines} lines; split it ({FILE_LINES} for a file, {FUNCTION_LINES} for a function)"
            )),
            Some(most) if lines > most => broken.push(format!(
                "{place}: {lines} lines, {most} in {LONG_PATH}, which may only shrink"
            )),
            Some(most) if lines < most => broken.push(format!(
                "{place}: shrunk from {most} to {lines} lines: write that into {LONG_PATH}"
            )),
            Some(_) => {}
        }
    }
    let done = allowed.keys().filter(|place| !long.contains_key(*place));
    broken.extend(
        done.map(|place| format!("{place}: no longer too long: remove it from {LONG_PATH}")),
    );
    broken
}

/// Functions of a formatted source with their length from signature to closing brace. rustfmt puts
/// the closing brace of a body exactly below the beginning of its signature.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = &line[..line.len() - line.trim_start().len()];
        let closing = format!("{indent}}}");
        let declared = |line: &str| line.ends_with(';') || line.ends_with('}');
        if declared(line) {
            continue;
        }
        // A signature of several lines that ends in a semicolon has no body.
        let below = &lines[start + 1..];
        let end = below.iter().position(|line| {
            *line == closing
                || (line.starts_with(indent)
                    && line[indent.len()..].starts_with(')')
                    && line.ends_with(';'))
        });
        if let Some(end) = end {
            found.push((name.to_owned(), end + 2));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    for word in [
        "pub(crate) ",
        "pub(super) ",
        "pub ",
        "default ",
        "const ",
        "async ",
        "unsafe ",
        "extern \"C\" ",
    ] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    let end = name.find(['(', '<'])?;
    Some(&name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_from_signature_to_brace() {
        let text = "//! x\nfn a() {}\npub(crate) async fn b<T>(\n    t: T,\n) {\n    if t {\n    }\n}\n\
                    trait T {\n    fn c(&self);\n    fn d(\n        &self,\n    );\n    fn e() {\n        1;\n    }\n}\n";
        let lengths = functions(text);
        let expected = [("b", 6), ("d", 3), ("e", 3)];
        assert_eq!(
            lengths,
            expected.map(|(name, lines)| (name.to_owned(), lines))
        );
    }

    #[test]
    fn the_list_only_shrinks() {
        let map = |list| allowed(list);
        assert!(compare(&map("a.rs 900"), &map("a.rs 900")).is_empty());
        for (now, listed) in [
            ("a.rs 900", ""),
            ("a.rs 901", "a.rs 900"),
            ("a.rs 899", "a.rs 900"),
            ("", "a.rs 900"),
        ] {
            assert_eq!(compare(&map(now), &map(listed)).len(), 1, "{now} {listed}");
        }
    }
}
