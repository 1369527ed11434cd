//! Keys over the SDK: set, read, compare-and-set, and the history that proves it.
//!
//! With a ring running (`cargo run --release -- dev`): `cargo run -p difuse-examples --bin keys`

use difuse_client::{Client, ClientConfig, Condition, Key, RequestError, keys, keys::Verified};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4624".into());
    let client = Client::connect(&[node], ClientConfig::default()).await?;

    let first = client.set(b"example/counter", b"1").await?;
    println!("set to 1: height {}, transaction {}", first.height, first.hash);

    // The second write names the first: it is applied only if nobody came in between.
    let second = client.compare_and_set(b"example/counter", b"2", Condition::Head(first.hash)).await?;
    println!("set to 2: height {}, transaction {}", second.height, second.hash);

    // Naming the first again must fail.
    match client.compare_and_set(b"example/counter", b"3", Condition::Head(first.hash)).await {
        Err(difuse_client::ClientError::Request(RequestError::Conflict { .. })) => {
            println!("a stale write was refused")
        }
        other => return Err(format!("expected a conflict, got {other:?}").into()),
    }

    let Verified { height, hash, .. } = keys::verify(&client, Key::new(b"example/counter")?).await?;
    println!("every transaction up to height {height} verifies; the last is {hash}");
    Ok(())
}
