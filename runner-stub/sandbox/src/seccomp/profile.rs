//! `linux.seccomp` of config.json as a filter.
//!
//! The kernel runs a filter at each system call (since Linux 5.11 it remembers which are always allowed), so calls are found
//! by halving: neighbours with the same fate are one range, and a tree of comparisons leads to it.
//!
//! As libseccomp does: a rule without conditions outweighs those with; several conditions on one argument of a rule are
//! alternatives (runc); names that a machine does not have are passed over. As runc does: a call with a number above all that
//! the profile names for a machine fails with ENOSYS, because it is newer than the profile.

use std::collections::BTreeMap;

use super::numbers::Numbers;
use super::{Action, Architecture, Assembler};
use crate::Error;
use crate::spec::{Argument, Seccomp};
use crate::sys::Instruction;

/// What the kernel takes (`BPF_MAXINSNS`).
const LONGEST: usize = 4096;
const X32_BIT: u32 = 0x4000_0000;
/// ARM has some calls of its own from here on.
const ARM_PRIVATE: u32 = 0xf_0000;
const EPERM: u32 = nix::libc::EPERM as u32;
const NO_SUCH_CALL: Action = Action::Errno(nix::libc::ENOSYS as u16);

/// A filter and the flags to install it with.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) flags: u64,
}

