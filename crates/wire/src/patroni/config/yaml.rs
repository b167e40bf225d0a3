//! YAML as PyYAML's safe loader reads it, with the place of every value.
//!
//! The parser is granit-parser (through serde-saphyr). Put together and resolved here, because
//! serde-saphyr's own resolution differs from PyYAML where it hurts: `y`, `1e3` and `08` are text
//! there, and a password like `12e45` must not become a number.

use super::ConfigError;
use super::scalar::resolve;
use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, options};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// More nodes than any configuration has: ends documents whose aliases multiply themselves.
const MOST_NODES: usize = 100_000;

/// Where something was written.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// File, or `environment variable NAME`.
    pub(super) source: Arc<str>,
    /// Line in the file; `None` in a variable.
    pub(super) line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.source),
            None => f.write_str(&self.source),
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) data: Data,
    pub(super) place: Place,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Data {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value; keys are unique in their mapping.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Node {
    /// The kind of value, for messages; never the value.
    pub(super) fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "a boolean",
            Data::Int(_) => "an integer",
            Data::Float(_) => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }

    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.data {
            Data::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(flag) => Value::Bool(*flag),
            Data::Int(number) => (*number).into(),
            Data::Float(number) => (*number).into(),
            Data::Text(text) => Value::String(text.clone()),
            Data::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Data::Map(entries) => {
                let entries = entries.iter();
                let pairs: Map<String, Value> = entries
                    .map(|entry| (entry.key.clone(), entry.node.to_json()))
                    .collect();
                Value::Object(pairs)
            }
        }
    }

    /// The other way round: everything in it has one place.
    pub(super) fn from_json(value: &Value, place: &Place) -> Node {
        let data = match value {
            Value::Null => Data::Null,
            Value::Bool(flag) => Data::Bool(*flag),
            Value::Number(number) => match number.as_i64() {
                Some(number) => Data::Int(number),
                None => Data::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Data::Text(text.clone()),
            Value::Array(items) => {
                let items = items.iter().map(|item| Node::from_json(item, place));
                Data::List(items.collect())
            }
            Value::Object(map) => {
                let entry = |(key, value): (&String, &Value)| Entry {
                    key: key.clone(),
                    place: place.clone(),
                    node: Node::from_json(value, place),
                };
                Data::Map(map.iter().map(entry).collect())
            }
        };
        let place = place.clone();
        Node { data, place }
    }

    /// Lays `patch` over this: mappings recurse, null deletes, everything else replaces.
    pub(super) fn overlay(&mut self, patch: Node) {
        let Data::Map(patch) = patch.data else {
            *self = patch;
            return;
        };
        if !matches!(self.data, Data::Map(_)) {
            self.data = Data::Map(Vec::new());
        }
        let Data::Map(entries) = &mut self.data else {
            return;
        };
        for new in patch {
            let known = entries.iter().position(|entry| entry.key == new.key);
            match (known, &new.node.data) {
                (Some(index), Data::Null) => {
                    entries.remove(index);
                }
                (None, Data::Null) => {}
                (Some(index), Data::Map(_)) => entries[index].node.overlay(new.node),
                (Some(index), _) => entries[index] = new,
                (None, _) => entries.push(new),
            }
        }
    }
}

/// Reads one document. An empty one is `Data::Null`. `warnings` gets keys that stand twice.
///
/// # Errors
/// Syntax, with its line.
pub(super) fn parse(
    text: &str,
    source: &Place,
    warnings: &mut Vec<String>,
) -> Result<Node, ConfigError> {
    let limits = options! { emit_comments: false, flow_nesting_limit: 64, block_nesting_limit: 64 };
    let mut composer = Composer {
        events: Parser::new_from_str_with_options(text, limits),
        place: source.clone(),
        anchors: BTreeMap::new(),
        nodes: 0,
        warnings,
    };
    composer.document()
}

type Item<'text> = Result<(Event<'text>, Span), ScanError>;

struct Composer<'warn, I> {
    events: I,
    place: Place,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    warnings: &'warn mut Vec<String>,
}

