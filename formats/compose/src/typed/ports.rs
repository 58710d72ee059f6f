//! Published ports.

use crate::diagnostic::{Path, Report};
use crate::node::Node;
use crate::project::{Port, Protocol};
use crate::short::port;
use crate::typed::values;

pub(super) fn read(service: &Node, path: &Path<'_>, report: &mut Report) -> Vec<Port> {
    let path = path.key("ports");
    let items = service.get("ports").and_then(Node::as_list).unwrap_or_default();
    let read = |(index, item)| match one(item) {
        Ok(port) => Some(port),
        Err(message) => {
            report.error(item.at, &path.index(index), message);
            None
        }
    };
    items.iter().enumerate().filter_map(read).collect()
}

fn one(item: &Node) -> Result<Port, String> {
    let target = values::number(item, "target").and_then(|port| u16::try_from(port).ok());
    let target =
        target.filter(|port| *port > 0).ok_or("the port inside the container (`target`) is missing")?;
    let mut last = None;
    let published = match values::text(item, "published") {
        None => None,
        Some(text) => {
            let range = port::range(text)?;
            if range.end() > range.start() {
                if *range.start() == 0 {
                    return Err(format!("port 0 of the range `{text}` is not a port"));
                }
                last = Some(*range.end());
            }
            // Port 0 means any.
            Some(*range.start()).filter(|port| *port > 0)
        }
    };
    let protocol = match values::text(item, "protocol").map(str::to_ascii_lowercase).as_deref() {
        None | Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        Some(other) => return Err(format!("protocol `{other}` is not supported, expected `tcp` or `udp`")),
    };
    match values::text(item, "mode") {
        None | Some("ingress" | "host") => {}
        Some(other) => return Err(format!("expected the mode `ingress` or `host`, found `{other}`")),
    }
    let host_ip = values::text(item, "host_ip").and_then(|text| text.parse().ok());
    Ok(Port { target, published, published_last: last, host_ip, protocol })
}
