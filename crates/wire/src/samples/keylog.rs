use difuse_keylog::{KeylogMessage, Proposal, Proposed, SlotDigest, StepsKnown};
use difuse_types::SlotId;

use super::parts::{SLOT, ballot, configuration, file, hash, joint_configuration, key, register, term, transactions};

pub(super) fn samples() -> Vec<KeylogMessage> {
    let mut messages = elections();
    messages.extend(agreement());
    messages.extend(pages());
    messages.extend(moves());
    messages
}

fn elections() -> Vec<KeylogMessage> {
    let proposed = Some(Proposed { term: term(), configuration: joint_configuration() });
    vec![
        KeylogMessage::Prepare { configuration: configuration(), term: term() },
        KeylogMessage::Promise {
            slot: SLOT,
            term: term(),
            digest: SlotDigest(u128::MAX - 5),
            proposed,
            steps: Box::new(StepsKnown { held: Some(term()), begun_without: None }),
        },
        KeylogMessage::Promise {
            slot: SLOT,
            term: term(),
            digest: SlotDigest(1 << 64),
            proposed: None,
            steps: Box::new(StepsKnown { held: None, begun_without: Some(term()) }),
        },
        KeylogMessage::Refuse { slot: SLOT, term: term(), promised: term() },
        KeylogMessage::Outdated { configuration: joint_configuration() },
        KeylogMessage::Confirm { round: 4, leaderships: vec![(SlotId(0), term()), (SLOT, term())], is_lease: false },
        KeylogMessage::Confirm { round: 4, leaderships: vec![], is_lease: true },
        KeylogMessage::Confirmed { round: 4, slots: vec![SlotId(0), SLOT] },
    ]
}

fn agreement() -> Vec<KeylogMessage> {
    let accept = |transactions| {
        let (ballot, key, height, hash) = (ballot(), key("k"), 5, hash(6));
        let (committed_height, committed_through, without_steps) = (4, 76, true);
        let proposal =
            Proposal { ballot, key, height, hash, transactions, committed_height, committed_through, without_steps };
        KeylogMessage::Accept { slot: SLOT, proposal }
    };
    let register_read = |register| KeylogMessage::RegisterRead { slot: SLOT, term: term(), key: file(), register };
    vec![
        KeylogMessage::ReadRegister { slot: SLOT, term: term(), key: key("k") },
        register_read(Some(register())),
        register_read(None),
        accept(transactions()),
        accept(vec![]),
        KeylogMessage::Accepted { slot: SLOT, ballot: ballot(), key: key("k") },
        KeylogMessage::Lacking { slot: SLOT, ballot: ballot(), key: key("k"), from_height: 2 },
    ]
}

fn pages() -> Vec<KeylogMessage> {
    let page =
        |after, registers, is_last| KeylogMessage::Scanned { slot: SLOT, term: term(), after, registers, is_last };
    vec![
        KeylogMessage::Scan { slot: SLOT, term: term(), after: None },
        KeylogMessage::Scan { slot: SLOT, term: term(), after: Some(key("k")) },
        page(Some(key("k")), vec![(file(), register()), (key("l"), register())], false),
        page(None, vec![], true),
        KeylogMessage::FetchTransactions { slot: SLOT, key: key("k"), from_height: 1, to_height: 9 },
        KeylogMessage::Transactions { slot: SLOT, key: key("k"), transactions: transactions() },
        KeylogMessage::Transactions { slot: SLOT, key: key("k"), transactions: vec![] },
    ]
}

fn moves() -> Vec<KeylogMessage> {
    vec![
        KeylogMessage::Propose { term: term(), configuration: joint_configuration(), dropped: None },
        KeylogMessage::Propose { term: term(), configuration: joint_configuration(), dropped: Some(ballot()) },
        KeylogMessage::ProposalAccepted { slot: SLOT, term: term(), epoch: 4 },
        KeylogMessage::Install { configuration: configuration() },
        KeylogMessage::BlocksReady { slot: SLOT, epoch: 4 },
        KeylogMessage::NoRoom { is_full: true },
        KeylogMessage::NoRoom { is_full: false },
        KeylogMessage::Committed {
            slots: vec![(SlotId(0), ballot(), SlotDigest(8)), (SLOT, ballot(), SlotDigest(u128::MAX))],
        },
        KeylogMessage::AskCommitted { slots: vec![SlotId(0), SLOT] },
        KeylogMessage::Drop { slot: SLOT, through: ballot(), keys: vec![(key("k"), ballot()), (file(), ballot())] },
        KeylogMessage::Holdings { slots: vec![(SlotId(0), 1, SlotDigest(7)), (SLOT, 2, SlotDigest(u128::MAX))] },
    ]
}
