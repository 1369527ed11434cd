use difuse_keylog::{
    Ballot, Configuration, KeylogMessage, Proposal, Proposed, RegisterSummary, SlotDigest, StepsKnown, Term,
    Transaction,
};
use difuse_types::{Key, SlotId};

use crate::{
    builder::{Builder, Offset, UnionOffset, write_tables},
    generated::difuse::keylog as fb,
    keylog::{ballot_out, register_out, term_out, write_configuration, write_transactions},
    types::{digest_out, hash_out, write_key, write_key_option},
};

/// Writes a message.
pub(crate) fn write(builder: &mut Builder, message: &KeylogMessage) -> Offset<fb::KeylogMessage<'static>> {
    let (body_type, body) = write_body(builder, message);
    fb::KeylogMessage::create(builder, &fb::KeylogMessageArgs { body_type, body: Some(body) })
}

fn write_body(builder: &mut Builder, message: &KeylogMessage) -> (fb::KeylogBody, UnionOffset) {
    use fb::KeylogBody as Body;
    match message {
        KeylogMessage::Prepare { configuration, term } => (Body::Prepare, prepare(builder, configuration, term)),
        KeylogMessage::Promise { slot, term, digest, proposed, steps } => {
            (Body::Promise, promise(builder, *slot, term, *digest, proposed.as_ref(), steps))
        }
        KeylogMessage::Refuse { slot, term, promised } => (Body::Refuse, refuse(builder, *slot, term, promised)),
        KeylogMessage::Outdated { configuration } => (Body::Outdated, outdated(builder, configuration)),
        KeylogMessage::ReadRegister { slot, term, key } => {
            (Body::ReadRegister, read_register(builder, *slot, term, key))
        }
        KeylogMessage::RegisterRead { slot, term, key, register } => {
            (Body::RegisterRead, register_read(builder, *slot, term, key, register.as_ref()))
        }
        KeylogMessage::Accept { slot, proposal } => (Body::Accept, accept(builder, *slot, proposal)),
        KeylogMessage::Accepted { slot, ballot, key } => (Body::Accepted, accepted(builder, *slot, ballot, key)),
        KeylogMessage::Lacking { slot, ballot, key, from_height } => {
            (Body::Lacking, lacking(builder, *slot, ballot, key, *from_height))
        }
        KeylogMessage::Confirm { round, leaderships, is_lease } => {
            (Body::Confirm, confirm(builder, *round, leaderships, *is_lease))
        }
        KeylogMessage::Confirmed { round, slots } => (Body::Confirmed, confirmed(builder, *round, slots)),
        KeylogMessage::Scan { slot, term, after } => (Body::Scan, scan(builder, *slot, term, after.as_ref())),
        KeylogMessage::Scanned { slot, term, after, registers, is_last } => {
            (Body::Scanned, scanned(builder, *slot, term, after.as_ref(), registers, *is_last))
        }
        KeylogMessage::FetchTransactions { slot, key, from_height, to_height } => {
            (Body::FetchTransactions, fetch(builder, *slot, key, *from_height, *to_height))
        }
        KeylogMessage::Transactions { slot, key, transactions: chain } => {
            (Body::Transactions, transactions(builder, *slot, key, chain))
        }
        KeylogMessage::Propose { term, configuration, dropped } => {
            (Body::Propose, propose(builder, term, configuration, dropped.as_ref()))
        }
        KeylogMessage::ProposalAccepted { slot, term, epoch } => {
            (Body::ProposalAccepted, proposal_accepted(builder, *slot, term, *epoch))
        }
        KeylogMessage::Install { configuration } => (Body::Install, install(builder, configuration)),
        KeylogMessage::BlocksReady { slot, epoch } => (Body::BlocksReady, blocks_ready(builder, *slot, *epoch)),
        KeylogMessage::Holdings { slots } => (Body::Holdings, holdings(builder, slots)),
        KeylogMessage::NoRoom { is_full } => {
            (Body::NoRoom, fb::NoRoom::create(builder, &fb::NoRoomArgs { is_full: *is_full }).as_union_value())
        }
        KeylogMessage::Committed { slots } => (Body::Committed, committed(builder, slots)),
        KeylogMessage::Drop { slot, through, keys } => (Body::DropKeys, drop_keys(builder, *slot, through, keys)),
        KeylogMessage::AskCommitted { slots } => (Body::AskCommitted, ask_committed(builder, slots)),
    }
}

fn prepare(builder: &mut Builder, configuration: &Configuration, term: &Term) -> UnionOffset {
    let configuration = Some(write_configuration(builder, configuration));
    fb::Prepare::create(builder, &fb::PrepareArgs { configuration, term: Some(&term_out(term)) }).as_union_value()
}

