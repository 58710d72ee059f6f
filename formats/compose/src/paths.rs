//! Relative paths: those of an extended or included file start from that file's folder, and become relative to the
//! project's folder here. Nothing is made absolute: where the project lies on the device is not known.

use crate::node::{Map, Node, Value};
use crate::short::mount;

/// A path seen from the project's folder, `dir` being where it starts from; without `.` and `x/..`.
pub(crate) fn join(dir: &str, path: &str) -> String {
    if path.starts_with(['/', '~']) || path.contains("://") {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    let root = if dir.starts_with('/') { "/" } else { "" };
    for part in dir.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("{root}{}", parts.join("/"))
}

/// The folder a file is in, in the same form.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| if dir.is_empty() { "/" } else { dir })
}

/// The same as a path that cannot be taken for a name: `./x`, `../x`, `.`.
pub(crate) fn dotted(dir: &str, path: &str) -> String {
    let joined = join(dir, path);
    match joined.as_str() {
        "" => ".".to_owned(),
        _ if joined == ".." || joined.starts_with(['/', '~']) || joined.starts_with("../") => joined,
        _ => format!("./{joined}"),
    }
}

/// Moves all relative paths of a canonical tree to the project's folder.
pub(crate) fn rebase(root: &mut Node, dir: &str) {
    let Value::Map(sections) = &mut root.value else { return };
    for section in ["services", "configs", "secrets"] {
        let Some(Value::Map(entries)) = sections.get_mut(section).map(|entry| &mut entry.node.value) else {
            continue;
        };
        for entry in entries.values_mut() {
            match (&mut entry.node.value, section) {
                (Value::Map(fields), "services") => service(fields, dir),
                (Value::Map(fields), _) => text(fields, "file", dir, dotted),
                _ => {}
            }
        }
    }
    if let Some(Value::Map(volumes)) = sections.get_mut("volumes").map(|entry| &mut entry.node.value) {
        for entry in volumes.values_mut() {
            device(&mut entry.node, dir);
        }
    }
}

/// Moves the relative paths of one service.
pub(crate) fn service(fields: &mut Map, dir: &str) {
    if let Some(Value::Map(build)) = fields.get_mut("build").map(|entry| &mut entry.node.value) {
        text(
            build,
            "context",
            dir,
            |dir, path| if is_remote(path) { path.to_owned() } else { dotted(dir, path) },
        );
        if let Some(Value::Map(contexts)) =
            build.get_mut("additional_contexts").map(|entry| &mut entry.node.value)
        {
            for entry in contexts.values_mut() {
                if let Value::Text(path) = &mut entry.node.value
                    && !is_remote(path)
                {
                    *path = dotted(dir, path);
                }
            }
        }
    }
    if let Some(Value::Map(extends)) = fields.get_mut("extends").map(|entry| &mut entry.node.value) {
        text(extends, "file", dir, join);
    }
    for item in items(fields, "env_file") {
        if let Value::Map(fields) = &mut item.value {
            text(fields, "path", dir, join);
        }
    }
    for item in items(fields, "label_file") {
        if let Value::Text(path) = &mut item.value {
            *path = join(dir, path);
        }
    }
    for item in items(fields, "volumes") {
        if item.get("type").and_then(Node::as_text) == Some("bind")
            && let Value::Map(fields) = &mut item.value
        {
            text(fields, "source", dir, dotted);
        }
    }
}

/// Whether a build context lies elsewhere: `https://…`, `git@…`, `docker-image://…`, `service:…`.
pub(crate) fn is_remote(context: &str) -> bool {
    context.contains("://")
        || context.starts_with("git@")
        || context.starts_with("github.com/")
        || context.starts_with("service:")
}

/// `o: bind` of a volume's options.
fn device(volume: &mut Node, dir: &str) {
    let Value::Map(fields) = &mut volume.value else { return };
    let Some(Value::Map(options)) = fields.get_mut("driver_opts").map(|entry| &mut entry.node.value) else {
        return;
    };
    let is_bind = options.get("o").and_then(|entry| entry.node.as_text()) == Some("bind");
    if is_bind && options.get("device").and_then(|e| e.node.as_text()).is_some_and(mount::is_path) {
        text(options, "device", dir, dotted);
    }
}

fn items<'a>(fields: &'a mut Map, key: &str) -> &'a mut [Node] {
    match fields.get_mut(key).map(|entry| &mut entry.node.value) {
        Some(Value::List(items)) => items,
        _ => &mut [],
    }
}

fn text(fields: &mut Map, key: &str, dir: &str, change: fn(&str, &str) -> String) {
    if let Some(Value::Text(path)) = fields.get_mut(key).map(|entry| &mut entry.node.value)
        && !path.is_empty()
    {
        *path = change(dir, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_the_project() {
        for (dir, path, joined, shown) in [
            ("", "x", "x", "./x"),
            ("", "./x/", "x", "./x"),
            ("", ".", "", "."),
            ("a/b", "../x", "a/x", "./a/x"),
            ("a", "../../x", "../x", "../x"),
            ("..", "../x", "../../x", "../../x"),
            ("a", "/x", "/x", "/x"),
            ("/a", "x", "/a/x", "/a/x"),
            ("a", "~/x", "~/x", "~/x"),
        ] {
            assert_eq!(join(dir, path), joined, "{dir} {path}");
            assert_eq!(dotted(dir, path), shown, "{dir} {path}");
        }
        assert_eq!(["a/b.yml", "b.yml", "/b.yml"].map(parent), ["a", "", "/"]);
    }
}
