//! A packet from a container. Whatever is answered is a packet again, goes back to where it came from, and is summed.
#![no_main]

use dpack_network::egress::packet::{self, Packet, Unreachable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(read) = Packet::parse(bytes) else { return };
    if let Some(syn) = read.synchronise() {
        let answer = packet::reset(&syn);
        let answer = Packet::parse(&answer).expect("a reset is a packet");
        assert_eq!((answer.source, answer.destination), (syn.destination.ip(), syn.source.ip()));
        assert_eq!(answer.synchronise(), None);
        let summed = read.with_checksum();
        assert_eq!(Packet::parse(&summed).expect("it stays a packet").synchronise(), Some(syn));
    }
    if let Some(datagram) = read.udp() {
        let answer = packet::udp(datagram.destination, datagram.source, datagram.body).expect("it did fit");
        let answer = Packet::parse(&answer).expect("an answer is a packet").udp().expect("of the same kind");
        assert_eq!((answer.source, answer.destination), (datagram.destination, datagram.source));
        assert_eq!(answer.body, datagram.body);
    }
    if let Some(echo) = read.echo() {
        let answer = packet::echo_reply(echo.destination.ip(), echo.source, echo.body).expect("it did fit");
        let answer = Packet::parse(&answer).expect("an answer is a packet");
        assert_eq!(answer.body.get(6..), Some(echo.body));
        assert_eq!(answer.echo(), None);
    }
    if let Some(refusal) = packet::refused(Unreachable::Host, read.source, read.destination, bytes) {
        let refusal = Packet::parse(&refusal).expect("a refusal is a packet");
        assert_eq!((refusal.source, refusal.destination), (read.destination, read.source));
    }
});
