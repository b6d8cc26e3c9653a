//! One line of figures: keys in the order in which they are said.
//!
//! serde_json's own object keeps that order only with its feature `preserve_order`, which would then hold for everything in this program:
//! the ledger's entries would be read into another kind of map here than in the product.

use serde::ser::{Serialize, Serializer};
use serde_json::Value;

/// Keys and values.
#[derive(Debug, Clone, Default)]
pub struct Line(Vec<(String, Value)>);

impl Line {
    /// Says one more.
    pub fn insert(&mut self, key: String, value: Value) {
        self.0.push((key, value));
    }
}

impl<const N: usize> From<[(&str, Value); N]> for Line {
    fn from(keys: [(&str, Value); N]) -> Self {
        Self(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

impl FromIterator<(String, Value)> for Line {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl Extend<(String, Value)> for Line {
    fn extend<I: IntoIterator<Item = (String, Value)>>(&mut self, keys: I) {
        self.0.extend(keys);
    }
}

impl IntoIterator for Line {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_in_their_order() {
        let mut line = Line::from([("hospitals", Value::from(3)), ("bits", Value::from(16))]);
        line.extend(Line::from([("a", Value::from(0.5))]));
        assert_eq!(serde_json::to_string(&line).unwrap(), r#"{"hospitals":3,"bits":16,"a":0.5}"#);
    }
}
