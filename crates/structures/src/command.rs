use crate::{Arguments, CommandError, Context, Effect, Key, Outcome, Plan, Structure, View};

/// What a command does, as `COMMAND` tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flag {
    /// It may change the key.
    Write,
    /// It changes nothing.
    ReadOnly,
    /// It may make the key larger.
    DenyOom,
    /// It takes constant or logarithmic time.
    Fast,
    /// It may wait.
    Blocking,
    /// It is about the server or the connection, not about keys.
    Admin,
    /// It belongs to publish and subscribe.
    PubSub,
    /// It is not allowed within `MULTI`.
    NoMulti,
    /// It is served while a ring is not ready.
    Loading,
    /// It is served before a client has authenticated.
    NoAuth,
    /// Its keys follow from its other arguments.
    MovableKeys,
    /// It may append to the log though it changes nothing that a client sees.
    MayReplicate,
}

impl Flag {
    /// Redis's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::ReadOnly => "readonly",
            Self::DenyOom => "denyoom",
            Self::Fast => "fast",
            Self::Blocking => "blocking",
            Self::Admin => "admin",
            Self::PubSub => "pubsub",
            Self::NoMulti => "no_multi",
            Self::Loading => "loading",
            Self::NoAuth => "no_auth",
            Self::MovableKeys => "movablekeys",
            Self::MayReplicate => "may_replicate",
        }
    }
}

/// Which arguments are keys: positions from 1, the name being 0. All zero: none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyPositions {
    /// The first key.
    pub first: i16,
    /// The last one; negative: counted from the end.
    pub last: i16,
    /// How far keys are apart.
    pub step: i16,
}

impl KeyPositions {
    /// No key.
    pub const NONE: Self = Self { first: 0, last: 0, step: 0 };
    /// One key, right after the name.
    pub const ONE: Self = Self { first: 1, last: 1, step: 1 };
    /// All arguments are keys.
    pub const ALL: Self = Self { first: 1, last: -1, step: 1 };

    /// The positions of the keys among so many arguments, the name with them.
    pub fn positions(self, count: usize) -> Vec<usize> {
        let position = |position: i16| match usize::try_from(position) {
            Ok(position) => position,
            Err(_) => count.saturating_sub(usize::from(position.unsigned_abs())),
        };
        let (first, end) = (position(self.first), position(self.last).saturating_add(1).min(count));
        let step = usize::try_from(self.step).unwrap_or_default().max(1);
        if first == 0 { Vec::new() } else { (first..end).step_by(step).collect() }
    }
}

/// What a command is called and takes.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Its name, in lower case; that of a subcommand after the name of its container, `object|encoding`.
    pub name: &'static str,
    /// How many arguments it takes, its name with them; negative: at least so many.
    pub arity: i16,
    /// What it does.
    pub flags: &'static [Flag],
    /// Which arguments are keys.
    pub keys: KeyPositions,
    /// Redis's group: `string`, `hash`, …
    pub group: &'static str,
    /// The version of Redis that had it first.
    pub since: &'static str,
    /// What it costs.
    pub complexity: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
}

impl Command {
    /// A command on the key right after its name. The complexity and the rest of what `COMMAND DOCS` tells are set by
    /// [`Command::documented`].
    pub const fn on_key(name: &'static str, arity: i16, flags: &'static [Flag]) -> Self {
        let keys = KeyPositions::ONE;
        Self { name, arity, flags, keys, group: "generic", since: "1.0.0", complexity: "", summary: "" }
    }

    /// With what `COMMAND DOCS` tells of it.
    pub const fn documented(
        self,
        group: &'static str,
        since: &'static str,
        complexity: &'static str,
        summary: &'static str,
    ) -> Self {
        Self { group, since, complexity, summary, ..self }
    }

    /// Whether it may be called with so many arguments, its name with them.
    pub fn takes(&self, count: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= arity } else { count == arity }
    }

    /// Where the first key stands, of a command whose keys do not follow from other arguments.
    pub(crate) fn first_key(&self) -> usize {
        usize::try_from(self.keys.first).unwrap_or(1)
    }

    /// Whether it may change a key.
    pub fn is_write(&self) -> bool {
        self.flags.contains(&Flag::Write)
    }
}

/// A function that evaluates a command on one key.
pub type Run = Box<dyn Fn(&View<'_>, &mut Arguments<'_>, &Context) -> Result<Outcome, CommandError> + Send + Sync>;

/// A command on one key, evaluated where the key is led.
pub struct KeyCommand {
    /// What it is called and takes.
    pub command: Command,
    pub(crate) run: Run,
}

impl KeyCommand {
    /// A command on a key of any kind. The arguments begin after the name and the key.
    pub fn new(
        command: Command,
        run: impl Fn(&View<'_>, &mut Arguments<'_>, &Context) -> Result<Outcome, CommandError> + Send + Sync + 'static,
    ) -> Self {
        Self { command, run: Box::new(run) }
    }

    /// A command on a structure. `run` asks its [`Key`] for the state, where it is time to refuse a key of another kind.
    /// The arguments begin after the name and the key.
    pub fn on<S: Structure>(
        command: Command,
        run: impl Fn(&Key<'_, S>, &mut Arguments<'_>, &Context) -> Result<Plan<S::Operation>, CommandError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self::new(command, move |view, arguments, context| {
            let plan = run(&Key::new(view), arguments, context)?;
            let effect = plan.operation.map_or(Effect::Nothing, |operation| Effect::apply::<S>(&operation));
            Ok(Outcome { reply: plan.reply, effect })
        })
    }
}
