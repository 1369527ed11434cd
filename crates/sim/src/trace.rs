//! What happened, for people who look into one seed, and for the test that a seed always does the same.

use difuse_types::Instant;

/// What becomes of the lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tracing {
    /// They are not even formatted.
    Off,
    /// They are hashed.
    Hash,
    /// They are hashed, and printed on the standard output.
    Print,
}

pub(crate) struct Trace {
    tracing: Tracing,
    hasher: blake3::Hasher,
}

impl Trace {
    pub(crate) fn new(tracing: Tracing) -> Self {
        Self { tracing, hasher: blake3::Hasher::new() }
    }

    pub(crate) fn line(&mut self, now: Instant, line: impl FnOnce() -> String) {
        if self.tracing == Tracing::Off {
            return;
        }
        let line = format!("{:>12.6} {}\n", now.0 as f64 / 1e9, line());
        self.hasher.update(line.as_bytes());
        if self.tracing == Tracing::Print {
            print!("{line}");
        }
    }

    /// The hash of all lines.
    pub(crate) fn hash(&self) -> difuse_types::Hash {
        difuse_types::Hash(*self.hasher.finalize().as_bytes())
    }
}
