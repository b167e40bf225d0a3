//! How every Rust source begins, and how long files and functions may be.

use super::tree::File;

const FILE_LINES: usize = 800;
const FUNCTION_LINES: usize = 70;

/// Broken rules.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let path = &file.path;
        if !file.text.starts_with("//!") {
            broken.push(format!(
                "{path}: must open with `//!` and say what it is for"
            ));
        }
        let lines = file.text.lines().count();
        if lines > FILE_LINES {
            broken.push(format!(
                "{path}: {lines} lines, more than {FILE_LINES}: split it"
            ));
        }
        for (name, lines) in functions(&file.text) {
            if lines > FUNCTION_LINES {
                broken.push(format!(
                    "{path}::{name}: {lines} lines, more than {FUNCTION_LINES}: split it"
                ));
            }
        }
    }
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
    fn what_is_too_long_is_named() {
        let file = |text: String| File {
            path: "a.rs".to_owned(),
            text,
        };
        let function = |lines| format!("fn f() {{\n{}}}\n", "    1;\n".repeat(lines));
        for (text, expected) in [
            (format!("//! x\n{}", function(68)), None),
            (
                format!("//! x\n{}", function(69)),
                Some("a.rs::f: 71 lines"),
            ),
            (format!("//! x\n{}", "\n".repeat(799)), None),
            (
                format!("//! x\n{}", "\n".repeat(800)),
                Some("a.rs: 801 lines"),
            ),
            (function(1), Some("a.rs: must open with")),
        ] {
            let broken = check(&[file(text)]);
            assert_eq!(broken.len(), usize::from(expected.is_some()), "{broken:?}");
            assert!(
                expected.is_none_or(|start| broken[0].starts_with(start)),
                "{broken:?}"
            );
        }
    }
}
