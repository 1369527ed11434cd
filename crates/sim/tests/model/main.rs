//! The head register, exhaustively: the very `Keylog` that production runs, for a few nodes, one key, a write or two and
//! one reconfiguration, in every order in which messages can arrive (or never do), clocks can pass timers, nodes can be
//! suspected, and crash. What must hold is in `promises.rs`; what can happen, and how often, is a [`Setup`].
//!
//! A run of the tests explores some spaces whole and larger ones up to a bound. To go further:
//! `DIFUSE_MODEL_STATES=20000000 cargo test --release -p difuse-sim --test model -- --nocapture`

mod promises;
mod setup;
mod state;

use std::{thread, time::Instant};

use difuse_keylog::Rule;
use setup::{Limits, Setup};
use stateright::{Checker, HasDiscoveries, Model};

/// What a sound run finds: that things come to pass.
const PROGRESS: [&str; 2] = ["a write is acknowledged", "all is done"];

/// How many states are looked at of spaces that are too large to be explored whole.
fn states_max() -> usize {
    std::env::var("DIFUSE_MODEL_STATES").map_or(100_000, |count| count.parse().expect("a number"))
}

/// Explores what a setup allows, at most so many states; gives the names of what was found, and whether all was seen.
fn explore(name: &str, setup: Setup, states_max: usize) -> (Vec<&'static str>, bool) {
    let started_at = Instant::now();
    let checker = setup
        .checker()
        .threads(thread::available_parallelism().map_or(1, usize::from))
        .target_state_count(states_max)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_dfs()
        .join();
    let is_whole = checker.state_count() < states_max;
    let (states, different) = (checker.state_count(), checker.unique_state_count());
    let seconds = started_at.elapsed().as_secs_f64();
    let mut found: Vec<_> = checker.discoveries().into_keys().collect();
    found.sort_unstable();
    println!(
        "{name}: {states} states, {different} of them different, {}, {} steps deep, {seconds:.1} s: {found:?}",
        if is_whole { "all there are" } else { "not all" },
        checker.max_depth(),
    );
    (found, is_whole)
}

fn two_leaders(writes: u8, reads: u8, suspicions: u8) -> Setup {
    let limits = Limits { writes, reads, suspicions, ..Limits::default() };
    Setup { members: vec![1, 2, 3], limits, ..Setup::default() }
}

/// Two members, of whom one crashes and comes back, losing what was not durable.
fn crash() -> Setup {
    let limits = Limits { writes: 2, ticks: 1, crashes: 1, ..Limits::default() };
    Setup { members: vec![1, 2], limits, is_flush_apart: true, ..Setup::default() }
}

/// A slot moves from nodes 1 and 2 to nodes 2 and 3 while it is written.
fn move_of_a_slot() -> Setup {
    let limits = Limits { writes: 1, ticks: 2, placements: 1, ..Limits::default() };
    Setup { members: vec![1, 2], target: vec![2, 3], limits, ..Setup::default() }
}

/// See [`state::State::first`]; one client reads.
fn torn() -> Setup {
    let limits = Limits { reads: 1, ..Limits::default() };
    Setup { members: vec![1, 2, 3], limits, is_torn: true, ..Setup::default() }
}

/// A slot has moved from nodes 1, 2 and 3 to nodes 2, 3 and 4, and node 1 still takes itself for the leader; a client writes.
fn missed_move() -> Setup {
    let limits = Limits { writes: 1, reads: 1, placements: 1, ..Limits::default() };
    Setup { members: vec![1, 2, 3], target: vec![2, 3, 4], limits, is_moved_without_leader: true, ..Setup::default() }
}

#[test]
fn a_leader_that_missed_a_move_explored_whole() {
    assert_eq!(explore("a missed move", missed_move(), 2_000_000), (PROGRESS.to_vec(), true));
}

#[test]
fn one_write_with_two_leaders_explored_whole() {
    assert_eq!(explore("one write, two leaders", two_leaders(1, 0, 1), 1_000_000), (PROGRESS.to_vec(), true));
}

#[test]
fn two_writes_with_leaders_that_change_twice() {
    assert_eq!(explore("two writes, three leaders", two_leaders(2, 0, 2), states_max()).0, PROGRESS);
}

#[test]
fn a_read_beside_a_write_with_leaders_that_change_twice() {
    assert_eq!(explore("write and read, three leaders", two_leaders(1, 1, 2), states_max()).0, PROGRESS);
}

#[test]
fn a_crash_that_loses_what_was_not_durable_explored_whole() {
    assert_eq!(explore("a crash", crash(), 1_000_000), (PROGRESS.to_vec(), true));
}

#[test]
fn a_slot_that_moves_while_it_is_written_explored_whole() {
    assert_eq!(explore("a move", move_of_a_slot(), 2_000_000), (PROGRESS.to_vec(), true));
}

#[test]
fn three_torn_proposals_explored_whole() {
    assert_eq!(explore("torn proposals", torn(), 6_000_000), (PROGRESS.to_vec(), true));
}

/// Negative controls: the model must notice each broken rule.
#[test]
fn broken_rules_are_caught() {
    let check = |name: &str, rule: Rule, setup: Setup, expected: &str| {
        let (found, _) = explore(name, Setup { broken: Some(rule), ..setup }, 1_000_000);
        assert!(found.contains(&expected), "{name}: {found:?}");
    };
    let stale = "a read is not older than what was acknowledged";
    check("no copy from a majority", Rule::CopyFromMajority, two_leaders(1, 1, 3), stale);
    check("ballots used again", Rule::FreshBallots, crash(), "a ballot carries one value");
    check("epochs mixed", Rule::OneEpoch, missed_move(), "every quorum holds what was acknowledged");
    check("ballots mixed", Rule::OneBallot, torn(), "every quorum holds what was acknowledged");
}