impl<'text, I: Iterator<Item = Item<'text>>> Composer<'_, I> {
    fn document(&mut self) -> Result<Node, ConfigError> {
        let mut document = None;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(..) if document.is_some() => {
                    return Err(ConfigError::new(
                        place,
                        "expected one YAML document, found another one: remove the line `---`",
                    ));
                }
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                other => document = Some(self.node(other, place)?),
            }
        }
        Ok(document.unwrap_or(Node {
            data: Data::Null,
            place: self.at(1),
        }))
    }

    fn next(&mut self) -> Result<(Event<'text>, Place), ConfigError> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, self.at(span.start.line()))),
            Some(Err(error)) => {
                // The parser's messages name characters and anchors, not values.
                let place = self.at(error.marker().line());
                let column = error.marker().col() + 1;
                let problem = format!("not valid YAML: {} (column {column})", error.info());
                Err(ConfigError::new(place, problem))
            }
            None => Ok((Event::StreamEnd, self.at(1))),
        }
    }

    fn at(&self, line: usize) -> Place {
        Place {
            source: self.place.source.clone(),
            line: self.place.line.map(|_| line),
        }
    }

    fn node(&mut self, event: Event<'text>, place: Place) -> Result<Node, ConfigError> {
        self.nodes += 1;
        let (anchor, data) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let data = match tag.as_deref().map(|tag| (tag.core_suffix(), tag.suffix())) {
                    None if plain => resolve(&text),
                    None | Some((Some("str"), _)) | Some((None, "" | "!")) => {
                        Data::Text(text.into_owned())
                    }
                    Some((Some(_), _)) => resolve(&text),
                    Some((None, _)) => return Err(ConfigError::new(place, "unknown YAML tag")),
                };
                (anchor, data)
            }
            Event::SequenceStart(_, anchor, _) => (anchor, Data::List(self.list()?)),
            Event::MappingStart(_, anchor, _) => (anchor, Data::Map(self.mapping()?)),
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor).cloned();
                let target = target
                    .ok_or_else(|| ConfigError::new(&place, "an alias within its own anchor"))?;
                self.nodes += size(&target);
                (0, target.data)
            }
            _ => return Err(ConfigError::new(place, "not valid YAML: a value expected")),
        };
        if self.nodes > MOST_NODES {
            let problem = "the document is too large: aliases repeat too much";
            return Err(ConfigError::new(place, problem));
        }
        let node = Node { data, place };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<Vec<Node>, ConfigError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, place) => items.push(self.node(event, place)?),
            }
        }
    }

    fn mapping(&mut self) -> Result<Vec<Entry>, ConfigError> {
        let (mut own, mut merged) = (Vec::new(), Vec::new());
        loop {
            let (event, place) = self.next()?;
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, anchor, _) => {
                    let merge = style == ScalarStyle::Plain && text == "<<";
                    if anchor != 0 {
                        let data = Data::Text(text.clone().into_owned());
                        let place = place.clone();
                        self.anchors.insert(anchor, Node { data, place });
                    }
                    (!merge).then(|| text.into_owned())
                }
                _ => return Err(ConfigError::new(place, "expected text as a key")),
            };
            let (event, value_place) = self.next()?;
            let node = self.node(event, value_place)?;
            match key {
                Some(key) => {
                    let entry = Entry { key, place, node };
                    if let Some(first) = put(&mut own, entry) {
                        self.warnings.push(format!(
                            "{}: {} stands here again (first at line {}): the last one counts",
                            own.iter()
                                .find(|e| e.key == first.key)
                                .map_or(first.place.to_string(), |e| e.place.to_string()),
                            first.key,
                            first.place.line.unwrap_or_default()
                        ));
                    }
                }
                None => merge(&mut merged, node)?,
            }
        }
        for entry in own {
            put(&mut merged, entry);
        }
        Ok(merged)
    }
}

/// Adds or replaces; returns what was replaced.
fn put(entries: &mut Vec<Entry>, entry: Entry) -> Option<Entry> {
    match entries.iter_mut().find(|known| known.key == entry.key) {
        Some(known) => Some(std::mem::replace(known, entry)),
        None => {
            entries.push(entry);
            None
        }
    }
}

