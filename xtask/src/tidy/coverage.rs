//! Every rule of the ladder, every duty of the upkeep and every action is hit by a test that names
//! it.

use super::tree::{File, has_word};

const RULES: &str = "crates/ha/src/rules/";
const UPKEEP: &str = "crates/ha/src/upkeep/";
const ACTIONS: &str = "crates/ha/src/decision.rs";

/// Broken rules.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let tests = tests(files);
    let mut broken = Vec::new();
    for (folder, what) in [(RULES, "rule"), (UPKEEP, "upkeep")] {
        for name in names(files, folder) {
            if !has_word(&tests, name) {
                broken.push(format!("{what} `{name}` ({folder}): no test names it"));
            }
        }
    }
    let decision = files.iter().find(|file| file.path == ACTIONS);
    for action in decision.map_or_else(Vec::new, |file| variants(&file.text, "Action")) {
        if !has_word(&tests, action) {
            broken.push(format!("action `{action}` ({ACTIONS}): no test names it"));
        }
    }
    broken
}

/// Text of the brain's tests: files of tests, what follows `#[cfg(test)]`, and all of the simulator.
fn tests(files: &[File]) -> String {
    let mut text = String::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let brain = file.path.starts_with("crates/ha/");
        if file.path.starts_with("sim/") || (brain && file.path.contains("test")) {
            text.push_str(&file.text);
        } else if brain && let Some((_, tests)) = file.text.split_once("#[cfg(test)]") {
            text.push_str(tests);
        }
    }
    // Snapshots name what a decision contains.
    let snapshots = files
        .iter()
        .filter(|file| file.path.starts_with("crates/ha/"));
    for file in snapshots.filter(|file| file.path.ends_with(".snap")) {
        text.push_str(&file.text);
    }
    text
}

fn names<'a>(files: &'a [File], folder: &str) -> Vec<&'a str> {
    files
        .iter()
        .filter_map(|file| file.path.strip_prefix(folder)?.strip_suffix(".rs"))
        .filter(|name| !name.contains('/') && !["mod", "tests"].contains(name))
        .collect()
}

/// Variants of an enum in a formatted source.
fn variants<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let head = format!("pub enum {name} {{");
    text.lines()
        .skip_while(|line| *line != head)
        .skip(1)
        .take_while(|line| *line != "}")
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|letter: char| letter.is_ascii_uppercase()))
        .filter_map(|line| line.split([' ', '(', ',', '{']).next())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_read_with_their_fields_left_out() {
        let text = "pub enum Other {\n    No,\n}\npub enum Action {\n    /// Doc.\n    Store(Op),\n    \
                    Arm {\n        Field: u8,\n    },\n    Last,\n}\nfn x() {}\n";
        assert_eq!(variants(text, "Action"), ["Store", "Arm", "Last"]);
    }
}
