//! A program that has the sandbox's roles and a bare command line to them; the integration tests run it as an ordinary user.
//!
//! ```text
//! role_host enter full|single run|start DIR…    in a new user namespace: in the foreground, or detached by shims
//! role_host exec|tty DIR USER|- CMD…            one more process
//! role_host state DIR   ·   role_host signal DIR SIGNAL   ·   role_host read DIR PATH
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::exit;

use dpack_sandbox::cgroup::Place;
use dpack_sandbox::idmap::IdMap;
use dpack_sandbox::role::Spawn;
use dpack_sandbox::{Error, Home, exec, foreground, record, role, shim, signal};

fn main() {
    role::dispatch();
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match &arguments[..] {
        ["inside", verb, dirs @ ..] => inside(verb, dirs),
        [_, "enter", kind, rest @ ..] => Err(enter(kind, rest)),
        [_, verb @ ("exec" | "tty"), dir, user, command @ ..] => execute(dir, user, *verb == "tty", command),
        [_, "state", dir] => record::state(Path::new(dir)).map(|state| {
            println!("{state:?}");
            0
        }),
        [_, "signal", dir, name] => signal::send(Path::new(dir), name.parse().unwrap()).map(i32::from),
        [_, "read", dir, path] => exec::read_file(Path::new(dir), path, 1 << 20).map(|content| {
            print!("{}", String::from_utf8_lossy(&content.unwrap_or_default()));
            0
        }),
        _ => panic!("usage: see the source"),
    };
    exit(result.unwrap_or_else(|error| {
        let mut cause = Some(&error as &dyn std::error::Error);
        let mut text = Vec::new();
        while let Some(error) = cause {
            text.push(error.to_string());
            cause = error.source();
        }
        eprintln!("error: {}", text.join(": "));
        if let Some(hint) = error.hint() {
            eprintln!("hint: {hint}");
        }
        error.exit_code().unwrap_or(125)
    }))
}

fn enter(kind: &str, rest: &[&str]) -> Error {
    let map = match kind {
        "full" => IdMap::detect(),
        _ => IdMap::Single { reason: "asked for".to_owned() },
    };
    assert_eq!(map.kind(), kind, "{map:?}");
    rest.iter()
        .fold(Spawn::new("inside"), |spawn, argument| spawn.arg(argument))
        .new_user_namespace(&map)
        .replace()
}

fn inside(verb: &str, dirs: &[&str]) -> Result<i32, Error> {
    if verb == "run" {
        return foreground::run(&foreground::RunOptions {
            container_dir: Path::new(dirs[0]),
            stdin: true,
            home: home(dirs[0]).as_ref(),
        });
    }
    for dir in dirs {
        let home = home(dir);
        let options = shim::CreateOptions {
            container_dir: Path::new(dir),
            network_namespace: None,
            home: home.as_ref(),
        };
        let started = shim::create(&options)?.start()?;
        println!("{} {}", started.shim_pid, started.init_pid);
    }
    if verb == "linger" {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
    Ok(0)
}

/// In a control group of its own where limits are asked for: the folder that one test was given is not for those beside it.
fn home(dir: &str) -> Option<Home> {
    let config = std::fs::read(Path::new(dir).join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    config.pointer("/linux/resources")?;
    let name = Path::new(dir).file_name()?.to_str()?.to_owned();
    Some(Home { place: Place::prepare(&name, true), name })
}

fn execute(dir: &str, user: &str, tty: bool, command: &[&str]) -> Result<i32, Error> {
    let user = user.parse().ok().map(|uid| exec::User { uid, gid: uid, additional_gids: vec![] });
    let options = exec::ExecOptions {
        container_dir: Path::new(dir),
        args: command.iter().map(|&argument| argument.to_owned()).collect(),
        env: vec!["FROM=exec".to_owned()],
        cwd: None,
        user,
        capabilities: None,
        tty,
        stdin: true,
    };
    match exec::run(&options)? {}
}
