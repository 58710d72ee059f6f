//! `kill -9` of any process of ours at any moment: afterwards `ps`, `up` and `down` are right, and nothing is left behind.
//!
//! `DPACK_KILLS` says how often (12 when it is not set; 200 is what a release is tried with), `DPACK_SEED` repeats a run.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::{App, dies, process_state};

/// xorshift64*: good enough to be unpredictable, and can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn whatever_is_killed_the_next_command_is_right() {
    let waits = |more: serde_json::Value| {
        let mut service = json!({"command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]});
        service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service
    };
    let app = App::new(json!({
        "db": waits(json!({"restart": "always", "volumes": ["kept:/kept"]})),
        "app": waits(json!({"depends_on": ["db"]})),
        "alone": waits(json!({"network_mode": "none"})),
    }));
    let kills = number("DPACK_KILLS").unwrap_or(12);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("DPACK_SEED").unwrap_or(now) | 1;
    let mut random = Random(seed);
    for round in 0..kills {
        let verb = [
            &["up", "-d"][..],
            &["up", "-d", "--force-recreate"],
            &["restart", "-t", "1"],
            &["down", "-t", "1"],
        ];
        let verb = verb[random.below(4)];
        if verb[0] != "up" {
            app.ok(&["up", "-d"]);
        }
        let mut command = app.command(verb);
        let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.below(400) as u64));
        let ours = processes(&app);
        let mut victim = "nobody".to_owned();
        if !ours.is_empty() {
            let (pid, name) = &ours[random.below(ours.len())];
            victim.clone_from(name);
            let _ = kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL);
            // Until then what it belongs to may rightly be said to run.
            dies(*pid);
        }
        let what = format!("round {round}, seed {seed}: {victim} killed during {verb:?}");
        let _ = running.wait();
        app.ok(&["ps", "-a"]);
        let up = app.run(&["up", "-d", "-t", "1"]);
        assert_eq!(up.code, Some(0), "{what}\n{}\n{}", up.err, app.supervisor_log());
        for container in ["test-db-1", "test-app-1", "test-alone-1"] {
            assert_eq!(app.state(container), "running", "{what}: {container}\n{}", app.supervisor_log());
        }
        let inside = app.run(&["exec", "-T", "app", "sh", "-c", "echo fine"]);
        assert_eq!(inside.out, "fine\n", "{what}\n{}", inside.err);
        if random.below(3) == 0 {
            down_leaves_nothing(&app, &what);
        }
    }
    down_leaves_nothing(&app, &format!("seed {seed}"));
}

fn down_leaves_nothing(app: &App, what: &str) {
    let down = app.run(&["down", "-v", "-t", "1"]);
    assert_eq!(down.code, Some(0), "{what}\n{}\n{}", down.err, app.supervisor_log());
    let begin = Instant::now();
    while !processes(app).is_empty() {
        let log = app.supervisor_log();
        let late = begin.elapsed() > Duration::from_secs(60);
        assert!(!late, "{what}: still there after a minute: {:?}\n{log}", processes(app));
        std::thread::sleep(Duration::from_millis(50));
    }
    for gone in ["data/projects/test", "run/dpack/test"] {
        let entries = files(&app.path(gone));
        assert!(entries.is_empty(), "{what}: left in {gone}: {entries:?}");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let folder = app.path("data");
    assert!(!mounts.contains(folder.to_str().unwrap()), "{what}: mounts are left");
}

/// Everything below a folder.
fn files(folder: &PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            let mut all = if path.is_dir() { files(&path) } else { Vec::new() };
            all.push(path);
            all
        })
        .collect()
}

/// Processes of ours and of containers: those whose arguments or mounts name the application's folder.
fn processes(app: &App) -> Vec<(i32, String)> {
    let folder = app.path("");
    let folder = folder.to_str().unwrap().trim_end_matches('/').as_bytes().to_owned();
    let own = std::process::id().cast_signed();
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own)
        .filter_map(|pid| {
            let state = process_state(pid)?;
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let line = read("cmdline");
            let named = contains(&line, &folder) || contains(&read("mountinfo"), &folder);
            let name = String::from_utf8_lossy(&line).split('\0').next().unwrap_or_default().to_owned();
            (state != 'Z' && named).then_some((pid, name))
        })
        .collect()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
