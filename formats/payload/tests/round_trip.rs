//! Tars of every sort go in and come back byte for byte; the same inputs give the same bytes.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::io::{Read, Seek, SeekFrom, Write};

use common::*;
use dpack_payload::digest::Digest;
use dpack_payload::write::{LayerRecipe, Level, StoredFrame, plan_frames, split};
use dpack_payload::{FrameDecoder, Payload};

fn comes_back(name: &str, tar: &[u8]) {
    let recipe = split(tar).unwrap();
    assert_eq!((recipe.diff_id, recipe.tar_length), (Digest::of(tar), tar.len() as u64), "{name}");
    let payload = Payload::open(write_bare(&[tar], 1)).unwrap();
    assert!(read_all(&payload, 0) == tar, "{name}");
    payload.verify().unwrap();
    let mut written = Vec::new();
    payload.write_tar(&recipe.diff_id, &mut written).unwrap();
    assert!(written == tar, "{name}");
}

fn header(kind: u8, size: u64, path: &str) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).unwrap();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(size);
    header.set_cksum();
    header
}

#[test]
fn tars_of_every_sort_come_back() {
    let mut numbers = Numbers(7);
    let sample = sample_tar();
    comes_back("sample", &sample);
    comes_back("nothing", b"");
    comes_back("end blocks only", &[0; 1024]);
    comes_back("no end blocks", &sample[..sample.len() - 1024]);
    comes_back("concatenated", &[sample.clone(), sample.clone()].concat());
    comes_back("long zero padding", &[sample.clone(), vec![0; 300_000]].concat());
    comes_back("trailing garbage", &[sample.clone(), numbers.bytes(5000)].concat());
    comes_back("no tar at all", &numbers.bytes(100_000));
    comes_back("large and no tar at all", &numbers.bytes(9 << 20));
    for cut in [1, 511, 513, 700, 2000] {
        comes_back("cut off", &sample[..sample.len() - 1024 - cut]);
    }
    let big = numbers.bytes(7_000_001);
    comes_back("large file", &[header(b'0', big.len() as u64, "big").as_bytes().as_slice(), &big].concat());
    let claims = header(b'0', (8 << 30) - 1, "claims 8 GiB");
    comes_back("header without its body", &[claims.as_bytes().as_slice(), &big[..600]].concat());
    let link = header(b'1', 5000, "hard link with a size");
    comes_back("hard link with a size", &[link.as_bytes().as_slice(), &sample].concat());
}

/// GNU and PAX sparse files, long names, PAX sizes: as GNU tar itself writes them.
#[test]
fn tars_of_gnu_tar_come_back_in_all_its_formats() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let deep = root.join("a-rather-long-folder-name/".repeat(8));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("x".repeat(200)), b"content ".repeat(100)).unwrap();
    std::fs::write(root.join("tool.py"), "import sys\n".repeat(50)).unwrap();
    std::fs::hard_link(root.join("tool.py"), root.join("zz-hard.py")).unwrap();
    std::os::unix::fs::symlink("y".repeat(180), root.join("soft")).unwrap();
    let mut sparse = std::fs::File::create(root.join("sparse")).unwrap();
    for block in 0..40 {
        sparse.seek(SeekFrom::Start(block * 65536)).unwrap();
        sparse.write_all(&[b'a' + block as u8; 4096]).unwrap();
    }
    for options in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=pax", "--sparse"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--pax-option=comment=héllo"],
        &["--format=oldgnu", "--sparse", "--blocking-factor=1"],
    ] {
        let output = std::process::Command::new("tar")
            .args(["--sort=name", "-cC"])
            .arg(&root)
            .args(options)
            .arg(".")
            .output()
            .unwrap();
        assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
        comes_back(&format!("{options:?}"), &output.stdout);
        let recipe = split(output.stdout.as_slice()).unwrap();
        let tool = recipe.bodies.iter().find(|body| body.path.ends_with("tool.py")).unwrap();
        assert_eq!((tool.length(), tool.kind.as_str()), (550, "py"), "{options:?}");
        assert!(recipe.bodies.iter().any(|body| body.path.ends_with(&"x".repeat(200))), "{options:?}");
        assert!(recipe.bodies.iter().all(|body| !body.path.is_empty()), "{options:?}: something was misread");
    }
}

#[test]
fn random_mutations_of_tars_come_back() {
    let mut numbers = Numbers(42);
    let sample = sample_tar();
    for round in 0..400 {
        let mut tar = sample.clone();
        for _ in 0..=numbers.below(6) {
            let at = numbers.below(tar.len());
            match numbers.below(4) {
                0 => tar[at] = numbers.number() as u8,
                1 => tar.truncate(at + 1),
                2 => drop(tar.splice(at..at, numbers.bytes(700)).count()),
                _ => {
                    // A new size in some header, with the right checksum.
                    let block = at / 512 * 512;
                    if let Some(bytes) = tar.get_mut(block..block + 512) {
                        let mut header = tar::Header::new_old();
                        header.as_mut_bytes().copy_from_slice(bytes);
                        header.set_size(numbers.number() >> numbers.below(64));
                        header.set_cksum();
                        bytes.copy_from_slice(header.as_bytes());
                    }
                }
            }
        }
        comes_back(&format!("round {round}"), &tar);
    }
}