/// What becomes of one call.
#[derive(Debug, Clone, PartialEq)]
struct Fate {
    conditional: Vec<(Vec<Condition>, Action)>,
    otherwise: Action,
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Condition {
    index: u32,
    operator: Operator,
    value: u64,
    second: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    MaskedEqual,
}

/// Compiles it.
pub(crate) fn compile(seccomp: &Seccomp) -> Result<Filter, Error> {
    let default = action(&seccomp.default_action, seccomp.default_errno_ret)?;
    let numbers = Numbers::read();
    let mut assembler = Assembler::default();
    assembler.load_architecture();
    for architecture in architectures(&seccomp.architectures)? {
        let (fates, highest) = fates(seccomp, architecture, default, &numbers)?;
        assembler.when_equal(architecture as u32, |body| {
            body.load_number();
            if architecture == Architecture::X86_64 {
                body.when_at_least(X32_BIT, |body| body.act(NO_SUCH_CALL));
            }
            if matches!(default, Action::Errno(_) | Action::Trap | Action::KillThread | Action::KillProcess) {
                body.when_above(highest, |body| match architecture {
                    Architecture::Arm => body.unless_at_least(ARM_PRIVATE, |body| body.act(NO_SUCH_CALL)),
                    _ => body.act(NO_SUCH_CALL),
                });
            }
            tree(body, &ranges(fates, default), architecture);
        });
    }
    assembler.act(NO_SUCH_CALL);
    if assembler.len() > LONGEST {
        return Err(invalid("", format!("{} instructions are more than the kernel takes", assembler.len())));
    }
    Ok(Filter { instructions: assembler.finish(), flags: flags(&seccomp.flags)? })
}

fn architectures(names: &[String]) -> Result<Vec<Architecture>, Error> {
    if names.is_empty() {
        return Ok(vec![Architecture::NATIVE]);
    }
    let mut known = Vec::new();
    for name in names {
        match name.as_str() {
            "SCMP_ARCH_X86_64" => known.push(Architecture::X86_64),
            "SCMP_ARCH_X86" => known.push(Architecture::I386),
            "SCMP_ARCH_AARCH64" => known.push(Architecture::Aarch64),
            "SCMP_ARCH_ARM" => known.push(Architecture::Arm),
            // x32 does not exist for a container; others cannot be what this runs on.
            other if other.starts_with("SCMP_ARCH_") => {}
            other => return Err(invalid("architectures", format!("`{other}` is not an architecture"))),
        }
    }
    Ok(known)
}

fn flags(names: &[String]) -> Result<u64, Error> {
    const LOG: u64 = 1 << 1;
    const SPEC_ALLOW: u64 = 1 << 2;
    let flag = |name: &String| match name.as_str() {
        // All threads: there is one.
        "SECCOMP_FILTER_FLAG_TSYNC" => Ok(0),
        "SECCOMP_FILTER_FLAG_LOG" => Ok(LOG),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(SPEC_ALLOW),
        other => Err(invalid("flags", format!("`{other}` is not supported"))),
    };
    // As runc: before Linux 5.16 a filter would else slow the whole process down, against Spectre within it.
    if names.is_empty() {
        Ok(SPEC_ALLOW)
    } else {
        names.iter().try_fold(0, |all, name| Ok(all | flag(name)?))
    }
}

/// What becomes of the calls that a machine has, and the highest number among them.
fn fates(
    seccomp: &Seccomp,
    architecture: Architecture,
    default: Action,
    numbers: &Numbers,
) -> Result<(BTreeMap<u32, Fate>, u32), Error> {
    let mut fates: BTreeMap<u32, Fate> = BTreeMap::new();
    let mut settled = std::collections::BTreeSet::new();
    for rule in &seccomp.syscalls {
        let action = action(&rule.action, rule.errno_ret)?;
        let alternatives = alternatives(&rule.args)?;
        for number in rule.names.iter().filter_map(|name| numbers.find(name, architecture)) {
            let fate =
                fates.entry(number).or_insert_with(|| Fate { conditional: Vec::new(), otherwise: default });
            if settled.contains(&number) {
                continue;
            }
            if alternatives.is_empty() {
                *fate = Fate { conditional: Vec::new(), otherwise: action };
                settled.insert(number);
            } else {
                fate.conditional.extend(alternatives.iter().map(|all| (all.clone(), action)));
            }
        }
    }
    let highest = fates.keys().rev().find(|number| **number < ARM_PRIVATE).copied().unwrap_or(0);
    Ok((fates, highest))
}

/// Each of the alternatives is a list of conditions that all have to hold.
fn alternatives(arguments: &[Argument]) -> Result<Vec<Vec<Condition>>, Error> {
    let conditions = arguments.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let repeated = |a: &Condition| conditions.iter().filter(|b| a.index == b.index).count() > 1;
    Ok(match conditions.is_empty() {
        true => Vec::new(),
        false if conditions.iter().any(repeated) => conditions.iter().map(|one| vec![*one]).collect(),
        false => vec![conditions],
    })
}

fn condition(argument: &Argument) -> Result<Condition, Error> {
    let operator = match argument.op.as_str() {
        "SCMP_CMP_NE" => Operator::NotEqual,
        "SCMP_CMP_LT" => Operator::Less,
        "SCMP_CMP_LE" => Operator::LessOrEqual,
        "SCMP_CMP_EQ" => Operator::Equal,
        "SCMP_CMP_GE" => Operator::GreaterOrEqual,
        "SCMP_CMP_GT" => Operator::Greater,
        "SCMP_CMP_MASKED_EQ" => Operator::MaskedEqual,
        other => return Err(invalid("syscalls.args.op", format!("`{other}` is not a comparison"))),
    };
    if argument.index > 5 {
        return Err(invalid("syscalls.args.index", format!("there is no argument {}", argument.index)));
    }
    Ok(Condition { index: argument.index, operator, value: argument.value, second: argument.value_two })
}

fn action(name: &str, errno: Option<u32>) -> Result<Action, Error> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_ERRNO" => {
            // The kernel cuts off at `MAX_ERRNO`.
            let errno = u16::try_from(errno.unwrap_or(EPERM)).ok().filter(|errno| *errno <= 4095);
            Action::Errno(
                errno
                    .ok_or_else(|| invalid("errnoRet", "an error has at most the number 4095".to_owned()))?,
            )
        }
        other => return Err(invalid("action", format!("`{other}` is not supported"))),
    })
}

fn invalid(property: &str, reason: String) -> Error {
    let dot = if property.is_empty() { "" } else { "." };
    Error::Invalid { property: format!("linux.seccomp{dot}{property}"), reason }
}

