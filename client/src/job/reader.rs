//! Reads TOML with a line number at hand for everything, and goes on after a mistake, so that a person sees all of them at once.

use std::cell::RefCell;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::duration;

/// One thing that is wrong in a job file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, {key}: {why}")]
pub struct Problem {
    /// Line in the file, from 1.
    pub line: usize,
    /// The key, with its table: `privacy.hospitals_min`.
    pub key: String,
    /// What is wrong, and what may stand there instead.
    pub why: String,
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Line in the file, from 1.
    pub line: usize,
    /// The key, with its table.
    pub key: String,
}

impl<T> At<T> {
    /// The place alone.
    pub fn place(&self) -> At<()> {
        At { value: (), line: self.line, key: self.key.clone() }
    }

    /// Something wrong with this value.
    pub fn problem(&self, why: impl Into<String>) -> Problem {
        Problem { line: self.line, key: self.key.clone(), why: why.into() }
    }
}

/// Where problems are gathered.
#[derive(Clone, Default)]
pub(crate) struct Problems(Rc<RefCell<Vec<Problem>>>);

impl Problems {
    pub(crate) fn push(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    pub(crate) fn take(&self) -> Vec<Problem> {
        let mut all = std::mem::take(&mut *self.0.borrow_mut());
        all.sort_by_key(|problem| problem.line);
        all
    }
}

/// One table of the file.
pub(crate) struct Section<'d> {
    source: &'d str,
    path: String,
    /// Line of the table's head.
    pub(crate) line: usize,
    table: Option<&'d DeTable<'d>>,
    problems: Problems,
}

type Value<'d> = &'d Spanned<DeValue<'d>>;

