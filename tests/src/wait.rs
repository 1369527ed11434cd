use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How often a condition is looked at.
pub const POLL: Duration = Duration::from_millis(20);

/// Polls `check` until it gives a value; panics with `what` and the last reason given when `patience` is over.
pub async fn until<T>(what: &str, patience: Duration, mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match check().await {
            Ok(value) => return value,
            Err(reason) if start.elapsed() > patience => panic!("{what}: not within {patience:?}: {reason}"),
            Err(_) => sleep(POLL).await,
        }
    }
}
