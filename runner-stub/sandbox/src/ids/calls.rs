//! The system calls in which user and group IDs cross the border to the kernel, and their numbers.

use crate::seccomp::Architecture;

/// A system call, whatever its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    GetUid,
    GetEffectiveUid,
    GetGid,
    GetEffectiveGid,
    GetResUid,
    GetResGid,
    GetGroups,
    SetUid,
    SetGid,
    SetReUid,
    SetReGid,
    SetResUid,
    SetResGid,
    SetFsUid,
    SetFsGid,
    SetGroups,
    /// `chown(path, uid, gid)`
    Chown,
    /// The same of a link itself.
    LinkChown,
    /// `fchown(fd, uid, gid)`
    DescriptorChown,
    /// `fchownat(directory, path, uid, gid, flags)`
    ChownAt,
    /// `stat(path, buffer)`
    Stat,
    /// The same of a link itself.
    LinkStat,
    /// `fstatat(directory, path, buffer, flags)`
    StatAt,
    /// `statx(directory, path, flags, mask, buffer)`
    Statx,
    /// Listened to only: afterwards paths mean something else.
    ChangeRoot,
    /// `prctl(PR_SET_KEEPCAPS, keep)`, listened to only: afterwards a user who is not root may still change IDs.
    KeepCapabilities,
    /// Listened to only: what was kept ends.
    Execute,
}

/// How wide IDs are in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// The calls of the first Linux, which 32-bit machines still have.
    Bits16,
    Bits32,
}

/// One call's numbers.
struct Row {
    call: Call,
    x86_64: Option<u32>,
    aarch64: Option<u32>,
    /// i386 and ARM.
    both_32: Option<u32>,
    /// i386 and ARM, with 16-bit IDs.
    narrow: Option<u32>,
}

const fn row(
    call: Call,
    x86_64: Option<u32>,
    aarch64: Option<u32>,
    both_32: Option<u32>,
    narrow: Option<u32>,
) -> Row {
    Row { call, x86_64, aarch64, both_32, narrow }
}

/// arch/x86/entry/syscalls/syscall_{64,32}.tbl, arch/arm/tools/syscall.tbl, include/uapi/asm-generic/unistd.h. Those in
/// which i386 and ARM differ are in [`OF_I386`] and [`OF_ARM`].
const ROWS: [Row; 27] = [
    row(Call::GetUid, Some(102), Some(174), Some(199), Some(24)),
    row(Call::GetEffectiveUid, Some(107), Some(175), Some(201), Some(49)),
    row(Call::GetGid, Some(104), Some(176), Some(200), Some(47)),
    row(Call::GetEffectiveGid, Some(108), Some(177), Some(202), Some(50)),
    row(Call::GetResUid, Some(118), Some(148), Some(209), Some(165)),
    row(Call::GetResGid, Some(120), Some(150), Some(211), Some(171)),
    row(Call::GetGroups, Some(115), Some(158), Some(205), Some(80)),
    row(Call::SetUid, Some(105), Some(146), Some(213), Some(23)),
    row(Call::SetGid, Some(106), Some(144), Some(214), Some(46)),
    row(Call::SetReUid, Some(113), Some(145), Some(203), Some(70)),
    row(Call::SetReGid, Some(114), Some(143), Some(204), Some(71)),
    row(Call::SetResUid, Some(117), Some(147), Some(208), Some(164)),
    row(Call::SetResGid, Some(119), Some(149), Some(210), Some(170)),
    row(Call::SetFsUid, Some(122), Some(151), Some(215), Some(138)),
    row(Call::SetFsGid, Some(123), Some(152), Some(216), Some(139)),
    row(Call::SetGroups, Some(116), Some(159), Some(206), Some(81)),
    row(Call::Chown, Some(92), None, Some(212), Some(182)),
    row(Call::LinkChown, Some(94), None, Some(198), Some(16)),
    row(Call::DescriptorChown, Some(93), Some(55), Some(207), Some(95)),
    row(Call::ChownAt, Some(260), Some(54), None, None),
    row(Call::Stat, Some(4), None, Some(195), None),
    row(Call::LinkStat, Some(6), None, Some(196), None),
    row(Call::StatAt, Some(262), Some(79), None, None),
    row(Call::Statx, Some(332), Some(291), None, None),
    row(Call::ChangeRoot, Some(161), Some(51), Some(61), None),
    row(Call::KeepCapabilities, Some(157), Some(167), Some(172), None),
    row(Call::Execute, Some(59), Some(221), Some(11), None),
];
const OF_I386: [(Call, u32); 3] = [(Call::ChownAt, 298), (Call::StatAt, 300), (Call::Statx, 383)];
const OF_ARM: [(Call, u32); 3] = [(Call::ChownAt, 325), (Call::StatAt, 327), (Call::Statx, 397)];