impl<'d> Section<'d> {
    /// The whole file.
    pub(crate) fn root(source: &'d str, table: &'d DeTable<'d>, known: &[&str], problems: &Problems) -> Section<'d> {
        Section { source, path: String::new(), line: 1, table: Some(table), problems: problems.clone() }.only(known)
    }

    /// Keys that are not `known` are problems: a spelling mistake must not become a default.
    fn only(self, known: &[&str]) -> Section<'d> {
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let line = line_of(self.source, key.span().start);
                let meant = nearest(name, known.iter().copied());
                let meant = meant.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
                let why = format!("there is no such key{meant} Known here: {}", known.join(", "));
                self.problems.push(Problem { line, key: self.key(name), why });
            }
        }
        self
    }

    pub(crate) fn key(&self, name: &str) -> String {
        let name: String = name.chars().take(80).collect();
        if self.path.is_empty() { name } else { format!("{}.{name}", self.path) }
    }

    /// A problem at a key of this table, or at its head.
    pub(crate) fn problem(&self, name: &str, why: impl Into<String>) {
        let line = self.value(name).map_or(self.line, |value| self.line_at(value));
        self.problems.push(Problem { line, key: self.key(name), why: why.into() });
    }

    pub(crate) fn value(&self, name: &str) -> Option<Value<'d>> {
        self.table.and_then(|table| table.get(name))
    }

    /// Every key with its value.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'d str, Value<'d>)> {
        self.table.into_iter().flatten().map(|(key, value)| (key.get_ref().as_ref(), value))
    }

    fn line_at(&self, value: Value<'_>) -> usize {
        line_of(self.source, value.span().start)
    }

    pub(crate) fn at<T>(&self, name: &str, place: Value<'_>, value: T) -> At<T> {
        At { value, line: self.line_at(place), key: self.key(name) }
    }

    fn wrong<T>(&self, name: &str, value: Value<'_>, expected: &str) -> Option<T> {
        let why = format!("must be {expected}, and is {}", kind(value.get_ref()));
        self.problems.push(Problem { line: self.line_at(value), key: self.key(name), why });
        None
    }

    /// A table within this one.
    pub(crate) fn section(&self, name: &str, known: &[&str]) -> Section<'d> {
        let Some(value) = self.value(name) else {
            return Section { path: self.key(name), table: None, ..self.empty() };
        };
        self.as_section(&self.key(name), value, Some(known))
    }

    fn empty(&self) -> Section<'d> {
        Section {
            source: self.source,
            path: String::new(),
            line: self.line,
            table: None,
            problems: self.problems.clone(),
        }
    }

    /// A value as a table; `known` of `None` allows any key.
    pub(crate) fn as_section(&self, path: &str, value: Value<'d>, known: Option<&[&str]>) -> Section<'d> {
        let line = self.line_at(value);
        let table = value.get_ref().as_table();
        if table.is_none() {
            let why = format!("must be a table, and is {}", kind(value.get_ref()));
            self.problems.push(Problem { line, key: path.to_owned(), why });
        }
        let section = Section { path: path.to_owned(), line, table, ..self.empty() };
        match known {
            Some(known) => section.only(known),
            None => section,
        }
    }

    /// `[[name]]` tables, each named by its place from 1.
    pub(crate) fn sections(&self, name: &str, known: &[&str]) -> Vec<Section<'d>> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong::<()>(name, value, &format!("one or more tables [[{name}]]"));
            return Vec::new();
        };
        let each = items.iter().enumerate();
        each.map(|(i, item)| self.as_section(&format!("{}[{}]", self.key(name), i + 1), item, Some(known))).collect()
    }

    /// A list; one value alone counts as a list of one.
    pub(crate) fn list(&self, name: &str) -> Vec<Value<'d>> {
        match self.value(name) {
            None => Vec::new(),
            Some(value) => match value.get_ref().as_array() {
                Some(items) => items.iter().collect(),
                None => vec![value],
            },
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<At<String>> {
        let value = self.value(name)?;
        self.as_text(name, value)
    }

    pub(crate) fn as_text(&self, name: &str, value: Value<'_>) -> Option<At<String>> {
        match value.get_ref().as_str() {
            Some(text) => Some(self.at(name, value, text.to_owned())),
            None => self.wrong(name, value, "a text in quotes"),
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Option<Vec<At<String>>> {
        self.value(name)?;
        Some(self.list(name).into_iter().filter_map(|value| self.as_text(name, value)).collect())
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        let value = self.value(name)?;
        match value.get_ref().as_bool() {
            Some(flag) => Some(flag),
            None => self.wrong(name, value, "true or false"),
        }
    }

    /// A whole number within bounds.
    pub(crate) fn integer(&self, name: &str, low: u64, high: u64) -> Option<At<u64>> {
        let value = self.value(name)?;
        self.as_integer(name, value, low, high)
    }

    pub(crate) fn as_integer(&self, name: &str, value: Value<'_>, low: u64, high: u64) -> Option<At<u64>> {
        let number = whole(value.get_ref()).and_then(|number| u64::try_from(number).ok());
        match number.filter(|number| (low..=high).contains(number)) {
            Some(number) => Some(self.at(name, value, number)),
            None => self.wrong(name, value, &format!("a whole number from {low} to {high}")),
        }
    }

    /// A time such as `"14 days"`, in milliseconds.
    /// A number, with or without a fraction, or the same in quotes.
    pub(crate) fn number(&self, name: &str) -> Option<At<f64>> {
        let value = self.value(name)?;
        let text = match value.get_ref() {
            DeValue::String(text) => Some(text.as_ref().to_owned()),
            DeValue::Float(number) => Some(number.as_str().replace('_', "")),
            other => whole(other).map(|number| number.to_string()),
        };
        match text.and_then(|text| text.trim().parse::<f64>().ok()) {
            Some(number) => Some(self.at(name, value, number)),
            None => {
                self.problem(name, "must be a number, such as 1 or 0.5");
                None
            }
        }
    }

    pub(crate) fn duration(&self, name: &str) -> Option<At<u64>> {
        let value = self.value(name)?;
        match value.get_ref().as_str().and_then(duration::parse) {
            Some(ms) => Some(self.at(name, value, ms)),
            None => self.wrong(name, value, duration::EXPECTED),
        }
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = words.iter().find(|(word, _)| *word == text.value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.problems.push(text.problem(format!("must be {}", known.join(" or "))));
        }
        found
    }

    /// Whether the key stands there at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }
}

/// A TOML integer of any base.
pub(crate) fn whole(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn kind(value: &DeValue<'_>) -> String {
    let shown = |text: &str| text.chars().take(40).map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    match value {
        DeValue::String(text) => format!("\"{}\"", shown(text)),
        DeValue::Integer(number) => shown(number.as_str()),
        DeValue::Float(number) => shown(number.as_str()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

pub(crate) fn line_of(source: &str, at: usize) -> usize {
    source.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// The nearest of the known names, if one is near enough to be a slip of the finger.
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let near = known.into_iter().map(|other| (distance(name, other), other)).min();
    near.filter(|(edits, other)| *edits <= 1 + other.chars().count() / 4).map(|(_, other)| other)
}

/// Levenshtein's distance; names are cut to 64 characters, so a hostile file costs nothing.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for ((to, up), diagonal) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(from != to)).min(left + 1).min(up + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, edits) in [("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2), ("same", "same", 0)] {
            assert_eq!(distance(a, b), edits);
        }
        assert_eq!(nearest("hospital_min", ["threshold", "hospitals_min"]), Some("hospitals_min"));
        assert_eq!(nearest("zzz", ["threshold", "hospitals_min"]), None);
    }
}
