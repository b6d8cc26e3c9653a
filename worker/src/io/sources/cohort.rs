//! The cohort of a contract: which rows of a data set a job may use, as a condition over declared columns.
//!
//! ```text
//! condition  = all | term
//! term       = factor { "or" factor }         factor = unary { "and" unary }
//! unary      = "not" unary | "(" term ")" | column test
//! test       = ( = | != | < | <= | > | >= ) value | [ "not" ] "in" "(" value { "," value } ")" | "is" [ "not" ] "missing"
//! value      = number | 'YYYY-MM-DD' | 'label of a code'
//! column     = word | "name with blanks"
//! ```
//!
//! A comparison with a missing value is unknown, and unknown rows are left out, as in SQL: `not (age > 60)` does not
//! bring in patients without an age. Nothing here can loop, call or read anything; length and depth are bounded.

use std::collections::BTreeSet;

use leben_models::{Kind, Table};

use super::source::days;

mod lex;

use lex::{Token, lex};

/// Longest condition, in bytes.
pub const COHORT_BYTES_MAX: usize = 4096;
/// Deepest nesting of brackets and `not`.
pub const COHORT_DEPTH_MAX: usize = 64;

/// A condition that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Cohort {
    /// `None`: all rows.
    condition: Option<Node>,
}

/// Why a condition cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CohortError {
    /// It is longer than any condition may be.
    #[error("a cohort condition may have at most {COHORT_BYTES_MAX} bytes")]
    TooLong,
    /// It is nested too deeply.
    #[error("a cohort condition may be nested at most {COHORT_DEPTH_MAX} deep")]
    TooDeep,
    /// Something else was expected at a place.
    #[error("cohort condition, character {at}: expected {expected}")]
    Syntax {
        /// Place in the text, in characters from 1.
        at: usize,
        /// What was expected.
        expected: &'static str,
    },
    /// It names a column that the data set does not have.
    #[error("the cohort condition names column '{column}', which the data set does not have (or has as text)")]
    UnknownColumn {
        /// The column.
        column: String,
    },
    /// It compares a column with a text that is neither a date nor a label of that column.
    #[error(
        "the cohort condition compares '{column}' with a text that is neither a date (for a date column) nor one of its labels"
    )]
    UnknownLabel {
        /// The column.
        column: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Or(Vec<Node>),
    And(Vec<Node>),
    Not(Box<Node>),
    Missing(String),
    Compare(String, Test, Value),
    In(String, Vec<Value>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Equal,
    Different,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Number(f64),
    Text(String),
}

/// Reads a condition. The empty text and `all` mean every row.
///
/// # Errors
/// [`CohortError`] with the place and what was expected there.
pub fn parse(text: &str) -> Result<Cohort, CohortError> {
    if text.len() > COHORT_BYTES_MAX {
        return Err(CohortError::TooLong);
    }
    if matches!(text.trim().to_ascii_lowercase().as_str(), "" | "all") {
        return Ok(Cohort { condition: None });
    }
    let mut parser = Parser { tokens: lex(text)?, next: 0, end: text.chars().count() + 1 };
    let condition = parser.term(0)?;
    match parser.peek() {
        None => Ok(Cohort { condition: Some(condition) }),
        Some(_) => Err(parser.expected("and, or, or the end")),
    }
}

impl Cohort {
    /// The columns it reads, sorted.
    pub fn columns(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        if let Some(condition) = &self.condition {
            condition.columns(&mut names);
        }
        names.into_iter().collect()
    }

    /// For each row whether it belongs to the cohort.
    ///
    /// # Errors
    /// [`CohortError::UnknownColumn`], [`CohortError::UnknownLabel`].
    pub fn mask(&self, table: &Table) -> Result<Vec<bool>, CohortError> {
        match &self.condition {
            None => Ok(vec![true; table.rows()]),
            Some(condition) => Ok(condition.truth(table)?.into_iter().map(|truth| truth == Some(true)).collect()),
        }
    }
}

impl Node {
    fn columns(&self, names: &mut BTreeSet<String>) {
        match self {
            Self::Or(nodes) | Self::And(nodes) => nodes.iter().for_each(|node| node.columns(names)),
            Self::Not(node) => node.columns(names),
            Self::Missing(column) | Self::Compare(column, ..) | Self::In(column, _) => {
                names.insert(column.clone());
            }
        }
    }

    /// Three-valued truth of every row (Kleene's logic; `None` is unknown).
    fn truth(&self, table: &Table) -> Result<Vec<Option<bool>>, CohortError> {
        match self {
            Self::Or(nodes) => combine(nodes, table, true),
            Self::And(nodes) => combine(nodes, table, false),
            Self::Not(node) => Ok(node.truth(table)?.into_iter().map(|truth| truth.map(|truth| !truth)).collect()),
            Self::Missing(column) => Ok(values(table, column)?.iter().map(|value| Some(value.is_nan())).collect()),
            Self::Compare(column, test, value) => {
                let right = value.number(table, column)?;
                let known = |left: &f64| (!left.is_nan()).then(|| test.holds(*left, right));
                Ok(values(table, column)?.iter().map(known).collect())
            }
            Self::In(column, list) => {
                let list = list.iter().map(|value| value.number(table, column)).collect::<Result<Vec<_>, _>>()?;
                let known = |left: &f64| (!left.is_nan()).then(|| list.contains(left));
                Ok(values(table, column)?.iter().map(known).collect())
            }
        }
    }
}

/// `or` for `decisive` true, `and` for false: a decisive part decides, else an unknown part makes it unknown.
fn combine(nodes: &[Node], table: &Table, decisive: bool) -> Result<Vec<Option<bool>>, CohortError> {
    let mut total = vec![Some(!decisive); table.rows()];
    for node in nodes {
        for (total, truth) in total.iter_mut().zip(node.truth(table)?) {
            *total = match (*total, truth) {
                (Some(a), _) if a == decisive => Some(decisive),
                (_, Some(b)) if b == decisive => Some(decisive),
                (Some(_), Some(_)) => Some(!decisive),
                _ => None,
            };
        }
    }
    Ok(total)
}

fn values<'a>(table: &'a Table, column: &str) -> Result<&'a [f64], CohortError> {
    table
        .column(column)
        .map(|(_, values)| values)
        .ok_or_else(|| CohortError::UnknownColumn { column: column.to_owned() })
}

