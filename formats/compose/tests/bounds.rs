//! Hostile files: bounded time and memory, no stack overflow, no panic.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use dpack_compose::{Environment, Model, Options, interpolate, interpolate_with, parse};

fn first_error(text: String) -> String {
    let started = Instant::now();
    let result = parse("shop", &[("compose.yml".to_owned(), text)])
        .and_then(|(model, _)| interpolate(&model, &Environment::new([("V".to_owned(), "v".repeat(1000))])));
    assert!(started.elapsed() < Duration::from_secs(30), "took {:?}", started.elapsed());
    match result {
        Ok(_) => "accepted".to_owned(),
        Err(errors) => errors.iter().next().unwrap().to_string(),
    }
}

#[test]
fn aliases_that_multiply() {
    let mut text = "x-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for n in 1..30 {
        let aliases = vec![format!("*a{}", n - 1); 9].join(", ");
        text += &format!("x-{n}: &a{n} [{aliases}]\n");
    }
    assert_eq!(first_error(text), "compose.yml:6:11: more than 100000 values, aliases expanded");
}

#[test]
fn aliases_to_long_text() {
    let text = format!("x-0: &a {}\nx-1: [{}]\n", "y".repeat(1 << 20), vec!["*a"; 10_000].join(", "));
    assert!(first_error(text).ends_with("more than 16 MiB of text, aliases expanded"));
}

#[test]
fn anchors_inside_each_other() {
    let mut text = "x-0: ".to_owned();
    for n in 0..60 {
        text += &format!("&a{n} [");
    }
    text += &"x, ".repeat(50_000);
    text += &"]".repeat(60);
    assert!(first_error(text).ends_with("more than 100000 values, aliases expanded"));
}

#[test]
fn merge_keys_that_multiply() {
    let mut text = "x-0: &a0 {k: v}\n".to_owned();
    for n in 1..40 {
        text += &format!("x-{n}: &a{n} {{<<: [*a{p}, *a{p}], k{n}: *a{p}}}\n", p = n - 1);
    }
    assert!(first_error(text).ends_with("values, aliases expanded"));
}

#[test]
fn ten_megabytes() {
    let text = "# comment\n".repeat(1 << 20);
    assert_eq!(first_error(text), "compose.yml: larger than 4 MiB");
}

#[test]
fn four_megabytes_of_values() {
    let text = format!("x-a: [{}]", "1, ".repeat(1_300_000));
    assert!(first_error(text).ends_with("more than 100000 values, aliases expanded"));
    let keys: String = (0..300_000).map(|n| format!("  k{n}: 1\n")).collect();
    assert!(first_error(format!("x-a:\n{keys}")).ends_with("more than 100000 values, aliases expanded"));
}

