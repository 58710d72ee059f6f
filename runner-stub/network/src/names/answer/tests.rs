//! Answers by table, and what hostile packets do.

use super::*;
use crate::names::{Knows, Place, Upstream};
use domain::base::iana::OptRcode;
use domain::base::name::ParsedName;
use domain::rdata::AllRecordData;

const ASKER: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 18, 0, 2));

fn names(replicas: u8) -> Names {
    let names = Names::default();
    let place = |address, name: &str| {
        vec![Place { network: "n".into(), addresses: vec![address], names: vec![name.into()] }]
    };
    names.insert("asker", place(ASKER, "asker"), &Knows::default());
    for number in 0..replicas {
        names.insert(
            &format!("web-{number}"),
            place(Ipv4Addr::new(172, 18, 1, number).into(), "web"),
            &Knows::default(),
        );
    }
    names
}

fn query(name: &str, kind: Rtype, edns: Option<u16>) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0x1234);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((name.parse::<Name<Vec<u8>>>().unwrap(), kind)).unwrap();
    let mut additional = question.additional();
    if let Some(size) = edns {
        additional
            .opt(|opt| {
                opt.set_udp_payload_size(size);
                opt.set_dnssec_ok(true);
                Ok(())
            })
            .unwrap();
    }
    additional.finish()
}

fn here(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Here(packet) => packet,
        Reply::Elsewhere => panic!("it is asked elsewhere"),
    }
}

fn ask(names: &Names, query: &[u8], transport: Transport) -> Message<Vec<u8>> {
    Message::from_octets(here(answer(query, ASKER, names, transport).unwrap())).unwrap()
}

