//! `XREAD` and `XREADGROUP`: read streams, and wait for entries if they are asked to. They take nothing away, so that all who
//! wait are served: of a group, who comes first.

use bytes::Bytes;
use difuse_api::{
    keys,
    structures::{Reply, StreamRead},
};
use difuse_types::Key;

use super::{
    blocking::{attempt, is_nothing, wait},
    stepped,
};
use crate::resp::{
    call::Call,
    failure::{Failure, Outcome},
    waiting::Purpose,
};

/// How many entries of each stream who has waited is given, unless the command says otherwise: as many as by Redis.
const COUNT: &str = "1000";

/// Does one of them.
pub(super) async fn read(mut call: Call) -> Outcome {
    let options = StreamRead::parse(&call.arguments)?;
    let keys = stepped::keys_of(&call.shared, call.database, &call.arguments)?;
    if options.wait.is_some() {
        name_last_entries(&mut call, &options, &keys).await?;
    }
    let reply = attempt(&call, &keys).await?;
    let Some(patience) = options.wait.filter(|_| is_nothing(&reply)) else { return Ok(reply.into()) };
    if options.count == 0 {
        call.arguments.splice(1..1, ["COUNT", COUNT].map(Bytes::from));
    }
    // A time that never comes is as good as none.
    let deadline = patience.and_then(|patience| tokio::time::Instant::now().checked_add(patience));
    let reply = wait(&call, &keys, &keys, Purpose::Read, deadline).await?;
    let has_no_group = matches!(&reply, Reply::Error(text) if text.starts_with("NOGROUP"));
    if has_no_group { Err(why_no_group(&call, &keys).await?) } else { Ok(reply.into()) }
}

/// What to tell a client that has waited as a consumer of a group which is no longer there.
async fn why_no_group(call: &Call, keys: &[Key]) -> Result<Failure, Failure> {
    for key in keys {
        if call.read(key.clone()).await?.is_none() {
            return Ok(Failure("UNBLOCKED the stream key no longer exists".into()));
        }
    }
    Ok(Failure("NOGROUP the consumer group this client was blocked on no longer exists".into()))
}

/// Who waits for what comes after the last entry (`$`) means the one that is the last now: it is named, so that nothing is missed
/// between two attempts.
async fn name_last_entries(call: &mut Call, options: &StreamRead, keys: &[Key]) -> Result<(), Failure> {
    for (index, key) in keys.iter().enumerate() {
        let id = options.keys.end + index;
        if call.arguments.get(id).is_none_or(|id| &id[..] != b"$") {
            continue;
        }
        let name = call.arguments[options.keys.start + index].clone();
        let [command, last, first, count, one] = ["xrevrange", "+", "-", "count", "1"].map(Bytes::from);
        let arguments = vec![command, name, last, first, count, one];
        let level = stepped::known_level(call.levels.read);
        let operation_id = keys::new_operation_id();
        let evaluated = keys::command(call.datastore(), key.clone(), arguments, operation_id, level).await?;
        // A key of another kind is complained of by the command itself.
        if let Reply::Array(entries) = evaluated.reply {
            call.arguments[id] = last_id(&entries);
        }
    }
    Ok(())
}

fn last_id(entries: &[Reply]) -> Bytes {
    if let [Reply::Array(entry)] = entries
        && let Some(Reply::Bulk(id)) = entry.first()
    {
        return id.clone();
    }
    Bytes::from_static(b"0-0")
}
