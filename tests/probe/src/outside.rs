//! The outside of a device, as much of it as a test needs that has no other: an answer by UDP, and one name.

use std::io::{Error, Result};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

const TELL: u16 = 7;
const DNS: u16 = 53;
/// `known.example` as DNS writes it (RFC 1035, 3.1).
const NAME: &[u8] = b"\x05known\x07example\0";
/// Type and class of an address of IPv4.
const ADDRESS: [u8; 4] = [0, 1, 0, 1];
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers for ever.
pub(crate) fn serve(address: Ipv4Addr) -> Result<()> {
    let names = UdpSocket::bind((address, DNS))?;
    std::thread::spawn(move || tell_names(&names, address));
    let socket = UdpSocket::bind((address, TELL))?;
    loop {
        let (_, peer) = socket.recv_from(&mut [0; 64])?;
        socket.send_to(peer.ip().to_string().as_bytes(), peer)?;
    }
}

/// What a datagram is answered with.
pub(crate) fn ask(host: &str, port: u16) -> Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((host, port))?;
    socket.send(b"?")?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    String::from_utf8(answer[..length].to_vec()).map_err(Error::other)
}

fn tell_names(socket: &UdpSocket, address: Ipv4Addr) {
    let mut query = [0; 512];
    while let Ok((length, peer)) = socket.recv_from(&mut query) {
        // Whoever asks badly gets no answer.
        if let Some(answer) = answer(&query[..length], address) {
            let _ = socket.send_to(&answer, peer);
        }
    }
}

/// Header of twelve bytes, question, and an answer that points to the question's name.
fn answer(query: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let name = 12 + query.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let is_known = query[12..name].eq_ignore_ascii_case(NAME);
    let is_found = is_known && query.get(name..name + 4)? == ADDRESS;
    let mut answer = query.get(..name + 4)?.to_vec();
    // An answer, with recursion; 3 is "no such name".
    answer[2] |= 0x80;
    answer[3] = if is_known { 0x80 } else { 0x83 };
    answer[4..12].copy_from_slice(&[0, 1, 0, u8::from(is_found), 0, 0, 0, 0]);
    if is_found {
        answer
            .extend([0xc0, 12].into_iter().chain(ADDRESS).chain([0, 0, 0, 60, 0, 4]).chain(address.octets()));
    }
    Some(answer)
}
