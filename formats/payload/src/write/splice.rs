//! Splicing: what has to stand before a payload so that it is a section of a valid ELF file.
//!
//! ```text
//! stub | section headers | section names | padding | payload
//! ```
//!
//! The stub's bytes stay where they are, so nothing that is loaded moves. Its section headers are copied behind it with
//! one more, `.dpack`; only the ELF header's three section fields change. The new table stands before the payload, so that
//! the payload's trailer ends the file.

use object::elf::{
    EM_386, EM_AARCH64, EM_ARM, EM_X86_64, ET_DYN, ET_EXEC, FileHeader32, FileHeader64, Machine, PT_INTERP,
    SHT_PROGBITS, SHT_STRTAB, SectionHeader32, SectionHeader64, SymbolSection,
};
use object::endian::{LittleEndian as Le, U16, U32, U64};
use object::pod::{self, bytes_of};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::digest::Digest;
use crate::elf::{Class, SECTION_NAME, find_section, ident, program_digest};
use crate::index::Head;
use crate::limits::MAX_HEAD;

/// The payload begins at a multiple of this.
const ALIGNMENT: usize = 64;

/// Why a file cannot be a stub.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpliceError {
    /// Not ELF, or big-endian.
    #[error("the stub is no little-endian ELF file")]
    NotElf,
    /// Relocatable objects, core files.
    #[error("the stub is no executable")]
    NotExecutable,
    /// For another machine.
    #[error("the stub is for {found}, not for {expected}")]
    Machine {
        /// What was asked for.
        expected: String,
        /// What the ELF header says.
        found: String,
    },
    /// Needs a dynamic loader on the device.
    #[error("the stub is dynamically linked; it must be static\nhint: build it for a musl target")]
    Dynamic,
    /// Has a payload already.
    #[error("the stub carries a payload already")]
    Spliced,
    /// Header fields point outside the file, or the like.
    #[error("the stub's {0} are malformed")]
    Malformed(&'static str),
    /// Too large to be a stub.
    #[error("the stub has {0} bytes, more than the format allows ({MAX_HEAD})")]
    TooLarge(u64),
}

/// What stands before the payload: the stub with one more section, whose size is filled in when it is known.
#[derive(Clone, Debug)]
pub struct StubHead {
    bytes: Vec<u8>,
    description: Head,
}

impl StubHead {
    /// Checks that the stub is a static executable for `machine` (`EM_X86_64` is 62, `EM_AARCH64` 183, `EM_ARM` 40) and
    /// prepares it. A pure function.
    pub fn new(stub: &[u8], machine: u16) -> Result<Self, SpliceError> {
        match ident(stub).ok_or(SpliceError::NotElf)? {
            Class::Elf32 => head32(stub, machine),
            Class::Elf64 => head64(stub, machine),
        }
    }

    /// The bytes; the size of section `.dpack` is zero in them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the index says of the head.
    pub(super) fn description(&self) -> &Head {
        &self.description
    }

    /// Where to write what, once the payload's length is known. `None` where the section header cannot hold it.
    pub(super) fn size_patch(&self, payload_length: u64) -> Option<(u64, Vec<u8>)> {
        let size = match self.description.size_width {
            8 => payload_length.to_le_bytes().to_vec(),
            _ => {
                let end = self.description.length.checked_add(payload_length)?;
                u32::try_from(end).ok()?;
                u32::try_from(payload_length).ok()?.to_le_bytes().to_vec()
            }
        };
        Some((self.description.size_field, size))
    }
}

/// Checks that do not depend on the class.
fn check<H: FileHeader<Endian = Le>>(header: &H, stub: &[u8], machine: u16) -> Result<(), SpliceError> {
    if !matches!(header.e_type(Le), ET_EXEC | ET_DYN) {
        return Err(SpliceError::NotExecutable);
    }
    if header.e_machine(Le).0 != machine {
        return Err(SpliceError::Machine {
            expected: name(Machine(machine)),
            found: name(header.e_machine(Le)),
        });
    }
    let segments = header.program_headers(Le, stub).map_err(|_| SpliceError::Malformed("program headers"))?;
    if segments.is_empty() {
        return Err(SpliceError::NotExecutable);
    }
    if segments.iter().any(|segment| segment.p_type(Le) == PT_INTERP) {
        return Err(SpliceError::Dynamic);
    }
    if matches!(find_section(&stub, stub.len() as u64), Ok(Some(_))) {
        return Err(SpliceError::Spliced);
    }
    Ok(())
}

