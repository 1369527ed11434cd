//! What the fuzz targets run: every decoder that a stranger's bytes, or a damaged disk's, can reach.
//!
//! Each target takes any bytes and panics if a promise is broken; that bytes are refused is no failure. They are run
//! three ways: by cargo-fuzz from the folder `fuzz`, without end; by `.ci/fuzz`, for some seconds each; and by this
//! crate's own tests, on random bytes and on mutations of the corpus, wherever there is a Rust.
//!
//! *Invariant:* a target keeps no data from one run to the next. Gateways do go on from run to run, with an emptied
//! datastore behind them: to make one takes ten times as long as what a run asks of it.

mod disk;
mod http;
mod peer;
mod records;
mod resp;
mod text;
mod transport;
mod wire;

pub use disk::{disk_log, disk_records};
pub use http::http_request;
pub use peer::peer_messages;
pub use records::block_records;
pub use resp::resp_connection;
pub use text::text;
pub use transport::{transport_frames, transport_handshake};
pub use wire::wire_frame;

/// A target: its name, as in `fuzz/fuzz_targets` and `fuzz/corpus`, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 10] = [
    ("wire_frame", wire_frame),
    ("peer_messages", peer_messages),
    ("transport_handshake", transport_handshake),
    ("transport_frames", transport_frames),
    ("block_records", block_records),
    ("http_request", http_request),
    ("resp_connection", resp_connection),
    ("text", text),
    ("disk_log", disk_log),
    ("disk_records", disk_records),
];
