//! Classic BPF as nested conditions. Jumps only go forward, over a body, so there are no labels to get wrong; bodies longer
//! than the 255 instructions a condition can jump get a long jump.

use crate::sys::Instruction;

/// `linux/audit.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Architecture {
    X86_64 = 0xc000_003e,
    I386 = 0x4000_0003,
    Aarch64 = 0xc000_00b7,
    Arm = 0x4000_0028,
}

impl Architecture {
    pub(crate) const ALL: [Self; 4] = [Self::X86_64, Self::Aarch64, Self::Arm, Self::I386];

    /// This program's own. The kernel may have a second one, for 32-bit programs.
    pub(crate) const NATIVE: Self = if cfg!(target_arch = "x86_64") {
        Self::X86_64
    } else if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else if cfg!(target_arch = "arm") {
        Self::Arm
    } else {
        Self::I386
    };
}

/// What the kernel does with a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Allow,
    /// Returned instead of executing it; 0 is success.
    Errno(u16),
    /// `SIGSYS`, as if by a debugger's trap.
    Trap,
    /// Executed, and written to the kernel's log.
    Log,
    KillThread,
    KillProcess,
    /// The process waits until the holder of the listener has answered (Linux 5.0).
    Notify,
}

impl Action {
    fn value(self) -> u32 {
        match self {
            Action::Allow => 0x7fff_0000,
            Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Action::Trap => 0x0003_0000,
            Action::Log => 0x7ffc_0000,
            Action::KillThread => 0,
            Action::KillProcess => 0x8000_0000,
            Action::Notify => 0x7fc0_0000,
        }
    }
}

/// Fields of `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// Lower half of the first argument; all our machines are little-endian.
const ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_ABOVE: u16 = 0x25;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// A program under construction.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    code: Vec<Instruction>,
}

impl Assembler {
    pub(crate) fn load_architecture(&mut self) {
        self.push(LOAD, 0, 0, ARCHITECTURE);
    }

    pub(crate) fn load_number(&mut self) {
        self.push(LOAD, 0, 0, NUMBER);
    }

    /// The lower 32 bits of an argument. What was loaded before is lost.
    pub(crate) fn load_argument(&mut self, index: u32) {
        self.push(LOAD, 0, 0, ARGUMENTS + 8 * index);
    }

    /// The upper 32 bits of an argument.
    pub(crate) fn load_argument_high(&mut self, index: u32) {
        self.push(LOAD, 0, 0, ARGUMENTS + 8 * index + 4);
    }

    /// Keeps some bits of the loaded value.
    pub(crate) fn mask(&mut self, bits: u32) {
        self.push(AND, 0, 0, bits);
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.push(RETURN, 0, 0, action.value());
    }

    /// `body` is executed when the loaded value is `value`.
    pub(crate) fn when_equal(&mut self, value: u32, body: impl FnOnce(&mut Self)) {
        self.when(JUMP_IF_EQUAL, value, body);
    }

    /// `body` is executed when the loaded value is `value` or more.
    pub(crate) fn when_at_least(&mut self, value: u32, body: impl FnOnce(&mut Self)) {
        self.when(JUMP_IF_AT_LEAST, value, body);
    }

    /// `body` is executed when the loaded value has any of the bits of `value`.
    pub(crate) fn when_any_bit(&mut self, value: u32, body: impl FnOnce(&mut Self)) {
        self.when(JUMP_IF_ANY_BIT, value, body);
    }

    /// `body` is executed when the loaded value is more than `value`.
    pub(crate) fn when_above(&mut self, value: u32, body: impl FnOnce(&mut Self)) {
        self.when(JUMP_IF_ABOVE, value, body);
    }

    /// `body` is executed when the loaded value is not `value`.
    pub(crate) fn unless_equal(&mut self, value: u32, body: impl FnOnce(&mut Self)) {
        self.unless(JUMP_IF_EQUAL, value, body);
    }

    /// `body` is executed when the loaded value is less than `value`.
    pub(crate) fn unless_at_least(&mut self, value: u32, body: impl FnOnce(&mut Self)) {
        self.unless(JUMP_IF_AT_LEAST, value, body);
    }

