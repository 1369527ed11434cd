//! Between members of a block's slot and the coordinator of a block request.

use difuse_blocks::BlockRecord;
use difuse_protocol::{
    message::{BlockAnswer, BlockMessage, BlockQuestion},
    request::PAGE_MAX,
};

use crate::{
    builder::{Builder, UnionOffset, write_bytes, write_reason},
    error::{WireError, present},
    frame::{Frame, list, reason},
    generated::difuse::{blocks as fb, envelope::Body},
    keylog::{read_configuration, register_in, register_out, write_configuration},
    limits::BLOCK_BYTES_MAX,
    types::{digest_in, digest_out, hash_in, hash_out, node_in, node_out, slot_in, write_key},
};

pub(crate) fn record_out(record: &BlockRecord) -> fb::BlockRecord {
    fb::BlockRecord::new(record.version, record.length, record.present, record.referenced, record.lost)
}

pub(crate) fn record_in(record: &fb::BlockRecord) -> BlockRecord {
    BlockRecord {
        version: record.version(),
        present: record.present(),
        referenced: record.referenced(),
        // What is not to be there cannot be lost.
        lost: record.lost() && record.present(),
        length: record.length(),
    }
}

/// Writes a message, as the variant of the envelope's union that it is.
pub(crate) fn write(builder: &mut Builder, message: &BlockMessage) -> (Body, UnionOffset) {
    match message {
        BlockMessage::Ask { id, slot, epoch, question } => {
            let (question_type, question) = write_question(builder, question);
            let args =
                fb::BlockAskArgs { id: *id, slot: slot.0, epoch: *epoch, question_type, question: Some(question) };
            (Body::BlockAsk, fb::BlockAsk::create(builder, &args).as_union_value())
        }
        BlockMessage::Answer { id, answer } => {
            let (answer_type, answer) = write_answer(builder, answer);
            let args = fb::BlockAnswerArgs { id: *id, answer_type, answer: Some(answer) };
            (Body::BlockAnswer, fb::BlockAnswer::create(builder, &args).as_union_value())
        }
    }
}

fn write_question(builder: &mut Builder, question: &BlockQuestion) -> (fb::Question, UnionOffset) {
    use fb::Question as Body;
    match question {
        BlockQuestion::Configuration => {
            let table = fb::AskConfiguration::create(builder, &fb::AskConfigurationArgs {});
            (Body::AskConfiguration, table.as_union_value())
        }
        BlockQuestion::Put { hash, bytes, version, referenced } => {
            let bytes = Some(write_bytes(builder, bytes));
            let args = fb::PutArgs { hash: Some(&hash_out(hash)), bytes, version: *version, referenced: *referenced };
            (Body::Put, fb::Put::create(builder, &args).as_union_value())
        }
        BlockQuestion::Read { hash } => {
            let table = fb::Read::create(builder, &fb::ReadArgs { hash: Some(&hash_out(hash)) });
            (Body::Read, table.as_union_value())
        }
        BlockQuestion::Stat { hash } => {
            let table = fb::Stat::create(builder, &fb::StatArgs { hash: Some(&hash_out(hash)) });
            (Body::Stat, table.as_union_value())
        }
        BlockQuestion::Delete { hash, version } => {
            let args = fb::DeleteArgs { hash: Some(&hash_out(hash)), version: *version };
            (Body::Delete, fb::Delete::create(builder, &args).as_union_value())
        }
        BlockQuestion::List { after } => {
            let after = after.as_ref().map(hash_out);
            let table = fb::List::create(builder, &fb::ListArgs { after: after.as_ref() });
            (Body::List, table.as_union_value())
        }
        BlockQuestion::Digest => {
            let table = fb::AskDigest::create(builder, &fb::AskDigestArgs {});
            (Body::AskDigest, table.as_union_value())
        }
        BlockQuestion::Register { key } => {
            let key = Some(write_key(builder, key));
            let table = fb::AskRegister::create(builder, &fb::AskRegisterArgs { key });
            (Body::AskRegister, table.as_union_value())
        }
    }
}