fn promise(
    builder: &mut Builder,
    slot: SlotId,
    term: &Term,
    digest: SlotDigest,
    proposed: Option<&Proposed>,
    steps: &StepsKnown,
) -> UnionOffset {
    let proposed = proposed.map(|proposed| {
        let configuration = Some(write_configuration(builder, &proposed.configuration));
        fb::Proposed::create(builder, &fb::ProposedArgs { term: Some(&term_out(&proposed.term)), configuration })
    });
    let (term, digest, has_no_steps) = (term_out(term), digest_out(digest.0), steps.held.is_none());
    let (held, without_steps) = (steps.held.as_ref().map(term_out), steps.begun_without.as_ref().map(term_out));
    let arguments = fb::PromiseArgs {
        slot: slot.0,
        term: Some(&term),
        digest: Some(&digest),
        proposed,
        has_no_steps,
        steps_term: held.as_ref(),
        without_steps: without_steps.as_ref(),
    };
    fb::Promise::create(builder, &arguments).as_union_value()
}

fn refuse(builder: &mut Builder, slot: SlotId, term: &Term, promised: &Term) -> UnionOffset {
    let (term, promised) = (term_out(term), term_out(promised));
    fb::Refuse::create(builder, &fb::RefuseArgs { slot: slot.0, term: Some(&term), promised: Some(&promised) })
        .as_union_value()
}

fn outdated(builder: &mut Builder, configuration: &Configuration) -> UnionOffset {
    let configuration = Some(write_configuration(builder, configuration));
    fb::Outdated::create(builder, &fb::OutdatedArgs { configuration }).as_union_value()
}

fn read_register(builder: &mut Builder, slot: SlotId, term: &Term, key: &Key) -> UnionOffset {
    let key = Some(write_key(builder, key));
    fb::ReadRegister::create(builder, &fb::ReadRegisterArgs { slot: slot.0, term: Some(&term_out(term)), key })
        .as_union_value()
}

fn register_read(
    builder: &mut Builder,
    slot: SlotId,
    term: &Term,
    key: &Key,
    register: Option<&RegisterSummary>,
) -> UnionOffset {
    let key = Some(write_key(builder, key));
    let register = register.map(register_out);
    fb::RegisterRead::create(
        builder,
        &fb::RegisterReadArgs { slot: slot.0, term: Some(&term_out(term)), key, register: register.as_ref() },
    )
    .as_union_value()
}

fn accept(builder: &mut Builder, slot: SlotId, proposal: &Proposal) -> UnionOffset {
    let Proposal { ballot, key, height, hash, transactions, committed_height, committed_through, without_steps } =
        proposal;
    let key_offset = write_key(builder, key);
    let transactions =
        (!transactions.is_empty()).then(|| write_transactions(builder, Some((key, key_offset)), transactions));
    fb::Accept::create(
        builder,
        &fb::AcceptArgs {
            slot: slot.0,
            ballot: Some(&ballot_out(ballot)),
            key: Some(key_offset),
            height: *height,
            hash: Some(&hash_out(hash)),
            transactions,
            committed_height: *committed_height,
            committed_through: *committed_through,
            without_steps: *without_steps,
        },
    )
    .as_union_value()
}

fn accepted(builder: &mut Builder, slot: SlotId, ballot: &Ballot, key: &Key) -> UnionOffset {
    let key = Some(write_key(builder, key));
    fb::Accepted::create(builder, &fb::AcceptedArgs { slot: slot.0, ballot: Some(&ballot_out(ballot)), key })
        .as_union_value()
}

fn lacking(builder: &mut Builder, slot: SlotId, ballot: &Ballot, key: &Key, from_height: u64) -> UnionOffset {
    let key = Some(write_key(builder, key));
    fb::Lacking::create(builder, &fb::LackingArgs { slot: slot.0, ballot: Some(&ballot_out(ballot)), key, from_height })
        .as_union_value()
}

fn confirm(builder: &mut Builder, round: u64, leaderships: &[(SlotId, Term)], lease: bool) -> UnionOffset {
    let leaderships = leaderships.iter().map(|(slot, term)| fb::Leadership::new(slot.0, &term_out(term)));
    let leaderships = Some(builder.create_vector_from_iter(leaderships));
    fb::Confirm::create(builder, &fb::ConfirmArgs { round, leaderships, lease }).as_union_value()
}

fn confirmed(builder: &mut Builder, round: u64, slots: &[SlotId]) -> UnionOffset {
    let slots = Some(builder.create_vector_from_iter(slots.iter().map(|slot| slot.0)));
    fb::Confirmed::create(builder, &fb::ConfirmedArgs { round, slots }).as_union_value()
}

