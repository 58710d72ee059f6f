//! A DNS packet from a container. An answer is a DNS answer with the question's ID, no longer than its transport allows.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use domain::base::Message;
use dpack_network::names::{Names, Place, Reply, Transport, answer};
use libfuzzer_sys::fuzz_target;

const ASKER: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 18, 0, 2));

fuzz_target!(|bytes: &[u8]| {
    let names = Names::default();
    for number in 2..40 {
        let place = Place {
            network: "default".to_owned(),
            addresses: vec![Ipv4Addr::new(172, 18, 0, number).into()],
            names: vec!["web".to_owned(), format!("web-{number}")],
        };
        names.insert(&format!("web-{number}"), vec![place], &Default::default());
    }
    for (transport, limit) in [(Transport::Udp, 1232), (Transport::Tcp, usize::from(u16::MAX))] {
        if let Some(Reply::Here(reply)) = answer(bytes, ASKER, &names, transport) {
            assert_eq!(reply.get(..2), bytes.get(..2));
            assert!(reply.len() <= limit);
            assert!(Message::from_octets(reply).expect("an answer is DNS").header().qr());
        }
    }
});
