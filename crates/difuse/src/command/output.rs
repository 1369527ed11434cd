//! Standard output.

use std::io::{Write, stdout};

use serde::Serialize;
use serde_json::{Value, json};

use super::exit::Failure;

/// Prints one line (or table).
pub fn print(text: &str) -> Result<(), Failure> {
    Ok(writeln!(stdout(), "{text}")?)
}

/// Prints a value as indented JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Other(error.to_string()))?;
    print(&text)
}

/// Prints a value as one line of JSON.
pub fn print_json_line(value: &Value) -> Result<(), Failure> {
    print(&value.to_string())
}

/// Prints bytes as they are.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = stdout().lock();
    output.write_all(bytes)?;
    Ok(output.flush()?)
}

/// Bytes in JSON: text where they are UTF-8, else hex digits under another name.
pub fn json_bytes(name: &str, bytes: &[u8]) -> (String, Value) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (name.to_string(), json!(text)),
        Err(_) => (format!("{name}_hex"), json!(hex::encode(bytes))),
    }
}

/// Bytes in a table: text where they are printable UTF-8, else hex digits; cut to `width` characters.
pub fn shown_bytes(bytes: &[u8], width: usize) -> String {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control));
    let text = text.map_or_else(|| format!("0x{}", hex::encode(&bytes[..bytes.len().min(width)])), Into::into);
    if text.chars().count() <= width {
        text
    } else {
        text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{json_bytes, shown_bytes};

    #[test]
    fn bytes_that_are_no_text_are_shown_as_hex() {
        assert_eq!(shown_bytes(b"plain", 10), "plain");
        assert_eq!(shown_bytes(b"a\nb", 10), "0x610a62");
        assert_eq!(shown_bytes("äöüäöü".as_bytes(), 4), "äöü…");
        assert_eq!(json_bytes("value", b"x"), ("value".into(), json!("x")));
        assert_eq!(json_bytes("value", &[0xff]), ("value_hex".into(), json!("ff")));
    }
}
