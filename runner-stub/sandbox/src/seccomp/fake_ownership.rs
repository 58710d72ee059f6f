//! Lets images that change owners and users start in a user namespace that has only one ID.
//!
//! There is nobody to give a file to and nobody to become: the kernel would answer EINVAL and redis or nginx would give up.
//! So these calls succeed without effect. That weakens nothing: a call that does nothing cannot gain anything.
//!
//! Each machine has a second set of numbers, for its 32-bit programs. x32 calls (bit 30) and architectures that are not
//! known here do not exist for the container.

use super::assembler::{Action, Architecture, Assembler};
use crate::sys::Instruction;

/// chown, fchown, lchown, fchownat, set{,re,res,fs}{u,g}id, setgroups.
const X86_64: [u32; 13] = [92, 93, 94, 260, 105, 106, 113, 114, 116, 117, 119, 122, 123];
const AARCH64: [u32; 11] = [54, 55, 143, 144, 145, 146, 147, 149, 151, 152, 159];
/// Those with 16-bit IDs, those with 32-bit IDs; common to i386 and ARM but for fchownat.
const COMMON_32: [u32; 24] = [
    16, 23, 46, 70, 71, 81, 95, 138, 139, 164, 170, 182, // 16-bit
    198, 203, 204, 206, 207, 208, 210, 212, 213, 214, 215, 216, // 32-bit
];
const I386_FCHOWNAT: u32 = 298;
const ARM_FCHOWNAT: u32 = 325;

const X32_BIT: u32 = 0x4000_0000;
const NO_SUCH_CALL: Action = Action::Errno(nix::libc::ENOSYS as u16);

/// The filter, the same on all machines.
pub(crate) fn filter() -> Vec<Instruction> {
    let mut assembler = Assembler::default();
    assembler.load_architecture();
    let mut machine = |architecture: Architecture, numbers: &[u32], more: &[u32]| {
        assembler.when_equal(architecture as u32, |body| {
            body.load_number();
            if architecture == Architecture::X86_64 {
                body.when_at_least(X32_BIT, |body| body.act(NO_SUCH_CALL));
            }
            for number in numbers.iter().chain(more) {
                body.when_equal(*number, |body| body.act(Action::Errno(0)));
            }
            body.act(Action::Allow);
        });
    };
    machine(Architecture::X86_64, &X86_64, &[]);
    machine(Architecture::Aarch64, &AARCH64, &[]);
    machine(Architecture::Arm, &COMMON_32, &[ARM_FCHOWNAT]);
    machine(Architecture::I386, &COMMON_32, &[I386_FCHOWNAT]);
    assembler.act(NO_SUCH_CALL);
    assembler.finish()
}

#[cfg(test)]
mod tests {
    use super::super::assembler::interpret;
    use super::*;

    const ALLOWED: u32 = 0x7fff_0000;
    const SUCCESS: u32 = 0x0005_0000;
    const MISSING: u32 = SUCCESS | nix::libc::ENOSYS as u32;

    #[test]
    fn changes_of_owner_succeed_and_the_rest_is_untouched() {
        let code = filter();
        let run = |architecture: Architecture, number| interpret(&code, architecture as u32, number);
        for (architecture, chown, write) in [
            (Architecture::X86_64, 92, 1),
            (Architecture::Aarch64, 55, 64),
            (Architecture::Arm, 325, 4),
            (Architecture::I386, 298, 4),
        ] {
            assert_eq!(run(architecture, chown), SUCCESS, "{architecture:?}");
            assert_eq!(run(architecture, write), ALLOWED, "{architecture:?}");
        }
        assert_eq!(run(Architecture::X86_64, X32_BIT | 92), MISSING);
        assert_eq!(interpret(&code, 0xdead_beef, 1), MISSING);
        assert!(code.len() < 4096);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn numbers_are_those_of_the_c_library() {
        use nix::libc::*;
        let calls = [
            SYS_chown,
            SYS_fchown,
            SYS_lchown,
            SYS_fchownat,
            SYS_setuid,
            SYS_setgid,
            SYS_setreuid,
            SYS_setregid,
            SYS_setgroups,
            SYS_setresuid,
            SYS_setresgid,
            SYS_setfsuid,
            SYS_setfsgid,
        ];
        assert_eq!(X86_64.map(i64::from), calls);
    }
}
