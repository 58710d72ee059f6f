//! `.env` files from outside: no panic, and no value that could not be in an environment.
#![no_main]

use dpack_compose::dotenv;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let known = |name: &str| (name == "A").then(|| "a".to_owned());
    if let Ok(variables) = dotenv::parse(text, known, |_| None) {
        assert!(variables.iter().all(|(name, value)| !name.is_empty() && !value.contains('\0')));
    }
});