fn addresses(message: &Message<Vec<u8>>) -> Vec<Ipv4Addr> {
    let records = message.answer().unwrap().limit_to::<AllRecordData<&[u8], ParsedName<&[u8]>>>();
    records
        .map(|record| match record.unwrap().into_data() {
            AllRecordData::A(address) => address.addr(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_known_name_has_addresses_and_no_others() {
    let names = names(3);
    let reply = ask(&names, &query("WEB.", Rtype::A, None), Transport::Udp);
    assert_eq!((reply.header().id(), reply.header().rcode()), (0x1234, Rcode::NOERROR));
    assert!(reply.header().qr() && reply.header().ra() && reply.header().rd() && !reply.header().tc());
    let mut found = addresses(&reply);
    found.sort();
    assert_eq!(found, [0, 1, 2].map(|number| Ipv4Addr::new(172, 18, 1, number)));

    let reply = ask(&names, &query("web", Rtype::AAAA, None), Transport::Udp);
    assert_eq!((reply.header().rcode(), reply.header_counts().ancount()), (Rcode::NOERROR, 0));
    let reply = ask(&names, &query("example.org", Rtype::A, None), Transport::Udp);
    assert_eq!(reply.header().rcode(), Rcode::NXDOMAIN);
    assert_eq!(reply.sole_question().unwrap().qname().to_string(), "example.org");
}

#[test]
fn addresses_have_names() {
    let reply = ask(&names(1), &query("0.1.18.172.in-addr.arpa", Rtype::PTR, None), Transport::Udp);
    let record = reply.answer().unwrap().limit_to::<Ptr<ParsedName<&[u8]>>>().next().unwrap().unwrap();
    assert_eq!(record.data().ptrdname().to_string(), "web-0");
    let reply = ask(&names(1), &query("9.9.9.9.in-addr.arpa", Rtype::PTR, None), Transport::Udp);
    assert_eq!(reply.header().rcode(), Rcode::NXDOMAIN);
}

#[test]
fn a_long_answer_is_cut_for_udp_and_whole_for_tcp() {
    let names = names(200);
    for edns in [None, Some(4096), Some(0)] {
        let reply = here(answer(&query("web", Rtype::A, edns), ASKER, &names, Transport::Udp).unwrap());
        assert!(reply.len() <= usize::from(EDNS_LIMIT));
        let reply = Message::from_octets(reply).unwrap();
        assert!(reply.header().tc() && reply.header_counts().ancount() == 0);
        // RFC 6891, 7
        assert_eq!(reply.opt().is_some(), edns.is_some());
    }
    let reply = ask(&names, &query("web", Rtype::A, Some(4096)), Transport::Tcp);
    assert!(!reply.header().tc());
    assert_eq!(addresses(&reply).len(), 200);
    assert_eq!(reply.opt().unwrap().udp_payload_size(), EDNS_LIMIT);
    assert_eq!(reply.opt_rcode(), OptRcode::NOERROR);
}

#[test]
fn strangers_and_strange_questions_are_refused() {
    let names = names(1);
    let stranger = here(
        answer(&query("web", Rtype::A, None), Ipv4Addr::LOCALHOST.into(), &names, Transport::Udp).unwrap(),
    );
    assert_eq!(Message::from_octets(stranger).unwrap().header().rcode(), Rcode::REFUSED);

    let mut update = query("web", Rtype::A, None);
    update[2] = 5 << 3;
    assert_eq!(ask(&names, &update, Transport::Udp).header().rcode(), Rcode::NOTIMP);
    let mut no_question = query("web", Rtype::A, None);
    no_question[5] = 0;
    assert_eq!(ask(&names, &no_question, Transport::Udp).header().rcode(), Rcode::FORMERR);
    let mut many = query("web", Rtype::A, None);
    let question = many[12..].to_vec();
    many[5] = 200;
    many.extend(question.repeat(199));
    let reply = here(answer(&many, ASKER, &names, Transport::Udp).unwrap());
    assert!(reply.len() <= usize::from(UDP_LIMIT), "the questions are not repeated");
    let reply = Message::from_octets(reply).unwrap();
    assert_eq!((reply.header().id(), reply.header().rcode()), (0x1234, Rcode::FORMERR));
    let mut an_answer = query("web", Rtype::A, None);
    an_answer[2] |= 0x80;
    assert_eq!(answer(&an_answer, ASKER, &names, Transport::Udp), None);
    assert_eq!(answer(&an_answer[..11], ASKER, &names, Transport::Udp), None);
}

/// Every packet that is not ignored gets an answer that is a DNS message with the question's ID, within bounds.
#[test]
fn mutated_packets_get_sane_answers() {
    let names = names(40);
    let seeds = [
        query("web", Rtype::A, None),
        query("a.rather.long.name.with.many.labels.example", Rtype::ANY, Some(1400)),
        query("0.1.18.172.in-addr.arpa", Rtype::PTR, Some(512)),
        // A name that is a pointer to itself, and one that points behind the end.
        [&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0xc0, 12, 0, 1, 0, 1]].concat(),
        [&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0xff, 0xff, 0, 1, 0, 1]].concat(),
        // All sections claim 65,535 entries.
        [&[0, 1, 1, 0][..], &[0xff; 8], &[3, b'w', b'e', b'b', 0, 0, 1, 0, 1]].concat(),
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(bound.max(1)).unwrap()).unwrap()
    };
    let mut answered = 0;
    for round in 0..60_000 {
        let mut packet = seeds[round % seeds.len()].clone();
        for _ in 0..random(5) {
            let at = random(packet.len());
            match random(4) {
                0 => packet[at] = u8::try_from(random(256)).unwrap(),
                1 => packet.truncate(at.max(1)),
                2 => packet.insert(at, 0xc0),
                _ => packet.extend_from_within(at..),
            }
        }
        packet.truncate(4096);
        let transport = if round % 2 == 0 { Transport::Udp } else { Transport::Tcp };
        if let Some(Reply::Here(reply)) = answer(&packet, ASKER, &names, transport) {
            answered += 1;
            assert_eq!(reply[..2], packet[..2]);
            let limit = if transport == Transport::Udp { EDNS_LIMIT } else { u16::MAX };
            assert!(reply.len() <= usize::from(limit), "{} bytes", reply.len());
            assert!(Message::from_octets(reply).unwrap().header().qr());
        }
    }
    assert!(answered > 30_000, "{answered}");
}

#[test]
fn foreign_names_are_asked_elsewhere_by_those_who_have_a_way_out() {
    let names = names(1);
    let place = |network: &str, address, name: &str| {
        vec![Place { network: network.into(), addresses: vec![address], names: vec![name.into()] }]
    };
    let knows = Knows { upstream: Upstream::Device, ..Knows::default() };
    names.insert("asker", place("n", ASKER, "asker"), &knows);
    names.insert("redis", place("other", Ipv4Addr::new(172, 19, 0, 2).into(), "redis"), &knows);
    let ask = |name: &str, kind| answer(&query(name, kind, None), ASKER, &names, Transport::Udp).unwrap();
    for (name, kind) in [
        ("example.org", Rtype::A),
        ("example.org", Rtype::MX),
        ("printer", Rtype::AAAA),
        ("1.1.1.1.in-addr.arpa", Rtype::PTR),
    ] {
        assert_eq!(ask(name, kind), Reply::Elsewhere, "{name}");
    }
    let rcode = |reply| Message::from_octets(here(reply)).unwrap().header().rcode();
    assert_eq!(rcode(ask("web", Rtype::AAAA)), Rcode::NOERROR);
    // What exists on another network is not asked of the internet.
    assert_eq!(rcode(ask("redis", Rtype::A)), Rcode::NXDOMAIN);
    assert_eq!(rcode(ask("2.0.19.172.in-addr.arpa", Rtype::PTR)), Rcode::NXDOMAIN);
    let host = Message::from_octets(here(ask("host.docker.internal", Rtype::A))).unwrap();
    assert_eq!(addresses(&host), [crate::HOST_GATEWAY]);
    names.insert("asker", place("n", ASKER, "asker"), &Knows::default());
    assert_eq!(
        answer(&query("host.docker.internal", Rtype::A, None), ASKER, &names, Transport::Udp)
            .map(here)
            .map(|reply| { Message::from_octets(reply).unwrap().header().rcode() }),
        Some(Rcode::NXDOMAIN)
    );
}