fn write_answer(builder: &mut Builder, answer: &BlockAnswer) -> (fb::Answer, UnionOffset) {
    use fb::Answer as Body;
    match answer {
        BlockAnswer::Outdated { configuration } => {
            let configuration = Some(write_configuration(builder, configuration));
            let table = fb::Outdated::create(builder, &fb::OutdatedArgs { configuration });
            (Body::Outdated, table.as_union_value())
        }
        BlockAnswer::NotHere => (Body::NotHere, fb::NotHere::create(builder, &fb::NotHereArgs {}).as_union_value()),
        BlockAnswer::Configuration { configuration, leader } => {
            let configuration = Some(write_configuration(builder, configuration));
            let leader = leader.as_ref().map(node_out);
            let args = fb::KnownConfigurationArgs { configuration, leader: leader.as_ref() };
            (Body::KnownConfiguration, fb::KnownConfiguration::create(builder, &args).as_union_value())
        }
        BlockAnswer::Stored { created } => {
            let table = fb::Stored::create(builder, &fb::StoredArgs { created: *created });
            (Body::Stored, table.as_union_value())
        }
        BlockAnswer::Superseded { version } => {
            let table = fb::Superseded::create(builder, &fb::SupersededArgs { version: *version });
            (Body::Superseded, table.as_union_value())
        }
        BlockAnswer::Content { record, bytes } => {
            let bytes = bytes.as_ref().map(|bytes| write_bytes(builder, bytes));
            let record = record.as_ref().map(record_out);
            let table = fb::Content::create(builder, &fb::ContentArgs { record: record.as_ref(), bytes });
            (Body::Content, table.as_union_value())
        }
        BlockAnswer::Record { record } => {
            let record = record.as_ref().map(record_out);
            let table = fb::Record::create(builder, &fb::RecordArgs { record: record.as_ref() });
            (Body::Record, table.as_union_value())
        }
        BlockAnswer::Deleted => (Body::Deleted, fb::Deleted::create(builder, &fb::DeletedArgs {}).as_union_value()),
        BlockAnswer::Page { records, is_last } => {
            let records =
                records.iter().map(|(hash, record)| fb::ListedBlock::new(&hash_out(hash), &record_out(record)));
            let records = Some(builder.create_vector_from_iter(records));
            let table = fb::Page::create(builder, &fb::PageArgs { records, is_last: *is_last });
            (Body::Page, table.as_union_value())
        }
        BlockAnswer::Digest { digest } => {
            let args = fb::SlotDigestArgs { digest: Some(&digest_out(*digest)) };
            (Body::SlotDigest, fb::SlotDigest::create(builder, &args).as_union_value())
        }
        BlockAnswer::Register { register } => {
            let register = register.as_ref().map(register_out);
            let table = fb::Register::create(builder, &fb::RegisterArgs { register: register.as_ref() });
            (Body::Register, table.as_union_value())
        }
        BlockAnswer::Full { reason } => {
            let reason = Some(write_reason(builder, reason));
            (Body::Full, fb::Full::create(builder, &fb::FullArgs { reason }).as_union_value())
        }
        BlockAnswer::Failed { reason } => {
            let reason = Some(write_reason(builder, reason));
            (Body::Failed, fb::Failed::create(builder, &fb::FailedArgs { reason }).as_union_value())
        }
    }
}

/// Reads a question.
pub(crate) fn read_ask(frame: &Frame<'_>, ask: fb::BlockAsk<'_>) -> Result<BlockMessage, WireError> {
    Ok(BlockMessage::Ask {
        id: ask.id(),
        slot: slot_in(ask.slot())?,
        epoch: ask.epoch(),
        question: read_question(frame, &ask)?,
    })
}

