use difuse_keylog::{
    DROPS_MAX, KeylogMessage, Proposal, Proposed, SCAN_PAGE_MAX, SlotDigest, StepsKnown, TRANSACTIONS_MAX,
};

use crate::{
    error::{WireError, present},
    frame::{Frame, list},
    generated::difuse::keylog as fb,
    keylog::{ballot_in, read_configuration, read_transactions, register_in, term_in},
    limits::SLOTS_MAX,
    types::{digest_in, hash_in, slot_in},
};

const WHAT: &str = "a key log message without its body";

/// Reads a message.
pub(crate) fn read(frame: &Frame<'_>, message: fb::KeylogMessage<'_>) -> Result<KeylogMessage, WireError> {
    use fb::KeylogBody as Body;
    match message.body_type() {
        Body::Prepare => prepare(present(message.body_as_prepare(), WHAT)?),
        Body::Promise => promise(present(message.body_as_promise(), WHAT)?),
        Body::Refuse => refuse(present(message.body_as_refuse(), WHAT)?),
        Body::Outdated => outdated(present(message.body_as_outdated(), WHAT)?),
        Body::ReadRegister => read_register(frame, present(message.body_as_read_register(), WHAT)?),
        Body::RegisterRead => register_read(frame, present(message.body_as_register_read(), WHAT)?),
        Body::Accept => accept(frame, present(message.body_as_accept(), WHAT)?),
        Body::Accepted => accepted(frame, present(message.body_as_accepted(), WHAT)?),
        Body::Lacking => lacking(frame, present(message.body_as_lacking(), WHAT)?),
        Body::Confirm => confirm(present(message.body_as_confirm(), WHAT)?),
        Body::Confirmed => confirmed(present(message.body_as_confirmed(), WHAT)?),
        Body::Scan => scan(frame, present(message.body_as_scan(), WHAT)?),
        Body::Scanned => scanned(frame, present(message.body_as_scanned(), WHAT)?),
        Body::FetchTransactions => fetch(frame, present(message.body_as_fetch_transactions(), WHAT)?),
        Body::Transactions => transactions(frame, present(message.body_as_transactions(), WHAT)?),
        Body::Propose => propose(present(message.body_as_propose(), WHAT)?),
        Body::ProposalAccepted => proposal_accepted(present(message.body_as_proposal_accepted(), WHAT)?),
        Body::Install => install(present(message.body_as_install(), WHAT)?),
        Body::BlocksReady => blocks_ready(present(message.body_as_blocks_ready(), WHAT)?),
        Body::Holdings => holdings(present(message.body_as_holdings(), WHAT)?),
        Body::NoRoom => Ok(KeylogMessage::NoRoom { is_full: present(message.body_as_no_room(), WHAT)?.is_full() }),
        Body::Committed => committed(present(message.body_as_committed(), WHAT)?),
        Body::AskCommitted => ask_committed(present(message.body_as_ask_committed(), WHAT)?),
        Body::DropKeys => drop_keys(frame, present(message.body_as_drop_keys(), WHAT)?),
        _ => Err(WireError::malformed("an unknown key log message")),
    }
}

fn prepare(table: fb::Prepare<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::Prepare {
        configuration: read_configuration(table.configuration())?,
        term: term_in(table.term()),
    })
}

fn promise(table: fb::Promise<'_>) -> Result<KeylogMessage, WireError> {
    let proposed = |proposed: fb::Proposed<'_>| {
        let configuration = read_configuration(proposed.configuration())?;
        Ok(Proposed { term: term_in(proposed.term()), configuration })
    };
    Ok(KeylogMessage::Promise {
        slot: slot_in(table.slot())?,
        term: term_in(table.term()),
        digest: SlotDigest(digest_in(table.digest())),
        proposed: table.proposed().map(proposed).transpose()?,
        steps: Box::new(StepsKnown {
            held: (!table.has_no_steps()).then(|| term_in(table.steps_term().unwrap_or(table.term()))),
            begun_without: table.without_steps().map(term_in),
        }),
    })
}

fn refuse(table: fb::Refuse<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::Refuse {
        slot: slot_in(table.slot())?,
        term: term_in(table.term()),
        promised: term_in(table.promised()),
    })
}

fn outdated(table: fb::Outdated<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::Outdated { configuration: read_configuration(table.configuration())? })
}

fn read_register(frame: &Frame<'_>, table: fb::ReadRegister<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::ReadRegister {
        slot: slot_in(table.slot())?,
        term: term_in(table.term()),
        key: frame.key(table.key())?,
    })
}

fn register_read(frame: &Frame<'_>, table: fb::RegisterRead<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::RegisterRead {
        slot: slot_in(table.slot())?,
        term: term_in(table.term()),
        key: frame.key(table.key())?,
        register: table.register().map(register_in),
    })
}

