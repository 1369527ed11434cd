use difuse_types::WallTime;

use super::{Evaluated, READS_FAST, WRITES, WRITES_FAST, command};
use crate::{
    Arguments, CommandError, Context, Deadline, Effect,
    Flag::{Fast, Write},
    KeyCommand, Outcome, Reply, View,
    expiry::{Unit, expiry},
};

pub(super) fn commands() -> Vec<KeyCommand> {
    vec![
        KeyCommand::new(command("get", 2, READS_FAST, "1.0.0", "O(1)", "Reads a string"), get),
        KeyCommand::new(command("set", -3, WRITES, "1.0.0", "O(1)", "Sets a string, whatever the key held"), set),
        KeyCommand::new(
            command("setnx", 3, WRITES_FAST, "1.0.0", "O(1)", "Sets a string if the key does not exist"),
            setnx,
        ),
        KeyCommand::new(command("setex", 4, WRITES, "2.0.0", "O(1)", "Sets a string that expires"), |view, a, c| {
            set_expiring(view, a, c, Unit::Seconds)
        }),
        KeyCommand::new(command("psetex", 4, WRITES, "2.6.0", "O(1)", "Sets a string that expires"), |view, a, c| {
            set_expiring(view, a, c, Unit::Milliseconds)
        }),
        KeyCommand::new(
            command("getset", 3, WRITES_FAST, "1.0.0", "O(1)", "Sets a string and reads the one before"),
            getset,
        ),
        KeyCommand::new(command("getdel", 2, &[Write, Fast], "6.2.0", "O(1)", "Reads a string and deletes it"), getdel),
        KeyCommand::new(
            command("getex", -2, &[Write, Fast], "6.2.0", "O(1)", "Reads a string and sets when it expires"),
            getex,
        ),
    ]
}

/// The string, or that there is none.
fn value(view: &View<'_>) -> Result<Reply, CommandError> {
    Ok(Reply::bulk_or_null(view.string()?.cloned()))
}

fn get(view: &View<'_>, _: &mut Arguments<'_>, _: &Context) -> Evaluated {
    Ok(Outcome::reply(value(view)?))
}

/// When a key is to expire, as the options of `SET` and `GETEX` say.
#[derive(Clone, Copy)]
struct Expiry<'a> {
    text: &'a [u8],
    unit: Unit,
    is_absolute: bool,
}

impl<'a> Expiry<'a> {
    /// Takes one of `EX`, `PX`, `EXAT` and `PXAT`, if it is next.
    fn take(arguments: &mut Arguments<'a>) -> Option<Self> {
        let options = [
            ("ex", Unit::Seconds, false),
            ("px", Unit::Milliseconds, false),
            ("exat", Unit::Seconds, true),
            ("pxat", Unit::Milliseconds, true),
        ];
        let (_, unit, is_absolute) = options.into_iter().find(|(word, ..)| arguments.take_option(word, 1))?;
        let text = arguments.next_bytes().ok()?;
        Some(Self { text, unit, is_absolute })
    }

    /// Two of the same kind are one for Redis, the last one: of two of different kinds it complains.
    fn is_like(self, other: Self) -> bool {
        self.unit == other.unit && self.is_absolute == other.is_absolute
    }

    fn deadline(self, command: &str, now: WallTime) -> Result<WallTime, CommandError> {
        expiry(command, self.text, self.unit, if self.is_absolute { WallTime(0) } else { now })
    }
}

/// The options of `SET`.
#[derive(Default)]
struct SetOptions<'a> {
    only_new: bool,
    only_there: bool,
    keeps_deadline: bool,
    reads: bool,
    expiry: Option<Expiry<'a>>,
}

