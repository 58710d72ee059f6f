//! Finding and reading files, and what the typed project holds.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use dpack_compose::{Environment, LoadOptions, Model, Resolved, Source, interpolate, load};

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn in_folder(dir: &Path) -> LoadOptions {
    LoadOptions { working_dir: dir.to_owned(), ..LoadOptions::default() }
}

fn resolve(options: &LoadOptions) -> Resolved {
    let loaded = load(options).unwrap_or_else(|errors| panic!("{errors}"));
    interpolate(&loaded.model, &Environment::new([])).unwrap_or_else(|errors| panic!("{errors}"))
}

fn image(options: &LoadOptions) -> String {
    resolve(options).project.services["web"].image.clone()
}

const WEB: &str = "services: {web: {image: one}}";

#[test]
fn the_usual_names_are_found_in_the_folder_and_above() {
    for name in ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[(name, WEB), ("a/b/x", "")]);
        assert_eq!(image(&in_folder(dir.path())), "one");
        let loaded = load(&in_folder(&dir.path().join("a/b"))).unwrap();
        assert_eq!(loaded.files.len(), 1);
        assert!(loaded.files[0].ends_with(name));
        assert_eq!(loaded.model.files().collect::<Vec<_>>(), [format!("../../{name}")]);
    }
}

#[test]
fn the_override_is_merged_unless_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let over = "services: {web: {image: two}}";
    write(dir.path(), &[("compose.yml", WEB), ("compose.override.yml", over), ("other.yml", over)]);
    assert_eq!(image(&in_folder(dir.path())), "two");
    let named = |files: &[&str]| LoadOptions {
        files: files.iter().map(PathBuf::from).collect(),
        ..in_folder(dir.path())
    };
    assert_eq!(image(&named(&["compose.yml"])), "one");
    assert_eq!(image(&named(&["compose.yml", "other.yml"])), "two");
    assert_eq!(image(&named(&["other.yml", "compose.yml"])), "one");
}

#[test]
fn several_candidates_are_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("compose.yaml", WEB), ("docker-compose.yml", WEB)]);
    let warnings = load(&in_folder(dir.path())).unwrap().warnings;
    assert_eq!(
        warnings[0].to_string(),
        "compose.yaml: several files could be meant (compose.yaml, docker-compose.yml), `compose.yaml` is used"
    );
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let error = |options: &LoadOptions| load(options).unwrap_err().to_string();
    let none = load(&in_folder(dir.path())).unwrap_err();
    assert!(
        none.to_string()
            .contains("no Compose file here or in a folder above, looked for compose.yaml, compose.yml")
    );
    assert_eq!(none.iter().next().unwrap().hint.as_deref(), Some("name one with `-f FILE`"));
    write(dir.path(), &[("compose.yml", WEB), (".env", "A B=1")]);
    let named = |file: &str| LoadOptions { files: vec![file.into()], ..in_folder(dir.path()) };
    assert_eq!(error(&named("gone.yml")), "gone.yml: failed to read: No such file or directory (os error 2)");
    assert_eq!(error(&in_folder(dir.path())), ".env:1: the name \"A B\" contains a space");
    write(dir.path(), &[(".env", "A=\"x\n")]);
    assert_eq!(error(&in_folder(dir.path())), ".env:1: the quote \" is not closed");
    fs::remove_file(dir.path().join(".env")).unwrap();
    fs::write(dir.path().join("latin.yml"), b"services:\n  web: {image: caf\xe9}\n").unwrap();
    assert_eq!(error(&named("latin.yml")), "latin.yml:2:19: not valid UTF-8");
    fs::write(dir.path().join("big.yml"), "#".repeat(10 << 20)).unwrap();
    assert_eq!(error(&named("big.yml")), "big.yml: larger than 4 MiB");
}

#[test]
fn the_name_comes_from_the_first_place_that_has_one() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("My Shop.1");
    write(&folder, &[("compose.yml", WEB)]);
    let name = |options: &LoadOptions, process: &[(&str, &str)]| {
        let model = load(options).unwrap_or_else(|errors| panic!("{errors}")).model;
        let process = process.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        interpolate(&model, &Environment::new(process)).unwrap().project.name
    };
    let options = in_folder(&folder);
    assert_eq!(name(&options, &[]), "myshop1");
    write(&folder, &[("compose.yml", "name: ${N:-written}\nservices: {web: {image: one}}")]);
    assert_eq!(name(&options, &[]), "written");
    assert_eq!(name(&options, &[("N", "filled")]), "filled");
    write(&folder, &[(".env", "COMPOSE_PROJECT_NAME=embedded")]);
    assert_eq!(name(&options, &[]), "embedded");
    let given = LoadOptions { project_name: Some("given".to_owned()), ..options.clone() };
    assert_eq!(name(&given, &[]), "given");
    assert_eq!(name(&given, &[("COMPOSE_PROJECT_NAME", "device")]), "device");
    let wrong = LoadOptions { project_name: Some("Wrong".to_owned()), ..options };
    assert_eq!(load(&wrong).unwrap_err().to_string(), "`Wrong` is not a project name");
}

