//! Network namespaces: making or joining the project's, and working inside a container's.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// Puts the calling thread, and those it starts, into a new network namespace or into `join`.
pub(crate) fn enter(join: Option<&File>) -> io::Result<()> {
    match join {
        None => unshare(CloneFlags::CLONE_NEWNET)?,
        Some(namespace) => setns(namespace, CloneFlags::CLONE_NEWNET)?,
    }
    Ok(())
}

/// The calling thread's network namespace.
pub(crate) fn current() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

/// Runs `action` on a thread of its own inside `namespace`. The thread ends afterwards: it could not come back, because
/// nobody in a user namespace may enter the host's network namespace.
pub(crate) fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    action: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let (mut action, mut result) = (Some(action), None);
    run_inside(namespace, &mut || result = action.take().map(|action| action()))?;
    result.unwrap_or_else(|| Err(io::Error::other("the thread in another namespace did nothing")))
}

/// What is the same for every action is in the executable once.
fn run_inside(namespace: BorrowedFd<'_>, action: &mut (dyn FnMut() + Send)) -> io::Result<()> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("container".into()).spawn_scoped(scope, move || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            action();
            Ok(())
        })?;
        worker
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the container's namespace panicked")))
    })
}

/// Runs `action`, which must be short, inside `namespace` on the calling thread, which lives in the project's namespace:
/// between namespaces of one user namespace there is a way back.
pub(crate) fn visit<T>(namespace: BorrowedFd<'_>, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    thread_local! {
        static HOME: OnceCell<File> = const { OnceCell::new() };
    }
    HOME.with(|home| {
        let home = match home.get() {
            Some(home) => home,
            None => {
                let here = current()?;
                home.get_or_init(|| here)
            }
        };
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        let result = action();
        if setns(home, CloneFlags::CLONE_NEWNET).is_err() {
            // Whatever this thread made from now on would belong to the container.
            std::process::abort();
        }
        result
    })
}

/// Writes a setting below `/proc/sys/net` of the calling thread's namespace. No error where the kernel does not have
/// it (IPv6 left out, for one).
pub(crate) fn set(name: &str, value: &str) -> io::Result<()> {
    match std::fs::write(format!("/proc/sys/net/{name}"), value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Whether the kernel has IPv6.
pub(crate) fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").exists()
}
