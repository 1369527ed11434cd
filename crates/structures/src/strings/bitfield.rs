use super::{
    Evaluated, READS_FAST, WRITES,
    bits::{bit, bit_offset, grown, set_bit},
    changed,
};
use crate::{Arguments, Command, CommandError, Context, KeyCommand, Outcome, Reply, View, number::parse_integer};

pub(super) fn commands() -> Vec<KeyCommand> {
    let each = "O(1) for each subcommand, and O(N) for N bytes if one writes";
    let bitfield = Command::on_key("bitfield", -2, WRITES);
    let bitfield_ro = Command::on_key("bitfield_ro", -2, READS_FAST);
    vec![
        KeyCommand::new(
            bitfield.documented("bitmap", "3.2.0", each, "Reads and changes integers of any width in a string"),
            |view, arguments, context| run(view, arguments, context, false),
        ),
        KeyCommand::new(
            bitfield_ro.documented("bitmap", "6.0.0", each, "Reads integers of any width in a string"),
            |view, arguments, context: &Context| run(view, arguments, context, true),
        ),
    ]
}

/// What becomes of a number that does not fit.
#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

/// What is done with an integer.
#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Increment(i64),
}

/// The kind of an integer, and where it is.
#[derive(Clone, Copy)]
struct Field {
    is_signed: bool,
    /// 1 to 64, to 63 if unsigned.
    width: u32,
    /// Its first bit.
    offset: u64,
}

struct Step {
    field: Field,
    action: Action,
    overflow: Overflow,
}

fn read_steps(arguments: &mut Arguments<'_>) -> Result<Vec<Step>, CommandError> {
    let mut overflow = Overflow::Wrap;
    let mut steps = Vec::new();
    while !arguments.is_empty() {
        if arguments.take_option("get", 2) {
            steps.push(Step { field: Field::read(arguments)?, action: Action::Get, overflow });
        } else if arguments.take_option("set", 3) {
            let field = Field::read(arguments)?;
            steps.push(Step { field, action: Action::Set(arguments.integer()?), overflow });
        } else if arguments.take_option("incrby", 3) {
            let field = Field::read(arguments)?;
            steps.push(Step { field, action: Action::Increment(arguments.integer()?), overflow });
        } else if arguments.take_option("overflow", 1) {
            overflow = Overflow::read(arguments)?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(steps)
}

impl Overflow {
    fn read(arguments: &mut Arguments<'_>) -> Result<Self, CommandError> {
        let kinds = [("wrap", Self::Wrap), ("sat", Self::Saturate), ("fail", Self::Fail)];
        let kind = kinds.into_iter().find(|(word, _)| arguments.take_word(word));
        kind.map(|(_, kind)| kind).ok_or_else(|| CommandError::new("Invalid OVERFLOW type specified"))
    }
}

impl Field {
    fn read(arguments: &mut Arguments<'_>) -> Result<Self, CommandError> {
        let (is_signed, width) = read_type(arguments.next_bytes()?)?;
        Ok(Self { is_signed, width, offset: bit_offset(arguments.next_bytes()?, Some(width))? })
    }

    fn last_bit(self) -> u64 {
        self.offset + u64::from(self.width) - 1
    }

    fn get(self, bytes: &[u8]) -> i128 {
        let bits = (self.offset..=self.last_bit()).fold(0_i128, |value, at| value << 1 | i128::from(bit(bytes, at)));
        self.wrapped(bits)
    }

    fn set(self, bytes: &mut [u8], value: i128) {
        for (shift, at) in (self.offset..=self.last_bit()).rev().enumerate() {
            set_bit(bytes, at, value >> shift & 1 == 1);
        }
    }

    fn bounds(self) -> (i128, i128) {
        if self.is_signed {
            let half = 1_i128 << (self.width - 1);
            (-half, half - 1)
        } else {
            (0, (1_i128 << self.width) - 1)
        }
    }

    /// The last bits of a number as one of this kind.
    fn wrapped(self, value: i128) -> i128 {
        let size = 1_i128 << self.width;
        let rest = value.rem_euclid(size);
        let (_, max) = self.bounds();
        if rest > max { rest - size } else { rest }
    }

    /// A number made to fit; `None` if it does not and must not be made to.
    fn fitted(self, value: i128, overflow: Overflow) -> Option<i128> {
        let (min, max) = self.bounds();
        if (min..=max).contains(&value) {
            return Some(value);
        }
        match overflow {
            Overflow::Wrap => Some(self.wrapped(value)),
            Overflow::Saturate => Some(value.clamp(min, max)),
            Overflow::Fail => None,
        }
    }
}

/// A type such as `i16` or `u8`: whether it is signed, and its width.
fn read_type(text: &[u8]) -> Result<(bool, u32), CommandError> {
    let error = "Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
    let (is_signed, width) = match text {
        [b'i', width @ ..] => (true, width),
        [b'u', width @ ..] => (false, width),
        _ => return Err(CommandError::new(error)),
    };
    let max = if is_signed { 64 } else { 63 };
    let width = parse_integer(width).and_then(|width| u32::try_from(width).ok());
    match width {
        Some(width) if (1..=max).contains(&width) => Ok((is_signed, width)),
        _ => Err(CommandError::new(error)),
    }
}

fn run(view: &View<'_>, arguments: &mut Arguments<'_>, context: &Context, is_read_only: bool) -> Evaluated {
    let steps = read_steps(arguments)?;
    let written = steps.iter().filter(|step| !matches!(step.action, Action::Get)).map(|step| step.field.last_bit());
    let Some(last_written) = written.max() else {
        let bytes = view.string()?.cloned().unwrap_or_default();
        let read = steps.iter().map(|step| integer(step.field.get(&bytes)));
        return Ok(Outcome::reply(Reply::Array(read.collect())));
    };
    if is_read_only {
        return Err(CommandError::new("BITFIELD_RO only supports the GET subcommand"));
    }
    let mut bytes = grown(view, last_written, context)?;
    let reply = Reply::Array(steps.iter().map(|step| step.run(&mut bytes)).collect());
    let is_changed = view.string()?.is_none_or(|before| *before != bytes[..]);
    Ok(if is_changed { changed(reply, bytes) } else { Outcome::reply(reply) })
}

impl Step {
    fn is_taken_for_too_large(&self, value: i64) -> bool {
        let (_, max) = self.field.bounds();
        let is_narrow = self.field.width < 64;
        matches!(self.overflow, Overflow::Saturate) && is_narrow && max - i128::from(value) > i128::from(i64::MAX)
    }

    fn run(&self, bytes: &mut [u8]) -> Reply {
        let before = self.field.get(bytes);
        let after = match self.action {
            Action::Get => return integer(before),
            // A negative number is a large one to an unsigned field.
            Action::Set(value) if !self.field.is_signed => i128::from(value as u64),
            // Redis's own difference overflows here, and the lowest numbers are too large to it.
            Action::Set(value) if self.is_taken_for_too_large(value) => i128::MAX,
            Action::Set(value) => i128::from(value),
            Action::Increment(increment) => before + i128::from(increment),
        };
        let Some(after) = self.field.fitted(after, self.overflow) else { return Reply::Null };
        self.field.set(bytes, after);
        integer(if let Action::Set(_) = self.action { before } else { after })
    }
}

/// No field has a value that does not fit.
fn integer(value: i128) -> Reply {
    Reply::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}
