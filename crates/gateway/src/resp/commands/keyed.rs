//! Commands on one key, as the structures define them.

use bytes::Bytes;
use difuse_api::{
    keylog::{MAX_INLINE_BYTES, Operation},
    keys,
    request::Condition,
    structures::{Command, Held, View},
};
use difuse_types::WallTime;
use futures::{FutureExt, future::BoxFuture};

use super::{is_word, long};
use crate::resp::{
    answer::Answer,
    call::{Call, Kind, kind_of, now},
    failure::{Failure, Outcome},
    request::parse_integer,
};

/// Does a command of the registry on the key that its first argument names.
pub(in crate::resp) fn keyed(call: Call) -> BoxFuture<'static, Outcome> {
    if call.command.is_write() { write(call).boxed() } else { read(call).boxed() }
}

async fn write(call: Call) -> Outcome {
    if let Some(deadline) = plain_set(&call.arguments) {
        return set(&call, &call.arguments[1], call.arguments[2].clone(), deadline).await;
    }
    // What comes out is too long for the log: the leader need not try.
    if is_long_string(&call.command, &call.arguments) {
        return Box::pin(long::change(call)).await;
    }
    match call.evaluate_at_leader(call.key(&call.arguments[1])?, keys::new_operation_id()).await? {
        Some(reply) => Ok(reply.into()),
        None => Box::pin(long::change(call)).await,
    }
}

/// Whether a command on a string brings more bytes than a string in the log has.
pub(super) fn is_long_string(command: &Command, arguments: &[Bytes]) -> bool {
    let is_string = matches!(command.group, "string" | "bitmap");
    is_string && arguments.iter().skip(2).map(Bytes::len).sum::<usize>() > MAX_INLINE_BYTES
}

/// A command that reads is done where the client is, unless the key holds a structure, whose state the leader has.
async fn read(call: Call) -> Outcome {
    // That of `OBJECT` stands after the second word.
    let name = usize::try_from(call.command.keys.first).ok().and_then(|index| call.arguments.get(index));
    let key = call.key(name.ok_or_else(Failure::syntax)?)?;
    let operation_id = keys::new_operation_id();
    let found = call.read(key.clone()).await?;
    let view = match found.as_ref().map(|(_, value)| (kind_of(value), value.deadline)) {
        None => View::default(),
        Some((Kind::Text(bytes), deadline)) => View { held: Some(Held::String(bytes)), deadline },
        Some((Kind::Blocks, _)) => {
            let value = found.map(|(_, value)| value).ok_or_else(Failure::syntax)?;
            return Box::pin(long::read(&call, value)).await;
        }
        Some((Kind::Structure(_), _)) => {
            let reply = call.evaluate_at_leader(key, operation_id).await?;
            // It was made a string meanwhile.
            return Ok(reply.map_or_else(|| Failure::contended().into(), Answer::from));
        }
    };
    let context = call.context(&operation_id);
    Ok(call.shared.registry.evaluate(&view, &call.arguments, &context)?.reply.into())
}

/// Gives a key a value of any length, whatever it holds.
pub(super) async fn set(call: &Call, name: &[u8], bytes: Bytes, deadline: Option<WallTime>) -> Outcome {
    let key = call.key(name)?;
    let value = call.value_of(&key, bytes, deadline).await?;
    call.write(key, Operation::Set(value), Condition::None, keys::new_operation_id()).await?;
    Ok(Answer::ok())
}

/// The deadline of a `SET` that needs to know nothing of the key, the inner `None` for none: it is written without being
/// evaluated. Whatever is not quite plain is left to the definition of the command.
pub(super) fn plain_set(arguments: &[Bytes]) -> Option<Option<WallTime>> {
    let is_set = arguments.first().is_some_and(|name| is_word(name, "set"));
    match arguments {
        [_, _, _] if is_set => Some(None),
        [_, _, _, unit, amount] if is_set => {
            let amount = u64::try_from(parse_integer(amount)?).ok()?;
            let (factor, base) = match &*unit.to_ascii_lowercase() {
                b"ex" => (1000, now().0),
                b"px" => (1, now().0),
                b"exat" => (1000, 0),
                b"pxat" => (1, 0),
                _ => return None,
            };
            let deadline = amount.checked_mul(factor)?.checked_add(base)?;
            let is_plain = deadline > now().0 && i64::try_from(deadline).is_ok();
            is_plain.then_some(Some(WallTime(deadline)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::plain_set;

    #[test]
    fn only_what_is_plain_is_written_at_once() {
        let check =
            |line: &str| plain_set(&line.split(' ').map(|word| Bytes::from(word.to_string())).collect::<Vec<_>>());
        assert_eq!(check("SET k v"), Some(None));
        assert_eq!(check("set k v PXAT 9000000000000").flatten().unwrap().0, 9_000_000_000_000);
        assert!(check("set k v EX 10").flatten().is_some());
        for line in [
            "set k v NX",
            "set k v EX 0",
            "set k v EX -1",
            "set k v EX 9223372036854775807",
            "set k v EXAT 1",
            "set k v EX 10 NX",
            "set k v KEEPTTL",
            "setex k 10 v",
            "set k",
        ] {
            assert_eq!(check(line), None, "{line}");
        }
    }
}
