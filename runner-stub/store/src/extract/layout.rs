//! Where each inode of a tree goes: its first name, and in which order things can be made.

use crate::tree::{InodeId, Kind, ROOT, Tree, printable};

/// A name in a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) folder: InodeId,
    pub(super) name: &'a [u8],
}

/// A tree put in order.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub(super) tree: &'a Tree,
    /// First name of each inode; none for the root, for what was replaced, and for devices.
    places: Vec<Option<Place<'a>>>,
    /// All folders but the root, parents first.
    pub(super) folders: Vec<InodeId>,
    /// Files.
    pub(super) files: Vec<InodeId>,
    /// Symbolic links and pipes.
    pub(super) specials: Vec<InodeId>,
    /// Names hidden in lower layers.
    pub(super) whiteouts: Vec<Place<'a>>,
    /// Folders that hide everything of lower layers.
    pub(super) opaque: Vec<InodeId>,
    /// Further names of inodes.
    pub(super) links: Vec<(InodeId, Place<'a>)>,
}

impl<'a> Layout<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        let mut layout = Self {
            tree,
            places: vec![None; tree.inodes.len()],
            folders: Vec::new(),
            files: Vec::new(),
            specials: Vec::new(),
            whiteouts: Vec::new(),
            opaque: Vec::new(),
            links: Vec::new(),
        };
        let mut todo = vec![ROOT];
        while let Some(folder) = todo.pop() {
            let first = todo.len();
            layout.folder(folder, &mut todo);
            todo[first..].reverse();
        }
        layout.opaque.sort_unstable();
        layout.opaque.dedup();
        layout
    }

    /// The first name of an inode.
    pub(super) fn place(&self, id: InodeId) -> Option<Place<'a>> {
        self.places[id as usize]
    }

    /// The path of a name below the layer's root, for an error text.
    pub(super) fn path(&self, place: Place<'_>) -> String {
        let mut names = vec![printable(place.name)];
        let mut folder = place.folder;
        while let Some(place) = self.place(folder) {
            names.push(printable(place.name));
            folder = place.folder;
        }
        names.reverse();
        names.join("/")
    }

    fn folder(&mut self, folder: InodeId, todo: &mut Vec<InodeId>) {
        let tree = self.tree;
        let Some(directory) = tree.directory(folder) else { return };
        if directory.opaque {
            self.opaque.push(folder);
        }
        for (name, &id) in &directory.children {
            let place = Place { folder, name };
            let kind = &tree.inodes[id as usize].kind;
            // A folder takes the place of one that its own layer hides: what was in that one must not show through.
            if directory.whiteouts.contains(name) && matches!(kind, Kind::Directory(_)) {
                self.opaque.push(id);
            }
            if self.places[id as usize].is_some() {
                self.links.push((id, place));
                continue;
            }
            match kind {
                Kind::Directory(_) => {
                    self.folders.push(id);
                    todo.push(id);
                }
                Kind::File { .. } => self.files.push(id),
                Kind::Symlink(_) | Kind::Fifo => self.specials.push(id),
                Kind::Device => continue,
            }
            self.places[id as usize] = Some(place);
        }
        for name in &directory.whiteouts {
            // An opaque folder hides the name already.
            if !directory.opaque && !directory.children.contains_key(name) {
                self.whiteouts.push(Place { folder, name });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::Time;
    use crate::tree::{Directory, Metadata};

    #[test]
    fn a_replaced_folder_becomes_opaque_and_a_replaced_file_needs_no_whiteout() {
        let mut tree = Tree::new();
        let metadata = Metadata { mode: 0o755, uid: 0, gid: 0, mtime: Time::default(), xattrs: Vec::new() };
        let file = || Kind::File { size: 0 };
        let folder = || Kind::Directory(Directory::default());
        for (path, kind) in [
            (".wh.gone", file()),
            (".wh.d", file()),
            (".wh.f", file()),
            ("d", folder()),
            ("f", file()),
            ("o", folder()),
            ("o/.wh..wh..opq", file()),
            ("o/.wh.x", file()),
            ("dev", Kind::Device),
        ] {
            tree.insert(path.as_bytes(), kind, metadata.clone()).unwrap();
        }
        let layout = Layout::new(&tree);
        let names = |ids: &[InodeId]| -> Vec<String> {
            ids.iter().map(|&id| layout.path(layout.place(id).unwrap())).collect()
        };
        assert_eq!(names(&layout.opaque), ["d", "o"]);
        assert_eq!(names(&layout.files), ["f"]);
        let whiteouts: Vec<String> = layout.whiteouts.iter().map(|&place| layout.path(place)).collect();
        assert_eq!(whiteouts, ["gone"]);
        assert!(layout.specials.is_empty());
    }
}
