//! packet(7): binding, memberships and statistics.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

use super::check;

/// `bind` to an interface, for frames of every protocol.
pub(crate) fn bind(socket: BorrowedFd<'_>, interface: i32) -> io::Result<()> {
    // SAFETY: an address of the kernel's layout, for which all zeroes are valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = interface;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: pointer and length are those of a live address; the kernel copies it.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    check(result.into()).map(drop)
}

/// `PACKET_ADD_MEMBERSHIP`: frames between others, too.
pub(crate) fn promiscuous(socket: BorrowedFd<'_>, interface: i32) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: interface,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    let length = size_of::<libc::packet_mreq>() as libc::socklen_t;
    // SAFETY: pointer and length are those of a live request; the kernel copies it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            length,
        )
    };
    check(result.into()).map(drop)
}

/// `PACKET_STATISTICS`: frames received, of which so many were dropped.
pub(crate) fn statistics(socket: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    // `struct tpacket_stats`
    let mut counts = [0_u32; 2];
    let mut length = size_of_val(&counts) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to a live array of that size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            counts.as_mut_ptr().cast(),
            &mut length,
        )
    };
    check(result.into())?;
    Ok((counts[0], counts[1]))
}
