use super::{Evaluated, READS, READS_FAST, STRING_LENGTH_MAX, WRITES, changed, check_length, range_ends};
use crate::{Arguments, Command, CommandError, Context, Flag, KeyCommand, Outcome, Reply, View, number::parse_integer};

pub(super) fn commands() -> Vec<KeyCommand> {
    let new = |name, arity, flags: &'static [Flag], since, complexity, summary| {
        Command::on_key(name, arity, flags).documented("bitmap", since, complexity, summary)
    };
    vec![
        KeyCommand::new(new("setbit", 4, WRITES, "2.2.0", "O(N) for N bytes", "Sets a bit of a string"), setbit),
        KeyCommand::new(new("getbit", 3, READS_FAST, "2.2.0", "O(1)", "Reads a bit of a string"), getbit),
        KeyCommand::new(
            new("bitcount", -2, READS, "2.6.0", "O(N) for N bytes", "Counts the bits that are set in a string"),
            bitcount,
        ),
        KeyCommand::new(
            new("bitpos", -3, READS, "2.8.7", "O(N) for N bytes", "Finds the first bit that is set or not set"),
            bitpos,
        ),
    ]
}

/// A position of a bit, as a client names it; with `#` in front, if `width` is given, in multiples of it.
pub(super) fn bit_offset(text: &[u8], width: Option<u32>) -> Result<u64, CommandError> {
    let error = || CommandError::new("bit offset is not an integer or out of range");
    let (number, factor) = match (text, width) {
        ([b'#', rest @ ..], Some(width)) => (rest, i64::from(width)),
        _ => (text, 1),
    };
    let offset = parse_integer(number).ok_or_else(error)?.wrapping_mul(factor);
    u64::try_from(offset).ok().filter(|offset| offset >> 3 < STRING_LENGTH_MAX).ok_or_else(error)
}

/// A bit; 0 behind the end.
pub(super) fn bit(bytes: &[u8], offset: u64) -> bool {
    let byte = usize::try_from(offset >> 3).ok().and_then(|index| bytes.get(index)).copied().unwrap_or(0);
    byte >> (7 - (offset & 7)) & 1 == 1
}

/// Sets a bit, if there is one.
pub(super) fn set_bit(bytes: &mut [u8], offset: u64, is_set: bool) {
    let mask = 1 << (7 - (offset & 7));
    if let Some(byte) = usize::try_from(offset >> 3).ok().and_then(|index| bytes.get_mut(index)) {
        *byte = if is_set { *byte | mask } else { *byte & !mask };
    }
}

/// The string, with zeros at the end if it is too short to have this bit.
pub(super) fn grown(view: &View<'_>, offset: u64, context: &Context) -> Result<Vec<u8>, CommandError> {
    check_length((offset >> 3) + 1, context)?;
    let mut bytes = view.string()?.map_or_else(Vec::new, |value| value.to_vec());
    let length = usize::try_from((offset >> 3) + 1).unwrap_or(usize::MAX);
    bytes.resize(bytes.len().max(length), 0);
    Ok(bytes)
}

fn setbit(view: &View<'_>, arguments: &mut Arguments<'_>, context: &Context) -> Evaluated {
    let offset = bit_offset(arguments.next_bytes()?, None)?;
    let error = "bit is not an integer or out of range";
    let is_set = match arguments.integer_or(error)? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::new(error)),
    };
    let length = view.string()?.map_or(0, |value| value.len());
    let mut bytes = grown(view, offset, context)?;
    let before = bit(&bytes, offset);
    let reply = Reply::one_if(before);
    if before == is_set && bytes.len() == length {
        return Ok(Outcome::reply(reply));
    }
    set_bit(&mut bytes, offset, is_set);
    Ok(changed(reply, bytes))
}