fn scan(builder: &mut Builder, slot: SlotId, term: &Term, after: Option<&Key>) -> UnionOffset {
    let after = write_key_option(builder, after);
    fb::Scan::create(builder, &fb::ScanArgs { slot: slot.0, term: Some(&term_out(term)), after }).as_union_value()
}

fn scanned(
    builder: &mut Builder,
    slot: SlotId,
    term: &Term,
    after: Option<&Key>,
    registers: &[(Key, RegisterSummary)],
    is_last: bool,
) -> UnionOffset {
    let after = write_key_option(builder, after);
    let registers = Some(write_tables(builder, registers, |builder, (key, register)| {
        let key = Some(write_key(builder, key));
        fb::ScannedRegister::create(builder, &fb::ScannedRegisterArgs { key, register: Some(&register_out(register)) })
    }));
    fb::Scanned::create(
        builder,
        &fb::ScannedArgs { slot: slot.0, term: Some(&term_out(term)), after, registers, is_last },
    )
    .as_union_value()
}

fn fetch(builder: &mut Builder, slot: SlotId, key: &Key, from_height: u64, to_height: u64) -> UnionOffset {
    let key = Some(write_key(builder, key));
    fb::FetchTransactions::create(builder, &fb::FetchTransactionsArgs { slot: slot.0, key, from_height, to_height })
        .as_union_value()
}

fn transactions(builder: &mut Builder, slot: SlotId, key: &Key, transactions: &[Transaction]) -> UnionOffset {
    let key_offset = write_key(builder, key);
    let transactions = Some(write_transactions(builder, Some((key, key_offset)), transactions));
    fb::Transactions::create(builder, &fb::TransactionsArgs { slot: slot.0, key: Some(key_offset), transactions })
        .as_union_value()
}

fn propose(builder: &mut Builder, term: &Term, configuration: &Configuration, dropped: Option<&Ballot>) -> UnionOffset {
    let configuration = Some(write_configuration(builder, configuration));
    let dropped = dropped.map(ballot_out);
    let args = fb::ProposeArgs { term: Some(&term_out(term)), configuration, dropped: dropped.as_ref() };
    fb::Propose::create(builder, &args).as_union_value()
}

fn proposal_accepted(builder: &mut Builder, slot: SlotId, term: &Term, epoch: u64) -> UnionOffset {
    fb::ProposalAccepted::create(
        builder,
        &fb::ProposalAcceptedArgs { slot: slot.0, term: Some(&term_out(term)), epoch },
    )
    .as_union_value()
}

fn install(builder: &mut Builder, configuration: &Configuration) -> UnionOffset {
    let configuration = Some(write_configuration(builder, configuration));
    fb::Install::create(builder, &fb::InstallArgs { configuration }).as_union_value()
}

fn blocks_ready(builder: &mut Builder, slot: SlotId, epoch: u64) -> UnionOffset {
    fb::BlocksReady::create(builder, &fb::BlocksReadyArgs { slot: slot.0, epoch }).as_union_value()
}

fn holdings(builder: &mut Builder, slots: &[(SlotId, u64, SlotDigest)]) -> UnionOffset {
    let slots = slots.iter().map(|(slot, epoch, digest)| fb::SlotHolding::new(slot.0, *epoch, &digest_out(digest.0)));
    let slots = Some(builder.create_vector_from_iter(slots));
    fb::Holdings::create(builder, &fb::HoldingsArgs { slots }).as_union_value()
}

fn committed(builder: &mut Builder, slots: &[(SlotId, Ballot, SlotDigest)]) -> UnionOffset {
    let slots = slots
        .iter()
        .map(|(slot, through, digest)| fb::SlotCommitted::new(slot.0, &ballot_out(through), &digest_out(digest.0)));
    let slots = Some(builder.create_vector_from_iter(slots));
    fb::Committed::create(builder, &fb::CommittedArgs { slots }).as_union_value()
}

fn drop_keys(builder: &mut Builder, slot: SlotId, through: &Ballot, keys: &[(Key, Ballot)]) -> UnionOffset {
    let keys = write_tables(builder, keys, |builder, (key, ballot)| {
        let key = Some(write_key(builder, key));
        fb::DroppedKey::create(builder, &fb::DroppedKeyArgs { key, ballot: Some(&ballot_out(ballot)) })
    });
    let through = ballot_out(through);
    fb::DropKeys::create(builder, &fb::DropKeysArgs { slot: slot.0, through: Some(&through), keys: Some(keys) })
        .as_union_value()
}

fn ask_committed(builder: &mut Builder, slots: &[SlotId]) -> UnionOffset {
    let slots = Some(builder.create_vector_from_iter(slots.iter().map(|slot| slot.0)));
    fb::AskCommitted::create(builder, &fb::AskCommittedArgs { slots }).as_union_value()
}
