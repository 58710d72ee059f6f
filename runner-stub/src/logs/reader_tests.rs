//! Logs as a shim leaves them, whole and broken.

use std::fs::OpenOptions;
use std::io::Write as _;

use super::*;

fn object(text: &str, stream: &str, second: u32) -> String {
    let log = serde_json::to_string(text).unwrap();
    format!("{{\"log\":{log},\"stream\":\"{stream}\",\"time\":\"1970-01-01T00:00:{second:02}Z\"}}\n")
}

fn log(content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.json");
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

fn texts(reader: &mut Reader) -> Vec<String> {
    std::iter::from_fn(|| reader.next().unwrap()).map(|line| line.text).collect()
}

#[test]
fn lines_have_their_stream_and_time() {
    let (_folder, path) = log(&[object("a\n", "stdout", 1), object("b\n", "stderr", 2)].concat());
    let mut reader = Reader::open(&path, Start::Beginning).unwrap();
    let line =
        |second: u64, stream, text: &str| Line { time: second * 1_000_000_000, stream, text: text.into() };
    assert_eq!(reader.next().unwrap(), Some(line(1, Stream::Stdout, "a")));
    assert_eq!(reader.next().unwrap(), Some(line(2, Stream::Stderr, "b")));
    assert_eq!(reader.next().unwrap(), None);
}

#[test]
fn pieces_of_a_line_are_joined_by_stream() {
    let content = [
        object("lo", "stdout", 1),
        object("err\n", "stderr", 2),
        object("ng\n", "stdout", 3),
        object("end", "stdout", 4),
    ];
    let (_folder, path) = log(&content.concat());
    let mut reader = Reader::open(&path, Start::Beginning).unwrap();
    assert_eq!(texts(&mut reader), ["err", "long"]);
    assert_eq!(reader.rest().unwrap().text, "end");
    assert_eq!(reader.rest(), None);
}

#[test]
fn a_half_written_object_waits_for_its_other_half() {
    let whole = object("text\n", "stdout", 1);
    let (_folder, path) = log(&whole[..20]);
    let mut reader = Reader::open(&path, Start::Beginning).unwrap();
    assert_eq!(reader.next().unwrap(), None);
    OpenOptions::new().append(true).open(&path).unwrap().write_all(&whole.as_bytes()[20..]).unwrap();
    assert_eq!(texts(&mut reader), ["text"]);
}

#[test]
fn what_a_power_cut_left_is_skipped() {
    let (_folder, path) =
        log(&[object("a\n", "stdout", 1), "\0\0\0{\"log\":\n".into(), object("b\n", "stdout", 2)].concat());
    assert_eq!(texts(&mut Reader::open(&path, Start::Beginning).unwrap()), ["a", "b"]);
}

#[test]
fn an_endless_object_is_skipped_in_bounded_memory() {
    let (_folder, path) = log(&["x".repeat(3 * LONGEST), "\n".into(), object("b\n", "stdout", 2)].concat());
    let mut reader = Reader::open(&path, Start::Beginning).unwrap();
    assert_eq!(texts(&mut reader), ["b"]);
    assert!(reader.buffer.capacity() < 3 * LONGEST);
}

#[test]
fn the_last_lines_are_found_from_the_end() {
    let many: String = (0..5_000).map(|n| object(&format!("line {n}\n"), "stdout", 1)).collect();
    let (_folder, path) = log(&[many, object("cu", "stdout", 2), object("t\n", "stdout", 2)].concat());
    for (count, first, length) in [
        (0, None, 0),
        (1, Some("cut"), 1),
        (3, Some("line 4998"), 3),
        (4_000, Some("line 1001"), 4_000),
        (9_000, Some("line 0"), 5_001),
    ] {
        let lines = texts(&mut Reader::open(&path, Start::Last(count)).unwrap());
        assert_eq!((lines.first().map(String::as_str), lines.len()), (first, length), "--tail {count}");
    }
}

#[test]
fn a_container_made_anew_is_read_from_the_beginning_of_its_new_log() {
    let (folder, path) = log(&object("old\n", "stdout", 1));
    let mut reader = Reader::open(&path, Start::Beginning).unwrap();
    assert_eq!(texts(&mut reader), ["old"]);
    let aside = folder.path().join("new");
    std::fs::write(&aside, object("new\n", "stdout", 2)).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    assert_eq!(texts(&mut reader), ["new"]);
}

#[test]
fn a_log_that_is_not_there_yet_is_read_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.json");
    let mut reader = Reader::open(&path, Start::Last(5)).unwrap();
    assert_eq!(reader.next().unwrap(), None);
    std::fs::write(&path, object("a\n", "stdout", 1)).unwrap();
    assert_eq!(texts(&mut reader), ["a"]);
}

#[test]
fn a_log_in_several_files_is_one_log() {
    let line = |n: u32| object(&format!("{n}\n"), "stdout", n);
    let (_folder, path) = log(&[line(5), line(6)].concat());
    std::fs::write(earlier(&path, 1), [line(3), line(4)].concat()).unwrap();
    std::fs::write(earlier(&path, 2), [line(1), line(2)].concat()).unwrap();
    for (start, expected) in [
        (Start::Beginning, vec!["1", "2", "3", "4", "5", "6"]),
        (Start::Last(1), vec!["6"]),
        (Start::Last(2), vec!["5", "6"]),
        (Start::Last(3), vec!["4", "5", "6"]),
        (Start::Last(4), vec!["3", "4", "5", "6"]),
        (Start::Last(9), vec!["1", "2", "3", "4", "5", "6"]),
    ] {
        assert_eq!(texts(&mut Reader::open(&path, start).unwrap()), expected, "{start:?}");
    }
    let mut reader = Reader::open(&path, Start::Last(0)).unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(line(7).as_bytes()).unwrap();
    for number in [8, 9] {
        std::fs::rename(earlier(&path, 1), earlier(&path, 2)).unwrap();
        std::fs::rename(&path, earlier(&path, 1)).unwrap();
        std::fs::write(&path, line(number)).unwrap();
    }
    assert_eq!(texts(&mut reader), ["7", "8", "9"], "two new files between two looks");
}