fn name(machine: Machine) -> String {
    match machine {
        EM_X86_64 => "x86-64".to_owned(),
        EM_AARCH64 => "AArch64".to_owned(),
        EM_ARM => "ARM".to_owned(),
        EM_386 => "x86".to_owned(),
        Machine(other) => format!("ELF machine {other}"),
    }
}

/// Bytes to the next multiple of `alignment`.
fn align(bytes: &mut Vec<u8>, alignment: usize) {
    bytes.resize(bytes.len().next_multiple_of(alignment), 0);
}

/// The two classes differ in nothing but the structures' types and the width of addresses.
macro_rules! head_for_class {
    ($function:ident, $FileHeader:ident, $SectionHeader:ident, $Word:ident, $word:ident) => {
        fn $function(stub: &[u8], machine: u16) -> Result<StubHead, SpliceError> {
            type Section = $SectionHeader<Le>;
            const MALFORMED: SpliceError = SpliceError::Malformed("section headers");
            let (header, _) = pod::from_bytes::<$FileHeader<Le>>(stub).map_err(|()| SpliceError::NotElf)?;
            check(header, stub, machine)?;

            let zeros = [0; size_of::<Section>()];
            let (nothing, _) = pod::from_bytes::<Section>(&zeros).map_err(|()| MALFORMED)?;
            let section = |name: usize, kind, alignment: usize| Section {
                sh_name: U32::new(Le, name as u32),
                sh_type: U32::new(Le, kind),
                sh_addralign: $Word::new(Le, alignment as $word),
                ..*nothing
            };
            let mut sections = header.section_headers(Le, stub).map_err(|_| MALFORMED)?.to_vec();
            let mut names;
            let names_section;
            if sections.is_empty() {
                // A stub whose section headers were cut off.
                names = b"\0.shstrtab\0".to_vec();
                names_section = 1;
                sections.extend([*nothing, section(1, SHT_STRTAB, 1)]);
            } else {
                names_section = usize::from(header.e_shstrndx.get(Le).0);
                let section = sections.get(names_section).ok_or(MALFORMED)?;
                let start = section.sh_offset.get(Le) as usize;
                let length = section.sh_size.get(Le) as usize;
                names = stub.get(start..).and_then(|rest| rest.get(..length)).ok_or(MALFORMED)?.to_vec();
            }
            let payload_section = sections.len();
            let payload_name = names.len();
            names.extend_from_slice(SECTION_NAME.as_bytes());
            names.push(0);
            sections.push(section(payload_name, SHT_PROGBITS, ALIGNMENT));
            // From 0xff00 on, ELF counts sections in another place; no stub comes near.
            let count =
                u16::try_from(sections.len()).ok().filter(|&count| count < 0xff00).ok_or(MALFORMED)?;

            let mut bytes = stub.to_vec();
            align(&mut bytes, 8);
            let table = bytes.len();
            let names_offset = table + size_of::<Section>() * sections.len();
            let payload = (names_offset + names.len()).next_multiple_of(ALIGNMENT);
            if payload as u64 > MAX_HEAD {
                return Err(SpliceError::TooLarge(payload as u64));
            }
            // All of them below `MAX_HEAD`, so they fit.
            let row = &mut sections[names_section];
            row.sh_offset = $Word::new(Le, names_offset as $word);
            row.sh_size = $Word::new(Le, names.len() as $word);
            sections[payload_section].sh_offset = $Word::new(Le, payload as $word);

            let mut header = *header;
            header.e_shoff = $Word::new(Le, table as $word);
            header.e_shentsize = U16::new(Le, size_of::<Section>() as u16);
            header.e_shnum = U16::new(Le, count);
            header.e_shstrndx = U16::new(Le, SymbolSection(names_section as u16));
            bytes[..size_of_val(&header)].copy_from_slice(bytes_of(&header));
            bytes.extend_from_slice(pod::bytes_of_slice(&sections));
            bytes.extend_from_slice(&names);
            align(&mut bytes, ALIGNMENT);

            let size_field =
                table + payload_section * size_of::<Section>() + std::mem::offset_of!(Section, sh_size);
            let program_digest = program_digest(&stub, stub.len() as u64)
                .ok()
                .flatten()
                .ok_or(SpliceError::Malformed("program headers"))?;
            let description = Head {
                length: bytes.len() as u64,
                size_field: size_field as u64,
                size_width: size_of::<$word>() as u32,
                digest: Digest::of(&bytes),
                program_digest,
            };
            Ok(StubHead { bytes, description })
        }
    };
}

head_for_class!(head32, FileHeader32, SectionHeader32, U32, u32);
head_for_class!(head64, FileHeader64, SectionHeader64, U64, u64);
