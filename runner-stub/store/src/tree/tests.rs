//! Hostile and odd layers, without a disk.

use super::*;

fn metadata() -> Metadata {
    Metadata { mode: 0o644, ..Metadata::implicit() }
}

/// A small language for layers: `d PATH`, `f PATH`, `l PATH TARGET` (symbolic), `h PATH TARGET` (hard).
fn build(entries: &[&str]) -> Result<Tree, LayerError> {
    let mut tree = Tree::new();
    for entry in entries {
        let words: Vec<&str> = entry.split(' ').collect();
        let (path, target) = (words[1].as_bytes(), words.get(2).unwrap_or(&"").as_bytes());
        match words[0] {
            "d" => tree.insert(path, Kind::Directory(Directory::default()), metadata()).map(drop)?,
            "f" => tree.insert(path, Kind::File { size: 1 }, metadata()).map(drop)?,
            "l" => tree.insert(path, Kind::Symlink(target.to_vec()), metadata()).map(drop)?,
            "h" => tree.link(path, target, metadata())?,
            other => panic!("{other}"),
        }
    }
    Ok(tree)
}

/// All names with their inodes' kinds; names of one inode share a number.
fn list(tree: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folders = vec![(ROOT, String::new())];
    while let Some((id, path)) = folders.pop() {
        let directory = tree.directory(id).unwrap();
        lines.extend(directory.opaque.then(|| format!("{path}/ opaque")));
        for name in &directory.whiteouts {
            lines.push(format!("{path}/{} whiteout", printable(name)));
        }
        for (name, &child) in &directory.children {
            let path = format!("{path}/{}", printable(name));
            match &tree.inodes[child as usize].kind {
                Kind::Directory(_) => {
                    lines.push(format!("{path}/"));
                    folders.push((child, path));
                }
                Kind::File { .. } => lines.push(format!("{path} #{child}")),
                Kind::Symlink(target) => lines.push(format!("{path} -> {}", printable(target))),
                Kind::Fifo | Kind::Device => lines.push(format!("{path} special")),
            }
        }
    }
    lines.sort();
    lines
}

#[test]
fn names_are_taken_inside_the_layer() {
    let tree = build(&["d ./", "d ./a/", "f /etc//passwd", "f a/./b/../c", "f a/../../x/.."]);
    assert_eq!(
        tree.unwrap_err(),
        LayerError::Entry { path: "a/../../x/..".into(), reason: "it leads out of the layer" }
    );
    let tree = build(&["d ./", "d ./a/", "f /etc//passwd", "f a/./b/../c"]).unwrap();
    assert_eq!(list(&tree), ["/a/", "/a/c #4", "/etc/", "/etc/passwd #3"]);
}

#[test]
fn symbolic_links_on_the_way_stay_inside() {
    for target in ["/", "../../../..", "/../..", "."] {
        let link = format!("l out {target}");
        let tree = build(&[&link, "f out/etc/passwd"]).unwrap();
        assert_eq!(list(&tree), ["/etc/", "/etc/passwd #3", &format!("/out -> {target}")], "{target}");
    }
    // Through two links, one relative to its own folder.
    let tree = build(&["d a/b", "l a/up ..", "l in /a/b/", "f in/x", "f a/up/a/y"]).unwrap();
    assert_eq!(list(&tree), ["/a/", "/a/b/", "/a/b/x #5", "/a/up -> ..", "/a/y #6", "/in -> /a/b/"]);
    // A dangling link makes its folder inside.
    let tree = build(&["l out ../outside", "f out/x"]).unwrap();
    assert_eq!(list(&tree), ["/out -> ../outside", "/outside/", "/outside/x #3"]);
    // A loop ends.
    assert!(build(&["l a b", "l b a", "f a/x"]).is_err());
    // A link itself is replaced, not followed.
    let tree = build(&["l a /etc/passwd", "f a"]).unwrap();
    assert_eq!(list(&tree), ["/a #2"]);
}

#[test]
fn the_last_entry_wins() {
    let tree = build(&["d a", "f a/x", "f a"]).unwrap();
    assert_eq!(list(&tree), ["/a #3"]);
    let tree = build(&["f a", "d a", "f a/x", "d a"]).unwrap();
    assert_eq!(list(&tree), ["/a/", "/a/x #3"]);
    let tree = build(&["l a b", "d b", "d a", "f a/x"]).unwrap();
    assert_eq!(list(&tree), ["/a/", "/a/x #4", "/b/"]);
    assert!(build(&["f a", "f a/x"]).is_err());
    assert!(build(&["f ./"]).is_err());
    assert!(build(&["l / /etc"]).is_err());
}

#[test]
fn hard_links_are_names_of_one_inode() {
    let tree = build(&["f a", "h d/b a", "h c ./d/b", "f a"]).unwrap();
    assert_eq!(list(&tree), ["/a #3", "/c #1", "/d/", "/d/b #1"]);
    // To itself, and to a link.
    assert_eq!(list(&build(&["f a", "h a a"]).unwrap()), ["/a #1"]);
    assert_eq!(list(&build(&["l a x", "h b a"]).unwrap()), ["/a -> x", "/b -> x"]);
    for bad in ["h b missing", "h b /etc/shadow", "h b d", "h b", "h / a", "h .wh.a a", "h b ../a", "h b a/x"]
    {
        assert!(build(&["f a", "d d", bad]).is_err(), "{bad}");
    }
    let outside = build(&["f a", "h b ../../etc/passwd"]).unwrap_err();
    assert_eq!(outside, LayerError::HardLink { path: "b".into(), target: "../../etc/passwd".into() });
    // Through a link that leads outside: inside.
    assert!(build(&["l out /etc", "h b out/passwd"]).is_err());
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    let tree = build(&["f a/.wh.x", "d a/.wh..wh..opq", "f .wh..wh.plnk/1.2", "f .wh..wh.aufs"]).unwrap();
    assert_eq!(list(&tree), ["/a/", "/a/ opaque", "/a/x whiteout"]);
    for bad in ["f .wh.", "f .wh..", "f .wh...", "f .wh.a/b", "f .wh.a/.wh.b"] {
        assert!(build(&[bad]).is_err(), "{bad}");
    }
}

/// A few megabytes of compressed headers asked for more folders than a device has memory.
#[test]
fn folders_on_the_way_count_as_entries() {
    let mut tree = Tree::new();
    let mut insert = |number: u32| {
        let path = format!("{number}/{}x", "a/".repeat(2_000));
        tree.insert(path.as_bytes(), Kind::Fifo, metadata())
    };
    let refused = (0..MAX_INODES / 2_000 + 1).find_map(|number| insert(number).err());
    assert!(refused.unwrap().to_string().contains("too many entries"));
}

#[test]
fn absurd_names_are_refused() {
    let long = format!("f {}", "a".repeat(256));
    let deep = format!("f {}", "a/".repeat(2048));
    for bad in [long.as_str(), &deep, "f a\0b", "f .."] {
        assert!(build(&[bad]).is_err());
    }
    assert!(build(&[&format!("f {}", "a".repeat(255))]).is_ok());
}
