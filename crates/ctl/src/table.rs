//! patronictl's table: a frame of `+`, `-` and `|` with the title in its first line.

use unicode_width::UnicodeWidthStr as _;

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Heading.
    pub(crate) name: String,
    /// Right aligned.
    pub(crate) right: bool,
}

/// Draws the table. Cells may have several lines; then a rule stands between all rows.
pub(crate) fn draw(title: &str, columns: &[Column], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(at))
                .flat_map(|cell| cell.lines());
            cells
                .map(width)
                .chain([width(&column.name)])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let rule: String = widths
        .iter()
        .map(|width| format!("+{}", "-".repeat(width + 2)))
        .collect();
    let rule = format!("{rule}+");
    let mut out = format!("{}\n", with_title(&rule, title));
    let heading: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    push_row(&mut out, columns, &widths, &heading);
    out.push_str(&rule);
    out.push('\n');
    let ruled = rows.iter().flatten().any(|cell| cell.contains('\n'));
    for (at, row) in rows.iter().enumerate() {
        if ruled && at > 0 {
            out.push_str(&rule);
            out.push('\n');
        }
        push_row(&mut out, columns, &widths, row);
    }
    out.push_str(&rule);
    out.push('\n');
    out
}

fn with_title(rule: &str, title: &str) -> String {
    let room = rule.len().saturating_sub(2);
    let mut shown = String::new();
    for letter in title.chars() {
        shown.push(letter);
        if width(&shown) > room {
            shown.pop();
            break;
        }
    }
    let rest = rule.get(1 + width(&shown)..).unwrap_or("");
    format!("+{shown}{rest}")
}

fn push_row(out: &mut String, columns: &[Column], widths: &[usize], row: &[String]) {
    let height = row
        .iter()
        .map(|cell| cell.lines().count())
        .max()
        .unwrap_or(1)
        .max(1);
    for line in 0..height {
        for ((column, wide), cell) in columns.iter().zip(widths).zip(row) {
            let text = cell.lines().nth(line).unwrap_or("");
            let space = " ".repeat(wide.saturating_sub(width(text)));
            match column.right {
                true => out.push_str(&format!("| {space}{text} ")),
                false => out.push_str(&format!("| {text}{space} ")),
            }
        }
        out.push_str("|\n");
    }
}

/// Columns of a terminal: characters of East Asia take two, accents of their own none.
fn width(text: &str) -> usize {
    text.width()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_and_combining_characters_keep_the_frame_straight() {
        let columns = ["a", "n"].map(|name| Column {
            name: name.into(),
            right: name == "n",
        });
        let rows = [["\u{6771}\u{4eac}", "1"], ["e\u{301}", "22"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            draw(" \u{5317} ", &columns, &rows),
            "+ \u{5317} --+----+\n\
             | a    |  n |\n\
             +------+----+\n\
             | \u{6771}\u{4eac} |  1 |\n\
             | e\u{301}    | 22 |\n\
             +------+----+\n"
        );
        // A title that does not fit ends within the frame.
        let drawn = draw(&"\u{5317}".repeat(9), &columns[..1], &[]);
        assert_eq!(drawn.lines().next(), Some("+\u{5317}-+"));
    }
}