/// From which number on a fate holds; the first is 0.
fn ranges(fates: BTreeMap<u32, Fate>, default: Action) -> Vec<(u32, Fate)> {
    let none = Fate { conditional: Vec::new(), otherwise: default };
    let mut ranges = vec![(0, none.clone())];
    let mut next = 0;
    let mut push = |start: u32, fate: Fate| match ranges.last_mut() {
        Some((_, last)) if *last == fate => {}
        // Nothing lies between.
        Some((last_start, last)) if *last_start == start => *last = fate,
        _ => ranges.push((start, fate)),
    };
    for (number, fate) in fates {
        if number != next {
            push(next, none.clone());
        }
        push(number, fate);
        next = number.saturating_add(1);
    }
    push(next, none);
    ranges
}

fn tree(assembler: &mut Assembler, ranges: &[(u32, Fate)], architecture: Architecture) {
    match ranges {
        [] => {}
        [(_, fate)] => {
            for (conditions, action) in &fate.conditional {
                check(assembler, conditions, *action, architecture);
            }
            assembler.act(fate.otherwise);
        }
        _ => {
            let (lower, upper) = ranges.split_at(ranges.len() / 2);
            assembler.when_at_least(upper[0].0, |body| tree(body, upper, architecture));
            tree(assembler, lower, architecture);
        }
    }
}