impl Call {
    /// It asks for a change that a namespace with one ID cannot make.
    pub(super) fn changes(self) -> bool {
        matches!(
            self,
            Call::SetUid
                | Call::SetGid
                | Call::SetReUid
                | Call::SetReGid
                | Call::SetResUid
                | Call::SetResGid
                | Call::SetFsUid
                | Call::SetFsGid
                | Call::SetGroups
                | Call::Chown
                | Call::LinkChown
                | Call::DescriptorChown
                | Call::ChownAt
        )
    }

    /// It answers with a structure of the machine's own layout.
    fn reads_file(self) -> bool {
        matches!(self, Call::Stat | Call::LinkStat | Call::StatAt | Call::Statx)
    }
}

/// All calls of a machine with their numbers. What reads a file's owner is there for this program's own machine only, whose
/// layout is known.
pub(super) fn of(architecture: Architecture) -> impl Iterator<Item = (u32, Call, Width)> {
    let wide = ROWS.iter().filter_map(move |row| {
        let number = match architecture {
            Architecture::X86_64 => row.x86_64,
            Architecture::Aarch64 => row.aarch64,
            Architecture::I386 | Architecture::Arm => row.both_32,
        };
        Some((number?, row.call, Width::Bits32))
    });
    let (own, narrow): (&[(Call, u32)], bool) = match architecture {
        Architecture::I386 => (&OF_I386, true),
        Architecture::Arm => (&OF_ARM, true),
        Architecture::X86_64 | Architecture::Aarch64 => (&[], false),
    };
    let own = own.iter().map(|(call, number)| (*number, *call, Width::Bits32));
    let narrow =
        ROWS.iter().filter(move |_| narrow).filter_map(|row| Some((row.narrow?, row.call, Width::Bits16)));
    let native = architecture == Architecture::NATIVE;
    wide.chain(own).chain(narrow).filter(move |(_, call, _)| native || !call.reads_file())
}

/// Which call it is.
pub(super) fn find(architecture: u32, number: u32) -> Option<(Call, Width)> {
    let architecture = Architecture::ALL.into_iter().find(|known| *known as u32 == architecture)?;
    of(architecture).find(|(known, _, _)| *known == number).map(|(_, call, width)| (call, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_means_two_calls() {
        for architecture in Architecture::ALL {
            let mut numbers: Vec<u32> = of(architecture).map(|(number, _, _)| number).collect();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), all, "{architecture:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_c_library() {
        use nix::libc::*;
        let calls = [
            (SYS_getuid, Call::GetUid),
            (SYS_geteuid, Call::GetEffectiveUid),
            (SYS_getgid, Call::GetGid),
            (SYS_getegid, Call::GetEffectiveGid),
            (SYS_getresuid, Call::GetResUid),
            (SYS_getresgid, Call::GetResGid),
            (SYS_getgroups, Call::GetGroups),
            (SYS_setuid, Call::SetUid),
            (SYS_setgid, Call::SetGid),
            (SYS_setreuid, Call::SetReUid),
            (SYS_setregid, Call::SetReGid),
            (SYS_setresuid, Call::SetResUid),
            (SYS_setresgid, Call::SetResGid),
            (SYS_setfsuid, Call::SetFsUid),
            (SYS_setfsgid, Call::SetFsGid),
            (SYS_setgroups, Call::SetGroups),
            (SYS_fchown, Call::DescriptorChown),
            (SYS_fchownat, Call::ChownAt),
            (SYS_statx, Call::Statx),
            (SYS_chroot, Call::ChangeRoot),
            (SYS_prctl, Call::KeepCapabilities),
            (SYS_execve, Call::Execute),
        ];
        for (number, call) in calls {
            let number = u32::try_from(number).unwrap();
            assert_eq!(find(Architecture::NATIVE as u32, number).unwrap().0, call);
        }
        #[cfg(target_arch = "x86_64")]
        for (number, call) in [
            (SYS_chown, Call::Chown),
            (SYS_lchown, Call::LinkChown),
            (SYS_stat, Call::Stat),
            (SYS_lstat, Call::LinkStat),
            (SYS_newfstatat, Call::StatAt),
        ] {
            assert_eq!(find(Architecture::X86_64 as u32, u32::try_from(number).unwrap()).unwrap().0, call);
        }
    }

    #[test]
    fn foreign_layouts_are_left_to_the_kernel() {
        assert_eq!(find(Architecture::I386 as u32, 24), Some((Call::GetUid, Width::Bits16)));
        let foreign =
            if Architecture::NATIVE == Architecture::I386 { Architecture::Arm } else { Architecture::I386 };
        assert_eq!(find(foreign as u32, 195), None);
        assert_eq!(find(0xdead_beef, 1), None);
    }
}
