//! YAML from outside. What is accepted survives being embedded, and gives the same project there.
#![no_main]

use dpack_compose::{Environment, Model, interpolate, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok((model, _)) = parse("shop", &[("compose.yml".to_owned(), text.to_owned())]) else { return };
    let embedded = Model::from_json(&model.to_json()).expect("a checked model stays valid");
    let environment = Environment::new([("A".to_owned(), "a".to_owned())]);
    match (interpolate(&model, &environment), interpolate(&embedded, &environment)) {
        (Ok(built), Ok(device)) => assert_eq!(built.project, device.project),
        (Err(_), Err(_)) => {}
        (built, device) => panic!("built: {}, on the device: {}", built.is_ok(), device.is_ok()),
    }
});
