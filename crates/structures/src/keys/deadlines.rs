use difuse_types::WallTime;

use super::Evaluated;
use crate::{
    Arguments, Command, CommandError, Context, Effect,
    Flag::{self, Fast, ReadOnly, Write},
    KeyCommand, Outcome, Reply, View,
    expiry::{Unit, moment},
};

pub(super) fn commands() -> Vec<KeyCommand> {
    const WRITES: &[Flag] = &[Write, Fast];
    const READS: &[Flag] = &[ReadOnly, Fast];
    let command = |name, arity, flags, since, summary| {
        Command::on_key(name, arity, flags).documented("generic", since, "O(1)", summary)
    };
    let setting = |name, since, unit, is_absolute| {
        let command = command(name, -3, WRITES, since, "Sets when a key expires");
        KeyCommand::new(command, move |view, arguments, context| {
            let base = if is_absolute { WallTime(0) } else { context.now };
            expire(view, arguments, context.now, unit, base)
        })
    };
    let reading = |name, since, unit, is_absolute| {
        let command = command(name, 2, READS, since, "Reads when a key expires");
        KeyCommand::new(command, move |view, _, context| {
            let base = if is_absolute { WallTime(0) } else { context.now };
            Ok(Outcome::reply(Reply::Integer(time_left(view, unit, base))))
        })
    };
    vec![
        setting("expire", "1.0.0", Unit::Seconds, false),
        setting("pexpire", "2.6.0", Unit::Milliseconds, false),
        setting("expireat", "1.2.0", Unit::Seconds, true),
        setting("pexpireat", "2.6.0", Unit::Milliseconds, true),
        reading("ttl", "1.0.0", Unit::Seconds, false),
        reading("pttl", "2.6.0", Unit::Milliseconds, false),
        reading("expiretime", "7.0.0", Unit::Seconds, true),
        reading("pexpiretime", "7.0.0", Unit::Milliseconds, true),
        KeyCommand::new(command("persist", 2, WRITES, "2.2.0", "Makes a key never expire"), persist),
    ]
}

/// When a deadline is set, and when the one before stays.
#[derive(Default)]
struct Conditions {
    only_none: bool,
    only_some: bool,
    only_later: bool,
    only_earlier: bool,
}

impl Conditions {
    fn read(options: &[bytes::Bytes]) -> Result<Self, CommandError> {
        let mut conditions = Self::default();
        for option in options {
            match option.to_ascii_lowercase().as_slice() {
                b"nx" => conditions.only_none = true,
                b"xx" => conditions.only_some = true,
                b"gt" => conditions.only_later = true,
                b"lt" => conditions.only_earlier = true,
                _ => {
                    let option = option.split(|byte| *byte == 0).next().unwrap_or_default();
                    let option = String::from_utf8_lossy(option);
                    return Err(CommandError::new(format_args!("Unsupported option {option}")));
                }
            }
        }
        if conditions.only_none && (conditions.only_some || conditions.only_later || conditions.only_earlier) {
            let text = "NX and XX, GT or LT options at the same time are not compatible";
            return Err(CommandError::new(text));
        }
        if conditions.only_later && conditions.only_earlier {
            return Err(CommandError::new("GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    /// A key that never expires has the latest deadline of all.
    fn allow(&self, before: Option<WallTime>, moment: i64) -> bool {
        let before = before.map(|before| i64::try_from(before.0).unwrap_or(i64::MAX));
        !(self.only_none && before.is_some()
            || self.only_some && before.is_none()
            || self.only_later && before.is_none_or(|before| moment <= before)
            || self.only_earlier && before.is_some_and(|before| moment >= before))
    }
}

fn expire(view: &View<'_>, arguments: &mut Arguments<'_>, now: WallTime, unit: Unit, base: WallTime) -> Evaluated {
    let time = arguments.next_bytes()?;
    let conditions = Conditions::read(arguments.take_rest())?;
    let time = crate::number::parse_integer(time).ok_or(CommandError::NotInteger)?;
    let moment = moment(time, unit, base).ok_or_else(|| CommandError::ExpireTime(arguments.command().to_string()))?;
    if !view.exists() || !conditions.allow(view.deadline, moment) {
        return Ok(Outcome::reply(Reply::Integer(0)));
    }
    let effect = match u64::try_from(moment) {
        Ok(moment) if moment > now.0 => Effect::Expire(Some(WallTime(moment))),
        _ => Effect::Delete,
    };
    Ok(Outcome::new(Reply::Integer(1), effect))
}

/// -2 if the key does not exist, -1 if it never expires.
fn time_left(view: &View<'_>, unit: Unit, base: WallTime) -> i64 {
    if !view.exists() {
        return -2;
    }
    let Some(deadline) = view.deadline else { return -1 };
    let left = deadline.0.saturating_sub(base.0);
    let left = match unit {
        Unit::Seconds => left.saturating_add(500) / 1000,
        Unit::Milliseconds => left,
    };
    i64::try_from(left).unwrap_or(i64::MAX)
}

fn persist(view: &View<'_>, _: &mut Arguments<'_>, _: &Context) -> Evaluated {
    if !view.exists() || view.deadline.is_none() {
        return Ok(Outcome::reply(Reply::Integer(0)));
    }
    Ok(Outcome::new(Reply::Integer(1), Effect::Expire(None)))
}
