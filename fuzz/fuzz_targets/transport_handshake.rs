#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| difuse_fuzz::transport_handshake(bytes));