#[test]
fn ten_thousand_levels() {
    for text in [
        "[".repeat(10_000),
        "{a: ".repeat(10_000),
        "- ".repeat(10_000),
        "? ".repeat(10_000),
        (0..2_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
    ] {
        let error = first_error(text.clone());
        let bounded = error.contains("levels deep")
            || error.contains("recursion limit")
            || error.contains("keys are strings");
        assert!(bounded, "{error}: {}", &text[..20]);
    }
    // Through aliases: each level is small, together they are deep.
    let mut text = "x-0: &a0 [x]\n".to_owned();
    for n in 1..100 {
        text += &format!("x-{n}: &a{n} [*a{}]\n", n - 1);
    }
    assert!(first_error(text).ends_with("nested more than 64 levels deep"));
}

#[test]
fn variables_that_multiply() {
    let references = "$V".repeat(2_000);
    let text = format!("services: {{web: {{image: a, hostname: \"{references}\"}}}}");
    assert!(first_error(text).ends_with("services.web.hostname: the value is longer than 1024 KiB"));
    let labels: String = (0..50).map(|n| format!("      l{n}: {}\n", "$V".repeat(500))).collect();
    let text = format!("services:\n  web:\n    image: a\n    labels:\n{labels}");
    assert!(first_error(text).ends_with("more than 16 MiB of text"));
    let nested = format!("{}{}", "${A:-".repeat(100), "}".repeat(100));
    let text = format!("services: {{web: {{image: a, hostname: \"{nested}\"}}}}");
    assert!(first_error(text).ends_with("variables are nested more than 32 levels deep"));
    // Each level looks for its closing brace.
    let nested = "${A:-".repeat(200_000);
    assert!(
        first_error(format!("services: {{web: {{image: \"{nested}\"}}}}"))
            .contains("invalid interpolation format")
    );
}

#[test]
fn many_services_that_depend_on_each_other() {
    let chain: String =
        (0..5_000).map(|n| format!("  s{n}: {{image: a, depends_on: [s{}]}}\n", n + 1)).collect();
    let text = format!("services:\n{chain}  s5000: {{image: a, depends_on: [s0]}}\n");
    assert!(first_error(text).contains("services depend on each other in a circle: s0 -> s1 -> "));
    let chain: String =
        (0..5_000).map(|n| format!("  s{n}: {{image: a, depends_on: [s{}]}}\n", n + 1)).collect();
    assert_eq!(first_error(format!("services:\n{chain}  s5000: {{image: a}}\n")), "accepted");
}

#[test]
fn ranges_of_all_ports() {
    let text = "services: {web: {image: a, ports: [\"1-65535:1-65535\"]}}";
    assert!(first_error(text.to_owned()).ends_with("services.web.ports[0]: more than 4096 ports"));
}

/// Valid files with random changes: anything may come out but a panic, and what is accepted survives being embedded.
#[test]
fn random_changes_never_panic() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(corpus)
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("compose.yml")).ok())
        .collect();
    files.sort();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let environment =
        Environment::new([("SET".to_owned(), "set".to_owned()), ("PORT".to_owned(), "1".to_owned())]);
    let mut accepted = 0;
    for round in 0..1_500 {
        let mut text = files[round % files.len()].clone().into_bytes();
        for _ in 0..=random.below(4) {
            mutate(&mut text, &mut random, &files);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let Ok((model, _)) = parse("shop", &[("compose.yml".to_owned(), text)]) else { continue };
        let interpolate = |model: &Model, environment: &Environment| {
            interpolate_with(model, environment, &Options { lenient: true, ..Options::default() })
        };
        let result = interpolate(&model, &environment);
        let embedded = Model::from_json(&model.to_json()).expect("a checked model stays valid");
        // What is wrong with a `build` is not to be seen there.
        assert!(interpolate(&embedded, &environment).is_ok() || result.is_err());
        if let Ok(resolved) = result {
            accepted += 1;
            let _ = resolved.to_yaml();
        }
    }
    assert!(accepted > 50, "only {accepted} of the changed files were accepted, the changes are too wild");
}

fn mutate(text: &mut Vec<u8>, random: &mut Random, files: &[String]) {
    let at = random.below(text.len().max(1));
    let length = random.below(12).min(text.len() - at.min(text.len()));
    match random.below(6) {
        0 => drop(text.drain(at..at + length)),
        1 => {
            let piece = text[at..at + length].to_vec();
            let to = random.below(text.len() + 1);
            text.splice(to..to, piece);
        }
        2 => {
            const PIECES: [&str; 16] = [
                "\n", " ", ": ", "- ", "[", "]", "{", "}", "\"", "$", "${", "&a ", "*a", "!reset ", "<<: ",
                "\0",
            ];
            text.splice(at..at, PIECES[random.below(PIECES.len())].bytes());
        }
        3 if at < text.len() => text[at] = (random.below(128)) as u8,
        4 => {
            let other = files[random.below(files.len())].as_bytes();
            let from = random.below(other.len());
            let to = (from + random.below(60)).min(other.len());
            text.splice(at..at, other[from..to].iter().copied());
        }
        _ => text.splice(at..at, random.below(100_000).to_string().into_bytes()).for_each(drop),
    }
}

/// xorshift64: the same sequence everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
