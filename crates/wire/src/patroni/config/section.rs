//! Typed reading of one mapping of the YAML: says exactly where and what is wrong, and notices
//! keys that nobody asked for.

use super::read_bootstrap::options;
use super::shape::{Shape, short};
use super::slots;
use super::yaml::{Data, Entry, Node, Place};
use super::{ConfigError, Secret, units};
use pgherd_model::Span;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

type Result<T> = std::result::Result<T, ConfigError>;

/// A mapping being read; one that is missing reads as empty.
pub(super) struct Section<'a> {
    path: String,
    place: Place,
    entries: &'a [Entry],
    /// The section stands in the document.
    pub(super) present: bool,
    asked: RefCell<BTreeSet<String>>,
    warnings: &'a RefCell<Vec<String>>,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn root(node: &'a Node, warnings: &'a RefCell<Vec<String>>) -> Result<Self> {
        let entries: &[Entry] = match &node.data {
            Data::Map(entries) => entries,
            _ => {
                let problem = format!("expected a mapping of sections, found {}", node.kind());
                return Err(ConfigError::new(&node.place, problem));
            }
        };
        Ok(Section {
            path: String::new(),
            place: node.place.clone(),
            entries,
            present: true,
            asked: RefCell::default(),
            warnings,
        })
    }

    /// A mapping below this one; missing or null: empty, in the place of this one.
    pub(super) fn child(&self, key: &str) -> Result<Section<'a>> {
        let entry = self.entry(key);
        let (place, entries) = match entry.map(|entry| (&entry.place, &entry.node.data)) {
            None => (&self.place, &[][..]),
            Some((place, Data::Null)) => (place, &[][..]),
            Some((place, Data::Map(entries))) => (place, entries.as_slice()),
            Some(_) => return Err(self.wrong(key, "a mapping")),
        };
        Ok(Section {
            path: self.full(key),
            place: place.clone(),
            entries,
            present: entry.is_some(),
            asked: RefCell::default(),
            warnings: self.warnings,
        })
    }

    /// Full path of a key.
    pub(super) fn full(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// Names of all keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// The value; null counts as missing.
    pub(super) fn node(&self, key: &str) -> Option<&'a Node> {
        let node = &self.entry(key)?.node;
        (!matches!(node.data, Data::Null)).then_some(node)
    }

    /// The value if it is of a kind; otherwise the key stays unknown.
    pub(super) fn node_if(&self, key: &str, wanted: impl Fn(&Node) -> bool) -> Option<&'a Node> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        if !wanted(&entry.node) {
            return None;
        }
        self.node(key)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>> {
        let Some(node) = self.node(key) else {
            return Ok(None);
        };
        match plain_text(node) {
            Some(text) => Ok(Some(text)),
            None => Err(self.wrong(key, "text")),
        }
    }

    pub(super) fn required_text(&self, key: &str) -> Result<String> {
        match self.text(key)? {
            Some(text) if text.trim().is_empty() => {
                Err(self.error(key, "expected text, found empty text".into()))
            }
            Some(text) => Ok(text),
            None => Err(self.missing(key, "text")),
        }
    }

    pub(super) fn secret(&self, key: &str) -> Result<Option<Secret>> {
        Ok(self.text(key)?.map(Secret::new))
    }

    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>> {
        let text = self.text(key)?.filter(|text| !text.is_empty());
        Ok(text.map(PathBuf::from))
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        let value = self.scalar(key, Shape::Flag)?;
        Ok(value.as_ref().and_then(units::boolean))
    }

    pub(super) fn integer(&self, key: &str, least: i64, most: i64) -> Result<Option<i64>> {
        let value = self.scalar(key, Shape::Integer(least, most))?;
        Ok(value.as_ref().and_then(units::integer))
    }

    pub(super) fn span(&self, key: &str, least: Span) -> Result<Option<Span>> {
        let value = self.scalar(key, Shape::Time(least))?;
        Ok(value.as_ref().and_then(units::seconds))
    }

    /// One of a few words, without regard to case.
    pub(super) fn word(
        &self,
        key: &str,
        words: &'static [&'static str],
    ) -> Result<Option<&'static str>> {
        let value = self.scalar(key, Shape::Word(words))?;
        Ok(value.and_then(|value| units::word(&value, words)))
    }

    /// A value that is one word or number; refused with what was found.
    fn scalar(&self, key: &str, shape: Shape) -> Result<Option<Value>> {
        let Some(node) = self.node(key) else {
            return Ok(None);
        };
        let value = node.to_json();
        if shape.accepts(&value) {
            return Ok(Some(value));
        }
        let expected = shape.expected();
        Err(match node.data {
            Data::Text(_) => {
                let found = short(&value);
                self.error(key, format!("expected {expected}, found {found:?}"))
            }
            Data::Int(_) | Data::Float(_) | Data::Bool(_) => {
                self.error(key, format!("expected {expected}, found {value}"))
            }
            Data::Null | Data::List(_) | Data::Map(_) => self.wrong(key, &expected),
        })
    }

    /// Checks a value of the dynamic configuration where it stands in the file.
    pub(super) fn check(&self, key: &str, shape: &Shape) -> Result<()> {
        match shape {
            Shape::Flag | Shape::Integer(..) | Shape::Bytes(_) | Shape::Time(_) => {
                self.scalar(key, *shape).map(drop)
            }
            Shape::Word(_) => self.scalar(key, *shape).map(drop),
            Shape::Text => self.text(key).map(drop),
            Shape::Words => self.words(key).map(drop),
            Shape::Lines => self.lines(key).map(drop),
            Shape::Scalars => self.scalars(key).map(drop),
            Shape::Options => options(self, key).map(drop),
            Shape::Slots => self.slots(key),
            Shape::List => match self.node(key).map(|node| &node.data) {
                None | Some(Data::List(_)) => Ok(()),
                Some(_) => Err(self.wrong(key, "a list")),
            },
            Shape::Section(table) => {
                let section = self.child(key)?;
                for (key, shape) in *table {
                    section.check(key, shape)?;
                }
                section.finish();
                Ok(())
            }
        }
    }

    /// A mapping of names to text, numbers or booleans; names in it are the user's own.
    pub(super) fn scalars(&self, key: &str) -> Result<Section<'a>> {
        let section = self.child(key)?;
        for name in section.keys() {
            if let Some(Data::List(_) | Data::Map(_)) = section.node(name).map(|node| &node.data) {
                return Err(section.wrong(name, "text, a number or a boolean"));
            }
        }
        Ok(section)
    }

    fn slots(&self, key: &str) -> Result<()> {
        let slots = self.child(key)?;
        for name in slots.keys() {
            if !slots::is_name(name) {
                let problem = "expected a name of at most 63 of a-z, 0-9 and _ for this slot";
                return Err(slots.error(name, problem.into()));
            }
            match slots.node(name).map(|node| &node.data) {
                None | Some(Data::Map(_) | Data::Int(0)) => {}
                Some(Data::Text(text)) if text.is_empty() => {}
                Some(_) => return Err(slots.wrong(name, "a mapping (type, database, plugin)")),
            }
        }
        Ok(())
    }

    /// A list of texts, or comma separated text.
    pub(super) fn words(&self, key: &str) -> Result<Option<Vec<String>>> {
        let Some(node) = self.node(key) else {
            return Ok(None);
        };
        let Data::List(_) = node.data else {
            let text = plain_text(node).ok_or_else(|| self.wrong(key, "a list of text"))?;
            let parts = text
                .split(',')
                .map(|part| part.trim().trim_matches(['"', '\'']));
            let parts = parts.filter(|part| !part.is_empty()).map(str::to_owned);
            return Ok(Some(parts.collect()));
        };
        self.lines(key)
    }

    /// A list of texts, which may hold commas.
    pub(super) fn lines(&self, key: &str) -> Result<Option<Vec<String>>> {
        let Some(node) = self.node(key) else {
            return Ok(None);
        };
        let Data::List(items) = &node.data else {
            return Err(self.wrong(key, "a list of text"));
        };
        let line = |item: &Node| {
            plain_text(item).ok_or_else(|| {
                let key = self.full(key);
                let problem = format!("{key}: expected text, found {}", item.kind());
                let remedy = match item.data {
                    Data::Map(_) => ": put the whole line in quotes",
                    _ => "",
                };
                ConfigError::new(&item.place, format!("{problem}{remedy}"))
            })
        };
        let lines: Result<Vec<String>> = items.iter().map(line).collect();
        lines.map(Some)
    }

    /// A mapping of names to text.
    pub(super) fn texts(&self, key: &str) -> Result<BTreeMap<String, String>> {
        let section = self.child(key)?;
        let pairs = section.keys().map(|name| {
            let text = section.text(name)?;
            Ok((name.to_owned(), text.unwrap_or_default()))
        });
        pairs.collect()
    }

    /// Keys that are right, but that this version does not act on.
    pub(super) fn without_effect(&self, keys: &[&str]) {
        for key in keys {
            if let Some(entry) = self.entry(key) {
                self.warn(&entry.place, key, "has no effect yet");
            }
        }
    }

    /// To be called last: warns of keys that nobody asked for.
    pub(super) fn finish(&self) {
        let asked = self.asked.borrow();
        for entry in self.entries {
            if !asked.contains(&entry.key) {
                self.warn(&entry.place, &entry.key, "unknown key, ignored");
            }
        }
    }

    pub(super) fn warn(&self, place: &Place, key: &str, what: &str) {
        let line = format!("{place}: {}: {what}", self.full(key));
        self.warnings.borrow_mut().push(line);
    }

    /// Warning about a key that is there.
    pub(super) fn warn_at(&self, key: &str, what: &str) {
        self.warn(&self.place_of(key), key, what);
    }

    pub(super) fn missing(&self, key: &str, what: &str) -> ConfigError {
        self.error(key, format!("expected {what}, found nothing: add this key"))
    }

    /// A value of the wrong kind.
    pub(super) fn wrong(&self, key: &str, what: &str) -> ConfigError {
        let found = self.entry(key).map_or("nothing", |entry| entry.node.kind());
        self.error(key, format!("expected {what}, found {found}"))
    }

    pub(super) fn error(&self, key: &str, problem: String) -> ConfigError {
        let key_path = self.full(key);
        ConfigError::new(self.place_of(key), format!("{key_path}: {problem}"))
    }

    pub(super) fn place_of(&self, key: &str) -> Place {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.map_or(&self.place, |entry| &entry.place).clone()
    }

    fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.entries.iter().find(|entry| entry.key == key)
    }
}

/// Text, and numbers as Python would show them: `password: 1234` works.
pub(super) fn plain_text(node: &Node) -> Option<String> {
    match &node.data {
        Data::Text(text) => Some(text.clone()),
        Data::Int(number) => Some(number.to_string()),
        Data::Float(number) => Some(format!("{number:?}")),
        _ => None,
    }
}
