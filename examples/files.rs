//! Files over the SDK: a stream goes in, a listing and a part of it come out.
//!
//! With a ring running (`cargo run --release -- dev`): `cargo run -p difuse-examples --bin files`

use bytes::Bytes;
use difuse_client::{Client, ClientConfig, files::PutOptions};
use futures::{TryStreamExt, stream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4624".into());
    let client = Client::connect(&[node], ClientConfig::default()).await?;
    let files = client.files();

    // A million lines, made as they are sent: nothing holds the whole file.
    let lines = (0..1000).map(|thousand| {
        let part: String = (0..1000).map(|line| format!("line {}\n", thousand * 1000 + line)).collect();
        Ok(Bytes::from(part))
    });
    let put = files.put("example/lines.txt", stream::iter(lines), PutOptions::default()).await?;
    println!("{} bytes in {} blocks, {} of them new", put.upload.size, put.upload.blocks_total, put.upload.blocks_new);

    for entry in files.list("example", None, 100).await?.entries {
        println!("{}\t{} bytes", entry.name, entry.size);
    }

    let (_, part) = files.open("example/lines.txt", Some(0..14)).await?;
    let part: Vec<Bytes> = part.try_collect().await?;
    print!("{}", String::from_utf8_lossy(&part.concat()));
    Ok(())
}
