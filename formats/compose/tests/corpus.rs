//! The corpus: what Docker Compose makes of each case (recorded by `ci/record.sh corpus`), and what this crate makes of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::Path;

use dpack_compose::{Environment, LoadOptions, Model, Options, Project, Resolved, interpolate_with, load};
use serde_json::Value as Json;

const HOME: &str = "/home/dev";

#[test]
fn every_case_is_resolved_as_docker_compose_does_it() {
    let mut differences = Vec::new();
    let mut cases = 0;
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut folders: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        cases += 1;
        let name = folder.file_name().unwrap().to_string_lossy();
        let expected = std::fs::read_to_string(folder.join("expected.json"));
        let expected = expected.unwrap_or_else(|error| panic!("{name}: not recorded: {error}"));
        let mut expected: Json = serde_json::from_str(&expected).unwrap();
        simplify(&mut expected, "");
        without_extensions(&mut expected);
        let mut found = match resolve(folder) {
            Ok(resolved) => resolved.to_json(),
            Err(errors) => {
                differences.push(format!("{name}: refused: {errors}"));
                continue;
            }
        };
        simplify(&mut found, "");
        without_extensions(&mut found);
        let before = differences.len();
        compare(&expected, &found, &name, &mut differences);
        // Differences on purpose say why; without one there is nothing to explain.
        if folder.join("difference.txt").exists() {
            assert!(differences.len() > before, "{name}: there is no difference any more");
            differences.truncate(before);
        }
    }
    assert!(cases >= 200, "only {cases} cases found");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The YAML is read back as the JSON that it was made from.
#[test]
fn the_printed_yaml_means_what_the_json_says() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for entry in std::fs::read_dir(corpus).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        // A project whose services are all inactive is no project when it is printed.
        let Some(first) = resolve(&folder).ok().filter(|first| !first.project.services.is_empty()) else {
            continue;
        };
        let environment = environment(&folder);
        let printed = first.to_yaml();
        let (model, _) = dpack_compose::parse("x", &[("printed.yml".to_owned(), printed.clone())])
            .unwrap_or_else(|errors| panic!("{}: {errors}\n{printed}", folder.display()));
        let options = Options { lenient: true, all_profiles: true, ..Options::default() };
        let second = interpolate_with(&model, &environment, &options)
            .unwrap_or_else(|errors| panic!("{}: {errors}\n{printed}", folder.display()));
        assert_eq!(first.to_json(), second.to_json(), "{}\n{printed}", folder.display());
        // A variable the image must not have is known when its value is not; printed again it is the same.
        let first = Project { disabled: BTreeMap::new(), ..first.project };
        assert_eq!(first, second.project, "{}", folder.display());
    }
}

/// The process environment of a case.
fn environment(folder: &Path) -> Environment {
    let process = std::fs::read_to_string(folder.join("process.env")).unwrap_or_default();
    let process = process.lines().filter_map(|line| line.split_once('='));
    let process = process.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Environment::new(process.chain([("HOME".to_owned(), HOME.to_owned())]))
}

/// Resolves a case as the builder does, and again as the runner does it from what was embedded.
fn resolve(folder: &Path) -> Result<Resolved, dpack_compose::Errors> {
    let environment = environment(folder);
    let options = LoadOptions {
        working_dir: folder.to_owned(),
        environment: environment.clone(),
        ..LoadOptions::default()
    };
    let loaded = load(&options)?;
    let interpolate = |model: &Model, environment: &Environment| {
        interpolate_with(model, environment, &Options { lenient: true, ..Options::default() })
    };
    let resolved = interpolate(&loaded.model, &environment)?;
    let embedded = serde_json::to_string(&loaded.model.to_json()).unwrap();
    let model = Model::from_json(&serde_json::from_str(&embedded).unwrap()).unwrap();
    let on_device = interpolate(&model, &environment)?;
    // How images are built stays behind, with the secrets that it takes.
    let mut services = resolved.project.services.clone();
    let builds = services.values_mut().filter_map(|service| service.build.take()).count();
    assert_eq!(on_device.project.services, services);
    if builds == 0 {
        assert_eq!(on_device.project, resolved.project);
        assert_eq!(on_device.to_json(), resolved.to_json());
    }
    Ok(resolved)
}

/// Takes out what is spelled differently on purpose: Compose prints absent values as null or empty, and makes paths
/// absolute that belong to a device we do not know yet.
fn simplify(json: &mut Json, key: &str) {
    match json {
        Json::Object(map) => {
            // Compose forgets to name these in its own way.
            *map = std::mem::take(map)
                .into_iter()
                .map(|(key, value)| match key.as_str() {
                    "Path" | "Rate" | "Weight" => (key.to_lowercase(), value),
                    _ => (key, value),
                })
                .collect();
            map.retain(|key, value| match key.as_str() {
                "command" | "entrypoint" => !value.is_null(),
                "ipam" => value.as_object().is_none_or(|ipam| !ipam.is_empty()),
                // False is left out, and the empty mapping around it too.
                "create_host_path" | "read_only" | "init" | "nocopy" | "stdin_open" | "tty"
                | "privileged" => *value != Json::Bool(false),
                _ => true,
            });
            // Compose escapes `$` in keys as well, where nothing takes it back.
            *map =
                std::mem::take(map).into_iter().map(|(key, value)| (key.replace("$$", "$"), value)).collect();
            for (key, value) in map.iter_mut() {
                simplify(value, key);
            }
            map.retain(|key, value| {
                let empty = value.as_object().is_some_and(|map| map.is_empty());
                !(empty
                    && matches!(
                        key.as_str(),
                        "bind" | "volume" | "tmpfs" | "placement" | "resources" | "exec" | "deploy"
                    ))
            });
            // `networks: {default: {}}` and `networks: {default: null}` are the same.
            if key == "networks" {
                for value in
                    map.values_mut().filter(|value| value.as_object().is_some_and(|map| map.is_empty()))
                {
                    *value = Json::Null;
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| simplify(item, "")),
        Json::String(text) if matches!(key, "source" | "file") => {
            if let Some(rest) = text.strip_prefix(HOME) {
                *text = format!("~{rest}");
            }
            if text.len() > 2 && !text.starts_with("../") {
                *text = text.trim_end_matches('/').to_owned();
            }
        }
        _ => {}
    }
}

/// Compose prints extensions inside sections as YAML only, not as JSON.
fn without_extensions(project: &mut Json) {
    let Json::Object(sections) = project else { return };
    for (_, section) in sections.iter_mut().filter(|(name, _)| !name.starts_with("x-")) {
        without_keys(section);
    }
}

fn without_keys(json: &mut Json) {
    match json {
        Json::Object(map) => {
            map.retain(|key, _| !key.starts_with("x-"));
            map.values_mut().for_each(without_keys);
        }
        Json::Array(items) => items.iter_mut().for_each(without_keys),
        _ => {}
    }
}

fn compare(expected: &Json, found: &Json, path: &str, differences: &mut Vec<String>) {
    match (expected, found) {
        (Json::Object(a), Json::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = format!("{path}.{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => compare(a, b, &path, differences),
                    (a, b) => differences.push(format!("{path}: expected {a:?}, found {b:?}")),
                }
            }
        }
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(a, b, &format!("{path}[{index}]"), differences);
            }
        }
        (a, b) if a == b => {}
        (a, b) => differences.push(format!("{path}: expected {a}, found {b}")),
    }
}
