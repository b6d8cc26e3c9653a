use super::*;
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
struct Pair {
    a: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    b: Option<String>,
}

fn parse(text: &str) -> Result<Value, CanonicalError> {
    parse_value(text.as_bytes(), 1 << 16)
}

#[test]
fn key_order_is_utf16_code_units() {
    // RFC 8785 section 3.2.3: an astral character (surrogates d83d..) sorts before U+FB33.
    let keys = ["\u{20ac}", "\r", "\u{fb33}", "1", "\u{1f600}", "\u{80}", "\u{f6}"];
    let map: Map<String, Value> = keys.iter().map(|k| ((*k).to_owned(), Value::Null)).collect();
    let text = String::from_utf8(to_bytes(&Value::Object(map)).unwrap()).unwrap();
    let want = "{\"\\r\":null,\"1\":null,\"\u{80}\":null,\"\u{f6}\":null,\"\u{20ac}\":null,\"\u{1f600}\":null,\"\u{fb33}\":null}";
    assert_eq!(text, want);
}

#[test]
fn strings_escape_as_rfc8785_says() {
    let s = "\u{20ac}$\u{f}\nA'B\"\\\\\"/\u{7f}";
    let got = String::from_utf8(to_bytes(s).unwrap()).unwrap();
    assert_eq!(got, "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\u{7f}\"");
}

#[test]
fn refusals_have_names() {
    assert_eq!(parse(r#"{"a":1,"a":1}"#), Err(CanonicalError::DuplicateKey("a".into())));
    assert_eq!(parse("9007199254740993"), Err(CanonicalError::Number("9007199254740993".into())));
    assert_eq!(parse("-9007199254740993"), Err(CanonicalError::Number("-9007199254740993".into())));
    assert!(parse("9007199254740992").is_ok() && parse("-9007199254740992").is_ok());
    for float in ["1.0", "1e3", "-0", "-0.0", "0.5", "99999999999999999999999"] {
        assert!(matches!(parse(float), Err(CanonicalError::Number(_))), "{float}");
    }
    for loose in [" 1", "1 ", "{\"b\":1,\"a\":1}", "\"\\u0041\"", "\"\\/\"", "[1, 2]"] {
        assert!(matches!(parse(loose), Err(CanonicalError::NotCanonical { .. })), "{loose}");
    }
    for junk in ["", "{", "01", "tru", "1 1", "\"\\ud800\"", "NaN"] {
        assert!(matches!(parse(junk), Err(CanonicalError::Syntax(_))), "{junk}");
    }
    assert_eq!(parse_value(b"[1,2]", 4), Err(CanonicalError::TooLarge { bytes: 5, bytes_max: 4 }));
    assert!(matches!(to_bytes(&0.5f64), Err(CanonicalError::Number(_))));
}

#[test]
fn depth_is_limited_both_ways() {
    let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    assert!(parse(&deep(DEPTH_MAX)).is_ok());
    assert_eq!(parse(&deep(DEPTH_MAX + 1)), Err(CanonicalError::TooDeep));
    let value = (0..=DEPTH_MAX).fold(Value::Null, |v, _| Value::Array(vec![v]));
    assert_eq!(value_to_bytes(&value), Err(CanonicalError::TooDeep));
}

#[test]
fn typed_values_are_exact() {
    let pair: Pair = from_bytes_exact(br#"{"a":1}"#, 99).unwrap();
    assert_eq!(pair, Pair { a: 1, b: None });
    assert!(matches!(from_bytes_exact::<Pair>(br#"{"a":1,"b":null}"#, 99), Err(CanonicalError::NotCanonical { .. })));
    assert!(matches!(from_bytes::<Pair>(br#"{"a":1,"c":1}"#, 99), Err(CanonicalError::Shape(_))));
    assert!(matches!(from_bytes::<Pair>(br#"{"b":"x"}"#, 99), Err(CanonicalError::Shape(_))));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-(1i64 << 53)..=(1i64 << 53)).prop_map(|n| Value::Number(n.into())),
        any::<String>().prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn round_trip(v in value()) {
        let bytes = value_to_bytes(&v).unwrap();
        prop_assert_eq!(parse_value(&bytes, 1 << 20).unwrap(), v.clone());
        prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), v);
    }

    /// serde_json escapes as RFC 8785 does.
    #[test]
    fn strings_are_written_as_serde_json_writes_them(s in any::<String>(), low in "[\\x00-\\x7f]{0,40}") {
        for text in [&s, &low] {
            prop_assert_eq!(to_bytes(text).unwrap(), serde_json::to_vec(text).unwrap());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(v) = parse_value(&bytes, 1 << 16) {
            prop_assert_eq!(value_to_bytes(&v).unwrap(), bytes);
        }
    }
}
