//! Our own processes give up what they do not need, so that a fault in one of them is worth little to whoever finds it.
//!
//! | process | capabilities | system calls | files (landlock, Linux 5.13) |
//! |---|---|---|---|
//! | shim | `CAP_KILL` | those of its loop | the container's folder, its control group |
//! | network | the network's, and joining namespaces | none that execute, mount, trace or load | the folder of its socket, the subnets of others beside it, name servers, the network's parameters |
//! | supervisor | those of files, and signals | as network, and none that make or join namespaces | all to read; to write the data and the runtime folder, control groups (Linux 5.19) |
//!
//! Capabilities are those of the project's user namespace: none of them means anything outside of it. The launcher
//! ([`crate::role::launcher`]) keeps all: containers have theirs from it. It does for the supervisor what landlock closes to it:
//! folders elsewhere, and what `/proc` says of others (landlock(7), "Ptrace restrictions").

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::process::confine;
use crate::spec::{Argument, Seccomp, Syscall};
use crate::sys::landlock;
use crate::{Error, seccomp, selinux, sys};

/// What the shim calls while its container runs, on all machines. Everything else fails.
const SHIM_CALLS: &str = "_llseek access brk clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close \
    exit exit_group faccessat faccessat2 fchmod fcntl fcntl64 fdatasync fstat fstat64 fstatat64 fsync ftruncate ftruncate64 \
    futex futex_time64 getdents64 getpid getrandom gettid gettimeofday ioctl kill lseek lstat madvise mmap mmap2 mprotect \
    mremap munmap nanosleep newfstatat open openat pidfd_send_signal poll ppoll ppoll_time64 pread64 pwrite64 read readlink \
    readlinkat readv rename renameat renameat2 restart_syscall rmdir rt_sigaction rt_sigprocmask rt_sigreturn sched_yield \
    set_robust_list sigaltstack sigreturn stat statx tgkill tkill uname unlink unlinkat wait4 waitid write writev";

/// What network process and supervisor never call and a fault would: other programs, mounts, other processes, the kernel's own
/// interfaces. They have threads and libraries, so that these are named instead of the others.
const REFUSED: &str = "acct add_key bpf chroot delete_module execve execveat finit_module fsconfig fsmount fsopen \
    fspick init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl \
    lookup_dcookie mount mount_setattr move_mount move_pages name_to_handle_at nfsservctl open_by_handle_at open_tree \
    perf_event_open personality pidfd_getfd pivot_root process_madvise process_vm_readv process_vm_writev ptrace quotactl \
    quotactl_fd reboot request_key setdomainname sethostname settimeofday swapoff swapon syslog umount umount2 \
    userfaultfd vhangup";

/// How a process gets into other namespaces, beside `clone`.
const NAMESPACES: &str = "setns unshare";

/// landlock(7), "Filesystem actions".
mod right {
    pub(super) const WRITE_FILE: u64 = 1 << 1;
    pub(super) const READ_FILE: u64 = 1 << 2;
    pub(super) const READ: u64 = READ_FILE | 1 << 3;
    pub(super) const REMOVE_DIR: u64 = 1 << 4;
    pub(super) const REMOVE_FILE: u64 = 1 << 5;
    pub(super) const MAKE_DIR: u64 = 1 << 7;
    pub(super) const MAKE_FILE: u64 = 1 << 8;
    pub(super) const MAKE_SOCKET: u64 = 1 << 9;
    /// Of the second version.
    pub(super) const REFER: u64 = 1 << 13;
    /// Of the third.
    pub(super) const TRUNCATE: u64 = 1 << 14;
    /// Of the fifth.
    pub(super) const IOCTL_DEV: u64 = 1 << 15;
    /// Of the first; the lowest is to execute.
    pub(super) const FIRST: u64 = (1 << 13) - 1;
    /// All but to execute and to talk to devices.
    pub(super) const ALL_OF_FILES: u64 = (FIRST - 1) | REFER | TRUNCATE;
}

/// landlock(7), "Scope flags", of the sixth version.
mod scope {
    pub(super) const ABSTRACT_SOCKETS: u64 = 1 << 0;
    pub(super) const SIGNALS: u64 = 1 << 1;
}

/// Rights on what lies at a path and below it.
type Rule = (PathBuf, u64);

