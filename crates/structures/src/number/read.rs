use super::extended::parse_hexadecimal;

/// An integer as Redis takes it: no sign in front but a minus, no zero in front, no blanks.
pub(crate) fn parse_integer(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let is_canonical = match digits {
        [b'0'] => digits.len() == bytes.len(),
        [b'1'..=b'9', ..] => digits.len() <= 19,
        _ => false,
    };
    if is_canonical { std::str::from_utf8(bytes).ok()?.parse().ok() } else { None }
}

/// A number as C's `strtod` reads it, all of it: decimal or hexadecimal, with an exponent, or an infinity; no blanks,
/// not `nan`, nothing that is too large or, other than zero, too small.
pub(crate) fn parse_float(bytes: &[u8]) -> Option<f64> {
    let number = strtod(bytes)?;
    let is_out_of_range = (number.is_infinite() && !is_infinity(bytes)) || (number == 0.0 && !is_zero(bytes));
    (!is_out_of_range).then_some(number)
}

/// An end of a range of scores: as [`parse_float`], but blanks in front, what follows a zero byte, the empty string
/// (for zero) and what is out of range are taken as C takes them.
pub(crate) fn parse_bound(bytes: &[u8]) -> Option<f64> {
    let text = c_string(bytes);
    if text.is_empty() {
        return Some(0.0);
    }
    strtod(without_blanks(text))
}

/// What `SORT` takes an element for: as [`parse_bound`], but an error if it is out of range.
pub(crate) fn parse_sort_weight(bytes: &[u8]) -> Option<f64> {
    let text = c_string(bytes);
    if text.is_empty() {
        return Some(0.0);
    }
    parse_float(without_blanks(text))
}

/// Up to the first zero byte.
fn c_string(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn without_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    &bytes[blanks..]
}

fn strtod(bytes: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number = match parse_hexadecimal(bytes) {
        Some(number) => number.to_double(),
        None => text.parse().ok()?,
    };
    (!number.is_nan()).then_some(number)
}

fn is_infinity(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| byte.eq_ignore_ascii_case(&b'n'))
}

/// Whether no digit before the exponent is other than zero.
fn is_zero(bytes: &[u8]) -> bool {
    let digits = bytes.iter().take_while(|byte| !matches!(byte, b'e' | b'E' | b'p' | b'P'));
    digits.into_iter().all(|byte| matches!(byte, b'0' | b'.' | b'+' | b'-' | b'x' | b'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_in_one_form_only() {
        for (text, number) in
            [("0", 0), ("-1", -1), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)]
        {
            assert_eq!(parse_integer(text.as_bytes()), Some(number));
        }
        for text in ["", "-", "+1", "-0", "00", "01", " 1", "1 ", "1.0", "9223372036854775808", "1e3", "\u{661}"] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        let cases = [
            ("1", 1.0),
            ("+1.5", 1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("0x1p3", 8.0),
            ("-0x.8", -0.5),
            ("-0", -0.0),
            ("0e999", 0.0),
            ("Infinity", f64::INFINITY),
            ("-INF", f64::NEG_INFINITY),
        ];
        for (text, number) in cases {
            assert_eq!(parse_float(text.as_bytes()), Some(number), "{text:?}");
        }
        for text in ["", " 1", "1 ", "nan", "1e400", "1e-400", "e5", ".", "1e", "0x", "1_0", "in"] {
            assert_eq!(parse_float(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn ends_of_ranges_are_read_with_more_patience() {
        assert_eq!(parse_bound(b""), Some(0.0));
        assert_eq!(parse_bound(b" 2"), Some(2.0));
        assert_eq!(parse_bound(b"1\0x"), Some(1.0));
        assert_eq!(parse_bound(b"1e400"), Some(f64::INFINITY));
        assert_eq!(parse_bound(b"  "), None);
        assert_eq!(parse_bound(b"1 "), None);
        assert_eq!(parse_bound(b"nan"), None);
        assert_eq!(parse_sort_weight(b"1e400"), None);
    }
}
