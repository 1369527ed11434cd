//! Negative controls: each rule that safety rests on is broken on purpose, one at a time, and must be found out within
//! 1,000 seeds. Each search ends at the first seed that notices; docs/proof.md says how soon that was.

use std::ops::Range;

use difuse_sim::{Control, Plan, Tracing, Violation, run_seed_with};

/// Fails unless one of the seeds notices the broken rule in the way that is expected.
fn check(broken: Control, seeds: Range<u64>, change: impl Fn(&mut Plan), is_expected: impl Fn(&Violation) -> bool) {
    let violation = |seed| {
        let break_rule = |plan: &mut Plan| {
            change(plan);
            plan.broken = Some(broken);
        };
        run_seed_with(seed, Tracing::Off, break_rule).violation
    };
    let is_caught = seeds.clone().filter_map(violation).any(|violation| is_expected(&violation));
    assert!(is_caught, "none of the seeds {seeds:?} noticed that {broken:?} does not hold");
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

/// It does no harm to keys: nodes that follow a dead successor cannot let others join.
#[test]
fn a_successor_that_was_not_seen_alive_is_caught() {
    check(Control::CheckedSuccessor, 0..1000, |_| {}, |_| true);
}
