//! Asks systemd for a *scope*: a control group of our own with its controllers delegated to us (systemd.scope(5)).
//!
//! Moving a process out of a login session takes a privilege that an ordinary user lacks; the user's manager has it. It is
//! reached by its private socket, so no message bus has to run.

use std::io;
use std::path::{Path, PathBuf};

use super::dbus::{Connection, Encoder};

/// Whether systemd runs this machine.
pub fn is_there() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The socket of the manager that serves this user.
fn socket(uid: u32) -> PathBuf {
    match uid {
        0 => PathBuf::from("/run/systemd/private"),
        uid => PathBuf::from(format!("/run/user/{uid}/systemd/private")),
    }
}

/// Whether the user's manager, if it is one, outlives the user's last session.
pub(super) fn lingers(uid: u32) -> bool {
    uid == 0 || keeps_runtime_folder(uid)
}

/// Whether `/run/user/UID` outlives the user's last session (`loginctl enable-linger`).
pub fn keeps_runtime_folder(uid: u32) -> bool {
    let name = crate::idmap::name_of_user(uid).unwrap_or_else(|| uid.to_string());
    Path::new("/var/lib/systemd/linger").join(name).exists()
}

/// Puts processes into a new scope, in a slice other than the manager's own choice if one is named, and waits until they are
/// there.
pub(super) fn start_scope(uid: u32, name: &str, slice: Option<&str>, pids: &[u32]) -> io::Result<()> {
    let mut connection = Connection::open(&socket(uid), uid)?;
    let mut body = Encoder::default();
    body.string(name).string("fail").array(8, |properties| {
        let property = |properties: &mut Encoder, name: &str| {
            properties.structure().string(name);
        };
        property(properties, "Description");
        properties.signature("s").string("containers of dpack");
        property(properties, "PIDs");
        properties.signature("au").array(4, |numbers| {
            for pid in pids {
                numbers.u32(*pid);
            }
        });
        property(properties, "Delegate");
        properties.signature("b").u32(1);
        property(properties, "CollectMode");
        properties.signature("s").string("inactive-or-failed");
        if let Some(slice) = slice {
            property(properties, "Slice");
            properties.signature("s").string(slice);
        }
    });
    body.array(8, |_| {});
    let serial = connection.call("StartTransientUnit", "ssa(sv)a(sa(sv))", &body)?;
    let job = reply(&mut connection, serial)?;
    // The reply names the job; the scope is there when a signal says that the job is done.
    loop {
        let message = connection.receive()?;
        if message.kind == 4 && message.member == "JobRemoved" && message.strings.first() == Some(&job) {
            return match message.strings.last().map(String::as_str) {
                Some("done") => Ok(()),
                result => Err(io::Error::other(format!("the job was {}", result.unwrap_or("lost")))),
            };
        }
    }
}

/// Puts a process into the group `below` (`/name`) of a scope that is there.
pub(super) fn attach(uid: u32, scope: &str, below: &str, pid: u32) -> io::Result<()> {
    let mut connection = Connection::open(&socket(uid), uid)?;
    let mut body = Encoder::default();
    body.string(scope).string(below).array(4, |pids| {
        pids.u32(pid);
    });
    let serial = connection.call("AttachProcessesToUnit", "ssau", &body)?;
    reply(&mut connection, serial).map(drop)
}

/// Waits for the reply to a call: its first string.
fn reply(connection: &mut Connection, serial: u32) -> io::Result<String> {
    loop {
        let message = connection.receive()?;
        if message.reply_to != serial {
            continue;
        }
        let first = message.strings.into_iter().next().unwrap_or_default();
        match message.kind {
            2 => return Ok(first),
            3 => return Err(io::Error::other(format!("{}: {first}", message.error))),
            _ => {}
        }
    }
}
