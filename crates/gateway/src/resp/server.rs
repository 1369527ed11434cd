//! Connections: accepted, bounded, served, and ended gracefully.

use std::{future::Future, io, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

use super::{Gateway, connection::Connection};

/// How long commands may take to end after the server was told to stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after an error of accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After how long without a byte the other side is asked whether it is still there, as in Redis.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(300);
/// What a client is told that is one too many.
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

/// Serves the Redis protocol on `listener` until `shutdown` resolves; then accepts nothing more, lets commands end that
/// were begun, for ten seconds at most, and returns.
pub async fn serve(
    listener: TcpListener,
    gateway: Gateway,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let (stop, stopped) = watch::channel(());
    let most = u32::try_from(gateway.0.settings.clients_max).unwrap_or(u32::MAX);
    let permits = Arc::new(Semaphore::new(most as usize));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            () = &mut shutdown => break,
            stream = accept(&listener) => stream,
        };
        match permits.clone().try_acquire_owned() {
            Ok(permit) => {
                let (gateway, stopped) = (gateway.clone(), stopped.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    serve_connection(stream, &gateway, stopped).await;
                });
            }
            Err(_) => {
                gateway.0.metrics.refused.inc();
                // Its buffer is empty: there is room for a line.
                let _ = stream.try_write(TOO_MANY);
            }
        }
    }
    drop((listener, stop));
    if timeout(SHUTDOWN_TIMEOUT, permits.acquire_many(most)).await.is_err() {
        tracing::warn!("commands were still running when the Redis gateway stopped");
    }
    Ok(())
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection of the Redis protocol failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, gateway: &Gateway, stopped: watch::Receiver<()>) {
    // Small answers must not wait for the acknowledgement of the ones before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY is not available");
    }
    // A client that is gone without a word does not keep its place for ever.
    if let Err(error) = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE)) {
        tracing::debug!(%error, "TCP keepalive is not available");
    }
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
    let connection = Connection::new(stream, gateway.0.clone(), peer, local);
    if let Err(error) = connection.serve(stopped).await {
        tracing::debug!(%error, %peer, "a connection of the Redis protocol ended");
    }
}
