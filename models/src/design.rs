//! From the feature list of a job to the columns of a design matrix, the same at every hospital.
//!
//! A feature is a numeric column (`age`), or a factor with its declared levels: `cp:2|3|4` gives the indicators `cp[2]`,
//! `cp[3]` and `cp[4]` against every other code; `cp:1>2|3|4` also names the reference 1, and a row with any other code is
//! left out and counted. The hospital's data never decide which columns there are.

use crate::disclosure::{Census, Group, Groups};
use crate::finding::Finding;
use crate::select::{BLOCK_ROWS, Block, Rule, Want};
use crate::spec::{Reader, SpecError};
use crate::state::State;

/// Most terms of one model: the Hessian has half the square of it.
pub const TERMS_MAX: usize = 1000;

/// The columns of a model: which source columns are read, and how each term is made of one of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Design {
    terms: Vec<Term>,
    wants: Vec<Want>,
    outcome: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Term {
    name: String,
    /// Index into the wants.
    source: usize,
    /// The code that counts as 1, for an indicator.
    level: Option<f64>,
}

/// What distribution the outcome has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 0 or 1, with the logit link.
    Binomial,
    /// A real number, with the identity link.
    Gaussian,
}

impl Family {
    pub(crate) fn read(reader: &Reader<'_>) -> Result<Self, SpecError> {
        match reader.text_maybe("family")?.unwrap_or("binomial") {
            "binomial" => Ok(Self::Binomial),
            "gaussian" => Ok(Self::Gaussian),
            _ => Err(reader.invalid("family", "binomial or gaussian")),
        }
    }

    /// The name as in a job file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binomial => "binomial",
            Self::Gaussian => "gaussian",
        }
    }
}

impl Design {
    /// Reads the parameters `features` and `outcome`.
    pub(crate) fn read(reader: &Reader<'_>, family: Family, outcome_needed: bool) -> Result<Self, SpecError> {
        let features = reader.text("features", "a comma-separated list of columns")?;
        let mut design = Self { terms: Vec::new(), wants: Vec::new(), outcome: None };
        for feature in features.split(',').map(str::trim) {
            design.feature(feature).map_err(|expected| reader.invalid("features", &expected))?;
        }
        let outcome = if outcome_needed {
            Some(reader.text("outcome", "the column to predict")?)
        } else {
            reader.text_maybe("outcome")?
        };
        if let Some(outcome) = outcome.map(str::trim) {
            if outcome.is_empty() || design.wants.iter().any(|want| want.column == outcome) {
                return Err(reader.invalid("outcome", "a column that is not also a feature"));
            }
            let rule = if family == Family::Binomial { Rule::Binary } else { Rule::Any };
            design.wants.push(Want { column: outcome.to_owned(), rule });
            design.outcome = Some(outcome.to_owned());
        }
        Ok(design)
    }

    fn feature(&mut self, feature: &str) -> Result<(), String> {
        let (column, factor) = match feature.split_once(':') {
            Some((column, factor)) => (column.trim(), Some(factor)),
            None => (feature, None),
        };
        if column.is_empty() {
            return Err("a list of column names without an empty one".to_owned());
        }
        if self.wants.iter().any(|want| want.column == column) {
            return Err(format!("a list that names column '{column}' once"));
        }
        let source = self.wants.len();
        let mut rule = Rule::Any;
        match factor {
            None => self.terms.push(Term { name: column.to_owned(), source, level: None }),
            Some(factor) => {
                let (reference, levels) = match factor.split_once('>') {
                    Some((reference, levels)) => (Some(code(column, reference)?), levels),
                    None => (None, factor),
                };
                let mut codes: Vec<f64> = reference.into_iter().collect();
                for level in levels.split('|') {
                    let level = code(column, level)?;
                    if codes.contains(&level) {
                        return Err(format!("a list that names each level of '{column}' once"));
                    }
                    codes.push(level);
                    self.terms.push(Term { name: format!("{column}[{level}]"), source, level: Some(level) });
                }
                if reference.is_some() {
                    rule = Rule::OneOf(codes);
                }
            }
        }
        self.wants.push(Want { column: column.to_owned(), rule });
        if self.terms.len() > TERMS_MAX {
            return Err(format!("a list that gives at most {TERMS_MAX} terms"));
        }
        Ok(())
    }

