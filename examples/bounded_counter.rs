//! A structure of your own: a counter that stays within bounds. `docs/structures.md` goes through it.
//!
//! `cargo run -p difuse-examples --bin bounded_counter` evaluates commands as the leader of a key does, and folds the
//! log that they leave behind.

use bytes::Bytes;
use difuse_structures::{
    Arguments, Command, CommandError, Context, Effect, Flag, Held, Key, KeyCommand, Plan, Rebuilding, Registry, Reply,
    State, Structure, View,
};
use difuse_types::WallTime;
use serde::{Deserialize, Serialize};

/// A counter that stays within bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundedCounter {
    value: i64,
    lowest: i64,
    highest: i64,
}

/// What a key that does not exist holds.
impl Default for BoundedCounter {
    fn default() -> Self {
        Self { value: 0, lowest: i64::MIN, highest: i64::MAX }
    }
}

/// What the log of a counter consists of: what was done, not what was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum CounterOperation {
    /// So much is added.
    Add(i64),
    /// The value stays within these bounds from now on.
    Bound {
        /// The lowest value that it may have.
        lowest: i64,
        /// The highest one.
        highest: i64,
    },
}

type Planned = Result<Plan<CounterOperation>, CommandError>;

impl Structure for BoundedCounter {
    const ID: u8 = 64;
    const NAME: &'static str = "boundedcounter";
    type Operation = CounterOperation;

    fn apply(&mut self, operation: CounterOperation) {
        match operation {
            // Whatever a log says: nothing here may panic.
            CounterOperation::Add(amount) => self.value = self.value.saturating_add(amount),
            CounterOperation::Bound { lowest, highest } => (self.lowest, self.highest) = (lowest, highest),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn weight(&self) -> usize {
        size_of::<Self>()
    }

    fn encoding(&self) -> &'static str {
        "counter"
    }

    fn rebuild(&self) -> Option<Vec<Rebuilding>> {
        let [value, lowest, highest] = [self.value, self.lowest, self.highest].map(|number| number.to_string().into());
        Some(vec![vec!["counter.add".into(), value], vec!["counter.bound".into(), lowest, highest]])
    }

    fn commands() -> Vec<KeyCommand> {
        const WRITES: &[Flag] = &[Flag::Write, Flag::DenyOom, Flag::Fast];
        const READS: &[Flag] = &[Flag::ReadOnly, Flag::Fast];
        let command = |name, arity, flags, summary| {
            Command::on_key(name, arity, flags).documented("boundedcounter", "0.1.0", "O(1)", summary)
        };
        vec![
            KeyCommand::on(command("counter.bound", 4, WRITES, "Sets the bounds of a counter"), bound),
            KeyCommand::on(command("counter.add", 3, WRITES, "Adds to a counter within its bounds"), add),
            KeyCommand::on(command("counter.get", 2, READS, "Reads a counter"), get),
        ]
    }
}

/// `COUNTER.BOUND key lowest highest`
fn bound(key: &Key<'_, BoundedCounter>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let (lowest, highest) = (arguments.integer()?, arguments.integer()?);
    let value = key.state()?.value;
    if !(lowest..=highest).contains(&value) {
        return Err(CommandError::new(format_args!("the counter is {value}, which is out of these bounds")));
    }
    Ok(Plan::new(Reply::ok(), CounterOperation::Bound { lowest, highest }))
}

/// `COUNTER.ADD key amount`
fn add(key: &Key<'_, BoundedCounter>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let amount = arguments.integer()?;
    let counter = key.state()?;
    let sum = counter.value.checked_add(amount).ok_or(CommandError::Overflow)?;
    if !(counter.lowest..=counter.highest).contains(&sum) {
        return Err(CommandError::new(format_args!("{sum} is out of bounds, the counter stays {}", counter.value)));
    }
    Ok(Plan::new(Reply::Integer(sum), CounterOperation::Add(amount)))
}

/// `COUNTER.GET key`
fn get(key: &Key<'_, BoundedCounter>, _: &mut Arguments<'_>, _: &Context) -> Planned {
    Ok(Plan::reply(key.find()?.map_or(Reply::Null, |counter| Reply::Integer(counter.value))))
}

/// One key, as its leader sees it.
#[derive(Default)]
struct Led {
    state: Option<Box<dyn State>>,
    log: Vec<(u8, Vec<u8>)>,
}

impl Led {
    /// Evaluates a command, appends what it does to the log, and applies it.
    fn run(&mut self, registry: &Registry, line: &str) -> Result<Reply, Box<dyn std::error::Error>> {
        let arguments: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let view = View { held: self.state.as_deref().map(Held::Structure), deadline: None };
        let outcome = registry.evaluate(&view, &arguments, &Context::new(WallTime(0), 0))?;
        match outcome.effect {
            Effect::Apply { structure, operation } => {
                let mut state = self.state.take().map_or_else(|| registry.empty_state(structure), Ok)?;
                state.apply_encoded(&operation)?;
                self.state = Some(state).filter(|state| !state.is_nothing());
                self.log.push((structure, operation));
            }
            Effect::Delete => self.state = None,
            _ => {}
        }
        Ok(outcome.reply)
    }
}

/// Shows commands, the log that they leave, and its fold.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::builtin().with::<BoundedCounter>();
    let mut key = Led::default();
    for line in [
        "counter.get seats",
        "counter.bound seats 0 3",
        "counter.add seats 2",
        "counter.add seats 2",
        "counter.get seats",
        "type seats",
        "lpush seats x",
    ] {
        println!("{line:<26} {:?}", key.run(&registry, line)?);
    }
    let mut folded = registry.empty_state(BoundedCounter::ID)?;
    for (_, operation) in &key.log {
        folded.apply_encoded(operation)?;
        println!("operation of {} bytes: {folded:?}", operation.len());
    }
    assert_eq!(key.state.map(|state| state.encode()), Some(folded.encode()), "a state is the fold of its log");
    Ok(())
}