fn getbit(view: &View<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Evaluated {
    let offset = bit_offset(arguments.next_bytes()?, None)?;
    Ok(Outcome::reply(Reply::one_if(view.string()?.is_some_and(|value| bit(value, offset)))))
}

/// The last argument of a range: whether its ends are bits.
fn is_in_bits(arguments: &mut Arguments<'_>) -> Result<bool, CommandError> {
    if arguments.is_empty() || arguments.take_word("byte") {
        return Ok(false);
    }
    if arguments.take_word("bit") { Ok(true) } else { Err(CommandError::Syntax) }
}

/// The first bit and the last one of a range of bytes or bits.
fn bit_range(start: i64, end: i64, length: usize, is_in_bits: bool) -> (i64, i64) {
    if is_in_bits {
        return range_ends(start, end, length.saturating_mul(8));
    }
    let (start, end) = range_ends(start, end, length);
    // Behind the last one that there may be, nothing is found anyway.
    (start.saturating_mul(8), end.saturating_mul(8).saturating_add(7))
}

fn bitcount(view: &View<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Evaluated {
    let Some(value) = view.string()? else { return Ok(Outcome::reply(Reply::Integer(0))) };
    let (start, end) = match arguments.len() {
        0 => bit_range(0, -1, value.len(), false),
        2 | 3 => {
            let (start, end) = (arguments.integer()?, arguments.integer()?);
            if start < 0 && end < 0 && start > end {
                return Ok(Outcome::reply(Reply::Integer(0)));
            }
            bit_range(start, end, value.len(), is_in_bits(arguments)?)
        }
        _ => return Err(CommandError::Syntax),
    };
    Ok(Outcome::reply(Reply::count(count(value, start, end))))
}

/// How many bits are set, from the one to the other.
fn count(bytes: &[u8], start: i64, end: i64) -> usize {
    let (Ok(start), Ok(end)) = (u64::try_from(start), u64::try_from(end)) else { return 0 };
    if start > end {
        return 0;
    }
    let index = |bit: u64| usize::try_from(bit >> 3).unwrap_or(usize::MAX);
    let ones = |bytes: &[u8]| bytes.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
    let all = ones(bytes.get(index(start)..=index(end)).unwrap_or_default());
    let outside = |bits: std::ops::Range<u64>| bits.filter(|offset| bit(bytes, *offset)).count();
    all - outside(start & !7..start) - outside(end + 1..(end | 7) + 1)
}

fn bitpos(view: &View<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Evaluated {
    let wanted = match arguments.integer()? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::new("The bit argument must be 1 or 0.")),
    };
    let Some(value) = view.string()? else {
        return Ok(Outcome::reply(Reply::Integer(if wanted { -1 } else { 0 })));
    };
    let has_end = arguments.len() >= 2;
    let (start, end) = match arguments.len() {
        0 => bit_range(0, -1, value.len(), false),
        1 => bit_range(arguments.integer()?, -1, value.len(), false),
        2 => bit_range(arguments.integer()?, arguments.integer()?, value.len(), false),
        3 => {
            let (start, end) = (arguments.integer()?, arguments.next_bytes()?);
            let is_in_bits = is_in_bits(arguments)?;
            let end = parse_integer(end).ok_or(CommandError::NotInteger)?;
            bit_range(start, end, value.len(), is_in_bits)
        }
        _ => return Err(CommandError::Syntax),
    };
    Ok(Outcome::reply(Reply::Integer(position(value, wanted, start, end, has_end))))
}

/// The first bit that is as wanted, or -1. Behind a string whose end is not given there are zeros.
fn position(bytes: &[u8], wanted: bool, start: i64, end: i64, has_end: bool) -> i64 {
    let (Ok(first), Ok(last)) = (u64::try_from(start), u64::try_from(end)) else { return -1 };
    if first > last {
        return -1;
    }
    let skipped = if wanted { 0 } else { u8::MAX };
    let mut offset = first;
    while offset <= last {
        let is_whole = offset & 7 == 0 && offset + 7 <= last;
        let byte = usize::try_from(offset >> 3).ok().and_then(|index| bytes.get(index));
        if is_whole && byte == Some(&skipped) {
            offset += 8;
        } else if bit(bytes, offset) == wanted {
            return i64::try_from(offset).unwrap_or(-1);
        } else {
            offset += 1;
        }
    }
    if wanted || has_end { -1 } else { i64::try_from(last + 1).unwrap_or(-1) }
}
