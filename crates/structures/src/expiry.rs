use difuse_types::WallTime;

use crate::{CommandError, number::parse_integer};

/// What a time is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
}

impl Unit {
    /// In milliseconds; `None` if that is too much.
    fn milliseconds(self, time: i64) -> Option<i64> {
        match self {
            Self::Seconds => time.checked_mul(1000),
            Self::Milliseconds => Some(time),
        }
    }
}

/// A moment as the options of `SET` and `GETEX` name it, after `base`; it must be a positive number.
pub(crate) fn expiry(command: &str, text: &[u8], unit: Unit, base: WallTime) -> Result<WallTime, CommandError> {
    let time = parse_integer(text).ok_or(CommandError::NotInteger)?;
    let moment = if time > 0 { moment(time, unit, base) } else { None };
    let moment = moment.and_then(|moment| u64::try_from(moment).ok());
    moment.map(WallTime).ok_or_else(|| CommandError::ExpireTime(command.to_string()))
}

/// So long after `base`, or before it, in milliseconds since 1970.
pub(crate) fn moment(time: i64, unit: Unit, base: WallTime) -> Option<i64> {
    unit.milliseconds(time)?.checked_add(i64::try_from(base.0).ok()?)
}
