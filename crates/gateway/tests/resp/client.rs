//! A gateway that listens on a port of its own, and a client that sends and reads bytes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use difuse_api::{structures::Registry, testing::FakeDatastore};
use difuse_gateway::resp::{Gateway, Settings, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

/// Far more than any answer takes: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway under test.
pub struct Server {
    pub address: SocketAddr,
    pub datastore: Arc<FakeDatastore>,
    pub gateway: Gateway,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub async fn start_with(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let datastore = Arc::new(FakeDatastore::new());
        let registry = Arc::new(Registry::builtin());
        let gateway = Gateway::new(datastore.clone(), FakeDatastore::NODE, registry, settings);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = gateway.clone();
        let task = tokio::spawn(async move {
            serve(listener, serving, async { drop(stopped.await) }).await.unwrap();
        });
        Self { address, datastore, gateway, stop, task }
    }

    pub async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Stops it and waits until it has ended.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        timeout(PATIENCE, self.task).await.expect("the server must end").unwrap();
    }
}

/// A connection.
pub struct Client(pub TcpStream);

impl Client {
    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends a command whose words are apart by blanks.
    pub async fn ask(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
        self.ask_words(&words).await;
    }

    /// Sends a command.
    pub async fn ask_words(&mut self, words: &[&[u8]]) {
        self.send(request(words)).await;
    }

    /// Insists that exactly these bytes come next.
    pub async fn expect(&mut self, expected: &str) {
        let found = self.read(expected.len()).await;
        assert_eq!(String::from_utf8_lossy(&found), expected);
    }

    /// Insists on the answer to a command whose words are apart by blanks.
    pub async fn check(&mut self, line: &str, expected: &str) {
        self.ask(line).await;
        let found = self.read(expected.len()).await;
        assert_eq!(String::from_utf8_lossy(&found), expected, "{line}");
    }

    /// The next bytes, or as many as there are before the end.
    pub async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut found = vec![0; count];
        let mut length = 0;
        let fill = async {
            while length < count {
                match self.0.read(&mut found[length..]).await {
                    Ok(0) | Err(_) => break,
                    Ok(more) => length += more,
                }
            }
        };
        let is_in_time = timeout(PATIENCE, fill).await.is_ok();
        assert!(is_in_time, "no more came than {}", String::from_utf8_lossy(&found[..length]));
        found.truncate(length);
        found
    }

    /// Everything up to the end of the next line.
    pub async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let next = self.read(1).await;
            assert!(!next.is_empty(), "the connection ended after {}", String::from_utf8_lossy(&line));
            line.extend(next);
        }
        String::from_utf8_lossy(&line).trim_end().to_string()
    }

    /// Everything up to the end of the connection.
    pub async fn rest(&mut self) -> String {
        String::from_utf8_lossy(&self.read(1 << 20).await).into_owned()
    }
}

/// A command as a client sends it.
pub fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
