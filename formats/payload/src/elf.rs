//! What the format needs to know of ELF files: where section `.dpack` is, and what the kernel will load.
//!
//! ELF32 and ELF64, little-endian. The structures are the `object` crate's, read without alignment.

use std::io;

use object::elf::{FileHeader32, FileHeader64, PT_LOAD, SHN_XINDEX, SHT_NOBITS};
use object::endian::LittleEndian as Le;
use object::pod;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::limits::MAX_SECTION_TABLE;
use crate::read_at::ReadAt;

/// Name of the section that covers the payload.
pub const SECTION_NAME: &str = ".dpack";

/// Runs `$body` with `$header` as the file's 32- or 64-bit header, or gives `None` where `$bytes` begin no such file.
macro_rules! with_header {
    ($bytes:expr, |$header:ident| $body:expr) => {
        match ident($bytes) {
            Some(Class::Elf32) => match pod::from_bytes::<FileHeader32<Le>>($bytes) {
                Ok(($header, _)) => Some($body),
                Err(()) => None,
            },
            Some(Class::Elf64) => match pod::from_bytes::<FileHeader64<Le>>($bytes) {
                Ok(($header, _)) => Some($body),
                Err(()) => None,
            },
            None => None,
        }
    };
}

/// ELF's two word sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Elf32,
    Elf64,
}

/// Bytes that hold either file header.
const LARGEST_HEADER: u64 = 64;

/// The class of a little-endian ELF file, by its first bytes.
pub(crate) fn ident(bytes: &[u8]) -> Option<Class> {
    match bytes {
        [0x7f, b'E', b'L', b'F', 1, 1, 1, ..] => Some(Class::Elf32),
        [0x7f, b'E', b'L', b'F', 2, 1, 1, ..] => Some(Class::Elf64),
        _ => None,
    }
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Finds the section `.dpack`. `None` where the file is no ELF file or has none; it may lie outside a truncated file.
pub(crate) fn find_section<R: ReadAt>(source: &R, size: u64) -> io::Result<Option<Extent>> {
    let header = read(source, 0, LARGEST_HEADER.min(size))?;
    with_header!(&header, |header| find_section_in(header, source, size)).unwrap_or(Ok(None))
}

fn find_section_in<H: FileHeader<Endian = Le>, R: ReadAt>(
    header: &H,
    source: &R,
    size: u64,
) -> io::Result<Option<Extent>> {
    let (offset, count, names) = (header.e_shoff(Le).into(), header.e_shnum(Le), header.e_shstrndx(Le));
    let row = size_of::<H::SectionHeader>();
    let length = u64::from(count) * row as u64;
    let inside = |offset: u64, length: u64| offset.checked_add(length).is_some_and(|end| end <= size);
    if usize::from(header.e_shentsize(Le)) != row || names == SHN_XINDEX || !inside(offset, length) {
        return Ok(None);
    }
    let table = read(source, offset, length)?;
    let Ok(sections) = pod::slice_from_all_bytes::<H::SectionHeader>(&table) else { return Ok(None) };
    let Some(names) = sections.get(usize::from(names.0)) else { return Ok(None) };
    let (offset, length) = (names.sh_offset(Le).into(), names.sh_size(Le).into());
    if length > MAX_SECTION_TABLE || !inside(offset, length) {
        return Ok(None);
    }
    let names = read(source, offset, length)?;
    let found = sections.iter().find(|section| {
        let name = names.get(section.sh_name(Le) as usize..).unwrap_or_default();
        section.sh_type(Le) != SHT_NOBITS
            && name.strip_prefix(SECTION_NAME.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    });
    Ok(found
        .map(|section| Extent { offset: section.sh_offset(Le).into(), length: section.sh_size(Le).into() }))
}

/// FORMAT.md, "Program digest": the loaded segments without the ELF header and the program headers, which `strip` may
/// rewrite. `None` where the file is no ELF file, or one that the kernel would not load.
pub(crate) fn program_digest<R: ReadAt>(source: &R, size: u64) -> io::Result<Option<Digest>> {
    let header = read(source, 0, LARGEST_HEADER.min(size))?;
    with_header!(&header, |header| program_digest_of(header, source, size)).unwrap_or(Ok(None))
}

fn program_digest_of<H: FileHeader<Endian = Le>, R: ReadAt>(
    header: &H,
    source: &R,
    size: u64,
) -> io::Result<Option<Digest>> {
    let row = size_of::<H::ProgramHeader>();
    let table =
        Extent { offset: header.e_phoff(Le).into(), length: u64::from(header.e_phnum(Le)) * row as u64 };
    let inside = |part: Extent| part.offset.checked_add(part.length).is_some_and(|end| end <= size);
    if usize::from(header.e_phentsize(Le)) != row || !inside(table) {
        return Ok(None);
    }
    let rows = read(source, table.offset, table.length)?;
    let Ok(segments) = pod::slice_from_all_bytes::<H::ProgramHeader>(&rows) else { return Ok(None) };
    let masked = [Extent { offset: 0, length: size_of::<H>() as u64 }, table];

    let mut hash = Sha256::new();
    hash.update(header.e_entry(Le).into().to_le_bytes());
    // Each byte of the file is hashed once for a segment; overlapping segments in a hostile file could repeat it.
    let mut budget = size;
    for segment in segments.iter().filter(|segment| segment.p_type(Le) == PT_LOAD) {
        let part = Extent { offset: segment.p_offset(Le).into(), length: segment.p_filesz(Le).into() };
        if !inside(part) || part.length > budget {
            return Ok(None);
        }
        budget -= part.length;
        hash.update(u64::from(segment.p_flags(Le).0).to_le_bytes());
        for field in [segment.p_vaddr(Le), segment.p_filesz(Le), segment.p_memsz(Le)] {
            hash.update(field.into().to_le_bytes());
        }
        hash_masked(&mut hash, source, part, &masked)?;
    }
    Ok(Some(Digest::from_bytes(hash.finalize().into())))
}

/// Hashes a part of a file, with the bytes of `masked` as zeros.
pub(crate) fn hash_masked<R: ReadAt>(
    hash: &mut Sha256,
    source: &R,
    part: Extent,
    masked: &[Extent],
) -> io::Result<()> {
    const STEP: u64 = 64 << 10;
    let mut buffer = vec![0; STEP.min(part.length) as usize];
    let mut done = 0;
    while done < part.length {
        let step = STEP.min(part.length - done);
        let bytes = &mut buffer[..step as usize];
        let start = part.offset + done;
        source.read_exact_at(bytes, start)?;
        for mask in masked {
            let from = mask.offset.clamp(start, start + step) - start;
            let to = mask.offset.saturating_add(mask.length).clamp(start, start + step) - start;
            bytes[from as usize..to as usize].fill(0);
        }
        hash.update(bytes);
        done += step;
    }
    Ok(())
}

/// Reads a bounded part of the file; who calls has checked that it lies inside.
fn read<R: ReadAt>(source: &R, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length.min(MAX_SECTION_TABLE) as usize];
    source.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
