//! Writing YAML.
//!
//! hull only ever writes YAML, and only what serde_json can hold, so this is
//! a page of code in place of a dependency: the crate that everybody used is
//! abandoned, and its successors bring a C library's translation for the
//! parser that hull has no use for. A test reads it back with one of them.

use serde_json::Value;

/// The value as a YAML 1.1 and 1.2 document, keys in the value's order.
pub(crate) fn to_string(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(&mut text, value, 0),
        Value::Array(list) if !list.is_empty() => block(&mut text, value, 0),
        scalar => {
            text.push_str(&flow(scalar));
            text.push('\n');
        }
    }
    text
}

/// A mapping or sequence that is not empty, each of its items on lines of its own.
fn block(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) => {
            for (i, (key, value)) in map.iter().enumerate() {
                // The first key goes behind the dash of the list that it is in.
                if i > 0 || !text.ends_with("- ") {
                    text.push_str(&" ".repeat(indent));
                }
                text.push_str(&string(key));
                text.push(':');
                nested(text, value, indent);
            }
        }
        Value::Array(list) => {
            for (i, value) in list.iter().enumerate() {
                if i > 0 || !text.ends_with("- ") {
                    text.push_str(&" ".repeat(indent));
                }
                text.push_str("- ");
                if is_block(value) {
                    block(text, value, indent + 2);
                } else {
                    text.push_str(&flow(value));
                    text.push('\n');
                }
            }
        }
        _ => {}
    }
}

/// The value of a key.
fn nested(text: &mut String, value: &Value, indent: usize) {
    if is_block(value) {
        text.push('\n');
        // A sequence may be as far in as its key; people expect it so.
        let deeper = if value.is_array() { 0 } else { 2 };
        block(text, value, indent + deeper);
    } else {
        text.push(' ');
        text.push_str(&flow(value));
        text.push('\n');
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        Value::String(text) => string(text),
        other => other.to_string(),
    }
}

/// A string: plain where no reader can take it for anything else, else quoted.
fn string(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// Begins with a letter or a slash, goes on with what is nothing in YAML, and
/// is none of the words that are values to YAML 1.1 or 1.2.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !text.ends_with(':')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/._-+@=:".contains(&b))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if is_printable(c) => quoted.push(c),
            c if u32::from(c) > 0xffff => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// What YAML 1.2 lets stand for itself (5.1), without what breaks lines.
fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}'
        | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            any::<String>(),
            "[-:#&*!|>'\"%@`{}\\[\\], a~0-9.]{0,6}",
            "(true|No|on|null|0x1f|1e3|\\.inf|2026-01-02|12:30:45|=|<<|y)",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(text.clone(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_by_another_implementation(value in value()) {
            let text = to_string(&value);
            let read: Value = serde_norway::from_str(&text)
                .map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(read, value, "{}", text);
        }
    }

    #[test]
    fn it_looks_as_people_write_it() {
        let value = json!({
            "name": "host",
            "none": null,
            "list": [{"a": 1, "b": [true]}, [], "sha256:ab", [["x"]]],
            "empty": {},
            "version": "13",
            "zeit": "2026-01-02T03:04:05Z",
        });
        let expected = "\
empty: {}
list:
- a: 1
  b:
  - true
- []
- sha256:ab
- - - x
name: host
none: null
version: \"13\"
zeit: \"2026-01-02T03:04:05Z\"
";
        assert_eq!(to_string(&value), expected);
    }
}