fn accept(frame: &Frame<'_>, table: fb::Accept<'_>) -> Result<KeylogMessage, WireError> {
    let key = frame.key(table.key())?;
    let transactions = read_transactions(frame, Some(&key), table.transactions(), TRANSACTIONS_MAX)?;
    let proposal = Proposal {
        ballot: ballot_in(table.ballot()),
        key,
        height: table.height(),
        hash: hash_in(table.hash()),
        transactions,
        committed_height: table.committed_height(),
        committed_through: table.committed_through(),
        without_steps: table.without_steps(),
    };
    Ok(KeylogMessage::Accept { slot: slot_in(table.slot())?, proposal })
}

fn accepted(frame: &Frame<'_>, table: fb::Accepted<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::Accepted {
        slot: slot_in(table.slot())?,
        ballot: ballot_in(table.ballot()),
        key: frame.key(table.key())?,
    })
}

fn lacking(frame: &Frame<'_>, table: fb::Lacking<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::Lacking {
        slot: slot_in(table.slot())?,
        ballot: ballot_in(table.ballot()),
        key: frame.key(table.key())?,
        from_height: table.from_height(),
    })
}

fn confirm(table: fb::Confirm<'_>) -> Result<KeylogMessage, WireError> {
    let leaderships = list(table.leaderships(), SLOTS_MAX, "leaderships", |leadership| {
        Ok((slot_in(leadership.slot())?, term_in(leadership.term())))
    })?;
    Ok(KeylogMessage::Confirm { round: table.round(), leaderships, is_lease: table.lease() })
}

fn confirmed(table: fb::Confirmed<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::Confirmed { round: table.round(), slots: list(table.slots(), SLOTS_MAX, "slots", slot_in)? })
}

fn scan(frame: &Frame<'_>, table: fb::Scan<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::Scan {
        slot: slot_in(table.slot())?,
        term: term_in(table.term()),
        after: frame.key_option(table.after())?,
    })
}

fn scanned(frame: &Frame<'_>, table: fb::Scanned<'_>) -> Result<KeylogMessage, WireError> {
    let registers = list(table.registers(), SCAN_PAGE_MAX, "registers", |register| {
        Ok((frame.key(register.key())?, register_in(register.register())))
    })?;
    Ok(KeylogMessage::Scanned {
        slot: slot_in(table.slot())?,
        term: term_in(table.term()),
        after: frame.key_option(table.after())?,
        registers,
        is_last: table.is_last(),
    })
}

fn fetch(frame: &Frame<'_>, table: fb::FetchTransactions<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::FetchTransactions {
        slot: slot_in(table.slot())?,
        key: frame.key(table.key())?,
        from_height: table.from_height(),
        to_height: table.to_height(),
    })
}

fn transactions(frame: &Frame<'_>, table: fb::Transactions<'_>) -> Result<KeylogMessage, WireError> {
    let key = frame.key(table.key())?;
    let transactions = read_transactions(frame, Some(&key), Some(table.transactions()), TRANSACTIONS_MAX)?;
    Ok(KeylogMessage::Transactions { slot: slot_in(table.slot())?, key, transactions })
}

fn propose(table: fb::Propose<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::Propose {
        dropped: table.dropped().map(ballot_in),
        term: term_in(table.term()),
        configuration: read_configuration(table.configuration())?,
    })
}

fn proposal_accepted(table: fb::ProposalAccepted<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::ProposalAccepted {
        slot: slot_in(table.slot())?,
        term: term_in(table.term()),
        epoch: table.epoch(),
    })
}

fn install(table: fb::Install<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::Install { configuration: read_configuration(table.configuration())? })
}

fn blocks_ready(table: fb::BlocksReady<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::BlocksReady { slot: slot_in(table.slot())?, epoch: table.epoch() })
}

fn holdings(table: fb::Holdings<'_>) -> Result<KeylogMessage, WireError> {
    let slots = list(table.slots(), SLOTS_MAX, "slots", |holding| {
        Ok((slot_in(holding.slot())?, holding.epoch(), SlotDigest(digest_in(holding.digest()))))
    })?;
    Ok(KeylogMessage::Holdings { slots })
}

fn committed(table: fb::Committed<'_>) -> Result<KeylogMessage, WireError> {
    let slots = list(table.slots(), SLOTS_MAX, "slots", |item| {
        Ok((slot_in(item.slot())?, ballot_in(item.through()), SlotDigest(digest_in(item.digest()))))
    })?;
    Ok(KeylogMessage::Committed { slots })
}

fn drop_keys(frame: &Frame<'_>, table: fb::DropKeys<'_>) -> Result<KeylogMessage, WireError> {
    let keys =
        list(table.keys(), DROPS_MAX, "keys", |dropped| Ok((frame.key(dropped.key())?, ballot_in(dropped.ballot()))))?;
    Ok(KeylogMessage::Drop { slot: slot_in(table.slot())?, through: ballot_in(table.through()), keys })
}

fn ask_committed(table: fb::AskCommitted<'_>) -> Result<KeylogMessage, WireError> {
    Ok(KeylogMessage::AskCommitted { slots: list(table.slots(), SLOTS_MAX, "slots", slot_in)? })
}
