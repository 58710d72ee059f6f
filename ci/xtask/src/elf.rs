//! Just enough ELF to say whether an executable is static (gABI, "Program Loading and Dynamic Linking").

use anyhow::{Context, Result, bail};
use dpack_targets::ElfIdentity;

const CLASS_64: u8 = 2;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const DT_NEEDED: u64 = 1;

/// Fails unless `file` is an executable for the machine in `identity` that needs neither interpreter nor library.
pub(crate) fn check_static(file: &[u8], identity: ElfIdentity) -> Result<()> {
    match ElfIdentity::of(file) {
        Some(found) if found == identity => {}
        Some(found) => bail!("it is for ELF machine {}, not {}", found.machine, identity.machine),
        None => bail!("it is no little-endian ELF file"),
    }
    let wide = identity.class == CLASS_64;
    let word = |at: u64| number(file, at, if wide { 8 } else { 4 });
    let (table, entry_size, count) = if wide {
        (word(32)?, number(file, 54, 2)?, number(file, 56, 2)?)
    } else {
        (word(28)?, number(file, 42, 2)?, number(file, 44, 2)?)
    };
    for index in 0..count {
        let header = table + index * entry_size;
        match number(file, header, 4)? {
            PT_INTERP => bail!("it has an interpreter"),
            PT_DYNAMIC => {
                let (offset, size) = if wide {
                    (word(header + 8)?, word(header + 32)?)
                } else {
                    (word(header + 4)?, word(header + 16)?)
                };
                let entry = if wide { 16 } else { 8 };
                for at in (offset..offset + size).step_by(entry) {
                    if word(at)? == DT_NEEDED {
                        bail!("it needs a shared library");
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn number(file: &[u8], at: u64, size: usize) -> Result<u64> {
    let at = usize::try_from(at)?;
    let bytes = at.checked_add(size).and_then(|end| file.get(at..end)).context("it is cut short")?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64-bit header with one program header of type `kind`, whose content follows it.
    fn executable(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18] = 62;
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file[64] = kind;
        file[64 + 8] = 120;
        file[64 + 32] = content.len() as u8;
        file.extend(content);
        file
    }

    #[test]
    fn interpreter_and_needed_libraries_are_found() {
        let identity = ElfIdentity { class: 2, machine: 62 };
        let check = |file: &[u8]| check_static(file, identity).map_err(|error| error.to_string());
        assert_eq!(check(&executable(1, b"")), Ok(()));
        assert_eq!(check(&executable(3, b"/lib")), Err("it has an interpreter".to_owned()));
        assert_eq!(check(&executable(2, &[0; 16])), Ok(()));
        let needed = [&1_u64.to_le_bytes()[..], &[0; 8]].concat();
        assert_eq!(check(&executable(2, &needed)), Err("it needs a shared library".to_owned()));
        assert!(check(&executable(2, &needed)[..100]).is_err());
        assert!(check(b"#!/bin/sh").is_err());
        assert!(check_static(&executable(1, b""), ElfIdentity { class: 2, machine: 183 }).is_err());
    }

    #[test]
    fn our_own_executable_is_dynamic() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(check_static(&own, ElfIdentity::of(&own).unwrap()).is_err());
    }
}
