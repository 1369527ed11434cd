use bytes::Bytes;
use difuse_protocol::message::{BlockAnswer, BlockMessage, BlockQuestion};

use super::parts::{SLOT, block, configuration, hash, joint_configuration, key, node, record, register};

pub(super) fn samples() -> Vec<BlockMessage> {
    let ask = |question| BlockMessage::Ask { id: 11, slot: SLOT, epoch: 3, question };
    let answer = |answer| BlockMessage::Answer { id: 11, answer };
    questions().into_iter().map(ask).chain(answers().into_iter().map(answer)).collect()
}

fn questions() -> Vec<BlockQuestion> {
    vec![
        BlockQuestion::Configuration,
        BlockQuestion::Put { hash: hash(1), bytes: block(), version: 2, referenced: true },
        BlockQuestion::Put { hash: hash(1), bytes: Bytes::new(), version: 0, referenced: false },
        BlockQuestion::Read { hash: hash(1) },
        BlockQuestion::Stat { hash: hash(1) },
        BlockQuestion::Delete { hash: hash(1), version: 3 },
        BlockQuestion::List { after: Some(hash(1)) },
        BlockQuestion::List { after: None },
        BlockQuestion::Digest,
        BlockQuestion::Register { key: key("k") },
    ]
}

fn answers() -> Vec<BlockAnswer> {
    vec![
        BlockAnswer::Outdated { configuration: joint_configuration() },
        BlockAnswer::NotHere,
        BlockAnswer::Configuration { configuration: configuration(), leader: Some(node(1)) },
        BlockAnswer::Configuration { configuration: configuration(), leader: None },
        BlockAnswer::Stored { created: true },
        BlockAnswer::Superseded { version: 9 },
        BlockAnswer::Content { record: Some(record(1)), bytes: Some(block()) },
        BlockAnswer::Content { record: None, bytes: None },
        BlockAnswer::Record { record: Some(record(2)) },
        BlockAnswer::Record { record: None },
        BlockAnswer::Deleted,
        BlockAnswer::Page { records: vec![(hash(1), record(1)), (hash(2), record(2))], is_last: true },
        BlockAnswer::Digest { digest: u128::MAX },
        BlockAnswer::Register { register: Some(register()) },
        BlockAnswer::Register { register: None },
        BlockAnswer::Failed { reason: "the disk answers nothing".into() },
        BlockAnswer::Full { reason: "no room".into() },
    ]
}