    /// Number of terms, without the intercept.
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// Whether there are no terms; a design that was read always has one.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The terms' names, without the intercept.
    pub fn names(&self) -> Vec<String> {
        self.terms.iter().map(|term| term.name.clone()).collect()
    }

    /// The index of the source column that a term is made of.
    pub fn source(&self, term: usize) -> usize {
        self.terms.get(term).map_or(0, |term| term.source)
    }

    /// Whether a term is the indicator of a code.
    pub(crate) fn is_indicator(&self, term: usize) -> bool {
        self.terms.get(term).is_some_and(|term| term.level.is_some())
    }

    /// What disclosure control counts of these columns; `classes`: within each group, the outcome's classes too.
    pub(crate) fn census(&self, classes: bool, parameters: u64, whole: bool) -> Groups {
        let classes = classes.then(|| self.wants.len().saturating_sub(1));
        Groups::Of(Census { wants: self.wants.clone(), groups: self.groups(), classes, parameters, whole })
    }

    /// The groups of patients that each column tells apart; the outcome's last, by class for a binomial one.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let group = |(want, column): (usize, &Want)| {
            let terms = self.terms.iter().filter(|term| term.source == want);
            let levels: Vec<_> = terms.filter_map(|term| Some((term.level?, term.name.clone()))).collect();
            match levels.is_empty() {
                true => Group::numbers(want, &column.column),
                false => Group::codes(want, &column.column, levels),
            }
        };
        self.wants.iter().enumerate().map(group).collect()
    }

    /// The outcome's column.
    pub fn outcome(&self) -> Option<&str> {
        self.outcome.as_deref()
    }

    /// The source columns with their rules, the outcome last.
    pub fn wants(&self) -> &[Want] {
        &self.wants
    }

    /// The source columns' names.
    pub fn columns(&self) -> Vec<String> {
        self.wants.iter().map(|want| want.column.clone()).collect()
    }

    /// The outcome's values in a block; empty without an outcome.
    pub fn outcome_values<'a>(&self, block: &'a Block<'_>) -> &'a [f64] {
        if self.outcome.is_some() { block.column(self.wants.len().saturating_sub(1)) } else { &[] }
    }

    /// Writes every term of a block into `out`, column by column with stride [`BLOCK_ROWS`], raw.
    pub fn expand(&self, block: &Block<'_>, out: &mut [f64]) {
        for (term, out) in self.terms.iter().zip(out.chunks_mut(BLOCK_ROWS)) {
            let source = block.column(term.source);
            match term.level {
                None => out.iter_mut().zip(source).for_each(|(out, value)| *out = *value),
                Some(level) => {
                    out.iter_mut().zip(source).for_each(|(out, value)| *out = f64::from(u8::from(*value == level)));
                }
            }
        }
    }

    /// The words of a state that describe this design.
    pub(crate) fn describe(&self, state: State) -> State {
        let state = state.with_word("terms", self.names().join(","));
        match &self.outcome {
            Some(outcome) => state.with_word("outcome", outcome.clone()),
            None => state,
        }
    }

    /// Checks that a state was made for the same terms and outcome.
    pub(crate) fn check(&self, state: &State) -> Result<(), Finding> {
        if state.word("terms")? != self.names().join(",") {
            return Err(Finding::StateMismatch { problem: "its features are not those of this stage".to_owned() });
        }
        if let Some(outcome) = &self.outcome
            && state.word("outcome")? != outcome
        {
            return Err(Finding::StateMismatch { problem: format!("its outcome is not '{outcome}'") });
        }
        Ok(())
    }
}

fn code(column: &str, text: &str) -> Result<f64, String> {
    let code: i64 = text.trim().parse().map_err(|_| format!("'{column}:' followed by whole-number codes"))?;
    if code.unsigned_abs() > 1 << 53 {
        return Err(format!("'{column}:' followed by codes below 2^53"));
    }
    Ok(code as f64)
}