impl Value {
    fn number(&self, table: &Table, column: &str) -> Result<f64, CohortError> {
        let unknown = || CohortError::UnknownLabel { column: column.to_owned() };
        let (head, _) = table.column(column).ok_or_else(|| CohortError::UnknownColumn { column: column.to_owned() })?;
        match (self, &head.kind) {
            (Self::Number(number), _) => Ok(*number),
            (Self::Text(text), Kind::Date) => days(text).ok_or_else(unknown),
            (Self::Text(text), Kind::Category(labels)) => {
                labels.iter().find(|(_, label)| *label == text).map(|(code, _)| *code as f64).ok_or_else(unknown)
            }
            (Self::Text(_), _) => Err(unknown()),
        }
    }
}

impl Test {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Different => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    end: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn expected(&self, expected: &'static str) -> CohortError {
        let at = self.tokens.get(self.next).map_or(self.end, |(at, _)| *at);
        CohortError::Syntax { at, expected }
    }

    /// Takes the next token if it is this keyword; a quoted name never is one.
    fn keyword(&mut self, keyword: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(word, false)) if word.eq_ignore_ascii_case(keyword));
        self.next += usize::from(found);
        found
    }

    fn take(&mut self, token: &Token, expected: &'static str) -> Result<(), CohortError> {
        if self.peek() != Some(token) {
            return Err(self.expected(expected));
        }
        self.next += 1;
        Ok(())
    }

    fn term(&mut self, depth: usize) -> Result<Node, CohortError> {
        let first = self.factor(depth)?;
        let mut nodes = vec![first];
        while self.keyword("or") {
            nodes.push(self.factor(depth)?);
        }
        Ok(Node::Or(nodes))
    }

    fn factor(&mut self, depth: usize) -> Result<Node, CohortError> {
        let first = self.unary(depth)?;
        let mut nodes = vec![first];
        while self.keyword("and") {
            nodes.push(self.unary(depth)?);
        }
        Ok(Node::And(nodes))
    }

    fn unary(&mut self, depth: usize) -> Result<Node, CohortError> {
        if depth >= COHORT_DEPTH_MAX {
            return Err(CohortError::TooDeep);
        }
        if self.keyword("not") {
            return Ok(Node::Not(Box::new(self.unary(depth + 1)?)));
        }
        if self.peek() == Some(&Token::Open) {
            self.next += 1;
            let inside = self.term(depth + 1)?;
            self.take(&Token::Close, "a closing bracket")?;
            return Ok(inside);
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Node, CohortError> {
        let column = match self.peek() {
            Some(Token::Word(word, quoted)) if *quoted || !is_keyword(word) => word.clone(),
            _ => return Err(self.expected("a column")),
        };
        self.next += 1;
        if self.keyword("is") {
            let not = self.keyword("not");
            if !self.keyword("missing") {
                return Err(self.expected("missing"));
            }
            let missing = Node::Missing(column);
            return Ok(if not { Node::Not(Box::new(missing)) } else { missing });
        }
        let not = self.keyword("not");
        if self.keyword("in") {
            let list = Node::In(column, self.list()?);
            return Ok(if not { Node::Not(Box::new(list)) } else { list });
        }
        match self.peek() {
            Some(Token::Test(test)) if !not => {
                let test = *test;
                self.next += 1;
                Ok(Node::Compare(column, test, self.value()?))
            }
            _ => Err(self.expected(TESTS)),
        }
    }

    fn list(&mut self) -> Result<Vec<Value>, CohortError> {
        self.take(&Token::Open, "an opening bracket")?;
        let mut list = vec![self.value()?];
        while self.peek() == Some(&Token::Comma) {
            self.next += 1;
            list.push(self.value()?);
        }
        self.take(&Token::Close, "a comma or a closing bracket")?;
        Ok(list)
    }

    fn value(&mut self) -> Result<Value, CohortError> {
        let value = match self.peek() {
            Some(Token::Number(number)) => Value::Number(*number),
            Some(Token::Text(text)) => Value::Text(text.clone()),
            _ => return Err(self.expected("a number, or a date or label in single quotes")),
        };
        self.next += 1;
        Ok(value)
    }
}

fn is_keyword(word: &str) -> bool {
    ["and", "or", "not", "in", "is", "missing", "all"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
}

/// What may follow a column.
const TESTS: &str = "= != < <= > >= in or is";
