//! Which system calls a container has: Docker's default profile, or one in Docker's form (docs.docker.com/engine/security/
//! seccomp), resolved for one container to what the runtime-spec calls `linux.seccomp`.
//!
//! A profile's rules may depend on capabilities, on the machine and on the kernel; the runtime-spec knows none of these.

mod docker;

use serde::{Deserialize, Serialize};

use crate::spec::{Seccomp, Syscall};

/// A profile in Docker's form.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    default_action: Action,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    /// Names for the value above, which is what counts.
    #[serde(default, rename = "defaultErrno")]
    _default_errno: Option<String>,
    /// Machines and their 32-bit programs; those are always covered here.
    #[serde(default, rename = "archMap")]
    _arch_map: Option<serde_json::Value>,
    #[serde(default, rename = "architectures")]
    _architectures: Option<Vec<String>>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

/// What becomes of some calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    names: Vec<String>,
    /// The form before Docker 17.
    #[serde(default)]
    name: Option<String>,
    action: Action,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default, rename = "errno")]
    _errno: Option<String>,
    /// All have to hold.
    #[serde(default, deserialize_with = "or_null")]
    args: Vec<Condition>,
    #[serde(default, rename = "comment")]
    _comment: Option<String>,
    #[serde(default, deserialize_with = "or_null")]
    includes: Selection,
    #[serde(default, deserialize_with = "or_null")]
    excludes: Selection,
}

/// For whom a rule is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Selection {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// `SCMP_ACT_…`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action(std::borrow::Cow<'static, str>);

impl Action {
    const ALLOW: Self = Self(std::borrow::Cow::Borrowed("SCMP_ACT_ALLOW"));
    const ERRNO: Self = Self(std::borrow::Cow::Borrowed("SCMP_ACT_ERRNO"));
}

/// A condition on an argument (config-linux.md, "Seccomp").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which argument, from 0.
    pub index: u32,
    /// To compare with; the mask of [`Operator::MaskedEqual`].
    pub value: u64,
    /// To compare with after masking.
    #[serde(default)]
    pub value_two: u64,
    /// How.
    pub op: Operator,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// `!=`
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    /// `<`
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    /// `<=`
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    /// `==`
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    /// `>=`
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    /// `>`
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// `(argument & value) == value_two`
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// Machine and kernel that a profile is resolved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// As Go calls it, and so Docker's profiles: `amd64`, `arm64`, `arm`.
    pub name: &'static str,
    /// Version and patch level of the kernel.
    pub kernel: (u32, u32),
}

impl Default for Machine {
    /// The one that this is compiled for, with the oldest kernel that there is support for.
    fn default() -> Self {
        let name = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { name, kernel: (4, 19) }
    }
}

impl Machine {
    /// The one that this is compiled for; `release` as uname(2) has it.
    pub fn of_kernel(release: &str) -> Self {
        Self { kernel: kernel(release), ..Self::default() }
    }

    /// With its 32-bit programs, which are other machines to a filter.
    fn architectures(self) -> Vec<String> {
        let names: &[&str] = match self.name {
            "amd64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "arm64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
            _ => &["SCMP_ARCH_ARM"],
        };
        names.iter().map(|&name| name.to_owned()).collect()
    }
}

impl Profile {
    /// Docker's own.
    pub fn docker() -> Self {
        Profile {
            default_action: Action::ERRNO,
            default_errno_ret: Some(1),
            _default_errno: None,
            _arch_map: None,
            _architectures: None,
            flags: Vec::new(),
            syscalls: docker::rules(),
        }
    }

    /// Reads Docker's form.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text.as_bytes())
    }

    /// For a container with these capabilities.
    pub fn resolve(&self, capabilities: &[String], machine: Machine) -> Seccomp {
        let rules = self.syscalls.iter().filter(|rule| rule.applies(capabilities, machine));
        let syscall = |rule: &Rule| Syscall {
            names: rule.names.iter().chain(&rule.name).cloned().collect(),
            action: rule.action.clone(),
            errno_ret: rule.errno_ret,
            args: rule.args.clone(),
        };
        Seccomp {
            default_action: self.default_action.clone(),
            default_errno_ret: self.default_errno_ret,
            architectures: machine.architectures(),
            flags: self.flags.clone(),
            syscalls: rules.map(syscall).collect(),
        }
    }
}

impl Rule {
    /// moby: `profiles/seccomp/seccomp_linux.go`, `setupSeccomp`. Of `includes` each kind has to hold: one of the machines, all
    /// of the capabilities; of `excludes` none of any.
    fn applies(&self, capabilities: &[String], machine: Machine) -> bool {
        let has = |name: &String| capabilities.contains(name);
        let on = |names: &[String]| names.iter().any(|name| name == machine.name);
        let (with, without) = (&self.includes, &self.excludes);
        with.caps.iter().all(has)
            && (with.arches.is_empty() || on(&with.arches))
            && with.min_kernel.as_deref().is_none_or(|version| kernel(version) <= machine.kernel)
            && !without.caps.iter().any(has)
            && !on(&without.arches)
            && without.min_kernel.as_deref().is_none_or(|version| kernel(version) > machine.kernel)
    }
}

/// `5.10` as a pair.
fn kernel(version: &str) -> (u32, u32) {
    let mut numbers = version.split(['.', '-']).map(|part| part.trim().parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Go writes an empty list or structure as `null`.
fn or_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