#[test]
fn variables_know_where_they_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = "services: {web: {image: '$A', labels: [b=$B, c=$C, d=$D, e=$E], environment: [F]}}";
    write(dir.path(), &[("compose.yml", file), (".env", "A=1\nB=1\nC=1\nF=${A}${C}")]);
    let model = load(&in_folder(dir.path())).unwrap().model;
    let model = Model::from_json(&model.to_json()).unwrap();
    let mut environment = Environment::new([("A".to_owned(), "3".to_owned())]);
    environment.add_file("device.env", "A=2\nB=2\nD=2").unwrap();
    let resolved = interpolate(&model, &environment).unwrap();
    let web = &resolved.project.services["web"];
    assert_eq!(web.image, "3");
    assert_eq!(web.labels.values().collect::<Vec<_>>(), ["2", "1", "2", ""]);
    assert_eq!(web.environment["F"], "31");
    let source =
        |name: &str| resolved.variables[name].variable.as_ref().map(|variable| variable.source.clone());
    assert_eq!(source("A"), Some(Source::Process));
    assert_eq!(source("B"), Some(Source::File("device.env".to_owned())));
    assert_eq!(source("C"), Some(Source::Embedded(".env".to_owned())));
    assert_eq!(source("E"), None);
    assert_eq!(
        resolved.warnings[0].to_string(),
        "compose.yml: services.web.labels[3]: variable `E` is not set, an empty string takes its place"
    );
}

#[test]
fn given_variable_files_replace_the_default_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = "services: {web: {image: '${A}${B-}'}}";
    write(
        dir.path(),
        &[("compose.yml", file), (".env", "A=default\nB=x"), ("one.env", "A=one\nB=1"), ("two.env", "A=two")],
    );
    let with = |files: &[&str]| LoadOptions {
        env_files: Some(files.iter().map(PathBuf::from).collect()),
        ..in_folder(dir.path())
    };
    assert_eq!(image(&in_folder(dir.path())), "defaultx");
    assert_eq!(image(&with(&["one.env", "two.env"])), "two1");
    assert_eq!(
        load(&with(&["gone.env"])).unwrap_err().to_string(),
        "gone.env: failed to read: No such file or directory (os error 2)"
    );
}

/// Two folders, the same bytes: nothing of the machine is embedded.
#[test]
fn the_embedded_form_depends_on_nothing_but_the_files() {
    let embedded = |parent: &str| {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(parent).join("shop");
        let over = "services: {web: {ports: !override ['1:1'], hostname: !reset null, labels: {b: !reset }}}";
        write(&folder, &[("compose.yml", WEB), ("over.yml", over), (".env", "A=${HOME}")]);
        let files = vec![folder.join("compose.yml"), folder.join("over.yml")];
        let options = LoadOptions { files, ..in_folder(dir.path()) };
        load(&options).unwrap().model.to_json().to_string()
    };
    let one = embedded("a");
    assert_eq!(one, embedded("b/c"));
    let expected = concat!(
        r#"{"environment":[{"file":".env","text":"A=${HOME}"}],"folder":"shop","layers":["#,
        r#"{"content":{"services":{"web":{"image":"one"}}},"file":"compose.yml"},"#,
        r#"{"content":{"services":{"web":{"hostname":{"!reset":null},"labels":{"b":{"!reset":null}},"#,
        r#""ports":{"!override":["1:1"]}}}},"file":"over.yml"}],"version":1}"#,
    );
    let canonical: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert_eq!(canonical, serde_json::from_str::<serde_json::Value>(expected).unwrap());
}

