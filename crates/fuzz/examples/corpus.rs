//! Writes the corpus that is committed in `fuzz/corpus`: a few samples for each target, of what difuse itself writes.
//!
//!     cargo run -p difuse-fuzz --example corpus -- fuzz/corpus

use std::{fs, io, path::Path};

use bytes::Bytes;
use difuse_blocks::{BlockRecord, Content, Inode, TreeBuilder};
use difuse_protocol::message::Message;
use difuse_types::Hash;
use difuse_wire::{approximate_bytes, encode, samples::samples};

/// Messages in one frame.
const MESSAGES_PER_FRAME: usize = 12;
/// Longer samples are left out: they teach a fuzzer nothing more.
const MESSAGE_BYTES_MAX: usize = 2048;

fn main() -> io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "fuzz/corpus".into());
    let messages: Vec<Message> =
        samples().into_iter().filter(|message| approximate_bytes(message) < MESSAGE_BYTES_MAX).collect();
    let frames: Vec<Vec<u8>> = messages.chunks(MESSAGES_PER_FRAME).map(|part| encode(part).to_vec()).collect();
    let sequences = messages.chunks(MESSAGES_PER_FRAME).map(|part| part.iter().flat_map(delivery).collect());
    let write = |target: &str, samples: Vec<Vec<u8>>| write(&Path::new(&folder).join(target), &samples);
    write("wire_frame", frames)?;
    write("peer_messages", sequences.collect())?;
    write("transport_handshake", handshakes())?;
    write("transport_frames", vec![b"\x03\0\0\0abc\0\0\0\0\x01\0\0\0x".to_vec()])?;
    write("block_records", records())?;
    write("http_request", REQUESTS.map(|text| text.as_bytes().to_vec()).to_vec())?;
    write("resp_connection", CONVERSATIONS.map(|text| text.as_bytes().to_vec()).to_vec())?;
    write("text", TEXTS.map(|text| text.as_bytes().to_vec()).to_vec())?;
    write("disk_log", vec![vec![3, 10, 0, 60, 0, 0], vec![5, 1, 2, 3, 4, 5, 0, 150], vec![2, 9, 9, 0, 0, 0, 60, 1]])?;
    write("disk_records", disk_records())
}

fn write(folder: &Path, samples: &[Vec<u8>]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, sample) in samples.iter().enumerate() {
        fs::write(folder.join(format!("sample-{number:02}")), sample)?;
    }
    Ok(())
}

/// A message as the target `peer_messages` takes it, from node 1, 16 ms after the one before.
fn delivery(message: &Message) -> Vec<u8> {
    let frame = encode(std::slice::from_ref(message));
    let length = u16::try_from(frame.len()).unwrap_or(u16::MAX).to_le_bytes();
    [&[length[0], length[1], 1, 1], &frame[..]].concat()
}

/// As `crates/net/src/message.rs` describes them.
fn handshakes() -> Vec<Vec<u8>> {
    let message = |fields: &[u8]| {
        let body = [b"difuse\x01\0", fields].concat();
        [&u16::try_from(body.len()).unwrap_or_default().to_le_bytes()[..], &body].concat()
    };
    let hello = message(&[&[1, 1, 1][..], &[3; 32], &[7; 32]].concat());
    let proof = message(&[&[2][..], &[8; 32]].concat());
    let attach = message(&[&[3][..], &[9; 32]].concat());
    vec![[hello, proof].concat(), attach, message(&[4]), message(&[5, 2])]
}

fn records() -> Vec<Vec<u8>> {
    let record = BlockRecord { version: 3, present: true, referenced: true, lost: false, length: 100_000 };
    let mut samples = vec![record.encode().to_vec()];
    samples.extend(inodes().into_iter().filter_map(|inode| inode.encode().ok()).map(|bytes| bytes.to_vec()));
    samples.extend(tree_nodes());
    samples
}

fn inodes() -> Vec<Inode> {
    let hash = Hash::of(b"content");
    let media_type = Some("text/plain".to_string());
    let inodes = [
        Inode::inline_file(Bytes::from_static(b"content"), 0o644, 1, media_type.clone()),
        Inode::file(7, Content::Block(hash), hash, 0o755, 2, None),
        Inode::file(1 << 30, Content::Tree(hash), Hash::of(b"whole"), 0o644, 3, media_type),
        Inode::directory(0o755, 4),
        Inode::symlink(Bytes::from_static(b"../target"), 0o777, 5),
    ];
    inodes.into_iter().flatten().collect()
}