    /// `body` is executed when the loaded value is `value` or less.
    pub(crate) fn unless_above(&mut self, value: u32, body: impl FnOnce(&mut Self)) {
        self.unless(JUMP_IF_ABOVE, value, body);
    }

    /// Instructions so far.
    pub(crate) fn len(&self) -> usize {
        self.code.len()
    }

    pub(crate) fn finish(self) -> Vec<Instruction> {
        self.code
    }

    fn when(&mut self, condition: u16, value: u32, body: impl FnOnce(&mut Self)) {
        let mut inner = Assembler::default();
        body(&mut inner);
        match u8::try_from(inner.code.len()) {
            Ok(length) => self.push(condition, 0, length, value),
            Err(_) => {
                self.push(condition, 1, 0, value);
                // The kernel takes 4096 instructions at most, so the length fits.
                self.push(JUMP, 0, 0, u32::try_from(inner.code.len()).unwrap_or(u32::MAX));
            }
        }
        self.code.append(&mut inner.code);
    }

    fn unless(&mut self, condition: u16, value: u32, body: impl FnOnce(&mut Self)) {
        let mut inner = Assembler::default();
        body(&mut inner);
        match u8::try_from(inner.code.len()) {
            Ok(length) => self.push(condition, length, 0, value),
            Err(_) => {
                self.push(condition, 0, 1, value);
                self.push(JUMP, 0, 0, u32::try_from(inner.code.len()).unwrap_or(u32::MAX));
            }
        }
        self.code.append(&mut inner.code);
    }

    fn push(&mut self, code: u16, jump_true: u8, jump_false: u8, value: u32) {
        self.code.push(Instruction { code, jump_true, jump_false, value });
    }
}

/// What the kernel's interpreter would return, for tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn interpret(code: &[Instruction], architecture: u32, number: u32) -> u32 {
    interpret_call(code, architecture, number, [0; 6])
}

/// The same, of a call with arguments.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn interpret_call(
    code: &[Instruction],
    architecture: u32,
    number: u32,
    arguments: [u64; 6],
) -> u32 {
    let field = |offset: u32| match offset {
        NUMBER => number,
        ARCHITECTURE => architecture,
        _ => {
            let (index, high) = ((offset - ARGUMENTS) / 8, (offset - ARGUMENTS) % 8 == 4);
            (arguments[index as usize] >> if high { 32 } else { 0 }) as u32
        }
    };
    let (mut at, mut accumulator) = (0_usize, 0_u32);
    loop {
        let Instruction { code: operation, jump_true, jump_false, value } = code[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { jump_true } else { jump_false });
        match operation {
            LOAD => accumulator = field(value),
            JUMP => at += value as usize,
            JUMP_IF_EQUAL => at += jump(accumulator == value),
            JUMP_IF_AT_LEAST => at += jump(accumulator >= value),
            AND => accumulator &= value,
            JUMP_IF_ABOVE => at += jump(accumulator > value),
            JUMP_IF_ANY_BIT => at += jump(accumulator & value != 0),
            RETURN => return value,
            _ => panic!("unknown operation {operation:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_bodies_are_jumped_over_as_short_ones_are() {
        for length in [1, 255, 256, 3000] {
            let mut assembler = Assembler::default();
            assembler.load_number();
            assembler.when_equal(7, |body| {
                for _ in 1..length {
                    body.load_number();
                }
                body.act(Action::Errno(1));
            });
            assembler.act(Action::Allow);
            let code = assembler.finish();
            assert_eq!(interpret(&code, 0, 7), Action::Errno(1).value(), "body of {length}");
            assert_eq!(interpret(&code, 0, 8), Action::Allow.value(), "body of {length}");
            let mut assembler = Assembler::default();
            assembler.load_number();
            assembler.unless_at_least(7, |body| {
                for _ in 1..length {
                    body.load_number();
                }
                body.act(Action::Errno(1));
            });
            assembler.act(Action::Allow);
            let code = assembler.finish();
            assert_eq!(interpret(&code, 0, 6), Action::Errno(1).value(), "body of {length}");
            assert_eq!(interpret(&code, 0, 7), Action::Allow.value(), "body of {length}");
        }
    }
}
