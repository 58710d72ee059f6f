//! Who listens on a port, as far as `/proc` tells: the socket's inode from `/proc/net`, then the process that has it
//! open. Processes of other users, and from inside a user namespace all those outside of it, keep that to themselves.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::protocol::Protocol;

/// State of a listening TCP socket in `/proc/net/tcp`, and of an unconnected UDP socket in `/proc/net/udp`.
const TCP_LISTEN: u8 = 0x0a;
const UDP_OPEN: u8 = 0x07;

/// `process 1234 (nginx)`, when `/proc` tells who prevents listening on `address`. To be asked from the host's network
/// namespace; sees more from outside the project's user namespace than the network process does.
#[must_use]
pub fn port_owner(protocol: Protocol, address: SocketAddr) -> Option<String> {
    let (tables, state): ([&str; 2], u8) = match protocol {
        Protocol::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], TCP_LISTEN),
        Protocol::Udp => (["/proc/net/udp", "/proc/net/udp6"], UDP_OPEN),
    };
    let inodes: Vec<u64> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().skip(1).filter_map(parse_line).collect::<Vec<_>>())
        .filter(|socket| socket.state == state && collides(socket.local, address))
        .map(|socket| socket.inode)
        .collect();
    let targets: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    if targets.is_empty() {
        return None;
    }
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        has_open(&process.path(), &targets).then(|| {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            format!("process {pid} ({})", name.trim_end())
        })
    })
}

struct Socket {
    local: SocketAddr,
    state: u8,
    inode: u64,
}

/// `   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 …`
fn parse_line(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(Socket { local: SocketAddr::new(parse_address(address)?, port), state, inode })
}

/// Words of 32 bits in hexadecimal, each in the machine's byte order.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    if text.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let mut octets = [0; 16];
    for (number, chunk) in octets.chunks_exact_mut(4).enumerate() {
        chunk.copy_from_slice(&word(number * 8)?);
    }
    Some(Ipv6Addr::from(octets).into())
}

fn collides(held: SocketAddr, wanted: SocketAddr) -> bool {
    let is_any = held.ip().is_unspecified() || wanted.ip().is_unspecified();
    held.port() == wanted.port() && (is_any || held.ip().to_canonical() == wanted.ip().to_canonical())
}

fn has_open(process: &Path, targets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        fs::read_link(descriptor.path())
            .is_ok_and(|link| targets.iter().any(|target| link.as_os_str() == target.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn our_own_sockets_are_ours() {
        let ours = format!("process {} (", std::process::id());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(port_owner(Protocol::Tcp, address).unwrap().starts_with(&ours));
        let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        assert!(port_owner(Protocol::Tcp, anywhere).unwrap().starts_with(&ours));
        drop(listener);
        assert_eq!(port_owner(Protocol::Tcp, address), None);

        let socket = UdpSocket::bind("[::1]:0").unwrap();
        assert!(port_owner(Protocol::Udp, socket.local_addr().unwrap()).unwrap().starts_with(&ours));
    }
}
