//! The filter for user namespaces with one ID, in two forms.
//!
//! Each machine has a second set of numbers, for its 32-bit programs. x32 calls (bit 30) and architectures that are not
//! known here do not exist for the container.

use super::calls::{self, Call};
use crate::seccomp::{Action, Architecture, Assembler};
use crate::sys::Instruction;

const X32_BIT: u32 = 0x4000_0000;
const NO_SUCH_CALL: Action = Action::Errno(nix::libc::ENOSYS as u16);
const SUCCESS: Action = Action::Errno(0);

/// Every call that an ID goes through waits for the keeper's answer.
///
/// Two are excepted. A process' timer slack is where its identity is kept, so setting one has no effect; of the rest of
/// prctl(2) only the keeping of capabilities is told. And
/// `stat` of a descriptor (`AT_EMPTY_PATH`) is not asked about, like `fstat`: it is on the way of each file that a server
/// sends, and nobody has been seen to look there for an owner.
pub(super) fn asking() -> Vec<Instruction> {
    program(|body, architecture| {
        for (number, call, _) in calls::of(architecture) {
            body.when_equal(number, |body| {
                if call == Call::KeepCapabilities {
                    body.load_argument(0);
                    body.when_equal(nix::libc::PR_SET_TIMERSLACK.cast_unsigned(), |body| body.act(SUCCESS));
                    body.when_equal(nix::libc::PR_SET_KEEPCAPS.cast_unsigned(), |body| {
                        body.act(Action::Notify)
                    });
                    body.act(Action::Allow);
                    return;
                }
                let flags = match call {
                    Call::StatAt => Some(3),
                    Call::Statx => Some(2),
                    _ => None,
                };
                if let Some(argument) = flags {
                    body.load_argument(argument);
                    body.when_any_bit(nix::libc::AT_EMPTY_PATH.cast_unsigned(), |body| {
                        body.act(Action::Allow)
                    });
                }
                body.act(Action::Notify);
            });
        }
    })
}

/// For kernels without an answer: what asks for a change succeeds without effect. There is nobody to give a file to and
/// nobody to become; the kernel would answer EINVAL and redis or nginx would give up. A call that does nothing gains
/// nothing.
pub(super) fn pretending() -> Vec<Instruction> {
    program(|body, architecture| {
        for (number, _, _) in calls::of(architecture).filter(|(_, call, _)| call.changes()) {
            body.when_equal(number, |body| body.act(SUCCESS));
        }
    })
}

fn program(rules: impl Fn(&mut Assembler, Architecture)) -> Vec<Instruction> {
    let mut assembler = Assembler::default();
    assembler.load_architecture();
    for architecture in Architecture::ALL {
        assembler.when_equal(architecture as u32, |body| {
            body.load_number();
            if architecture == Architecture::X86_64 {
                body.when_at_least(X32_BIT, |body| body.act(NO_SUCH_CALL));
            }
            rules(body, architecture);
            body.act(Action::Allow);
        });
    }
    assembler.act(NO_SUCH_CALL);
    assembler.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{interpret, interpret_call};

    const ALLOWED: u32 = 0x7fff_0000;
    const ASKED: u32 = 0x7fc0_0000;
    const SUCCEEDED: u32 = 0x0005_0000;
    const MISSING: u32 = SUCCEEDED | nix::libc::ENOSYS as u32;
    /// Machine, chown, getuid, write.
    const SAMPLES: [(Architecture, u32, u32, u32); 4] = [
        (Architecture::X86_64, 92, 102, 1),
        (Architecture::Aarch64, 55, 174, 64),
        (Architecture::Arm, 325, 199, 4),
        (Architecture::I386, 298, 24, 4),
    ];

    #[test]
    fn only_calls_with_ids_in_them_are_touched() {
        let (asking, pretending) = (asking(), pretending());
        for (architecture, chown, getuid, write) in SAMPLES {
            let run = |code, number| interpret(code, architecture as u32, number);
            assert_eq!(run(&asking, chown), ASKED, "{architecture:?}");
            assert_eq!(run(&asking, getuid), ASKED, "{architecture:?}");
            assert_eq!(run(&asking, write), ALLOWED, "{architecture:?}");
            assert_eq!(run(&pretending, chown), SUCCEEDED, "{architecture:?}");
            assert_eq!(run(&pretending, getuid), ALLOWED, "{architecture:?}");
            assert_eq!(run(&pretending, write), ALLOWED, "{architecture:?}");
        }
        for code in [&asking, &pretending] {
            assert_eq!(interpret(code, Architecture::X86_64 as u32, X32_BIT | 92), MISSING);
            assert_eq!(interpret(code, 0xdead_beef, 1), MISSING);
            assert!(code.len() < 4096);
        }
    }

    #[test]
    fn a_descriptor_is_not_asked_about_and_a_timer_slack_stays() {
        let code = asking();
        let native = Architecture::NATIVE as u32;
        let statx = u32::try_from(nix::libc::SYS_statx).unwrap();
        let run = |number, arguments| interpret_call(&code, native, number, arguments);
        assert_eq!(run(statx, [0, 0, 0x100, 0, 0, 0]), ASKED);
        assert_eq!(run(statx, [0, 0, 0x1100, 0, 0, 0]), ALLOWED);
        let prctl = u32::try_from(nix::libc::SYS_prctl).unwrap();
        assert_eq!(run(prctl, [29, 5, 0, 0, 0, 0]), SUCCEEDED);
        assert_eq!(run(prctl, [8, 1, 0, 0, 0, 0]), ASKED);
        assert_eq!(run(prctl, [30, 0, 0, 0, 0, 0]), ALLOWED);
    }
}
