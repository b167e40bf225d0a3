//! Rows with a heading in every form of output, values as patronictl (so Python) writes them.

use crate::args::Format;
use crate::table::{Column, draw};
use crate::yaml;
use pgherd_wire::patroni::rest::python_json;
use serde_json::{Map, Value};

/// A heading, and whether its column is right aligned.
pub(crate) type Heading<'a> = (&'a str, bool);

/// All of it, as text that ends with a line break.
pub(crate) fn show(
    headings: &[Heading<'_>],
    rows: &[Vec<Value>],
    format: Format,
    delimiter: &str,
) -> String {
    match format {
        Format::Pretty => {
            let column = |(name, right): &Heading<'_>| Column {
                name: (*name).to_owned(),
                right: *right,
            };
            let columns: Vec<Column> = headings.iter().map(column).collect();
            let rows: Vec<Vec<String>> = rows
                .iter()
                .map(|row| row.iter().map(text).collect())
                .collect();
            draw("", &columns, &rows)
        }
        Format::Tsv => {
            let names: Vec<&str> = headings.iter().map(|(name, _)| *name).collect();
            let mut out = names.join(delimiter) + "\n";
            for row in rows {
                out.push_str(&(joined(row, delimiter) + "\n"));
            }
            out
        }
        Format::Json => python_json(&objects(headings, rows)) + "\n",
        Format::Yaml => yaml::block(&objects(headings, rows)) + "\n",
    }
}

/// The values of a row on one line.
pub(crate) fn joined(row: &[Value], delimiter: &str) -> String {
    let cells: Vec<String> = row.iter().map(text).collect();
    cells.join(delimiter)
}

fn objects(headings: &[Heading<'_>], rows: &[Vec<Value>]) -> Value {
    let object = |row: &Vec<Value>| {
        let names = headings.iter().map(|(name, _)| (*name).to_owned());
        Value::Object(names.zip(row.iter().cloned()).collect::<Map<_, _>>())
    };
    Value::Array(rows.iter().map(object).collect())
}

/// Python's `str`.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_pythons() {
        let rows = vec![vec![json!(null), json!(true), json!(1.5), json!("a")]];
        let headings = [("n", false), ("b", false), ("f", true), ("t", false)];
        assert_eq!(
            show(&headings, &rows, Format::Tsv, "|"),
            "n|b|f|t\nNone|True|1.5|a\n"
        );
        assert_eq!(
            show(&headings, &rows, Format::Json, ""),
            "[{\"n\": null, \"b\": true, \"f\": 1.5, \"t\": \"a\"}]\n"
        );
        assert_eq!(show(&headings, &[], Format::Yaml, ""), "[]\n\n");
    }
}
