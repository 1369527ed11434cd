//! Being asked to stop.

use tokio::io::AsyncReadExt;

/// Resolves, with what it was, when somebody asks this process to stop: Ctrl-C, SIGTERM or SIGHUP.
pub async fn asked_to_stop() -> &'static str {
    tokio::select! {
        () = interrupted() => "interrupted",
        name = terminated() => name,
    }
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn terminated() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::hangup())) {
        (Ok(mut terminate), Ok(mut hangup)) => tokio::select! {
            _ = terminate.recv() => "terminated",
            _ = hangup.recv() => "the terminal is gone",
        },
        _ => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() -> &'static str {
    std::future::pending().await
}

/// Resolves when standard input ends, whatever came before.
pub async fn standard_input_ended() {
    let mut input = tokio::io::stdin();
    let mut discarded = [0; 256];
    while matches!(input.read(&mut discarded).await, Ok(length) if length > 0) {}
}
