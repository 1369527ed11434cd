//! Content given on the command line: as text, as a file, or on standard input.

use std::path::Path;

use bytes::Bytes;
use difuse_api::values::SourceError;
use futures::{Stream, TryStreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, stdin};
use tokio_util::io::ReaderStream;

use super::exit::Failure;

/// How much is read at once.
const PART_BYTES: usize = 256 << 10;

/// The bytes of a file, or of standard input for `-`; more than `limit` bytes are refused.
pub async fn read_all(path: &Path, limit: u64) -> Result<Bytes, Failure> {
    let mut content = Vec::new();
    let read = if path == Path::new("-") {
        stdin().take(limit + 1).read_to_end(&mut content).await
    } else {
        let file = tokio::fs::File::open(path).await.map_err(|error| Failure::local(path, &error))?;
        file.take(limit + 1).read_to_end(&mut content).await
    };
    read.map_err(|error| Failure::local(path, &error))?;
    if content.len() as u64 > limit {
        return Err(Failure::Usage(format!(
            "{} has more than {limit} bytes: store it with `difuse put`",
            path.display()
        )));
    }
    Ok(content.into())
}

/// The content of a file, or of standard input for `-`, in parts.
pub async fn stream(
    path: &Path,
) -> Result<impl Stream<Item = Result<Bytes, SourceError>> + Send + Unpin + use<>, Failure> {
    let reader: Box<dyn AsyncRead + Send + Unpin> = if path == Path::new("-") {
        Box::new(stdin())
    } else {
        Box::new(tokio::fs::File::open(path).await.map_err(|error| Failure::local(path, &error))?)
    };
    Ok(ReaderStream::with_capacity(reader, PART_BYTES).map_err(|error| SourceError::from(error.to_string())))
}
