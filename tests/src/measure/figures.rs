//! Where a benchmark's tables go: the standard output, or below the heading "Figures" of a page.

use std::io::{self, Write as _};
use std::path::Path;

/// Prints `text`, or writes it to a file; in one with a heading "Figures" it replaces what is below that.
///
/// # Errors
/// When it cannot be written.
pub fn publish(file: Option<&Path>, text: &str) -> io::Result<()> {
    match file {
        Some(file) => {
            let page = std::fs::read_to_string(file).ok();
            let page = page.and_then(|page| with_figures(&page, text));
            std::fs::write(file, page.as_deref().unwrap_or(text))
        }
        // Not println: a reader that has seen enough (head) is no reason to panic.
        None => io::stdout().write_all(text.as_bytes()),
    }
}

/// `paper` with `text` below its heading "Figures", up to the next heading that is not below that;
/// `None` when it has no such heading.
fn with_figures(paper: &str, text: &str) -> Option<String> {
    let level = |line: &str| line.len() - line.trim_start_matches('#').len();
    let heading = |line: &str| line.trim_end().trim_start_matches('#') == " Figures";
    let mut lines = paper.split_inclusive('\n');
    let mut before: Vec<&str> = Vec::new();
    let figures = loop {
        let line = lines.next()?;
        before.push(line);
        if level(line) > 0 && heading(line) {
            break level(line);
        }
    };
    let after: String = lines
        .skip_while(|line| level(line) == 0 || level(line) > figures)
        .collect();
    let gap = if after.is_empty() { "" } else { "\n" };
    Some(format!("{}\n{text}{gap}{after}", before.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_replace_those_below_the_heading() {
        let paper = "# A\n\n### Method\n\nwords\n\n### Figures\n\nold\n\n#### Old table\n";
        let new = "# A\n\n### Method\n\nwords\n\n### Figures\n\nnew\n";
        assert_eq!(with_figures(paper, "new\n").as_deref(), Some(new));
        let more = format!("{paper}\n## B\n\n### C\n");
        let both = format!("{new}\n## B\n\n### C\n");
        assert_eq!(with_figures(&more, "new\n"), Some(both));
        assert_eq!(with_figures("- machine\n", "new\n"), None);
    }
}