impl<'a> SetOptions<'a> {
    fn read(arguments: &mut Arguments<'a>) -> Result<Self, CommandError> {
        let mut options = Self::default();
        while !arguments.is_empty() {
            if !options.only_there && arguments.take_word("nx") {
                options.only_new = true;
            } else if !options.only_new && arguments.take_word("xx") {
                options.only_there = true;
            } else if arguments.take_word("get") {
                options.reads = true;
            } else if options.expiry.is_none() && arguments.take_word("keepttl") {
                options.keeps_deadline = true;
            } else {
                let expiry = Expiry::take(arguments).ok_or(CommandError::Syntax)?;
                let is_second = options.expiry.is_some_and(|first| !first.is_like(expiry));
                if options.keeps_deadline || is_second {
                    return Err(CommandError::Syntax);
                }
                options.expiry = Some(expiry);
            }
        }
        Ok(options)
    }
}

fn set(view: &View<'_>, arguments: &mut Arguments<'_>, context: &Context) -> Evaluated {
    let value = arguments.next_bytes()?;
    let options = SetOptions::read(arguments)?;
    let deadline = match options.expiry {
        Some(expiry) => Deadline::At(expiry.deadline(arguments.command(), context.now)?),
        None if options.keeps_deadline => Deadline::Keep,
        None => Deadline::None,
    };
    let before = if options.reads { Some(self::value(view)?) } else { None };
    if (options.only_new && view.exists()) || (options.only_there && !view.exists()) {
        return Ok(Outcome::reply(before.unwrap_or(Reply::Null)));
    }
    Ok(Outcome::new(before.unwrap_or_else(Reply::ok), set_until(view, value.clone(), deadline, context.now)))
}

/// A value whose deadline has passed already is not set at all.
fn set_until(view: &View<'_>, value: bytes::Bytes, deadline: Deadline, now: WallTime) -> Effect {
    match deadline {
        Deadline::At(moment) if moment <= now && view.exists() => Effect::Delete,
        Deadline::At(moment) if moment <= now => Effect::Nothing,
        deadline => Effect::Set(value, deadline),
    }
}

fn setnx(view: &View<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Evaluated {
    let value = arguments.next_bytes()?;
    if view.exists() {
        return Ok(Outcome::reply(Reply::Integer(0)));
    }
    Ok(Outcome::new(Reply::Integer(1), Effect::Set(value.clone(), Deadline::None)))
}

fn set_expiring(view: &View<'_>, arguments: &mut Arguments<'_>, context: &Context, unit: Unit) -> Evaluated {
    let deadline = expiry(arguments.command(), arguments.next_bytes()?, unit, context.now)?;
    let value = arguments.next_bytes()?.clone();
    Ok(Outcome::new(Reply::ok(), set_until(view, value, Deadline::At(deadline), context.now)))
}

fn getset(view: &View<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Evaluated {
    let value = arguments.next_bytes()?;
    Ok(Outcome::new(self::value(view)?, Effect::Set(value.clone(), Deadline::None)))
}

fn getdel(view: &View<'_>, _: &mut Arguments<'_>, _: &Context) -> Evaluated {
    let effect = if view.exists() { Effect::Delete } else { Effect::Nothing };
    Ok(Outcome::new(value(view)?, effect))
}

fn getex(view: &View<'_>, arguments: &mut Arguments<'_>, context: &Context) -> Evaluated {
    let (mut expiry, mut persists) = (None::<Expiry<'_>>, false);
    while !arguments.is_empty() {
        if expiry.is_none() && arguments.take_word("persist") {
            persists = true;
            continue;
        }
        let next = Expiry::take(arguments).ok_or(CommandError::Syntax)?;
        if persists || expiry.is_some_and(|first| !first.is_like(next)) {
            return Err(CommandError::Syntax);
        }
        expiry = Some(next);
    }
    let reply = value(view)?;
    if !view.exists() {
        return Ok(Outcome::reply(reply));
    }
    let effect = match expiry {
        Some(expiry) => match expiry.deadline(arguments.command(), context.now)? {
            moment if moment <= context.now => Effect::Delete,
            moment => Effect::Expire(Some(moment)),
        },
        None if persists && view.deadline.is_some() => Effect::Expire(None),
        None => Effect::Nothing,
    };
    Ok(Outcome::new(reply, effect))
}
