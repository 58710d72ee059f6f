//! Looks for ways out of a container, again and again, while others start processes in it.
//!
//! What is looked for: a canary file of the device, through every link that `/proc` has to roots, folders and descriptors of
//! processes; and programs of others, opened for writing.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// As many `..` as lead from anywhere to the root.
const UP: &str = "../../../../../../../../../../../../../../../..";

/// For this long: each finding on a line of its own, once, then how often it was tried.
pub(crate) fn attack(canary: &str, secret: &str, time: Duration) {
    let begin = Instant::now();
    let (mut rounds, mut found) = (0_u64, Vec::new());
    while begin.elapsed() < time {
        rounds += 1;
        for process in numbers("/proc") {
            let folder = PathBuf::from(format!("/proc/{process}"));
            for finding in of_process(&folder, canary, secret) {
                if !found.contains(&finding) {
                    println!("leak: {finding}");
                    found.push(finding);
                }
            }
        }
    }
    println!("attacked {rounds} times, {} leaks", found.len());
}

fn numbers(folder: &str) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn of_process(process: &Path, canary: &str, secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    let inside = canary.trim_start_matches('/');
    let mut folders = vec![process.join("root"), process.join("cwd")];
    folders.extend(
        numbers(&process.join("fd").to_string_lossy()).iter().map(|fd| process.join(format!("fd/{fd}"))),
    );
    for folder in folders {
        for path in [folder.join(inside), folder.join(UP).join(inside)] {
            if holds(&path, secret) {
                found.push(format!("{} is read", path.display()));
            }
        }
        if fs::read_link(&folder)
            .is_ok_and(|link| link.starts_with(Path::new(canary).parent().unwrap_or(Path::new("/x"))))
        {
            found.push(format!("{} names the device's folder", folder.display()));
        }
    }
    // The program of a process of ours must not be the device's file (CVE-2019-5736).
    let program = process.join("exe");
    if fs::read_link(&program).is_ok_and(|link| link.to_string_lossy().contains("dpack")) {
        let writable = OpenOptions::new().write(true).open(&program);
        if writable.is_ok() {
            found.push(format!("{} is open for writing", program.display()));
        }
    }
    if File::open(process.join("environ")).is_ok_and(|file| contains(file, secret)) {
        found.push(format!("{} has the secret", process.join("environ").display()));
    }
    found
}

fn holds(path: &Path, secret: &str) -> bool {
    File::open(path).is_ok_and(|file| contains(file, secret))
}

fn contains(file: File, secret: &str) -> bool {
    let mut text = Vec::new();
    let _ = file.take(64 << 10).read_to_end(&mut text);
    text.windows(secret.len()).any(|window| window == secret.as_bytes())
}
