//! The structure that `docs/structures.md` adds, in a registry beside those of difuse.

#[path = "../../../examples/bounded_counter.rs"]
mod bounded_counter;

use bounded_counter::BoundedCounter;
use bytes::Bytes;
use difuse_structures::{Context, Effect, Held, Registry, Reply, State, Structure, View};
use difuse_types::WallTime;

#[test]
fn the_example_runs() {
    bounded_counter::main().expect("it shows what it does");
}

#[test]
fn a_counter_stays_within_its_bounds() {
    let registry = Registry::builtin().with::<BoundedCounter>();
    let mut counter = BoundedCounter::default();
    for (line, expected) in [
        ("counter.bound k 0 10", Reply::ok()),
        ("counter.add k 7", Reply::Integer(7)),
        ("counter.add k 4", Reply::Error("ERR 11 is out of bounds, the counter stays 7".into())),
        ("counter.bound k 8 9", Reply::Error("ERR the counter is 7, which is out of these bounds".into())),
        ("counter.add k -7", Reply::Integer(0)),
        ("counter.add k -1", Reply::Error("ERR -1 is out of bounds, the counter stays 0".into())),
        (
            "counter.add k 9223372036854775807",
            Reply::Error("ERR 9223372036854775807 is out of bounds, the counter stays 0".into()),
        ),
        ("counter.add k", Reply::Error("ERR wrong number of arguments for 'counter.add' command".into())),
        ("hset k a b", Reply::Error("WRONGTYPE Operation against a key holding the wrong kind of value".into())),
        ("object encoding k", Reply::bulk("counter")),
    ] {
        let arguments: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let view = View { held: Some(Held::Structure(&counter)), deadline: None };
        let context = Context::new(WallTime(0), 0);
        let outcome = registry.evaluate(&view, &arguments, &context).expect("it lives in no blocks");
        assert_eq!(outcome.reply, expected, "{line}");
        if let Effect::Apply { operation, .. } = outcome.effect {
            counter.apply_encoded(&operation).expect("what was planned");
        }
    }
    assert!(!Structure::is_empty(&counter), "its bounds are still there");
}

#[test]
#[should_panic(expected = "is there already")]
fn a_structure_is_registered_once() {
    let _ = Registry::builtin().with::<BoundedCounter>().with::<BoundedCounter>();
}
