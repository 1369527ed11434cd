//! Prints how long it takes to encode and to decode an `Accept` with one transaction of a 100 byte value, alone in its
//! frame and among 64.

use std::{hint::black_box, time::Instant};

use bytes::Bytes;
use difuse_keylog::{Ballot, KeylogMessage, Operation, Proposal, Term, Transaction, Value};
use difuse_protocol::message::Message;
use difuse_types::{Hash, Key, KeyError, NodeId, OperationId, SlotId, WallTime};
use difuse_wire::{Encoder, decode};

const ROUNDS: usize = 200_000;

fn accept() -> Result<Message, KeyError> {
    let key = Key::new(b"user:000000012345")?;
    let transaction = Transaction {
        key: key.clone(),
        height: 7,
        previous: Hash([1; 32]),
        operation: Operation::Set(Value::inline(Bytes::from(vec![7; 100]))),
        author: NodeId([2; 32]),
        time: WallTime(1_700_000_000_000),
        operation_id: OperationId([3; 16]),
        checkpoint: None,
    };
    let term = Term { epoch: 1, number: 1, node: NodeId([2; 32]) };
    let proposal = Proposal {
        ballot: Ballot { term, sequence: 1 },
        key,
        height: 7,
        hash: transaction.hash(),
        transactions: vec![transaction],
        committed_height: 6,
        committed_through: 76,
        without_steps: false,
    };
    Ok(Message::Keylog(KeylogMessage::Accept { slot: SlotId(17), proposal }))
}

/// Nanoseconds per message of `work`, which is done on `batch` messages at a time.
fn measure(batch: usize, mut work: impl FnMut()) -> u128 {
    let rounds = ROUNDS / batch;
    let start = Instant::now();
    (0..rounds).for_each(|_| work());
    start.elapsed().as_nanos() / (rounds * batch) as u128
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut encoder = Encoder::new();
    for batch in [1, 64] {
        let messages = vec![accept()?; batch];
        let frame = encoder.encode(&messages);
        assert_eq!(decode(&frame)?, messages);
        let encoding = measure(batch, || drop(black_box(encoder.encode(black_box(&messages)))));
        let decoding = measure(batch, || drop(black_box(decode(black_box(&frame)))));
        println!(
            "{batch:>2} per frame: {} bytes, {encoding} ns to encode, {decoding} ns to decode each",
            frame.len() / batch
        );
    }
    Ok(())
}