/// Acts when all conditions hold; else goes on.
fn check(assembler: &mut Assembler, conditions: &[Condition], action: Action, architecture: Architecture) {
    let Some((first, rest)) = conditions.split_first() else { return assembler.act(action) };
    let then = |body: &mut Assembler| check(body, rest, action, architecture);
    let (high, low) = ((first.value >> 32) as u32, first.value as u32);
    let wide = matches!(architecture, Architecture::X86_64 | Architecture::Aarch64);
    let index = first.index;
    // On the upper half decides `above` or `below`; where it is equal, the lower one does.
    let halves = |assembler: &mut Assembler, lower: &dyn Fn(&mut Assembler), equal: u32| match wide {
        true => {
            assembler.load_argument_high(index);
            assembler.when_equal(equal, |body| {
                body.load_argument(index);
                lower(body);
            });
        }
        false => {
            assembler.load_argument(index);
            lower(assembler);
        }
    };
    match first.operator {
        Operator::Equal => halves(assembler, &|body| body.when_equal(low, then), high),
        Operator::NotEqual => {
            if wide {
                assembler.load_argument_high(index);
                assembler.unless_equal(high, then);
            }
            assembler.load_argument(index);
            assembler.unless_equal(low, then);
        }
        Operator::Greater | Operator::GreaterOrEqual => {
            if wide {
                assembler.load_argument_high(index);
                assembler.when_above(high, then);
            }
            let or_equal = first.operator == Operator::GreaterOrEqual;
            halves(
                assembler,
                &|body| match or_equal {
                    true => body.when_at_least(low, then),
                    false => body.when_above(low, then),
                },
                high,
            );
        }
        Operator::Less | Operator::LessOrEqual => {
            if wide {
                assembler.load_argument_high(index);
                assembler.unless_at_least(high, then);
            }
            let or_equal = first.operator == Operator::LessOrEqual;
            halves(
                assembler,
                &|body| match or_equal {
                    true => body.unless_above(low, then),
                    false => body.unless_at_least(low, then),
                },
                high,
            );
        }
        Operator::MaskedEqual => {
            let (second_high, second_low) = ((first.second >> 32) as u32, first.second as u32);
            let lower = |body: &mut Assembler| {
                body.load_argument(index);
                body.mask(low);
                body.when_equal(second_low, then);
            };
            if wide {
                assembler.load_argument_high(index);
                assembler.mask(high);
                assembler.when_equal(second_high, lower);
            } else {
                lower(assembler);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::interpret_call;
    use super::*;

    const ALLOWED: u32 = 0x7fff_0000;

    fn compiled(text: &str) -> Filter {
        compile(&serde_json::from_str(text).unwrap()).unwrap()
    }

    fn errno(number: u32) -> u32 {
        0x0005_0000 | number
    }

    #[test]
    fn each_machine_has_its_own_numbers_and_newer_calls_do_not_exist() {
        let filter = compiled(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32",
                "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"], "syscalls": [
                {"names": ["read", "write", "statx", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#,
        );
        use Architecture::{Aarch64, Arm, I386, X86_64};
        for (architecture, read, statx, open) in
            [(X86_64, 0, 332, 2), (I386, 3, 383, 5), (Aarch64, 63, 291, 56), (Arm, 3, 397, 5)]
        {
            let run = |number| interpret_call(&filter.instructions, architecture as u32, number, [0; 6]);
            assert_eq!(run(read), ALLOWED, "{architecture:?}");
            assert_eq!(run(statx), ALLOWED, "{architecture:?}");
            assert_eq!(run(open), errno(1), "{architecture:?}");
            assert_eq!(run(statx - 1), errno(1), "{architecture:?}");
            assert_eq!(run(435), errno(38), "{architecture:?}: clone3");
            assert_eq!(run(436), errno(38), "{architecture:?}: newer than the profile");
        }
        let run = |architecture, number| interpret_call(&filter.instructions, architecture, number, [0; 6]);
        assert_eq!(run(X86_64 as u32, X32_BIT), errno(38), "x32");
        assert_eq!(run(0x1234, 0), errno(38), "an unknown machine");
        assert_eq!(filter.flags, 4);
    }

    #[test]
    fn all_64_bits_of_an_argument_are_compared() {
        let big = 0x1_0000_0005_u64;
        let values = [0, 4, 5, 6, 0xffff_ffff, big - 1, big, big + 1, 0x2_0000_0000, u64::MAX];
        type Rule = (&'static str, fn(u64, u64) -> bool);
        let operators: [Rule; 6] = [
            ("NE", |a, b| a != b),
            ("LT", |a, b| a < b),
            ("LE", |a, b| a <= b),
            ("EQ", |a, b| a == b),
            ("GE", |a, b| a >= b),
            ("GT", |a, b| a > b),
        ];
        for (name, holds) in operators {
            for value in values {
                let filter = compiled(&format!(
                    r#"{{"defaultAction": "SCMP_ACT_KILL_PROCESS", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
                       {{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [
                         {{"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}},
                         {{"index": 5, "value": {value}, "op": "SCMP_CMP_{name}"}}]}}]}}"#
                ));
                for argument in values {
                    let run = |second| {
                        let arguments = [0, second, 0, 0, 0, argument];
                        interpret_call(&filter.instructions, Architecture::X86_64 as u32, 0, arguments)
                    };
                    let expected = if holds(argument, value) { ALLOWED } else { 0x8000_0000 };
                    assert_eq!(run(7), expected, "{argument:#x} {name} {value:#x}");
                    assert_eq!(run(8), 0x8000_0000, "all conditions have to hold");
                }
            }
        }
    }

    #[test]
    fn masks_alternatives_and_rules_without_conditions() {
        let filter = compiled(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
                {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
                 {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
                {"names": ["read"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
                {"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#,
        );
        let run = |number, first| {
            interpret_call(&filter.instructions, Architecture::X86_64 as u32, number, [first, 0, 0, 0, 0, 0])
        };
        assert_eq!(run(56, 0x11), ALLOWED, "clone without namespaces");
        assert_eq!(run(56, 0x1000_0011), errno(13), "CLONE_NEWUSER");
        for (family, expected) in [(1, ALLOWED), (2, ALLOWED), (3, errno(13))] {
            assert_eq!(run(41, family), expected, "socket({family})");
        }
        assert_eq!(run(0, 1), ALLOWED, "a rule without conditions outweighs");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, property) in [
            (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "linux.seccomp.action"),
            (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000}"#, "linux.seccomp.errnoRet"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}"#, "linux.seccomp.flags"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["X"]}"#, "linux.seccomp.architectures"),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG",
                    "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
                "linux.seccomp.syscalls.args.index",
            ),
        ] {
            let error = compile(&serde_json::from_str(text).unwrap()).unwrap_err().to_string();
            assert!(error.contains(property), "{error}");
        }
        let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#;
        assert!(serde_json::from_str::<Seccomp>(text).is_err());
    }
}
