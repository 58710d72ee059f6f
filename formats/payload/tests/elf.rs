//! Executables: what GNU binutils make of them, and what they make of GNU binutils.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use dpack_payload::write::{SpliceError, StubHead};
use dpack_payload::{Found, HeadState, Payload};

fn run(program: &str, arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs {program}: {error}"));
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

fn status(executable: &Path) -> Option<i32> {
    Command::new(executable).status().unwrap().code()
}

fn place(folder: &Path, bytes: &[u8]) -> PathBuf {
    let path = folder.join("app");
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn open(path: &Path) -> Payload<std::fs::File> {
    Payload::open(std::fs::File::open(path).unwrap()).unwrap()
}

/// What holds for an executable on any stub that exits with 42.
fn check(stub: &[u8], machine: u16, runs: bool) {
    let folder = tempfile::tempdir().unwrap();
    let tar = sample_tar();
    let (bytes, summary) = write(&[&tar], 9, Some(StubHead::new(stub, machine).unwrap()));
    assert_eq!(summary.file_length, bytes.len() as u64);
    let app = place(folder.path(), &bytes);
    let payload = open(&app);
    assert_eq!((payload.found(), payload.verify().unwrap()), (Found::AtEnd, HeadState::Intact));
    assert_eq!(read_all(&payload, 0), tar);
    assert!(!runs || status(&app) == Some(42));

    let sections = run("readelf", &["-SW", "app"], folder.path());
    let size = format!("{:06x}", summary.payload_length);
    assert!(sections.lines().any(|line| line.contains(".dpack") && line.contains(&size)), "{sections}");
    assert!(!sections.contains("Warning") && !sections.contains("Error"), "{sections}");

    run("objcopy", &["--dump-section", ".dpack=dump", "app", "copy"], folder.path());
    let dump = open(&folder.path().join("dump"));
    assert_eq!(dump.verify().unwrap(), HeadState::Absent);
    assert_eq!(std::fs::metadata(folder.path().join("dump")).unwrap().len(), summary.payload_length);
    assert_eq!(read_all(&dump, 0), tar);
}

/// What holds after other tools rewrote the file.
fn check_rewritten(stub: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let tar = sample_tar();
    place(folder.path(), &write(&[&tar], 9, Some(StubHead::new(stub, 62).unwrap())).0);
    for (tool, arguments) in [
        ("strip", &["app", "-o", "tooled"][..]),
        ("strip", &["--strip-all", "app", "-o", "tooled"]),
        ("strip", &["--strip-debug", "app", "-o", "tooled"]),
        ("objcopy", &["app", "tooled"]),
    ] {
        run(tool, arguments, folder.path());
        let tooled = folder.path().join("tooled");
        assert_eq!(status(&tooled), Some(42), "{tool} {arguments:?}");
        let payload = open(&tooled);
        assert_eq!(payload.found(), Found::BySection);
        assert_eq!(payload.verify().unwrap(), HeadState::Rewritten, "{tool} {arguments:?}");
        assert_eq!(read_all(&payload, 0), tar);
        // The program itself is covered still.
        let mut bytes = std::fs::read(&tooled).unwrap();
        let code = bytes.windows(5).position(|window| window[1..] == *b"\x2a\0\0\0").unwrap();
        bytes[code + 1] ^= 1;
        assert!(Payload::open(bytes).unwrap().verify().is_err());
    }
}

#[test]
fn a_stub_without_section_headers_64() {
    // GNU strip empties such a file with or without a payload, so `check_rewritten` is not for it.
    check(&tiny_elf64(), 62, true);
}

#[test]
fn a_stub_without_section_headers_32() {
    // The kernel of the test machine need not run 32-bit code.
    check(&tiny_elf32(), 3, false);
}

fn compile(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    std::fs::write(folder.join("stub.c"), "int main(void) { return 42; }\n").unwrap();
    run("gcc", &[&["stub.c", "-o", "stub"], arguments].concat(), folder);
    std::fs::read(folder.join("stub")).unwrap()
}

#[test]
fn a_real_static_stub_with_symbols_and_sections() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["-static", "-g"][..], &["-static-pie", "-s"]] {
        let stub = compile(folder.path(), arguments);
        check(&stub, 62, true);
        check_rewritten(&stub);
    }
}

#[test]
fn other_files_are_no_stubs() {
    let folder = tempfile::tempdir().unwrap();
    let stub = tiny_elf64();
    let error = |stub: &[u8], machine| StubHead::new(stub, machine).map(|_| ()).unwrap_err();
    assert_eq!(error(b"#!/bin/sh\n", 62), SpliceError::NotElf);
    assert_eq!(error(&compile(folder.path(), &[]), 62), SpliceError::Dynamic);
    assert_eq!(error(&stub, 183).to_string(), "the stub is for x86-64, not for AArch64",);
    let spliced = write(&[&sample_tar()], 1, Some(StubHead::new(&stub, 62).unwrap())).0;
    assert_eq!(error(&spliced, 62), SpliceError::Spliced);
    for length in 0..stub.len() {
        // Loaded bytes that are not there are no program; nothing panics.
        assert!(StubHead::new(&stub[..length], 62).is_err(), "{length}");
    }
    let mut numbers = Numbers(9);
    for _ in 0..3000 {
        let mut hostile = stub.clone();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(120);
            hostile[at] = numbers.number() as u8;
        }
        let _ = StubHead::new(&hostile, 62);
    }
}

#[test]
fn section_headers_of_every_sort_are_read_without_panic() {
    let bytes = write(&[&sample_tar()], 1, Some(StubHead::new(&tiny_elf64(), 62).unwrap())).0;
    let head = Payload::open(bytes.clone()).unwrap().offset() as usize;
    let mut numbers = Numbers(8);
    for _ in 0..3000 {
        // Bytes behind the trailer, so that the section is what leads to the payload.
        let mut hostile = [bytes.clone(), vec![0; 3]].concat();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(head);
            hostile[at] = numbers.number() as u8;
        }
        if let Ok(payload) = Payload::open(hostile) {
            let _ = payload.verify();
        }
    }
}
