//! `ports` to the long form: `{mode, host_ip, target, published, protocol}`, one entry for each port of a range.

use crate::diagnostic::{Path, Report};
use crate::node::{Map, Node, Value, insert};
use crate::short::port::{self, ShortPort};

/// So many ports of one service; a range of all ports is a mistake.
const MAX_PORTS: usize = 4096;

pub(crate) fn long(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    let Value::List(items) = &mut node.value else { return };
    let mut ports = Vec::with_capacity(items.len());
    for (index, mut item) in std::mem::take(items).into_iter().enumerate() {
        let path = path.index(index);
        match &mut item.value {
            Value::Map(fields) => {
                complete(fields, &path, report);
                ports.push(item);
            }
            _ => match port::parse(&item.scalar_text().unwrap_or_default()) {
                Ok(parsed) => ports.extend(parsed.into_iter().map(|port| entry(port, &item))),
                Err(message) => {
                    report.error(item.at, &path, message);
                }
            },
        }
        if ports.len() > MAX_PORTS {
            report.error(node.at, &path, format!("more than {MAX_PORTS} ports"));
            break;
        }
    }
    *items = ports;
}

fn entry(port: ShortPort, item: &Node) -> Node {
    let mut fields = Map::new();
    let mut set = |key: &str, value: Value| insert(&mut fields, key, Node::new(value, item.at));
    set("mode", Value::Text("ingress".to_owned()));
    set("protocol", Value::Text(port.protocol));
    set("target", Value::Number(port.target.into()));
    if let Some(host_ip) = port.host_ip {
        set("host_ip", Value::Text(host_ip));
    }
    if let Some(published) = port.published {
        set("published", Value::Text(published));
    }
    Node::map(fields, item.at)
}

fn complete(fields: &mut Map, path: &Path<'_>, report: &mut Report) {
    for (key, entry) in fields.iter_mut() {
        let node = &mut entry.node;
        match key.as_str() {
            "published" => super::text(node, &path.key(key), report),
            "target" => {
                let text = node.scalar_text().unwrap_or_default();
                match text.parse::<u16>() {
                    Ok(port) => node.value = Value::Number(port.into()),
                    Err(_) => {
                        report.error(node.at, &path.key(key), format!("`{text}` is not a port number"));
                    }
                }
            }
            "host_ip" => {
                let text = node.as_text().unwrap_or_default();
                if text.parse::<std::net::IpAddr>().is_err() {
                    report.error(node.at, &path.key(key), format!("`{text}` is not an IP address"));
                }
            }
            _ => {}
        }
    }
    let at = fields.values().next().map_or_else(Default::default, |entry| entry.key_at);
    for (key, default) in [("mode", "ingress"), ("protocol", "tcp")] {
        if !fields.contains_key(key) {
            insert(fields, key, Node::text(default, at));
        }
    }
}
