//! Negative controls: each rule that safety rests on is broken on purpose, one at a time, and must be found out within
//! 1,000 seeds. Each search ends at the first seed that notices; docs/proof.md says how soon that was.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use difuse_sim::{Control, Plan, Tracing, Violation, plan::Fault, run_seed_with};

/// Fails unless one of the seeds notices the broken rule in the way that is expected.
fn check(broken: Control, seeds: Range<u64>, change: impl Fn(&mut Plan), is_expected: impl Fn(&Violation) -> bool) {
    let started_at = Instant::now();
    let violation = |seed, broken| {
        let plan = |plan: &mut Plan| {
            change(plan);
            plan.broken = broken;
        };
        run_seed_with(seed, Tracing::Off, plan).violation
    };
    let is_noticed = |seed: &u64| violation(*seed, Some(broken)).is_some_and(|violation| is_expected(&violation));
    let Some(seed) = seeds.clone().find(is_noticed) else {
        panic!("none of the seeds {seeds:?} noticed that {broken:?} does not hold");
    };
    assert_eq!(violation(seed, None).map(|found| found.to_string()), None, "seed {seed} fails with the rule as well");
    println!("{broken:?}: seed {seed}, after {:.1} s", started_at.elapsed().as_secs_f64());
}

fn is_about_keys(violation: &Violation) -> bool {
    use Violation::{Lost, NotLinearizable, TwoChildren, Unwanted};
    matches!(violation, Lost { .. } | NotLinearizable { .. } | TwoChildren { .. } | Unwanted { .. })
}

#[test]
fn a_leader_that_copies_from_no_majority_is_caught() {
    check(Control::CopyFromMajority, 0..1000, |_| {}, is_about_keys);
}

#[test]
fn a_ballot_that_is_used_again_is_caught() {
    check(Control::FreshBallots, 0..1000, |_| {}, |violation| matches!(violation, Violation::TwoValues { .. }));
}

/// A lease matters where a leader is cut off from the rest but not from its clients.
fn cut_off(plan: &mut Plan) {
    plan.faults = vec![Fault::Isolate, Fault::Split];
    (plan.clients, plan.keys, plan.bursts, plan.disasters) = (6, 1, 0, 0);
    (plan.fault_every_max, plan.pause_max) = (Duration::from_secs(2), Duration::from_millis(5));
}

#[test]
fn a_leader_that_reads_without_a_lease_is_caught() {
    check(Control::Lease, 0..1000, cut_off, is_about_keys);
}

/// Others lead at once only where they notice at once that the leader is cut off: when its connections break.
fn broken_off(plan: &mut Plan) {
    cut_off(plan);
    plan.given_up_after_ms = 1..20;
    plan.fault_every_max = Duration::from_secs(1);
}

#[test]
fn a_member_that_does_not_keep_to_the_lease_it_granted_is_caught() {
    check(Control::GrantedLease, 0..1000, broken_off, is_about_keys);
}

/// Keys that are deleted are forgotten soon, and many messages are lost or late.
fn forgetful(plan: &mut Plan) {
    plan.tombstones_kept = Some(Duration::from_millis(300));
    plan.faults = vec![Fault::Crash, Fault::Blink, Fault::CutLink, Fault::Pause];
    (plan.clients, plan.keys, plan.bursts, plan.disasters) = (6, 2, 0, 0);
    (plan.loss_per_mille, plan.duplicates_per_mille, plan.stragglers_per_mille) = (100, 50, 50);
    (plan.fault_every_max, plan.pause_max) = (Duration::from_secs(1), Duration::from_millis(20));
    (plan.request_timeout, plan.faults_for) = (Duration::from_secs(2), Duration::from_secs(40));
}

#[test]
fn a_tombstone_that_is_dropped_before_all_have_it_is_caught() {
    check(Control::HeldTombstones, 0..1000, forgetful, is_about_keys);
}

#[test]
fn a_member_that_accepts_the_earlier_life_of_a_dropped_key_is_caught() {
    let late = |plan: &mut Plan| {
        forgetful(plan);
        (plan.loss_per_mille, plan.duplicates_per_mille, plan.stragglers_per_mille) = (20, 200, 200);
    };
    check(Control::DroppedFloor, 0..1000, late, is_about_keys);
}

#[test]
fn a_recovery_that_does_without_what_survivors_hold_is_caught() {
    check(Control::SurvivingCopies, 0..1000, |_| {}, |violation| matches!(violation, Violation::Lost { .. }));
}

#[test]
fn a_replica_that_forgets_below_what_is_not_committed_is_caught() {
    let is_expected = |violation: &Violation| {
        let is_forgotten = matches!(violation, Violation::Forgotten { .. } | Violation::ForgottenOperations { .. });
        is_forgotten || is_about_keys(violation)
    };
    check(Control::CommittedCheckpoint, 0..1000, |_| {}, is_expected);
}

/// Writes of long ago come again with every burst.
#[test]
fn a_leader_that_applies_what_it_may_have_forgotten_is_caught() {
    let is_expected = |violation: &Violation| matches!(violation, Violation::Unwanted { .. });
    check(Control::RememberedAppends, 0..1000, |_| {}, is_expected);
}

/// Leaders die with steps half done.
#[test]
fn a_leader_that_does_not_finish_the_steps_of_the_last_one_is_caught() {
    let is_expected =
        |violation: &Violation| matches!(violation, Violation::WrongAnswer(_)) || is_about_keys(violation);
    check(Control::FinishedSteps, 0..1000, |_| {}, is_expected);
}

/// It does no harm to keys: nodes that follow a dead successor cannot let others join.
#[test]
fn a_successor_that_was_not_seen_alive_is_caught() {
    check(Control::CheckedSuccessor, 0..1000, |_| {}, |_| true);
}