/// The shim, once its container runs. `groups` are the folders above those of its control group.
pub(crate) fn shim(container_dir: &Path, groups: Vec<PathBuf>) -> Result<(), Error> {
    let own = right::READ | right::WRITE_FILE | right::REMOVE_FILE | right::MAKE_FILE | right::TRUNCATE;
    let in_group = right::READ | right::WRITE_FILE | right::REMOVE_DIR;
    let mut rules = vec![(container_dir.to_owned(), own)];
    rules.extend(groups.into_iter().map(|folder| (folder, in_group)));
    let calls = SHIM_CALLS.split_whitespace().map(str::to_owned).collect();
    let filter = profile("SCMP_ACT_ERRNO", calls, "SCMP_ACT_ALLOW");
    drop_capabilities(CapabilitySet::KILL)?;
    // Its container is from before.
    restrict(&rules, scope::ABSTRACT_SOCKETS)?;
    install(&filter)
}

/// The network process, before it has threads, with the namespace to join in its hands. `socket` is where it will listen: beside it
/// lies what it tells of its subnets, one folder above what others tell of theirs. `resolv_conf` is the device's, which may be
/// a link, and is replaced at any time.
pub fn network(socket: &Path, resolv_conf: &Path) -> Result<(), Error> {
    let keep = CapabilitySet::NET_ADMIN
        | CapabilitySet::NET_RAW
        | CapabilitySet::NET_BIND_SERVICE
        | CapabilitySet::SYS_ADMIN;
    drop_capabilities(keep)?;
    restrict(&network_files(socket, resolv_conf), scope::ABSTRACT_SOCKETS | scope::SIGNALS)?;
    install(&refusing(REFUSED))
}

fn network_files(socket: &Path, resolv_conf: &Path) -> Vec<Rule> {
    let own = right::READ
        | right::WRITE_FILE
        | right::REMOVE_FILE
        | right::MAKE_FILE
        | right::MAKE_SOCKET
        | right::TRUNCATE;
    let folder = |path: &Path| path.parent().map(Path::to_owned);
    let project = folder(socket);
    let projects = project.as_deref().and_then(folder);
    // With the machine's ID beside it.
    let servers = [folder(resolv_conf), resolv_conf.canonicalize().ok().as_deref().and_then(folder)];
    // Of control groups the limit of processors, for the number of threads.
    let read = [projects, Some(PathBuf::from("/proc")), Some(PathBuf::from("/sys/fs/cgroup"))];
    let parameters = (PathBuf::from("/proc/sys/net"), right::WRITE_FILE | right::TRUNCATE);
    let mut rules = vec![parameters];
    rules.extend(project.map(|path| (path, own)));
    rules.extend(servers.into_iter().flatten().map(|path| (path, right::READ_FILE)));
    rules.extend(read.into_iter().flatten().map(|path| (path, right::READ)));
    rules
}

/// The supervisor, before it has threads and after it has its launcher. It writes files that belong to all IDs of the
/// project, in the folder `data` alone, and signals their processes. Whiteouts are device nodes, which only the device's root
/// needs a capability for, before Linux 5.8. The folder `runtime` is the project's; it may go and be made anew, and the one
/// that it lies in.
pub fn supervisor(data: &Path, runtime: &Path) -> Result<(), Error> {
    let keep = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::DAC_READ_SEARCH
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::KILL
        | CapabilitySet::MKNOD
        | CapabilitySet::SETFCAP;
    drop_capabilities(keep)?;
    // The first version lets nobody move or link a file from one folder to another.
    if landlock::version().is_some_and(|version| version >= 2) {
        restrict(&supervisor_files(data, runtime), 0)?;
    }
    let mut filter = refusing(&format!("{REFUSED} {NAMESPACES}"));
    // glibc goes on with `clone` when there is no other; a filter cannot see the flags of this one (seccomp_unotify(2)).
    filter.syscalls.push(refusal("clone3", Some(nix::libc::ENOSYS.cast_unsigned()), Vec::new()));
    let user = u64::from(nix::libc::CLONE_NEWUSER.cast_unsigned());
    let flag = Argument { index: 0, value: user, value_two: user, op: "SCMP_CMP_MASKED_EQ".to_owned() };
    filter.syscalls.push(refusal("clone", None, vec![flag]));
    install(&filter)
}

fn supervisor_files(data: &Path, runtime: &Path) -> Vec<Rule> {
    let groups = right::READ | right::WRITE_FILE | right::TRUNCATE | right::MAKE_DIR | right::REMOVE_DIR;
    let mut rules = vec![
        (PathBuf::from("/"), right::READ),
        (PathBuf::from("/dev/null"), right::WRITE_FILE),
        (data.to_owned(), right::ALL_OF_FILES),
    ];
    // The policy is asked by writing the question.
    rules.extend(selinux::QUESTIONS.map(|file| (PathBuf::from(file), right::WRITE_FILE)));
    rules.extend(runtime.ancestors().nth(2).map(|path| (path.to_owned(), right::ALL_OF_FILES)));
    rules.extend(crate::cgroup::mounts().into_iter().map(|path| (path, groups)));
    rules
}

