use std::{sync::Arc, time::Duration};

use difuse_api::{structures::Registry, testing::FakeDatastore};
use difuse_gateway::resp::{Gateway, Settings, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};

/// Far more than any run takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than any answer to inputs of a fuzzer's length.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

thread_local! {
    static GATEWAY: (Arc<FakeDatastore>, Gateway) = {
        let (datastore, registry) = (Arc::new(FakeDatastore::new()), Arc::new(Registry::builtin()));
        let gateway = Gateway::new(datastore.clone(), FakeDatastore::NODE, registry, Settings::default());
        (datastore, gateway)
    };
}

/// One connection of the Redis protocol: all that a client may send before it closes its side. Whatever it is, the
/// connection ends, and another one is served.
pub fn resp_connection(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { timeout(PATIENCE, converse(bytes)).await.expect("a connection that ends") });
}

async fn converse(bytes: &[u8]) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (datastore, gateway) = GATEWAY.with(Clone::clone);
    datastore.clear();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, gateway, async { drop(stopped.await) }));
    let client = TcpStream::connect(address).await.expect("a connection");
    let (mut reading, mut writing) = client.into_split();
    let ask = async {
        // The other side may end before all of it is sent.
        let _ = writing.write_all(bytes).await;
        let _ = writing.shutdown().await;
    };
    let mut answers = Vec::new();
    let answer = async {
        let _ = (&mut reading).take(ANSWER_BYTES_MAX).read_to_end(&mut answers).await;
    };
    tokio::join!(ask, answer);
    let mut other = TcpStream::connect(address).await.expect("a connection");
    other.write_all(b"PING\r\n").await.expect("a connection that is served");
    let mut pong = [0; 7];
    other.read_exact(&mut pong).await.expect("an answer");
    assert_eq!(&pong, b"+PONG\r\n");
    drop(other);
    let _ = stop.send(());
    serving.await.expect("a server that does not panic").expect("a server that ends well");
}