fn tree_nodes() -> Vec<Vec<u8>> {
    let mut builder = TreeBuilder::with_fan_out(3);
    let mut blocks = Vec::new();
    for number in 0..8u32 {
        blocks.extend(builder.push(Hash::of(&number.to_le_bytes()), 65_536 + number).unwrap_or_default());
    }
    blocks.extend(builder.finish().map(|(rest, _)| rest).unwrap_or_default());
    blocks.into_iter().map(|block| block.bytes().to_vec()).collect()
}

/// As `crates/storage/src/codec.rs` and `blocks/record.rs` lay them out.
fn disk_records() -> Vec<Vec<u8>> {
    let hash = Hash::of(b"content");
    let name = b"identity";
    let meta = [&[1, 4][..], &[8, 0, 0, 0], name, &[3, 0, 0, 0], b"abc", &[5, 8, 0, 0, 0], name].concat();
    let record = [&[1, 1, 9, 0, 0, 0][..], hash.as_bytes(), &[1; 13], &[7, 7, 7, 7], b"content"].concat();
    vec![meta, [&[1, 3][..], &[9, 0, 0, 0]].concat(), record, vec![1, 4, 9, 0, 0, 0]]
}

/// Of the target `resp_connection`.
const CONVERSATIONS: [&str; 4] = [
    "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n",
    "SET k \"a\\x41\\n\" EX 10\r\nAPPEND k 'b\\'c'\r\nSETRANGE k 9000 x\r\nGETRANGE k -3 -1\r\nGETEX k PERSIST\r\n",
    "HSET h a 1\nZADD z 1.5 m 2 n\nZRANGE z 0 -1 WITHSCORES\nLPUSH l a b\nSADD s 1 2\nSORT l ALPHA\nSCAN 0 COUNT 2 TYPE set\nKEYS [a-z]*\n",
    "SUBSCRIBE a\nPSUBSCRIBE a*\nUNSUBSCRIBE\nPUBLISH a hi\nCLIENT REPLY SKIP\nMGET a b\nCOMMAND INFO get\nCLIENT LIST\nINFO all\nRENAME {a} {a}b\n",
];

const REQUESTS: [&str; 6] = [
    "PUT /v1/keys/a%2Fb?namespace=n&consistency=quorum\ndifuse-operation-id: 00112233445566778899aabbccddeeff\n\
     if-none-match: *\n\nvalue\0GET /v1/keys/a%2Fb?namespace=n\nrange: bytes=1-3\n\n\0HEAD /v1/keys/a%2Fb?namespace=n\n\n",
    "PUT /v1/keys/x\n\n1\0PUT /v1/keys/y\n\n2\0GET /v1/keys?prefix=&after=x&limit=1\n\n\0GET /v1/keys?after=~eA\n\n\0\
     GET /v1/log/x?from=1&limit=10\n\n\0DELETE /v1/keys/x\nif-match: *\n\n\0GET /v1/dump\n\n",
    "PUT /v1/files/a/b/c.txt\ncontent-type: text/plain\n\nhello\0GET /v1/files/a?limit=2\n\n\0GET /v1/files/a/b/c.txt\n\
     range: bytes=-2\nif-none-match: \"00\"\n\n\0DELETE /v1/files/a?recursive=true\n\n",
    "POST /v1/blocks\n\ncontent\0GET /v1/locate-block/\
     3fba5250be9ac259c56e7250c526bc83bacb4be825f2799d3d59e5b4878dd74e\n\n\0PUT /v1/blocks/00\n\nx",
    "GET /v1/stat/x?space=files\n\n\0GET /v1/leader/x\n\n\0GET /v1/locate/x?namespace=n\n\n\0GET /v1/ring\n\n",
    "POST /v1/leave\n\n\0GET /livez\n\n\0GET /readyz?verbose\n\n\0GET /metrics\n\n\0PATCH /v1/keys/x\n\n\0GET /none\n\n",
];

const TEXTS: [&str; 8] = [
    "127.0.0.1:4624",
    "[::1]:4624",
    "/ip4/127.0.0.1/tcp/4624/p2p/12D3KooWGRUVKvTNzvqbEDzGnbPtBRuXwG4cSaPSTcJiV9kWnPNT",
    "/dns4/example.org/tcp/4624",
    "/a/b/../c//d.txt",
    "quorum",
    "00112233445566778899aabbccddeeff",
    "3fba5250be9ac259c56e7250c526bc83bacb4be825f2799d3d59e5b4878dd74e",
];