/// Keeps these; no program that is executed gets others.
fn drop_capabilities(keep: CapabilitySet) -> Result<(), Error> {
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(one) {
            // The first number that the kernel does not know.
            Err(rustix::io::Errno::INVAL) => break,
            result => result.map_err(confine("drop capabilities from our bounding set"))?,
        }
    }
    rustix::thread::set_no_new_privs(true).map_err(confine("set no_new_privs"))?;
    rustix::thread::clear_ambient_capability_set().map_err(confine("clear ambient capabilities"))?;
    let now = rustix::thread::capabilities(None).map_err(confine("read our capabilities"))?;
    let sets = CapabilitySets {
        effective: now.effective & keep,
        permitted: now.permitted & keep,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).map_err(confine("drop our capabilities"))
}

/// To these files, and to what was made in the same landlock as far as `scoped` says. Nothing where the kernel has no landlock.
fn restrict(rules: &[Rule], scoped: u64) -> Result<(), Error> {
    let Some(version) = landlock::version() else { return Ok(()) };
    let failed = |source| Error::Confine { step: "restrict our files", source };
    let mut handled = right::FIRST;
    if version >= 2 {
        handled |= right::REFER;
    }
    if version >= 3 {
        handled |= right::TRUNCATE;
    }
    if version >= 5 {
        handled |= right::IOCTL_DEV;
    }
    let scoped = if version >= 6 { scoped } else { 0 };
    let set = landlock::create(handled, scoped).map_err(failed)?;
    for (path, rights) in rules {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(beneath) => landlock::allow(&set, beneath.as_fd(), rights & handled).map_err(failed)?,
            // Nobody reaches what is not there.
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    landlock::restrict(&set).map_err(failed)
}

fn refusing(names: &str) -> Seccomp {
    profile("SCMP_ACT_ALLOW", names.split_whitespace().map(str::to_owned).collect(), "SCMP_ACT_ERRNO")
}

fn refusal(name: &str, errno_ret: Option<u32>, args: Vec<Argument>) -> Syscall {
    Syscall { names: vec![name.to_owned()], action: "SCMP_ACT_ERRNO".to_owned(), errno_ret, args }
}

fn profile(default: &str, names: Vec<String>, action: &str) -> Seccomp {
    let rule = Syscall { names, action: action.to_owned(), errno_ret: None, args: Vec::new() };
    Seccomp {
        default_action: default.to_owned(),
        default_errno_ret: None,
        architectures: Vec::new(),
        flags: Vec::new(),
        syscalls: vec![rule],
    }
}

/// Calls of another machine's numbers fail as well.
fn install(profile: &Seccomp) -> Result<(), Error> {
    let filter = seccomp::compile(profile)?;
    sys::install_filter(&filter.instructions, filter.flags)
        .map_err(|source| Error::Confine { step: crate::process::STEP_SECCOMP, source })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    use super::*;

    /// Landlock holds for a thread and those that it starts.
    #[test]
    fn the_network_process_reaches_its_files_and_no_others() {
        let Some(version) = landlock::version() else {
            eprintln!("skipped: this kernel has no landlock");
            return;
        };
        let runtime = tempfile::tempdir().unwrap();
        let (own, other) = (runtime.path().join("own"), runtime.path().join("other"));
        let (etc, run) = (runtime.path().join("etc"), runtime.path().join("run"));
        let home = tempfile::tempdir().unwrap();
        for folder in [&own, &other, &etc, &run] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(other.join("network.subnets"), "172.18.0.0/16").unwrap();
        fs::write(run.join("stub.conf"), "nameserver 9.9.9.9").unwrap();
        std::os::unix::fs::symlink(run.join("stub.conf"), etc.join("resolv.conf")).unwrap();
        fs::write(home.path().join("secret"), "").unwrap();
        let name = SocketAddr::from_abstract_name(home.path().as_os_str().as_encoded_bytes()).unwrap();
        let _listener = UnixListener::bind_addr(&name).unwrap();
        let parent = std::os::unix::process::parent_id();
        let program = format!("/proc/{parent}/exe");
        let signal = move || {
            let parent = rustix::process::Pid::from_raw(parent.cast_signed()).unwrap();
            rustix::process::test_kill_process(parent)
        };
        let is_denied =
            |result: io::Result<()>| result.is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
        fs::read_link(&program).unwrap();
        signal().unwrap();

        let (resolv_conf, socket) = (etc.join("resolv.conf"), own.join("network.sock"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                rustix::thread::set_no_new_privs(true).unwrap();
                let scoped = scope::ABSTRACT_SOCKETS | scope::SIGNALS;
                restrict(&network_files(&socket, &resolv_conf), scoped).unwrap();

                UnixListener::bind(&socket).unwrap();
                fs::write(own.join("network.subnets.new"), "").unwrap();
                fs::rename(own.join("network.subnets.new"), own.join("network.subnets")).unwrap();
                fs::remove_file(own.join("network.subnets")).unwrap();
                assert_eq!(fs::read(other.join("network.subnets")).unwrap(), b"172.18.0.0/16");
                assert_eq!(fs::read(&resolv_conf).unwrap(), b"nameserver 9.9.9.9");
                fs::write(run.join("stub.conf.new"), "").unwrap_err();
                File::open("/proc/thread-self/ns/net").unwrap();
                fs::read("/proc/net/route").unwrap();

                assert!(is_denied(fs::read(home.path().join("secret")).map(drop)));
                assert!(is_denied(fs::write(home.path().join("new"), "")));
                assert!(is_denied(fs::read_dir(home.path()).map(drop)));
                assert!(is_denied(fs::write(other.join("network.subnets"), "")));
                assert!(is_denied(fs::remove_file(home.path().join("secret"))));
                assert!(is_denied(File::open("/bin/sh").map(drop)));
                assert!(is_denied(fs::read_link(&program).map(drop)));
                if version >= 6 {
                    assert!(is_denied(UnixStream::connect_addr(&name).map(drop)));
                    assert!(is_denied(signal().map_err(Into::into)));
                }
            });
        });
    }

    #[test]
    fn the_supervisor_writes_to_its_folders_and_to_no_others() {
        let Some(2..) = landlock::version() else {
            eprintln!("skipped: this kernel has no landlock of version 2");
            return;
        };
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        let (data, runtime) = (at("share/dpack"), at("run/dpack/shop"));
        for folder in [&data.join("one"), &data.join("other"), &runtime] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(at("secret"), "of the device").unwrap();
        let is_denied =
            |result: io::Result<()>| result.is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied);

        std::thread::scope(|scope| {
            scope.spawn(|| {
                rustix::thread::set_no_new_privs(true).unwrap();
                restrict(&supervisor_files(&data, &runtime), 0).unwrap();

                fs::write(data.join("one/file"), "").unwrap();
                fs::hard_link(data.join("one/file"), data.join("other/link")).unwrap();
                fs::rename(data.join("one/file"), data.join("other/file")).unwrap();
                fs::remove_dir_all(data.join("other")).unwrap();
                UnixListener::bind(runtime.join("supervisor.sock")).unwrap();
                fs::remove_dir_all(at("run/dpack")).unwrap();
                fs::create_dir_all(&runtime).unwrap();
                UnixListener::bind(runtime.join("supervisor.sock")).unwrap();
                assert_eq!(fs::read(at("secret")).unwrap(), b"of the device", "as `env_file` is");

                assert!(is_denied(fs::write(at("secret"), "")));
                assert!(is_denied(fs::write(at("new"), "")));
                assert!(is_denied(fs::remove_file(at("secret"))));
                assert!(is_denied(fs::create_dir(at("folder"))));
                assert!(is_denied(std::os::unix::fs::symlink("secret", at("link"))));
                assert!(is_denied(fs::rename(data.join("one"), at("two"))));
                fs::hard_link(at("secret"), data.join("one/secret")).unwrap_err();
                fs::write(data.join("one/file"), "").unwrap();
                std::os::unix::fs::symlink(at("secret"), data.join("one/link")).unwrap();
                assert!(is_denied(fs::write(data.join("one/link"), "")), "through a link neither");
            });
        });
        assert_eq!(fs::read(at("secret")).unwrap(), b"of the device");
    }

    /// A name with a mistake in it would be left out without a word.
    #[test]
    fn every_call_that_is_named_exists_on_some_machine() {
        for name in [SHIM_CALLS, REFUSED, NAMESPACES].into_iter().flat_map(str::split_whitespace) {
            assert!(seccomp::is_known(name), "{name}");
        }
    }
}