/// The value of `<<`: one mapping, or several of which the first to name a key wins.
fn merge(merged: &mut Vec<Entry>, node: Node) -> Result<(), ConfigError> {
    match node.data {
        Data::Map(entries) => {
            for entry in entries {
                put(merged, entry);
            }
            Ok(())
        }
        Data::List(items) => items
            .into_iter()
            .rev()
            .try_for_each(|item| merge(merged, item)),
        _ => Err(ConfigError::new(
            &node.place,
            format!(
                "<<: expected a mapping or a list of mappings, found {}",
                node.kind()
            ),
        )),
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.data {
        Data::List(items) => items.iter().map(size).sum::<usize>(),
        Data::Map(entries) => entries.iter().map(|entry| size(&entry.node)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn place() -> Place {
        Place {
            source: "n.yml".into(),
            line: Some(1),
        }
    }

    fn read(text: &str) -> Result<Value, ConfigError> {
        parse(text, &place(), &mut Vec::new()).map(|node| node.to_json())
    }

    #[test]
    fn reads_as_pyyaml() {
        let text =
            "on: yes\nx: [1, 0600, '1', ~]\ny: n\nmode: \"on\"\npw: 12e45\ntail:\n  - |\n    a\n";
        assert_eq!(
            read(text).unwrap(),
            json!({"on": true, "x": [1, 384, "1", null], "y": "n", "mode": "on", "pw": "12e45",
                "tail": ["a\n"]})
        );
        assert_eq!(read("").unwrap(), Value::Null);
        assert_eq!(read("# only this\n").unwrap(), Value::Null);
        assert_eq!(
            read("a: !!str 1\nb: ! 2").unwrap(),
            json!({"a": "1", "b": "2"})
        );
    }

    #[test]
    fn merges_and_aliases() {
        let text =
            "base: &b {a: 1, b: 2}\nmore: &m {b: 9, c: 3}\nx:\n  b: 7\n  <<: [*b, *m]\ny: *b\n";
        let value = read(text).unwrap();
        assert_eq!(value["x"], json!({"a": 1, "b": 7, "c": 3}));
        assert_eq!(value["y"], json!({"a": 1, "b": 2}));
    }

    #[test]
    fn the_last_of_doubled_keys_counts_and_is_told() {
        let mut warnings = Vec::new();
        let node = parse("a: 1\nb: 2\na: 3\n", &place(), &mut warnings).unwrap();
        assert_eq!(node.to_json(), json!({"a": 3, "b": 2}));
        assert_eq!(
            warnings,
            ["n.yml:3: a stands here again (first at line 1): the last one counts"]
        );
    }

    #[test]
    fn errors_name_the_line_and_are_one_line() {
        for (text, line) in [
            ("a: 1\nb: [1,\nc: 2\n", 0),
            ("a: 1\n\tb: 2\n", 0),
            ("a: *nobody\n", 1),
            ("a: !python/object:os.system x\n", 1),
            ("a: 1\n---\nb: 1\n", 2),
            ("{a: 1}: 2\n", 1),
            ("a:\n  <<: 7\n", 2),
        ] {
            let error = read(text).unwrap_err();
            assert!(!error.to_string().contains('\n'), "{error}");
            assert!(error.place.starts_with("n.yml:"), "{error}");
            if line > 0 {
                assert_eq!(error.place, format!("n.yml:{line}"), "{error}");
            }
        }
    }

    #[test]
    fn multiplying_aliases_end() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let last = level - 1;
            let list = vec![format!("*a{last}"); 10].join(",");
            text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        assert!(read(&text).unwrap_err().problem.contains("too large"));
        assert!(read(&"[".repeat(5000)).is_err());
    }

    #[test]
    fn overlays_recurse_and_null_deletes() {
        let read = |text: &str| parse(text, &place(), &mut Vec::new()).unwrap();
        let mut base = read("a: {b: 1, c: 2}\nd: 3\ne: 4\n");
        base.overlay(read("a: {b: ~, x: 5}\nd: {y: 6}\ne: ~\nz: ~\n"));
        assert_eq!(
            base.to_json(),
            json!({"a": {"c": 2, "x": 5}, "d": {"y": 6}})
        );
    }
}
