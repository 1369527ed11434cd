#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| difuse_fuzz::resp_connection(bytes));
