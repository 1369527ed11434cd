//! Numbers as Redis reads and writes them.

mod extended;
mod read;

use extended::Extended;
pub(crate) use read::{parse_bound, parse_float, parse_integer, parse_sort_weight};

/// The sum of two numbers in the arithmetic of 80 bits that Redis has on x86, written with 17 digits after the point
/// at most. `None` if it is no finite number.
pub(crate) fn add_extended(first: Extended, second: Extended) -> Option<String> {
    first.add(second).to_text()
}

/// A number in the arithmetic of 80 bits, as `strtold` reads it.
pub(crate) fn parse_extended(bytes: &[u8]) -> Option<Extended> {
    Extended::parse(bytes)
}

/// A floating-point number as C writes it with `%.17g`: how Redis 7.0 writes scores.
pub fn format_double(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    if number.is_nan() {
        return "nan".into();
    }
    let scientific = format!("{number:.16e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..17).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(16 - exponent).unwrap_or(0);
    without_zeros(&format!("{number:.decimals$}")).to_string()
}

/// Without zeros at the end of the fraction, and without a point that nothing follows.
fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_c_writes_them() {
        let cases: &[(f64, &str)] = &[
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.10000000000000001"),
            (1.5, "1.5"),
            (-3.25, "-3.25"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (1e300, "1.0000000000000001e+300"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (number, text) in cases {
            assert_eq!(format_double(*number), *text);
        }
    }

    #[test]
    fn sums_have_the_digits_of_80_bits() {
        let sum = |first: &str, second: &str| {
            add_extended(parse_extended(first.as_bytes()).unwrap(), parse_extended(second.as_bytes()).unwrap())
        };
        // Each was asked of redis-server 7.0.15 with INCRBYFLOAT.
        let cases = [
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "1.1", "4.1"),
            ("0", "-0", "0"),
            ("1", "-1", "0"),
            ("0x10", "0.5", "16.5"),
        ];
        for (first, second, expected) in cases {
            assert_eq!(sum(first, second).as_deref(), Some(expected), "{first} + {second}");
        }
        assert_eq!(sum("inf", "1"), None);
        assert_eq!(sum("inf", "-inf"), None);
    }
}
