//! The fuzz targets as property tests: on any bytes, and on what mutations make of the corpus.

use std::{fs, path::Path};

use difuse_fuzz::{TARGETS, Target};
use proptest::{
    collection::vec,
    prelude::any,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// A few, because they run with every test; `fuzz` is where many are run.
const CASES: u32 = 300;

/// The same cases each time: a test that fails now and then is of no use to whoever changes something else.
fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn corpus((name, _): Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).expect("a readable file")).collect()
}

#[test]
fn every_target_has_a_corpus_and_holds_on_it() {
    for target in TARGETS {
        let samples = corpus(target);
        assert!(!samples.is_empty(), "{}", target.0);
        for sample in samples {
            target.1(&sample);
        }
    }
}

#[test]
fn any_bytes_are_answered() {
    for (name, run) in TARGETS {
        let outcome = runner(CASES).run(&vec(any::<u8>(), 0..300), |bytes| {
            run(&bytes);
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Bytes changed, a piece left out, or the end cut off.
fn mutated(sample: &[u8], edits: &[(u16, u8)], cut: u16, gap: (u16, u8)) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for (at, byte) in edits {
        let length = bytes.len().max(1);
        if let Some(place) = bytes.get_mut(usize::from(*at) % length) {
            *place = *byte;
        }
    }
    if cut.is_multiple_of(4) {
        bytes.truncate(usize::from(cut / 4) % (bytes.len() + 1));
    }
    if gap.0.is_multiple_of(4) {
        let start = usize::from(gap.0 / 4) % (bytes.len() + 1);
        let end = (start + usize::from(gap.1)).min(bytes.len());
        bytes.drain(start..end);
    }
    bytes
}

#[test]
fn mutations_of_the_corpus_are_answered() {
    for target in TARGETS {
        let samples = corpus(target);
        let edits = vec((any::<u16>(), any::<u8>()), 0..6);
        let strategy = (any::<u16>(), edits, any::<u16>(), any::<(u16, u8)>());
        let outcome = runner(CASES).run(&strategy, |(pick, edits, cut, gap)| {
            let sample = &samples[usize::from(pick) % samples.len()];
            target.1(&mutated(sample, &edits, cut, gap));
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{}: {error}", target.0));
    }
}