fn read_question(frame: &Frame<'_>, ask: &fb::BlockAsk<'_>) -> Result<BlockQuestion, WireError> {
    const WHAT: &str = "a question about blocks without its body";
    Ok(match ask.question_type() {
        fb::Question::AskConfiguration => BlockQuestion::Configuration,
        fb::Question::Put => {
            let put = present(ask.question_as_put(), WHAT)?;
            BlockQuestion::Put {
                hash: hash_in(put.hash()),
                bytes: frame.bytes(put.bytes(), BLOCK_BYTES_MAX, "bytes")?,
                version: put.version(),
                referenced: put.referenced(),
            }
        }
        fb::Question::Read => BlockQuestion::Read { hash: hash_in(present(ask.question_as_read(), WHAT)?.hash()) },
        fb::Question::Stat => BlockQuestion::Stat { hash: hash_in(present(ask.question_as_stat(), WHAT)?.hash()) },
        fb::Question::Delete => {
            let delete = present(ask.question_as_delete(), WHAT)?;
            BlockQuestion::Delete { hash: hash_in(delete.hash()), version: delete.version() }
        }
        fb::Question::List => {
            BlockQuestion::List { after: present(ask.question_as_list(), WHAT)?.after().map(hash_in) }
        }
        fb::Question::AskDigest => BlockQuestion::Digest,
        fb::Question::AskRegister => {
            BlockQuestion::Register { key: frame.key(present(ask.question_as_ask_register(), WHAT)?.key())? }
        }
        _ => return Err(WireError::malformed("an unknown question about blocks")),
    })
}

/// Reads an answer.
pub(crate) fn read_answer(frame: &Frame<'_>, message: fb::BlockAnswer<'_>) -> Result<BlockMessage, WireError> {
    Ok(BlockMessage::Answer { id: message.id(), answer: read_answer_body(frame, &message)? })
}

fn read_answer_body(frame: &Frame<'_>, message: &fb::BlockAnswer<'_>) -> Result<BlockAnswer, WireError> {
    const WHAT: &str = "an answer about blocks without its body";
    Ok(match message.answer_type() {
        fb::Answer::Outdated => {
            let outdated = present(message.answer_as_outdated(), WHAT)?;
            BlockAnswer::Outdated { configuration: read_configuration(outdated.configuration())? }
        }
        fb::Answer::NotHere => BlockAnswer::NotHere,
        fb::Answer::KnownConfiguration => {
            let known = present(message.answer_as_known_configuration(), WHAT)?;
            BlockAnswer::Configuration {
                configuration: read_configuration(known.configuration())?,
                leader: known.leader().map(node_in),
            }
        }
        fb::Answer::Stored => BlockAnswer::Stored { created: present(message.answer_as_stored(), WHAT)?.created() },
        fb::Answer::Superseded => {
            BlockAnswer::Superseded { version: present(message.answer_as_superseded(), WHAT)?.version() }
        }
        fb::Answer::Content => {
            let content = present(message.answer_as_content(), WHAT)?;
            let bytes = content.bytes().map(|bytes| frame.bytes(bytes, BLOCK_BYTES_MAX, "bytes"));
            BlockAnswer::Content { record: content.record().map(record_in), bytes: bytes.transpose()? }
        }
        fb::Answer::Record => {
            BlockAnswer::Record { record: present(message.answer_as_record(), WHAT)?.record().map(record_in) }
        }
        fb::Answer::Deleted => BlockAnswer::Deleted,
        fb::Answer::Page => {
            let page = present(message.answer_as_page(), WHAT)?;
            let records = list(page.records(), PAGE_MAX as usize, "records", |block| {
                Ok((hash_in(block.hash()), record_in(block.record())))
            })?;
            BlockAnswer::Page { records, is_last: page.is_last() }
        }
        fb::Answer::SlotDigest => {
            BlockAnswer::Digest { digest: digest_in(present(message.answer_as_slot_digest(), WHAT)?.digest()) }
        }
        fb::Answer::Register => {
            let register = present(message.answer_as_register(), WHAT)?.register();
            BlockAnswer::Register { register: register.map(register_in) }
        }
        fb::Answer::Full => BlockAnswer::Full { reason: reason(present(message.answer_as_full(), WHAT)?.reason())? },
        fb::Answer::Failed => {
            BlockAnswer::Failed { reason: reason(present(message.answer_as_failed(), WHAT)?.reason())? }
        }
        _ => return Err(WireError::malformed("an unknown answer about blocks")),
    })
}
