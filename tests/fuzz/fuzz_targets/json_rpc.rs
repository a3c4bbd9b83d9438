//! Coverage-guided fuzzing of [`postern_fuzz::json_rpc`]; run by cargo-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| postern_fuzz::json_rpc(bytes));
