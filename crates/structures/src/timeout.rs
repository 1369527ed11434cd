//! How long a client is willing to wait.

use std::time::Duration;

use crate::{
    CommandError,
    number::{parse_extended, parse_integer},
};

/// The timeout of a command that may wait, in seconds with a fraction; `None`: for ever.
///
/// # Errors
/// Those of Redis: it is no number, negative, or too large.
pub fn read(text: &[u8]) -> Result<Option<Duration>, CommandError> {
    let seconds = parse_extended(text).ok_or_else(|| CommandError::new("timeout is not a float or out of range"))?;
    let milliseconds = (seconds.to_double() * 1000.0).ceil();
    // What does not fit into 63 bits is negative for Redis.
    if milliseconds < 0.0 || milliseconds >= i64::MAX as f64 {
        return Err(CommandError::new("timeout is negative"));
    }
    let milliseconds = milliseconds as u64;
    Ok((milliseconds > 0).then(|| Duration::from_millis(milliseconds)))
}

/// The timeout of a command that may wait, in whole milliseconds; `None`: for ever.
///
/// # Errors
/// Those of Redis: it is no integer, or negative.
pub(crate) fn read_milliseconds(text: &[u8]) -> Result<Option<Duration>, CommandError> {
    let milliseconds = parse_integer(text);
    let milliseconds = milliseconds.ok_or_else(|| CommandError::new("timeout is not an integer or out of range"))?;
    let milliseconds = u64::try_from(milliseconds).map_err(|_| CommandError::new("timeout is negative"))?;
    Ok((milliseconds > 0).then(|| Duration::from_millis(milliseconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_rounded_up_and_zero_is_for_ever() {
        for (text, expected) in
            [("0", None), ("-0", None), ("1", Some(1000)), ("0.0001", Some(1)), ("1.5e1", Some(15_000))]
        {
            assert_eq!(read(text.as_bytes()), Ok(expected.map(Duration::from_millis)), "{text}");
        }
        for (text, error) in [
            ("x", "ERR timeout is not a float or out of range"),
            ("", "ERR timeout is not a float or out of range"),
            ("nan", "ERR timeout is not a float or out of range"),
            ("-1", "ERR timeout is negative"),
            ("-inf", "ERR timeout is negative"),
            ("inf", "ERR timeout is negative"),
            ("1e30", "ERR timeout is negative"),
        ] {
            assert_eq!(read(text.as_bytes()).map_err(|error| error.to_string()), Err(error.to_string()), "{text}");
        }
    }
}
