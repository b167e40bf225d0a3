//! What is written for people, and what must never be committed.

use super::tree::File;

/// Directories of somebody's machine; joined here, so that this file does not name them itself.
const PRIVATE: [&str; 3] = [
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/opt/", "oracle"),
];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Broken rules.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let mut broken: Vec<String> = files.iter().flat_map(check_private).collect();
    for needed in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ] {
        if !files.iter().any(|file| file.path == needed) {
            broken.push(format!("{needed}: missing"));
        }
    }
    for file in files {
        if file.path == "CHANGELOG.md" && !file.text.contains("\n## Unreleased\n") {
            broken.push("CHANGELOG.md: needs a section `## Unreleased`".to_owned());
        }
        if file.path == "Cargo.lock" {
            broken.extend(check_lock(&file.text));
        }
    }
    broken.extend(check_decisions(files));
    broken.extend(check_compatibility(files));
    broken
}

/// What of Patroni holds, and the tests that show it.
const COMPATIBILITY: &str = "docs/compatibility.md";

/// The third column of its tables names tests, which exist, or nothing: `—`.
fn check_compatibility(files: &[File]) -> Vec<String> {
    let Some(page) = files.iter().find(|file| file.path == COMPATIBILITY) else {
        return Vec::new();
    };
    let exists = |name: &str| match name.ends_with(".scn") {
        true => files
            .iter()
            .any(|file| file.path == format!("tests/scenarios/{name}")),
        false => {
            let head = format!("fn {name}()");
            files
                .iter()
                .any(|file| file.is_rust() && file.text.contains(&head))
        }
    };
    let mut broken = Vec::new();
    for (number, line) in page.text.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').collect();
        let [_, _, state, tests, _, _] = cells.as_slice() else {
            continue;
        };
        let names = tests.split('`').skip(1).step_by(2);
        let names: Vec<&str> = names.collect();
        let told = matches!(state.trim(), "yes" | "partly" | "no");
        if told && names.is_empty() && tests.trim() != "—" {
            broken.push(format!(
                "{COMPATIBILITY}:{}: name a test, or `—`",
                number + 1
            ));
        }
        for name in names.into_iter().filter(|name| !exists(name)) {
            broken.push(format!(
                "{COMPATIBILITY}:{}: there is no test {name}",
                number + 1
            ));
        }
    }
    broken
}

fn check_private(file: &File) -> Vec<String> {
    let mut broken = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for private in PRIVATE.iter().filter(|private| line.contains(**private)) {
            broken.push(format!(
                "{}:{}: names a path of one machine ({private})",
                file.path,
                number + 1
            ));
        }
    }
    broken
}

fn check_lock(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("source = "))
        .filter(|source| source.trim_matches('"') != REGISTRY)
        .map(|source| format!("Cargo.lock: {source} is not crates.io"))
        .collect()
}

/// `docs/decisions/NNNN-what-was-decided.md`, numbers without doubles, the title repeats the number.
fn check_decisions(files: &[File]) -> Vec<String> {
    let folder = "docs/decisions/";
    let mut broken = Vec::new();
    let mut last = None;
    for file in files {
        let Some(name) = file.path.strip_prefix(folder) else {
            continue;
        };
        let number = name
            .get(..4)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let named = name.get(4..5) == Some("-") && name.ends_with(".md");
        let Some(number) = number.filter(|_| named) else {
            broken.push(format!("{}: name it NNNN-what-was-decided.md", file.path));
            continue;
        };
        if last == Some(number) {
            broken.push(format!("{}: its number is taken", file.path));
        }
        last = Some(number);
        if !file.text.starts_with(&format!("# {number}. ")) {
            broken.push(format!("{}: must open with `# {number}. Title`", file.path));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.into(),
            text: text.into(),
        }
    }

    #[test]
    fn decisions_are_numbered() {
        let good = [
            file("docs/decisions/0001-a.md", "# 0001. A\n"),
            file("docs/decisions/0002-b.md", "# 0002. B\n"),
        ];
        assert!(check_decisions(&good).is_empty());
        let bad = [
            file("docs/decisions/0001-a.md", "# 0001. A\n"),
            file("docs/decisions/0001-b.md", "# 0002. B\n"),
            file("docs/decisions/x.md", ""),
        ];
        assert_eq!(check_decisions(&bad).len(), 3);
    }

    #[test]
    fn tests_that_a_page_names_exist() {
        let page = |row: &str| {
            let files = [
                file(COMPATIBILITY, row),
                file("a.rs", "#[test]\nfn it_holds() {}\n"),
                file("tests/scenarios/a-b.scn", ""),
            ];
            check_compatibility(&files).len()
        };
        assert_eq!(page("| `x` | yes | `it_holds` `a-b.scn` | |\n"), 0);
        assert_eq!(page("| `x` | no | — | `not_looked_at` |\n"), 0);
        assert_eq!(page("| `x` | | | |\n| `y` | `z` |\n"), 0);
        assert_eq!(page("| `x` | yes | `it_hold` `b.scn` | |\n"), 2);
        assert_eq!(page("| `x` | partly | | |\n"), 1);
    }

    #[test]
    fn private_paths_and_other_registries_are_found() {
        let text = format!("cd {}x", PRIVATE[0]);
        assert_eq!(check_private(&file("a.md", &text)).len(), 1);
        assert_eq!(
            check_lock("source = \"registry+https://example.org/i\"\n").len(),
            1
        );
        assert!(check_lock(&format!("source = \"{REGISTRY}\"\n")).is_empty());
    }
}
