//! A project of several files, separated by NUL bytes: the first is the project's, the others are there to be extended, included
//! or read as `env_file`, under the names `1`, `2` and so on. It ends, and is the same after being embedded.
#![no_main]

use dpack_compose::{Environment, Model, interpolate, parse};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|text: &str| {
    let mut texts = text.split('\0');
    let parsed = |name: &str, text: &str| parse("shop", &[(name.to_owned(), text.to_owned())]).ok();
    let Some((model, _)) = texts.next().and_then(|text| parsed("compose.yml", text)) else { return };
    let mut embedded = model.to_json();
    let (mut others, mut files) = (Vec::new(), serde_json::Map::new());
    for (number, text) in texts.take(8).enumerate() {
        let name = (number + 1).to_string();
        if let Some((other, _)) = parsed(&name, text) {
            others.extend(other.to_json()["layers"].as_array().into_iter().flatten().cloned());
        }
        files.insert(name, Value::from(text));
    }
    embedded["others"] = json!(others);
    embedded["texts"] = Value::Object(files);
    let model = Model::from_json(&embedded).expect("checked files stay valid");
    let again = Model::from_json(&model.to_json()).expect("a checked model stays valid");
    let environment = Environment::new([("A".to_owned(), "a".to_owned())]);
    match (interpolate(&model, &environment), interpolate(&again, &environment)) {
        (Ok(one), Ok(other)) => assert_eq!(one.project, other.project),
        (Err(_), Err(_)) => {}
        (one, other) => panic!("once: {}, twice: {}", one.is_ok(), other.is_ok()),
    }
});