#[test]
fn entries_are_walked_and_files_read_without_touching_other_frames() {
    let mut numbers = Numbers(3);
    let mut builder = tar::Builder::new(Vec::new());
    let mut contents = Vec::new();
    for number in 0..40 {
        let content = numbers.bytes(200_000 + number);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, format!("file-{number}"), content.as_slice()).unwrap();
        contents.push(content);
    }
    let tar = builder.into_inner().unwrap();
    let mut bytes = write_bare(&[&tar], 1);
    // Damage every frame but the first, which holds the skeleton: walking the entries must not notice.
    let frames = Payload::open(bytes.clone()).unwrap().index().frames().to_vec();
    assert!(frames.len() > 3);
    for frame in &frames[2..] {
        bytes[frame.offset as usize] ^= 1;
    }
    let payload = Payload::open(bytes).unwrap();
    let diff_id = payload.application().images[0].layers[0];
    let bodies = payload.layer(&diff_id).unwrap();
    let mut archive = tar::Archive::new(payload.layer(&diff_id).unwrap());
    let (mut seen, mut read) = (0, 0);
    for entry in archive.entries_with_seek().unwrap() {
        let entry = entry.unwrap();
        let body = bodies.body_at(entry.raw_file_position()).unwrap();
        assert_eq!(body.length(), entry.size());
        assert!(bodies.body_at(entry.raw_file_position() + 1).is_none());
        let content = &contents[seen];
        let undamaged = body.parts().all(|part| part.frame.0 == 1);
        let mut buffer = vec![0; 1000];
        match body.read_at(&mut buffer, 150_000) {
            Ok(length) => {
                assert!(undamaged && length == 1000 && buffer == content[150_000..151_000]);
                read += 1;
            }
            Err(_) => assert!(!undamaged),
        }
        assert_eq!(body.read_at(&mut buffer, body.length()).ok(), Some(0));
        seen += 1;
    }
    assert_eq!(seen, 40);
    assert!(read > 2);
}

#[test]
fn seeking_and_random_access_agree_with_the_tar() {
    let tar = sample_tar();
    let payload = Payload::open(write_bare(&[&tar], 9)).unwrap();
    let mut layer = payload.layer(&Digest::of(&tar)).unwrap();
    let mut numbers = Numbers(5);
    std::thread::scope(|scope| {
        for seed in 1..4 {
            let (payload, tar) = (&payload, &tar);
            scope.spawn(move || {
                let mut numbers = Numbers(seed);
                let layer = payload.layer(&Digest::of(tar)).unwrap();
                for _ in 0..500 {
                    let at = numbers.below(tar.len());
                    let mut buffer = vec![0; 1 + numbers.below(900)];
                    let length = layer.read_at(&mut buffer, at as u64).unwrap();
                    assert!(length > 0 && buffer[..length] == tar[at..at + length]);
                }
            });
        }
    });
    for _ in 0..500 {
        let at = numbers.below(tar.len() + 10);
        layer.seek(SeekFrom::Start(at as u64)).unwrap();
        let mut rest = Vec::new();
        (&mut layer).take(700).read_to_end(&mut rest).unwrap();
        let expected = tar.get(at..).unwrap_or_default();
        assert_eq!(rest, expected[..expected.len().min(700)]);
    }
    assert!(layer.seek(SeekFrom::Current(-(tar.len() as i64) * 2)).is_err());
    assert_eq!(layer.seek(SeekFrom::End(-3)).unwrap(), tar.len() as u64 - 3);
}

#[test]
fn the_parts_of_all_bodies_put_the_files_together() {
    let tar = sample_tar();
    let payload = Payload::open(write_bare(&[&tar], 3)).unwrap();
    let layer = payload.layer(&Digest::of(&tar)).unwrap();
    let mut decoder = FrameDecoder::new().unwrap();
    assert_eq!(layer.bodies().len(), 3);
    for body in layer.bodies() {
        let mut content = vec![0; body.length() as usize];
        for part in body.parts() {
            let bytes = &payload.read_frame(part.frame, &mut decoder).unwrap()[part.frame_range];
            content[part.offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        assert_eq!(content, tar[body.offset() as usize..][..content.len()]);
    }
}

#[test]
fn equal_files_are_stored_once_across_layers_and_outputs_are_equal() {
    let first = sample_tar();
    let second = [sample_tar(), sample_tar()].concat();
    let (one, alone) = write(&[&first], 5, None);
    let (two, both) = write(&[&first, &second], 5, None);
    // Only the second skeleton is new.
    let skeleton: u64 =
        split(second.as_slice()).unwrap().skeleton_chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
    assert_eq!(both.raw_length, alone.raw_length + skeleton);
    assert_eq!(one, write(&[&first], 5, None).0);
    assert_eq!(two, write(&[&first, &second], 5, None).0);
    let payload = Payload::open(two).unwrap();
    assert_eq!(read_all(&payload, 0), first);
    assert_eq!(read_all(&payload, 1), second);
}

#[test]
fn recipes_and_frames_survive_a_cache_and_damage_there_is_noticed() {
    let tar = sample_tar();
    let recipe = split(tar.as_slice()).unwrap();
    let cached = recipe.encode().unwrap();
    assert_eq!(LayerRecipe::decode(&cached).unwrap(), recipe);
    let plans = plan_frames([&recipe], Level::default());
    assert_eq!(plans, plan_frames([&recipe, &recipe], Level::default()));
    assert_ne!(plans[0].key, plan_frames([&recipe], Level::new(2).unwrap())[0].key);
    let frame = compress(&plans[0], std::slice::from_ref(&recipe), &[&tar]);
    assert_eq!(StoredFrame::from_sealed(frame.sealed().to_vec()), Some(frame.clone()));
    for at in 0..cached.len() {
        let mut damaged = cached.clone();
        damaged[at] ^= 4;
        assert!(LayerRecipe::decode(&damaged).is_err(), "byte {at}");
    }
    for at in 0..frame.sealed().len() {
        let mut damaged = frame.sealed().to_vec();
        damaged[at] ^= 4;
        assert!(StoredFrame::from_sealed(damaged).is_none(), "byte {at}");
    }
}
