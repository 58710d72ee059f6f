//! What must be true of messages to and from the network process, whatever they are. For the targets in `fuzz`; each function
//! panics when it finds otherwise.
#![expect(clippy::expect_used, reason = "to panic is what it is for")]

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame;
use crate::protocol::{Answer, Request};
use crate::{server, topology};

/// More than this does not fit into a socket that nobody reads yet.
const LONGEST: usize = 64 << 10;

/// What a client sends: what is read is the same when it is sent on, and gives no container an address that it must not have.
pub fn request(bytes: &[u8]) {
    frames::<Request>(bytes);
    let Some(request) = message::<Request>(bytes) else { return };
    match request {
        Request::Configure(networks) => networks.iter().for_each(topology::hold_to_rules),
        Request::Attach(attach) => server::hold_to_rules(&attach),
        _ => {}
    }
}

/// What the network process answers.
pub fn answer(bytes: &[u8]) {
    message::<Answer>(bytes);
}

/// What the kernel answers (rtnetlink(7)): it is read to its end and not beyond.
pub fn netlink(bytes: &[u8]) {
    topology::read_all(bytes);
}

/// Bytes on the socket, their lengths included.
fn frames<T: DeserializeOwned>(bytes: &[u8]) {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    theirs.write_all(bytes.get(..LONGEST).unwrap_or(bytes)).expect("room in a socket");
    drop(theirs);
    while let Ok((_, descriptor)) = frame::receive::<T>(&ours) {
        assert!(descriptor.is_none());
    }
}

fn message<T: Serialize + DeserializeOwned + PartialEq>(bytes: &[u8]) -> Option<T> {
    let message: T = serde_json::from_slice(bytes).ok()?;
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    if serde_json::to_vec(&message).is_ok_and(|text| text.len() < LONGEST) {
        frame::send(&theirs, &message, None).expect("what was read can be sent");
        let (again, _) = frame::receive::<T>(&ours).expect("what was sent can be read");
        assert!(again == message);
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fuzzing_starts_from_holds() {
        for text in [
            r#"{"request":"hello","with":{"version":3}}"#,
            r#"{"request":"configure","with":[{"key":"a","ipv6":true,"reserved":["172.18.0.2"],"pools":[
                {"subnet":"172.18.0.0/16","range":"172.18.0.0/30","gateway":"172.18.0.1"},{"subnet":"::/0","gateway":"::"}]}]}"#,
            r#"{"request":"attach","with":{"container":"a","networks":[{"network":"a"},{"network":"a"}]}}"#,
        ] {
            assert!(message::<Request>(text.as_bytes()).is_some(), "{text}");
            request(text.as_bytes());
            let length = u32::try_from(text.len()).expect("a short text").to_le_bytes();
            request(&[&length[..], text.as_bytes(), &[0xff; 4]].concat());
        }
        answer(br#"{"answer":"published","with":[{"target":80,"protocol":"tcp","addresses":["[::]:80"]}]}"#);
        netlink(&[20, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
}
