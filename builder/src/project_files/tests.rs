use super::*;
use dpack_compose::{Environment, LoadOptions, interpolate_with, load};

fn project(compose: &str, files: &[(&str, &str)]) -> (TempDir, Resolved) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("compose.yml"), compose).unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let loaded =
        load(&LoadOptions { working_dir: folder.path().to_owned(), ..LoadOptions::default() }).unwrap();
    let options = dpack_compose::Options { lenient: true, ..Default::default() };
    let resolved = interpolate_with(&loaded.model, &Environment::default(), &options).unwrap();
    (folder, resolved)
}

const COMPOSE: &str = "
services:
  web:
    image: a
    volumes: [./conf:/conf, ../up:/up, /abs:/abs, ./gone:/gone]
    configs: [app, missing]
    secrets: [key]
configs:
  app: {file: app.conf}
  missing: {file: missing.conf}
secrets:
  key: {file: key.pem}
";
const FILES: [(&str, &str); 5] =
    [("conf/a", "1"), ("conf/sub/b", "22"), ("conf/x.log", "333"), ("app.conf", "c"), ("key.pem", "k")];

fn options(limit: u64, secrets: &[&str]) -> Options {
    Options { limit, secrets: secrets.iter().map(|name| (*name).to_owned()).collect() }
}

fn names(files: &ProjectFiles) -> Vec<&str> {
    files.files.iter().map(|file| file.path.as_str()).collect()
}

#[test]
fn what_the_model_asks_for_is_taken() {
    let (folder, resolved) = project(COMPOSE, &FILES);
    let (taken, warnings) = collect(&resolved, folder.path(), &options(DEFAULT_LIMIT, &[])).unwrap();
    assert_eq!(names(&taken), ["app.conf", "conf/a", "conf/sub/b", "conf/x.log"]);
    assert_eq!(Vec::from_iter(&taken.paths), ["app.conf", "conf"]);
    let shown: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "compose.yml:10:19: configs.missing.file: `missing.conf` is not there, the device must have it beside the executable"
        ]
    );
}

#[test]
fn secrets_are_taken_when_named_only() {
    let (folder, resolved) = project(COMPOSE, &FILES);
    let (taken, _) = collect(&resolved, folder.path(), &options(DEFAULT_LIMIT, &["key"])).unwrap();
    assert!(names(&taken).contains(&"key.pem"));
    let error = collect(&resolved, folder.path(), &options(DEFAULT_LIMIT, &["nope"])).unwrap_err();
    assert_eq!(error.to_string(), "--embed-secret: no service uses a secret `nope`");
}

#[test]
fn the_limit_and_what_stays_behind() {
    let (folder, resolved) = project(COMPOSE, &FILES);
    let error = collect(&resolved, folder.path(), &options(6, &[])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the files of the project that would travel have more than 6 bytes; the largest: conf/x.log (3 bytes), conf/sub/b (2 bytes), app.conf (1 bytes), conf/a (1 bytes)"
    );
    fs::write(folder.path().join(EXCLUDE), "**/*.log\n").unwrap();
    let (taken, _) = collect(&resolved, folder.path(), &options(6, &[])).unwrap();
    assert_eq!(names(&taken), ["app.conf", "conf/a", "conf/sub/b"]);
}

/// The same files make the same layer, wherever and whenever.
#[test]
fn the_image_depends_on_content_only() {
    let platforms = ["linux/amd64", "linux/arm/v7"].map(|text| text.parse::<Platform>().unwrap());
    let index = |project: &(TempDir, Resolved)| {
        let (taken, _) = collect(&project.1, project.0.path(), &options(DEFAULT_LIMIT, &[])).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let (folder, source) = taken.image(&platforms, scratch.path()).unwrap();
        assert_eq!(source.path, folder.path());
        fs::read_to_string(folder.path().join("index.json")).unwrap()
    };
    let one = index(&project(COMPOSE, &FILES));
    assert_eq!(one, index(&project(COMPOSE, &FILES)));
    assert!(one.contains("\"variant\":\"v7\""));
}

#[test]
fn paths_inside_the_project() {
    for (path, expected) in [
        ("./a/b", Some("a/b")),
        (".", Some("")),
        ("a/../b", Some("b")),
        ("../a", None),
        ("/a", None),
        ("~/a", None),
    ] {
        assert_eq!(inside(path).as_deref(), expected, "{path}");
    }
}
