//! Projects of several files: what they become on the device, and what is said when one is missing, wrong, or goes round in
//! circles.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;

use dpack_compose::{
    Environment, Errors, LoadOptions, Model, Options, Resolved, interpolate, interpolate_with, load,
};

/// A project of these files, the first of which is `compose.yml`.
fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// As the builder resolves it, and as the device does.
fn resolve(files: &[(&str, &str)]) -> Result<Resolved, Errors> {
    let folder = project(files);
    let options = LoadOptions { working_dir: folder.path().to_owned(), ..LoadOptions::default() };
    let loaded = load(&options)?;
    let environment = Environment::new([]);
    let here = interpolate(&loaded.model, &environment)?;
    // The folder is gone on the device.
    drop(folder);
    let model = Model::from_json(&loaded.model.to_json()).unwrap();
    let there = interpolate(&model, &environment)?;
    assert_eq!(here.project, there.project);
    Ok(there)
}

#[track_caller]
fn check(files: &[(&str, &str)], expected: &str) {
    match resolve(files) {
        Ok(resolved) => panic!("accepted:\n{}", resolved.to_yaml()),
        Err(errors) => assert_eq!(errors.to_string(), expected),
    }
}

#[test]
fn circles() {
    check(
        &[("compose.yml", "services:\n  a: {image: x, extends: b}\n  b: {extends: {service: a}}\n")],
        "compose.yml:2:26: services.a.extends: services extend each other in a circle: a -> b -> a\n\
         compose.yml:3:16: services.b.extends: services extend each other in a circle: b -> a -> b",
    );
    check(
        &[
            ("compose.yml", "services:\n  a: {extends: {file: o/o.yml, service: b}}\n"),
            ("o/o.yml", "services:\n  b: {extends: {file: p.yml, service: c}}\n"),
            ("o/p.yml", "services:\n  c: {extends: {file: ../o/o.yml, service: b}}\n"),
        ],
        "o/o.yml:2:16: services.b.extends: services extend each other in a circle: a -> b -> c -> b",
    );
    check(
        &[
            ("compose.yml", "include: [a.yml]\nservices: {x: {image: x}}\n"),
            ("a.yml", "include: [b/b.yml]\n"),
            ("b/b.yml", "include:\n  - ../a.yml\n"),
        ],
        "b/b.yml:2:5: include[0]: files include each other in a circle: compose.yml -> a.yml -> b/b.yml -> a.yml",
    );
}

#[test]
fn what_is_not_there() {
    let missing = "failed to read: No such file or directory (os error 2)";
    check(
        &[("compose.yml", "services:\n  a: {extends: {file: o.yml, service: b}}\n")],
        &format!("compose.yml:2:16: services.a.extends: `o.yml`: {missing}"),
    );
    check(
        &[("compose.yml", "services: {a: {image: x}}\ninclude:\n  - sub/c.yml\n")],
        &format!("compose.yml:3:5: include[0]: `sub/c.yml`: {missing}"),
    );
    check(
        &[
            ("compose.yml", "services:\n  a: {extends: {file: o.yml, service: c}}\n"),
            ("o.yml", "services: {b: {image: x}}\n"),
        ],
        "compose.yml:2:16: services.a.extends: there is no service `c` in `o.yml` to extend",
    );
    check(
        &[("compose.yml", "services:\n  a: {image: x, extends: b}\n")],
        "compose.yml:2:26: services.a.extends: there is no service `b` to extend",
    );
    check(
        &[("compose.yml", "services:\n  a:\n    image: x\n    env_file: [a.env]\n")],
        "compose.yml:4:16: services.a.env_file[0]: there is no file `a.env`",
    );
    check(
        &[("compose.yml", "services:\n  a:\n    image: x\n    label_file: a.labels\n")],
        "compose.yml:4:17: services.a.label_file[0]: there is no file `a.labels`",
    );
    check(
        &[("compose.yml", "include: [\"oci://example.com/x\"]\nservices: {a: {image: x}}\n")],
        "compose.yml:1:11: include[0]: `oci://example.com/x` is not a file, and nothing else can be read",
    );
}

