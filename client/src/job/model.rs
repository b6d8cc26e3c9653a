//! `[model]`: outcome and features in one place, for every stage that does not say otherwise.

use toml::de::DeValue;

use super::reader::{At, Section, whole};

/// What the stages share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// The column to predict.
    pub outcome: Option<At<String>>,
    /// What it is predicted from.
    pub features: Vec<At<Feature>>,
    /// `binomial` or `gaussian`; the algorithm's default when absent.
    pub family: Option<At<String>>,
}

/// One feature: a numeric column, or a category as indicators of its levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The column.
    pub column: String,
    /// The codes that get an indicator each; empty for a numeric column.
    pub levels: Vec<i64>,
    /// The code that all indicators are compared with; any other code when absent.
    pub reference: Option<i64>,
}

impl Feature {
    /// As the algorithms read it: `age`, `cp:1>2|3|4`.
    pub fn to_text(&self) -> String {
        if self.levels.is_empty() {
            return self.column.clone();
        }
        let levels: Vec<String> = self.levels.iter().map(i64::to_string).collect();
        let reference = self.reference.map(|code| format!("{code}>")).unwrap_or_default();
        format!("{}:{reference}{}", self.column, levels.join("|"))
    }

    /// Reads [`Feature::to_text`]; `None` when it is no feature.
    pub fn parse(text: &str) -> Option<Feature> {
        let text = text.trim();
        let Some((column, factor)) = text.split_once(':') else {
            return (!text.is_empty()).then(|| Feature { column: text.to_owned(), levels: vec![], reference: None });
        };
        let (reference, levels) = match factor.split_once('>') {
            Some((reference, levels)) => (Some(reference.trim().parse().ok()?), levels),
            None => (None, factor),
        };
        let levels = levels.split('|').map(|level| level.trim().parse().ok()).collect::<Option<Vec<i64>>>()?;
        let column = column.trim();
        (!column.is_empty()).then(|| Feature { column: column.to_owned(), levels, reference })
    }
}

const EXPECTED: &str =
    "a column, \"column:reference>level|level\", or { column = \"cp\", reference = 1, levels = [2, 3, 4] }";

pub(super) fn read(part: &Section<'_>) -> Model {
    let mut model = Model { outcome: part.text("outcome"), family: part.text("family"), features: Vec::new() };
    for value in part.list("features") {
        if let DeValue::Table(_) = value.get_ref() {
            let inner = part.as_section("model.features", value, Some(&["column", "reference", "levels"]));
            if let Some(feature) = from_table(&inner) {
                model.features.push(part.at("features", value, feature));
            }
        } else if let Some(text) = part.as_text("features", value) {
            for piece in text.value.split(',') {
                match Feature::parse(piece) {
                    Some(value) => model.features.push(At { value, line: text.line, key: text.key.clone() }),
                    None => part.problem("features", format!("must be {EXPECTED}")),
                }
            }
        }
    }
    model
}

fn from_table(inner: &Section<'_>) -> Option<Feature> {
    let code = |value: &DeValue<'_>| whole(value).filter(|code| code.unsigned_abs() <= 1 << 53);
    let levels = inner.list("levels").into_iter().map(|value| code(value.get_ref())).collect::<Option<Vec<i64>>>();
    let reference = inner.value("reference").map(|value| code(value.get_ref()));
    let column = inner.text("column").map(|text| text.value).filter(|text| !text.is_empty());
    match (column, levels, reference) {
        (Some(column), Some(levels), None) => Some(Feature { column, levels, reference: None }),
        (Some(column), Some(levels), Some(Some(code))) if !levels.is_empty() => {
            Some(Feature { column, levels, reference: Some(code) })
        }
        _ => {
            inner.problem("column", format!("must be {EXPECTED}; levels are whole numbers"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_written_as_the_algorithms_read_them() {
        for text in ["age", "cp:1>2|3|4", "thal:3|6|7"] {
            assert_eq!(Feature::parse(text).unwrap().to_text(), text);
        }
        for bad in ["", ":1", "cp:", "cp:a|b", "cp:x>1"] {
            assert_eq!(Feature::parse(bad), None, "{bad}");
        }
    }
}
