//! The threads that give space back in the background.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// A thread that cleans. It must be stopped before the store is.
#[derive(Debug)]
pub(crate) struct Cleaner {
    stop: Arc<Stop>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Tells a cleaner to stop.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    is_stopped: Mutex<bool>,
    wake: Condvar,
}

impl Stop {
    /// Waits for this long at most; whether the cleaner is to stop.
    pub fn wait(&self, duration: Duration) -> bool {
        let stopped = self.is_stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.wake.wait_timeout_while(stopped, duration, |is_stopped| !*is_stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Cleaner {
    /// Every so often, calls `clean_next` until it says that there is nothing more to clean.
    pub fn start(
        stop: Arc<Stop>,
        every: Duration,
        mut clean_next: impl FnMut() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let for_thread = stop.clone();
        let run = move || {
            while !for_thread.wait(every) {
                while clean_next() {}
            }
        };
        let thread = thread::Builder::new().name("difuse-clean".to_string()).spawn(run)?;
        Ok(Self { stop, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread; what it copied so far is not lost, and not needed.
    pub fn stop(&self) {
        *self.stop.is_stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the cleaner panicked");
        }
    }
}