/// A mistake in another file is shown where it stands.
#[test]
fn mistakes_in_other_files() {
    check(
        &[
            ("compose.yml", "include: [o.yml]\nservices: {a: {image: x}}\n"),
            ("o.yml", "services:\n  b: {imgae: y}\n"),
        ],
        "o.yml:2:7: services.b.imgae: unknown key",
    );
    check(
        &[
            ("compose.yml", "services:\n  a: {extends: {file: o.yml, service: b}}\n"),
            ("o.yml", "services:\n  b: {image: y, ports: [\"x\"]}\n"),
        ],
        "o.yml:2:25: services.b.ports[0]: `x` is not a port number",
    );
    check(
        &[("compose.yml", "services:\n  a: {image: x, env_file: a.env}\n"), ("a.env", "A=1\nB=\"\n")],
        "compose.yml:2:27: services.a.env_file[0]: `a.env`, line 2: the quote \" is not closed",
    );
    check(
        &[("compose.yml", "services:\n  a: {image: x, env_file: a.env}\n"), ("a.env", "A=1\nB=\0\n")],
        "compose.yml:2:27: services.a.env_file[0]: `a.env`, line 2: contains a NUL byte",
    );
    check(
        &[
            ("compose.yml", "services:\n  a: {image: x, env_file: [{path: a.env, format: toml}]}\n"),
            ("a.env", "A=1\n"),
        ],
        "compose.yml:2:28: services.a.env_file[0]: expected the format `raw` or none, found `toml`",
    );
    check(
        &[
            ("compose.yml", "include: [o.yml]\nservices: {a: {image: x}}\n"),
            ("o.yml", "services: {a: {image: y}}\n"),
        ],
        "compose.yml:1:11: include[0]: `services.a` is defined here and in the included file",
    );
}

/// A file included twice by each of the files that include it is there a million times.
#[test]
fn files_that_multiply() {
    let mut files =
        vec![("compose.yml".to_owned(), "include: [f0.yml]\nservices: {a: {image: x}}\n".to_owned())];
    for number in 0..20 {
        let next = number + 1;
        files.push((format!("f{number}.yml"), format!("include: [f{next}.yml, {{path: [f{next}.yml]}}]\n")));
    }
    files.push(("f20.yml".to_owned(), "services: {}\n".to_owned()));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let error = resolve(&files).unwrap_err().to_string();
    assert!(error.contains("more than 1000 files are included or extended"), "{error}");
}

/// Each service copies a large one.
#[test]
fn services_that_multiply() {
    let labels: String = (0..2_000).map(|n| format!("l{n}: x, ")).collect();
    let services: String = (0..2_000).map(|n| format!("  s{n}: {{extends: big}}\n")).collect();
    let text = format!("services:\n  big: {{image: x, labels: {{{labels}}}}}\n{services}");
    let error = resolve(&[("compose.yml", &text)]).unwrap_err().to_string();
    assert!(error.contains("`extends` copies too much"), "{}", &error[..200.min(error.len())]);
}

#[test]
fn ten_megabytes() {
    let text = format!("services: {{a: {{image: x}}}}\nx-a: \"{}\"\n", "a".repeat(10 << 20));
    check(&[("compose.yml", &text)], "compose.yml: larger than 4 MiB");
    let other = [("compose.yml", "include: [o.yml]\nservices: {a: {image: x}}\n"), ("o.yml", text.as_str())];
    check(&other, "compose.yml:1:11: include[0]: `o.yml`: larger than 4 MiB");
}

/// Another value of a variable finds on the device only what travels.
#[test]
fn names_of_files_with_variables() {
    let folder = project(&[
        ("compose.yml", "services:\n  a: {image: x, env_file: \"${WHICH:-a}.env\"}\n"),
        ("a.env", "A=1\n"),
        ("b.env", "A=2\n"),
    ]);
    let loaded =
        load(&LoadOptions { working_dir: folder.path().to_owned(), ..LoadOptions::default() }).unwrap();
    let with =
        |which: &str| interpolate(&loaded.model, &Environment::new([("WHICH".to_owned(), which.to_owned())]));
    assert_eq!(with("a").unwrap().project.services["a"].environment["A"], "1");
    assert_eq!(
        with("b").unwrap_err().to_string(),
        "compose.yml:2:27: services.a.env_file[0]: `b.env` was not there when this was built"
    );
}

