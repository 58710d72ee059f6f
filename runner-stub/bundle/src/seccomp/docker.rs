//! Docker Engine's default profile: which system calls a container has.
//!
//! The rules are those of Docker (github.com/moby/profiles, `seccomp/default.json`, 2025: without io_uring, `socket` only for
//! the families that are listed), for the machines that there are runners for. What is not named here fails with EPERM; calls
//! newer than all of these with ENOSYS, so that programs fall back (the sandbox does that, as runc does).
//!
//! A test compares with what Debian packages of Docker's and of Podman's.

use super::{Action, Condition, Operator, Rule, Selection};

/// Allowed to everybody, by what they are for.
const ALWAYS: &[&str] = &[
    // Who a process is.
    "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid \
     getppid getresgid getresgid32 getresuid getresuid32 getsid gettid getuid getuid32 setfsgid setfsgid32 setfsuid \
     setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setregid setregid32 setresgid setresgid32 setresuid \
     setresuid32 setreuid setreuid32 setsid setuid setuid32 umask",
    // Processes, threads and their scheduling.
    "execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake \
     get_robust_list get_thread_area getcpu getpriority getrlimit getrusage ioprio_get ioprio_set kill \
     landlock_add_rule landlock_create_ruleset landlock_restrict_self membarrier pidfd_open pidfd_send_signal prctl \
     prlimit64 process_mrelease process_vm_readv process_vm_writev ptrace restart_syscall rseq \
     sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
     sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
     sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address setpriority setrlimit \
     tgkill times tkill ugetrlimit uretprobe vfork wait4 waitid waitpid",
    // Signals.
    "pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
     rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd signalfd4 sigprocmask sigreturn",
    // Memory.
    "brk madvise map_shadow_stack memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap \
     mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages",
    // Extended attributes.
    "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr \
     lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat",
    // Sockets. `socket` itself is below.
    "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 \
     recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair",
    // Waiting for several things.
    "_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
     epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch \
     io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit poll ppoll ppoll_time64 \
     pselect6 pselect6_time64 select",
    // Clocks and timers.
    "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
     clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create \
     timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create \
     timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    // System V IPC and message queues.
    "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
     mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt \
     shmget",
    // Files and folders by path.
    "access chdir chmod chown chown32 creat faccessat faccessat2 fchdir fchmod fchmodat fchmodat2 fchown fchown32 \
     fchownat fstat fstat64 fstatat64 fstatfs fstatfs64 futimesat getcwd getdents getdents64 lchown lchown32 link \
     linkat listmount lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 \
     readlink readlinkat rename renameat renameat2 rmdir stat stat64 statfs statfs64 statmount statx symlink \
     symlinkat truncate truncate64 unlink unlinkat utime utimensat utimensat_time64 utimes",
    // Descriptors and what is read and written by them.
    "_llseek cachestat close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate fcntl \
     fcntl64 fdatasync flock fsync ftruncate ftruncate64 getrandom ioctl lseek pipe pipe2 pread64 preadv preadv2 \
     pwrite64 pwritev pwritev2 read readahead readv sendfile sendfile64 splice sync sync_file_range syncfs sysinfo \
     tee uname vmsplice write writev",
];

/// Address families of sockets below the first that is closed (`AF_DECnet`), and those above that are open. Closed are, among
/// others, `AF_ALG` and `AF_VSOCK`, which leads past the network namespace.
const FIRST_CLOSED_FAMILY: u64 = 12;
const OPEN_FAMILIES: &[u64] =
    &[13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45];

/// `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and the question what it is.
const PERSONALITIES: &[u64] = &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `CLONE_NEW…` of all namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

const ENOSYS: u32 = 38;

/// Allowed with a capability.
const WITH: &[(&str, &str)] = &[
    ("CAP_BPF", "bpf"),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_PERFMON", "perf_event_open"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYSLOG", "syslog"),
];

/// Allowed on some machines.
const ON: &[(&[&str], &str)] = &[
    (
        &["arm", "arm64"],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    (&["amd64"], "arch_prctl modify_ldt"),
];

/// All rules.
pub(super) fn rules() -> Vec<Rule> {
    let names = |list: &str| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let allow = |list: &str| Rule { names: names(list), action: Action::ALLOW, ..Rule::default() };
    let mut rules = vec![allow(&ALWAYS.join(" "))];
    let only = |call: &str, operator, values: &[u64]| -> Vec<Rule> {
        let one = |value: &u64| Condition { index: 0, value: *value, value_two: 0, op: operator };
        values.iter().map(|value| Rule { args: vec![one(value)], ..allow(call) }).collect()
    };
    rules.extend(only("socket", Operator::Less, &[FIRST_CLOSED_FAMILY]));
    rules.extend(only("socket", Operator::Equal, OPEN_FAMILIES));
    rules.extend(only("personality", Operator::Equal, PERSONALITIES));
    let capability = |name: &str| Selection { caps: vec![name.to_owned()], ..Selection::default() };
    for (name, list) in WITH {
        rules.push(Rule { includes: capability(name), ..allow(list) });
    }
    for (machines, list) in ON {
        let arches = machines.iter().map(|&machine| machine.to_owned()).collect();
        rules.push(Rule { includes: Selection { arches, ..Selection::default() }, ..allow(list) });
    }
    // No namespaces; and since a filter cannot look into the structure that clone3 takes, none of that: the C library
    // then falls back to clone.
    let excludes = capability("CAP_SYS_ADMIN");
    rules.extend(
        only("clone", Operator::MaskedEqual, &[NEW_NAMESPACES])
            .into_iter()
            .map(|rule| Rule { excludes: excludes.clone(), ..rule }),
    );
    let action = Action::ERRNO;
    rules.push(Rule { names: names("clone3"), action, errno_ret: Some(ENOSYS), excludes, ..Rule::default() });
    rules
}