/// Every supported key, as the runner gets it.
#[test]
fn the_typed_project() {
    let file = r#"
name: shop
services:
  web:
    image: nginx
    command: [a]
    entrypoint: ""
    environment: {A: 1, GONE: }
    working_dir: /srv
    user: "1:2"
    ports: ["127.0.0.1:8080:80", "53/udp"]
    expose: [80]
    volumes: ["data:/data:ro,nocopy", "./x:/x", "/anon", {type: bind, source: y, target: /y}]
    tmpfs: /run:size=1k,mode=700
    networks: {default: {aliases: [www]}}
    depends_on: [db]
    restart: on-failure:3
    hostname: h
    container_name: the-web
    labels: [l=m]
    stop_signal: SIGINT
    stop_grace_period: 1.5s
    init: true
    read_only: true
  db: {image: redis, network_mode: none, restart: on-failure:0}
  alone: {image: a, network_mode: host, restart: unless-stopped, stop_grace_period: 100us}
volumes:
  data: {labels: {a: b}}
  unused:
networks:
  default: {internal: true, labels: [n=1]}
  unused:
"#;
    let (model, _) = dpack_compose::parse("x", &[("compose.yml".to_owned(), file.to_owned())]).unwrap();
    let project = interpolate(&model, &Environment::new([])).unwrap().project;
    let expected = serde_json::json!({
        "name": "shop",
        "services": {
            "alone": {"image": "a", "network": "host", "restart": "unless-stopped", "stop_grace_period_ms": 1,
                "init": false, "read_only": false},
            "db": {"image": "redis", "network": "none", "restart": {"on-failure": null}, "init": false, "read_only": false},
            "web": {
                "image": "nginx", "command": ["a"], "entrypoint": [],
                "environment": {"A": "1"}, "unset_environment": ["GONE"],
                "working_dir": "/srv", "user": "1:2",
                "ports": [
                    {"target": 80, "published": 8080, "host_ip": "127.0.0.1", "protocol": "tcp"},
                    {"target": 53, "protocol": "udp"},
                ],
                "volumes": [
                    {"type": "volume", "source": "data", "target": "/data", "read_only": true, "nocopy": true},
                    {"type": "bind", "source": "./x", "target": "/x", "read_only": false, "create_host_path": true},
                    {"type": "volume", "target": "/anon", "read_only": false, "nocopy": false},
                    {"type": "bind", "source": "./y", "target": "/y", "read_only": false, "create_host_path": false},
                    {"type": "tmpfs", "target": "/run", "read_only": false, "size": 1024, "mode": 0o700},
                ],
                "network": {"networks": {"default": {"aliases": ["www"]}}},
                "depends_on": {"db": {"condition": "service_started"}},
                "restart": {"on-failure": 3},
                "hostname": "h", "container_name": "the-web", "labels": {"l": "m"},
                "stop_signal": "SIGINT", "stop_grace_period_ms": 1500, "init": true, "read_only": true,
            },
        },
        "networks": {"default": {"name": "shop_default", "internal": true, "labels": {"n": "1"}}},
        "volumes": {"data": {"name": "shop_data", "labels": {"a": "b"}}},
    });
    let json = serde_json::to_value(&project).unwrap();
    assert_eq!(json, expected, "{json:#}");
    assert_eq!(serde_json::from_value::<dpack_compose::Project>(json).unwrap(), project);
}

#[test]
fn warnings() {
    let file = r#"
version: "3"
services:
  web: {image: a, command: "a && b", init: "yes", network_mode: host, ports: ["80:80"], hostname: $A, user: "$A"}
"#;
    let (model, loading) = dpack_compose::parse("x", &[("c.yml".to_owned(), file.to_owned())]).unwrap();
    let resolved = interpolate(&model, &Environment::new([])).unwrap();
    let shown: Vec<String> = loading.iter().chain(&resolved.warnings).map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "c.yml:2:1: version: obsolete, it is ignored",
            "c.yml:4:99: services.web.hostname: variable `A` is not set, an empty string takes its place",
            "c.yml:4:28: services.web.command: no shell runs this, `&& b` is ignored",
            "c.yml:4:44: services.web.init: `yes` is no YAML boolean",
            "c.yml:4:65: services.web.network_mode: `ports` have no meaning on the device's own network, they are ignored",
        ]
    );
}

#[test]
fn later_stages_can_point_at_a_value() {
    let file = "services:\n  web:\n    image: gone\n";
    let (model, _) = dpack_compose::parse("x", &[("c.yml".to_owned(), file.to_owned())]).unwrap();
    let resolved = interpolate(&model, &Environment::new([])).unwrap();
    let diagnostic = resolved.diagnostic(&["services", "web", "image"], "no such image");
    assert_eq!(diagnostic.to_string(), "c.yml:3:12: services.web.image: no such image");
}
