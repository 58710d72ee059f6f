//! A model from an executable. What is printed of an accepted one can be read again and is the same.
#![no_main]

use dpack_compose::{Environment, Model, interpolate, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(json) = serde_json::from_slice(bytes) else { return };
    let Ok(model) = Model::from_json(&json) else { return };
    let Ok(resolved) = interpolate(&model, &Environment::new([])) else { return };
    let printed = [("printed.yml".to_owned(), resolved.to_yaml())];
    let (again, _) = parse("shop", &printed).expect("printed YAML is valid");
    let again = interpolate(&again, &Environment::new([])).expect("a printed project is valid");
    assert_eq!(again.to_json(), resolved.to_json());
});