/// Absolute files are the device's: asked for there, not when the executable is built.
#[test]
fn files_of_the_device() {
    let folder = project(&[("compose.yml", "services:\n  a: {image: x, env_file: /etc/app.env}\n")]);
    let loaded =
        load(&LoadOptions { working_dir: folder.path().to_owned(), ..LoadOptions::default() }).unwrap();
    let environment = Environment::new([]);
    assert!(interpolate(&loaded.model, &environment).unwrap().project.services["a"].environment.is_empty());
    let on_device = |answer: Result<Option<String>, String>| {
        let device = move |path: &str| {
            assert_eq!(path, "/etc/app.env");
            answer.clone()
        };
        let options = Options { device: Some(&device), ..Options::default() };
        interpolate_with(&loaded.model, &environment, &options)
    };
    let found = on_device(Ok(Some("A=device\n".to_owned()))).unwrap();
    assert_eq!(found.project.services["a"].environment["A"], "device");
    assert_eq!(
        on_device(Ok(None)).unwrap_err().to_string(),
        "compose.yml:2:27: services.a.env_file[0]: there is no file `/etc/app.env`"
    );
}

/// Services whose profiles are not active are set aside; naming one activates it.
#[test]
fn profiles() {
    let files = "services:\n  web: {image: x}\n  debug: {image: y, profiles: [dev, debug]}\n  tool: {image: z, profiles: [dev]}\n  other: {image: o, profiles: [other]}\n";
    let project = resolve(&[("compose.yml", files)]).unwrap().project;
    assert_eq!(Vec::from_iter(project.services.keys()), ["web"]);
    assert_eq!(Vec::from_iter(project.disabled.keys()), ["debug", "other", "tool"]);
    let folder = self::project(&[("compose.yml", files)]);
    let options = LoadOptions { working_dir: folder.path().to_owned(), ..LoadOptions::default() };
    let model = load(&options).unwrap().model;
    let (debug, web) = (["debug".to_owned()], ["web".to_owned()]);
    let named = |services, profiles| {
        let options = Options { services, profiles, ..Options::default() };
        let project = interpolate_with(&model, &Environment::new([]), &options).unwrap().project;
        Vec::from_iter(project.services.into_keys())
    };
    assert_eq!(named(&debug, &[]), ["debug", "tool", "web"]);
    assert_eq!(named(&debug, &debug), ["debug", "web"], "it is active by one of its profiles");
    assert_eq!(named(&web, &[]), ["web"]);
    check(
        &[(
            "compose.yml",
            "services:\n  web: {image: x, depends_on: [db]}\n  db: {image: y, profiles: [p]}\n",
        )],
        "compose.yml:2:32: services.web.depends_on: service `db` is not active",
    );
}

/// What cannot be run hinders nobody who does not ask for it.
#[test]
fn a_refused_key_of_an_inactive_service() {
    let files = "services:\n  web: {image: x}\n  top: {image: y, profiles: [host], pid: host, gpus: all}\n";
    let folder = project(&[("compose.yml", files)]);
    let options = LoadOptions { working_dir: folder.path().to_owned(), ..LoadOptions::default() };
    let model = load(&options).unwrap().model;
    let with = |options: &Options<'_>| interpolate_with(&model, &Environment::new([]), options);
    let resolved = with(&Options::default()).unwrap();
    assert!(resolved.project.disabled.contains_key("top"));
    let (host, top) = (["host".to_owned()], ["top".to_owned()]);
    for options in [
        Options { profiles: &host, ..Options::default() },
        Options { services: &top, ..Options::default() },
        Options { all_profiles: true, ..Options::default() },
    ] {
        let text = with(&options).unwrap_err().to_string();
        assert!(text.starts_with("compose.yml:3:48: services.top.gpus: "), "{text}");
    }
}

/// A seccomp profile stands in the project itself, whatever file it came from.
#[test]
fn seccomp_profiles() {
    let compose = "services:\n  a:\n    image: x\n    security_opt: [\"seccomp=p.json\"]\n";
    check(
        &[("compose.yml", compose)],
        "compose.yml:4:20: services.a.security_opt[0]: there is no file `p.json`",
    );
    check(
        &[("compose.yml", compose), ("p.json", "{")],
        "compose.yml:4:20: services.a.security_opt[0]: `p.json` is no JSON: EOF while parsing an object at line 1 column 1",
    );
    check(
        &[("compose.yml", compose), ("p.json", "{\"syscalls\": []}")],
        "compose.yml:4:20: services.a.security_opt[0]: `p.json` is no seccomp profile: it has no `defaultAction`",
    );
}
