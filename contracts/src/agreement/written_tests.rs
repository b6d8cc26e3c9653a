use super::*;
use proptest::prelude::*;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Serialize)]
enum Shape {
    Unit,
    Wrapped(i64),
    Named { a: u8, b: Option<String> },
}

#[derive(Debug, Clone, Serialize)]
struct Whole {
    n: u64,
    i: i32,
    text: String,
    letter: char,
    yes: bool,
    perhaps: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<u16>,
    list: Vec<Shape>,
    map: BTreeMap<String, Shape>,
    pair: (u8, String),
    nothing: (),
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Unit),
        any::<i64>().prop_map(Shape::Wrapped),
        (any::<u8>(), any::<Option<String>>()).prop_map(|(a, b)| Shape::Named { a, b }),
    ]
}

prop_compose! {
    fn whole()(
        (n, i, text, letter) in any::<(u64, i32, String, char)>(),
        (yes, perhaps, absent, pair) in any::<(bool, Option<bool>, Option<u16>, (u8, String))>(),
        list in prop::collection::vec(shape(), 0..4),
        map in prop::collection::btree_map(any::<String>(), shape(), 0..4),
    ) -> Whole {
        Whole { n, i, text, letter, yes, perhaps, absent, list, map, pair, nothing: () }
    }
}

/// Every value that differs from this one in one place.
fn neighbours(value: &Value) -> Vec<Value> {
    let others = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(-1),
        json!(0.5),
        json!(""),
        json!([]),
        json!({}),
    ];
    let mut all: Vec<Value> = others.into_iter().filter(|other| other != value).collect();
    match value {
        Value::Number(n) => all.extend([json!(n.as_f64()), json!(n.to_string())]),
        Value::String(text) => all.push(json!(format!("{text} "))),
        Value::Array(items) => {
            all.extend((0..items.len()).map(|at| Value::Array([&items[..at], &items[at + 1..]].concat())));
            all.push(Value::Array([items.as_slice(), &[json!(null)]].concat()));
            for (at, item) in items.iter().enumerate() {
                let with = |new| Value::Array([&items[..at], &[new], &items[at + 1..]].concat());
                all.extend(neighbours(item).into_iter().map(with));
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let mut without = fields.clone();
                without.remove(name);
                let renamed = without.clone().into_iter().chain([(format!("{name}x"), field.clone())]).collect();
                all.extend([Value::Object(without), Value::Object(renamed)]);
                for new in neighbours(field) {
                    let mut with = fields.clone();
                    with.insert(name.clone(), new);
                    all.push(Value::Object(with));
                }
            }
            let more = fields.clone().into_iter().chain([("another".to_owned(), json!(null))]);
            all.push(Value::Object(more.collect()));
        }
        Value::Null | Value::Bool(_) => {}
    }
    all
}

proptest! {
    /// The oracle is what is written: the answer is yes for that and for nothing else.
    #[test]
    fn the_answer_is_that_of_writing_it(whole in whole(), other in whole()) {
        let value = serde_json::to_value(&whole).unwrap();
        prop_assert!(is_written_as(&whole, &value));
        prop_assert_eq!(is_written_as(&other, &value), serde_json::to_value(&other).unwrap() == value);
        for near in neighbours(&value) {
            prop_assert!(near == value || !is_written_as(&whole, &near), "{near}");
        }
    }
}

#[test]
fn a_key_that_comes_twice_stands_for_no_other() {
    struct Twice;
    impl Serialize for Twice {
        fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            s.collect_map([("a", 1), ("a", 1)])
        }
    }
    assert!(!is_written_as(&Twice, &json!({"a": 1, "b": 1})));
    assert!(!is_written_as(&Twice, &json!({"a": 1})), "not known");
    assert!(!is_written_as(&0.5, &json!(0.5)), "not known");
}
