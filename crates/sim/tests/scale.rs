//! Rings of many hosts, small enough to be run with every test. `docs/scale.md` has the figures of large ones.

use std::time::Duration;

use difuse_sim::scale::{data, ring};

#[test]
fn fingers_need_half_the_logarithm_in_hops_and_tables_one() {
    let plan = ring::Plan {
        hosts: 300,
        virtual_nodes: 8,
        whole_tables: 12,
        run_for: Duration::from_secs(15),
        session: Duration::from_secs(600),
        suspect_after: Duration::from_secs(5),
        lookups: 2000,
        seed: 1,
    };
    let report = ring::run(plan, |_| {});
    let [start, end] = report.hops;
    assert!(start.mean < report.bound() && start.worst <= 10 && start.failed == 0.0, "{report}");
    assert!(end.mean < report.bound() && end.failed < 0.1, "{report}");
    assert!(report.churn.iter().all(|count| *count > 0), "{report}");
    assert!(report.first_try.lookups > 2000 && report.first_try.rate() > 0.98, "{report}");
    // What a joining host learns is no news to all others.
    let (messages, bytes) = report.sent;
    assert!(messages < 300.0 && bytes < 64.0 * 1024.0, "{report}");
}

#[test]
fn no_more_is_moved_than_a_new_placement_needs() {
    let fast = data::Plan {
        hosts: 30,
        slots: 64,
        keys: 300,
        value_bytes: 1000,
        blocks: 200,
        block_bytes: 8192,
        bulk_rate: 0,
        seed: 1,
    };
    moves_at_most(1.02, fast);
}

/// A block takes seconds to arrive, since a dozen others that were asked of the same host leave it before: that is no
/// reason to ask again.
#[test]
fn no_more_is_moved_over_slow_lines() {
    let slow = data::Plan {
        hosts: 5,
        slots: 32,
        keys: 10,
        value_bytes: 1000,
        blocks: 200,
        block_bytes: 65_536,
        bulk_rate: 100_000,
        seed: 1,
    };
    moves_at_most(1.1, slow);
}

fn moves_at_most(times: f64, plan: data::Plan) {
    let report = data::run(plan, |_| {}).expect("the ring settles");
    for change in &report.changes {
        assert!(change.slots > 0 && change.least > 0, "{report}");
        assert!(change.moved >= change.least && change.ratio() < times, "{report}");
    }
}
