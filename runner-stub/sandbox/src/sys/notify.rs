//! seccomp's user notification: seccomp_unotify(2).

use std::ffi::{c_int, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;

use super::{Instruction, Program, check};

/// `struct seccomp_notif`: somebody made a system call and waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Notification {
    pub(crate) id: u64,
    /// Of the thread, as this process' PID namespace has it; 0 when it is in none of ours.
    pub(crate) thread: u32,
    flags: u32,
    pub(crate) number: u32,
    pub(crate) architecture: u32,
    instruction_pointer: u64,
    pub(crate) arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const _: () = assert!(size_of::<Notification>() == 80 && size_of::<Response>() == 24);

/// What the caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The call has succeeded with this value.
    Value(u32),
    /// It has failed.
    Error(nix::errno::Errno),
    /// The kernel executes it as if nobody had been asked (Linux 5.5).
    Proceed,
}

const RECEIVE: u32 = 0xc050_2100;
const SEND: u32 = 0xc018_2101;
/// With the direction that Linux 5.0 to 5.16 insisted on; later ones take both.
const IS_VALID: u32 = 0x8008_2102;

/// Whether this kernel's filters can ask.
pub(crate) fn can_notify() -> bool {
    const SECCOMP_GET_ACTION_AVAIL: c_int = 2;
    const SECCOMP_RET_USER_NOTIF: u32 = 0x7fc0_0000;
    let action = SECCOMP_RET_USER_NOTIF;
    // SAFETY: the kernel reads a u32, which outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, std::ptr::from_ref(&action)) };
    result == 0
}

/// Installs a filter; its questions come to the descriptor. Needs what [`super::install_filter`] needs.
pub(crate) fn install_asking_filter(filter: &[Instruction]) -> io::Result<OwnedFd> {
    const SECCOMP_SET_MODE_FILTER: c_int = 1;
    const NEW_LISTENER: c_ulong = 1 << 3;
    // A question that has been read is not taken back by a signal that does not kill (Linux 5.19).
    const WAIT_KILLABLE: c_ulong = 1 << 5;
    let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = Program { length, instructions: filter.as_ptr() };
    let install = |flags: c_ulong| {
        // SAFETY: program points to `length` instructions that outlive the call; the kernel copies and checks them.
        check(unsafe {
            libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program))
        })
    };
    let number = match install(NEW_LISTENER | WAIT_KILLABLE) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => install(NEW_LISTENER)?,
        result => result?,
    };
    let number = c_int::try_from(number).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just made this descriptor for us (close-on-exec); nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Waits for a question.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    let mut notification = Notification::default();
    request(listener, RECEIVE, &mut notification)?;
    Ok(notification)
}

/// Whether the caller still waits: until then its thread ID is its own.
pub(crate) fn is_waiting(listener: BorrowedFd<'_>, notification: &Notification) -> bool {
    request(listener, IS_VALID, &mut { notification.id }).is_ok()
}

/// Answers. A caller that is gone does not mind.
pub(crate) fn answer(
    listener: BorrowedFd<'_>,
    notification: &Notification,
    answer: Answer,
) -> io::Result<()> {
    const CONTINUE: u32 = 1;
    let id = notification.id;
    let mut response = match answer {
        Answer::Value(value) => Response { id, value: i64::from(value), ..Response::default() },
        Answer::Error(errno) => Response { id, error: -(errno as i32), ..Response::default() },
        Answer::Proceed => Response { id, flags: CONTINUE, ..Response::default() },
    };
    match request(listener, SEND, &mut response) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

fn request<T: Copy>(listener: BorrowedFd<'_>, number: u32, data: &mut T) -> io::Result<()> {
    rustix::io::retry_on_intr(|| {
        // SAFETY: each request number above carries the size of the structure that its one caller passes; all their bytes
        // are initialised and any bytes are valid for them.
        let result = unsafe { libc::ioctl(listener.as_raw_fd(), number as _, std::ptr::from_mut(data)) };
        check(result.into())
            .map(drop)
            .map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
    })
    .map_err(io::Error::from)
}

/// The kernel's own `struct stat` (on 32-bit machines `struct stat64`), as it is: bytes to be passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawStat(Vec<u8>);

impl RawStat {
    #[cfg(target_arch = "x86_64")]
    const LAYOUT: (usize, usize) = (144, 28);
    #[cfg(target_arch = "aarch64")]
    const LAYOUT: (usize, usize) = (128, 24);
    #[cfg(target_arch = "arm")]
    const LAYOUT: (usize, usize) = (104, 24);
    #[cfg(target_pointer_width = "64")]
    const CALL: libc::c_long = libc::SYS_newfstatat;
    #[cfg(target_pointer_width = "32")]
    const CALL: libc::c_long = libc::SYS_fstatat64;

    /// Of what a descriptor is open on; `O_PATH` is enough.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        // Longer than any layout, so that a kernel that wrote more would not write elsewhere.
        let mut bytes = vec![0_u8; 256];
        // SAFETY: the path is an empty C string; the buffer has room for the structure.
        check(unsafe {
            libc::syscall(Self::CALL, fd.as_raw_fd(), c"".as_ptr(), bytes.as_mut_ptr(), libc::AT_EMPTY_PATH)
        })?;
        bytes.truncate(Self::LAYOUT.0);
        Ok(RawStat(bytes))
    }

    /// The same with another owner; group IDs stand behind user IDs.
    pub(crate) fn owned_by(mut self, (uid, gid): (u32, u32)) -> Vec<u8> {
        let at = Self::LAYOUT.1;
        self.0[at..at + 4].copy_from_slice(&uid.to_ne_bytes());
        self.0[at + 4..at + 8].copy_from_slice(&gid.to_ne_bytes());
        self.0
    }
}

/// `struct statx` as it is, with another owner.
pub(crate) fn raw_statx(fd: BorrowedFd<'_>, flags: u32, mask: u32) -> io::Result<[u8; 256]> {
    let mut bytes = [0_u8; 256];
    // SAFETY: the path is an empty C string; struct statx has 256 bytes.
    check(unsafe {
        libc::syscall(
            libc::SYS_statx,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags | libc::AT_EMPTY_PATH.cast_unsigned(),
            mask,
            bytes.as_mut_ptr(),
        )
    })?;
    Ok(bytes)
}

/// Where `struct statx` has the user ID; the group ID follows.
pub(crate) const STATX_OWNER: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn owners_stand_where_they_are_written() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let raw = RawStat::of(file.as_fd()).unwrap();
        let owner = |bytes: &[u8], at: usize| {
            let number = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
            (number(at), number(at + 4))
        };
        use std::os::unix::fs::MetadataExt;
        let metadata = file.metadata().unwrap();
        assert_eq!(owner(&raw.0, RawStat::LAYOUT.1), (metadata.uid(), metadata.gid()));
        let changed = raw.owned_by((999, 998));
        assert_eq!(owner(&changed, RawStat::LAYOUT.1), (999, 998));
        let statx = raw_statx(file.as_fd(), 0, 0xfff).unwrap();
        assert_eq!(owner(&statx, STATX_OWNER), (metadata.uid(), metadata.gid()));
    }
}
