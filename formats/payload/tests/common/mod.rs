//! Helpers that the tests share.
#![allow(dead_code, reason = "each test uses some of them")]
#![allow(clippy::unwrap_used, reason = "these are tests, though not in a function marked so")]

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use dpack_payload::application::{Application, Image};
use dpack_payload::digest::Digest;
use dpack_payload::write::{
    FramePlan, LayerRecipe, Level, PayloadWriter, Place, StoredFrame, StubHead, Summary, compress_frame,
    plan_frames, split,
};
use dpack_payload::{Payload, ReadAt};

/// Numbers that look random and are the same in every run (xorshift64*).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit as u64) as usize
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.number() >> 32) as u8).collect()
    }
}

pub(crate) fn application(recipes: &[LayerRecipe]) -> Application {
    Application {
        name: "shop".to_owned(),
        compose: serde_json::json!({"services": {"web": {"image": "nginx:1.27"}}}),
        environment: BTreeMap::from([("TAG".to_owned(), "1.27".to_owned())]),
        images: vec![Image {
            reference: "nginx:1.27".to_owned(),
            services: vec!["web".to_owned()],
            platform: "linux/amd64".parse().unwrap(),
            digest: Digest::of(b"manifest"),
            config: "{}".to_owned(),
            layers: recipes.iter().map(|recipe| recipe.diff_id).collect(),
        }],
        builder: "0.1.0".to_owned(),
    }
}

/// Compresses a plan from tars in memory.
pub(crate) fn compress(plan: &FramePlan, recipes: &[LayerRecipe], tars: &[&[u8]]) -> StoredFrame {
    compress_frame(plan, |chunk, buffer| {
        let layer = recipes.iter().position(|recipe| recipe.diff_id == chunk.source.layer).unwrap();
        match chunk.source.place {
            Place::Skeleton(offset) => recipes[layer].skeleton.read_exact_at(buffer, offset),
            Place::Tar(offset) => tars[layer].read_exact_at(buffer, offset),
        }
    })
    .unwrap()
}

pub(crate) fn write(tars: &[&[u8]], level: u8, head: Option<StubHead>) -> (Vec<u8>, Summary) {
    let level = Level::new(level).unwrap();
    let recipes: Vec<_> = tars.iter().map(|tar| split(*tar).unwrap()).collect();
    let mut writer = PayloadWriter::new(Cursor::new(Vec::new()), head, level).unwrap();
    for plan in plan_frames(&recipes, level) {
        writer.frame(&plan, &compress(&plan, &recipes, tars)).unwrap();
    }
    for recipe in &recipes {
        writer.layer(recipe).unwrap();
    }
    let (out, summary) = writer.finish(&application(&recipes)).unwrap();
    (out.into_inner(), summary)
}

/// A payload on its own.
pub(crate) fn write_bare(tars: &[&[u8]], level: u8) -> Vec<u8> {
    write(tars, level, None).0
}

/// Reads a layer's tar from start to end.
pub(crate) fn read_all<R: ReadAt>(payload: &Payload<R>, image_layer: usize) -> Vec<u8> {
    let diff_id = payload.application().images[0].layers[image_layer];
    let mut tar = Vec::new();
    payload.layer(&diff_id).unwrap().read_to_end(&mut tar).unwrap();
    assert_eq!(Digest::of(&tar), diff_id);
    tar
}

/// A small tar with the usual sorts of entries.
pub(crate) fn sample_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut append = |kind: tar::EntryType, path: &str, content: &[u8], link: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(1_700_000_000);
        match link {
            Some(link) => tar.append_link(&mut header, path, link).unwrap(),
            None => tar.append_data(&mut header, path, content).unwrap(),
        }
    };
    use tar::EntryType::{Directory, Fifo, Link, Regular, Symlink};
    append(Directory, "etc/", b"", None);
    append(Regular, "etc/empty", b"", None);
    append(Regular, "etc/tiny", b"x", None);
    append(Regular, "etc/passwd", &b"root:x:0:0:root:/root:/bin/sh\n".repeat(20), None);
    append(Regular, "etc/passwd-", &b"root:x:0:0:root:/root:/bin/sh\n".repeat(20), None);
    append(Regular, &format!("usr/{}", "long/".repeat(60)), &b"#!/bin/sh\n".repeat(30), None);
    append(Link, "etc/hard", b"", Some("etc/passwd"));
    append(Symlink, "etc/soft", b"", Some(&"very/".repeat(50)));
    append(Fifo, "run/fifo", b"", None);
    tar.into_inner().unwrap()
}

/// A static x86-64 executable that exits with status 42, without section headers.
pub(crate) fn tiny_elf64() -> Vec<u8> {
    let code = b"\xb8\x3c\0\0\0\xbf\x2a\0\0\0\x0f\x05"; // mov eax, 60; mov edi, 42; syscall
    let size = 64 + 56 + code.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for word in [0x40_0078_u64, 64, 0] {
        elf.extend(word.to_le_bytes()); // entry, program headers, section headers
    }
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]); // PT_LOAD, read and execute
    for word in [0, 0x40_0000, 0x40_0000, size, size, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}

/// The same for 32-bit x86.
pub(crate) fn tiny_elf32() -> Vec<u8> {
    let code = b"\xb8\x01\0\0\0\xbb\x2a\0\0\0\xcd\x80"; // mov eax, 1; mov ebx, 42; int 0x80
    let size = 52 + 32 + code.len() as u32;
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0".to_vec();
    for word in [0x40_0054_u32, 52, 0, 0] {
        elf.extend(word.to_le_bytes()); // entry, program headers, section headers, flags
    }
    elf.extend([52, 0, 32, 0, 1, 0, 40, 0, 0, 0, 0, 0]);
    for word in [1, 0, 0x40_0000, 0x40_0000, size, size, 5, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}
