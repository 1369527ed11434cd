//! What holds of every history, without a server to compare with.

use bytes::Bytes;
use difuse_structures::Registry;
use difuse_types::WallTime;
use proptest::prelude::*;

use super::{Generator, Keyspace};

/// The operations of a made-up history, with their structures.
fn history(seed: u64, commands: usize) -> (Keyspace, Vec<(u8, Vec<u8>)>) {
    let mut generator = Generator::new(seed);
    let mut keyspace = Keyspace::at(seed, WallTime(1_800_000_000_000));
    for _ in 0..commands {
        let (arguments, _) = generator.command();
        keyspace.execute(&arguments);
    }
    let operations = keyspace.operations();
    (keyspace, operations)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_state_is_the_fold_of_its_log_and_reads_back_from_its_checkpoint(seed: u64) {
        let (keyspace, _) = history(seed, 600);
        keyspace.check();
    }

    #[test]
    fn equal_histories_have_equal_checkpoints(seed: u64) {
        let (first, second) = (history(seed, 300).0, history(seed, 300).0);
        prop_assert_eq!(first.checkpoints(), second.checkpoints());
    }

    /// A log that somebody has tampered with is folded or refused; a structure stays consistent.
    #[test]
    fn any_operation_is_applied_or_refused(seed: u64, flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..20)) {
        let (_, mut operations) = history(seed, 200);
        let count = operations.len();
        prop_assume!(count > 0);
        for (place, value) in flips {
            let (_, operation) = &mut operations[usize::from(place) % count];
            let length = operation.len();
            if length > 0 {
                operation[usize::from(place) / count % length] = value;
            }
        }
        let registry = Registry::builtin();
        let mut states: Vec<_> = (1..=5).map(|id| registry.empty_state(id).expect("a structure of ours")).collect();
        for (structure, operation) in &operations {
            let _ = states[usize::from(*structure) - 1].apply_encoded(operation);
        }
        for state in states {
            let read = registry.decode_state(state.id(), &state.encode()).expect("known").expect("well-formed");
            prop_assert_eq!(read.memory(), state.memory());
            prop_assert_eq!(read.encode(), state.encode());
        }
    }

    /// A checkpoint that somebody has tampered with is read or refused, and what is read takes operations.
    #[test]
    fn any_checkpoint_is_read_or_refused(seed: u64, place: u16, value: u8, bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let (keyspace, operations) = history(seed, 200);
        let registry = Registry::builtin();
        let mangled = keyspace.checkpoints().into_iter().map(|(id, mut checkpoint)| {
            let length = checkpoint.len();
            checkpoint[usize::from(place) % length] = value;
            (id, checkpoint)
        });
        for (id, checkpoint) in mangled.chain((1..=5).map(|id| (id, bytes.clone()))) {
            let Ok(mut state) = registry.decode_state(id, &checkpoint).expect("known") else { continue };
            for (_, operation) in operations.iter().filter(|(structure, _)| *structure == id) {
                state.apply_encoded(operation).expect("an operation of its kind");
            }
        }
    }
}

const MANUAL: &str = include_str!("../../../../docs/structures.md");

#[test]
fn every_command_is_described_and_made_up() {
    let registry = Registry::builtin();
    let words: String = super::generate::PATTERNS.iter().map(|(pattern, _)| format!(" {pattern} ")).collect();
    let words: Vec<&str> = words.split([' ', '(', ')', '|', '[', ']', '{', '}']).collect();
    for command in registry.commands() {
        let last_name = command.name.split('|').next_back().unwrap_or_default();
        let is_left_out = ["object|idletime", "object|refcount"].contains(&command.name);
        assert!(words.contains(&last_name) || is_left_out, "{} is never made up", command.name);
        assert!(!command.summary.is_empty() && !command.complexity.is_empty(), "{} is not described", command.name);
        let shown = command.name.split('|').next().unwrap_or_default().to_ascii_uppercase();
        let is_listed =
            MANUAL.split(|character: char| !character.is_alphanumeric() && character != '_').any(|word| word == shown);
        assert!(is_listed, "{shown} is not in docs/structures.md");
        let name: Vec<Bytes> = command.name.split('|').map(|part| Bytes::from(part.to_string())).collect();
        assert_eq!(registry.command(&name).map(|found| found.name), Some(command.name));
    }
}
