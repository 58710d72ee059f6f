//! The files of a project to one tree: variables, long forms, `extends`, `include`, merge.
//!
//! It reads nothing. Files that are referred to travel with the model; one that is not there is put on the list of wanted
//! ones, which `load` reads, until nothing is wanted any more.

use crate::canonical;
use crate::diagnostic::{Path, Position, Report};
use crate::interpolate::variables::{self, Variables};
use crate::merge;
use crate::model::Model;
use crate::node::{Entry, Map, Node, Value, insert};
use crate::paths;

/// So many documents are included or extended; a file that includes another one twice, which does so again, is a mistake.
const MAX_DOCUMENTS: usize = 1000;
/// So many values `extends` may copy.
const MAX_COPIED: usize = 1 << 20;
/// Sections that an included file adds to.
const SECTIONS: [&str; 5] = ["services", "networks", "volumes", "configs", "secrets"];

/// A file that is referred to and does not travel with the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Seen from the project's folder.
    pub(crate) path: String,
    pub(crate) kind: Kind,
    /// Where it is referred to.
    pub(crate) at: Position,
    pub(crate) keys: String,
    /// It may be missing.
    pub(crate) optional: bool,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A Compose file.
    Compose,
    /// `NAME=VALUE` lines.
    Text,
}

/// What is being put together.
pub(crate) struct Assembly<'a> {
    pub(crate) model: &'a Model,
    pub(crate) variables: &'a mut Variables,
    pub(crate) report: &'a mut Report,
    pub(crate) wanted: Vec<Wanted>,
    /// Files that are being included, from the outside in.
    including: Vec<String>,
    documents: usize,
    copied: usize,
}

impl<'a> Assembly<'a> {
    pub(crate) fn new(
        model: &'a Model,
        variables: &'a mut Variables,
        report: &'a mut Report,
    ) -> Assembly<'a> {
        let wanted = Vec::new();
        Assembly { model, variables, report, wanted, including: Vec::new(), documents: 0, copied: 0 }
    }

    /// The whole project; nothing when something was wrong, which has been reported.
    pub(crate) fn project(&mut self) -> Option<Node> {
        let layers: Vec<Node> = self.model.layers.iter().map(|layer| layer.root.clone()).collect();
        self.including = self.model.layers.iter().map(|layer| layer.file.clone()).collect();
        let mut tree = self.tree(layers, "")?;
        merge::finish(&mut tree);
        Some(tree)
    }

    /// Documents that are merged, in order. A stage starts when the one before found nothing: half a value only leads to
    /// further errors.
    fn tree(&mut self, mut documents: Vec<Node>, dir: &str) -> Option<Node> {
        let before = self.report.errors();
        for document in &mut documents {
            variables::fill(document, self.variables, self.report);
        }
        if self.report.errors() > before {
            return None;
        }
        for document in &mut documents {
            canonical::layer(document, self.report);
        }
        if self.report.errors() > before {
            return None;
        }
        for document in &mut documents {
            paths::rebase(document, dir);
            self.extends(document);
            self.includes(document, dir);
        }
        if self.report.errors() > before {
            return None;
        }
        let tree = merge::merge(documents, self.report);
        (self.report.errors() == before).then_some(tree)
    }

    /// Resolves every `extends` of a document.
    fn extends(&mut self, document: &mut Node) {
        let Some(services) = section(document, "services") else { return };
        let names: Vec<String> = services
            .iter()
            .filter(|(_, entry)| entry.node.get("extends").is_some())
            .map(|(name, _)| name.clone())
            .collect();
        if names.is_empty() {
            return;
        }
        let all = services.clone();
        for name in names {
            let mut chain = Vec::new();
            if let Some(service) = self.extended(&all, &name, "", &mut chain)
                && let Some(entry) = section(document, "services").and_then(|map| map.get_mut(&name))
            {
                entry.node = service;
            }
        }
    }

    /// A service with what it extends. `file` is where its definition stands, empty for the document itself.
    fn extended(
        &mut self,
        services: &Map,
        name: &str,
        file: &str,
        chain: &mut Vec<(String, String)>,
    ) -> Option<Node> {
        let service = services.get(name)?.node.clone();
        let Some(extends) = service.get("extends") else { return Some(service) };
        let at = extends.at;
        let root = Path::Root.key("services");
        let path = root.key(name);
        let path = path.key("extends");
        let this = (file.to_owned(), name.to_owned());
        if chain.contains(&this) {
            let round: Vec<&str> = chain.iter().chain([&this]).map(|(_, name)| name.as_str()).collect();
            self.report.error(
                at,
                &path,
                format!("services extend each other in a circle: {}", round.join(" -> ")),
            );
            return None;
        }
        chain.push(this);
        let (reference, other) = match &extends.value {
            Value::Text(name) => (name.as_str(), None),
            _ => (
                extends.get("service").and_then(Node::as_text).unwrap_or_default(),
                extends.get("file").and_then(Node::as_text),
            ),
        };
        if reference.is_empty() {
            self.report.error(at, &path, "no `service` is given");
            return None;
        }
        let base = match other {
            None => {
                if !services.contains_key(reference) {
                    self.report.error(at, &path, format!("there is no service `{reference}` to extend"));
                    return None;
                }
                self.extended(services, reference, file, chain)?
            }
            Some(other) => {
                // Relative to the project already.
                let other = paths::join("", other);
                let documents = self.documents(&other, at, &path)?;
                let mut tree = self.unextended(documents)?;
                let Some(services) = section(&mut tree, "services").filter(|map| map.contains_key(reference))
                else {
                    let message = format!("there is no service `{reference}` in `{other}` to extend");
                    self.report.error(at, &path, message);
                    return None;
                };
                let folder = paths::parent(&other).to_owned();
                for entry in services.values_mut() {
                    if let Value::Map(fields) = &mut entry.node.value {
                        paths::service(fields, &folder);
                    }
                }
                self.extended(services, reference, &other, chain)?
            }
        };
        self.copied += weight(&base);
        if self.copied > MAX_COPIED {
            self.report.error(at, &path, "`extends` copies too much");
            return None;
        }
        let mut merged = base;
        let mut over = service;
        if let Value::Map(fields) = &mut over.value {
            fields.remove("extends");
        }
        if let Value::Map(fields) = &mut merged.value {
            fields.remove("extends");
        }
        merge::onto(&mut merged, over, &root.key(name), self.report);
        merge::unique(&mut merged, &root.key(name));
        Some(merged)
    }

    /// A file whose services are extended: its own `extends` are followed for those that are wanted, includes are not.
    fn unextended(&mut self, mut documents: Vec<Node>) -> Option<Node> {
        let before = self.report.errors();
        for document in &mut documents {
            variables::fill(document, self.variables, self.report);
            if self.report.errors() == before {
                canonical::layer(document, self.report);
            }
        }
        if self.report.errors() > before {
            return None;
        }
        let mut tree = merge::merge(documents, self.report);
        merge::finish(&mut tree);
        (self.report.errors() == before).then_some(tree)
    }

    /// Adds what a document includes.
    fn includes(&mut self, document: &mut Node, dir: &str) {
        let Value::Map(sections) = &mut document.value else { return };
        let Some(include) = sections.remove("include") else { return };
        let path = Path::Root.key("include");
        for (index, item) in include.node.as_list().unwrap_or_default().iter().enumerate() {
            let path = path.index(index);
            if let Some(included) = self.included(item, dir, &path) {
                self.import(document, included, item.at, &path);
            }
        }
    }

    fn included(&mut self, item: &Node, dir: &str, path: &Path<'_>) -> Option<Node> {
        let list = |key: &str| -> Vec<String> {
            let items = item.get(key).and_then(Node::as_list).unwrap_or_default();
            items.iter().filter_map(Node::scalar_text).collect()
        };
        let files = match item.as_text() {
            Some(file) => vec![file.to_owned()],
            None => list("path"),
        };
        let Some(first) = files.first() else {
            self.report.error(item.at, path, "no `path` is given");
            return None;
        };
        let first = paths::join(dir, first);
        let folder = match item.get("project_directory").and_then(Node::as_text) {
            Some(folder) => paths::join(dir, folder),
            None => paths::parent(&first).to_owned(),
        };
        if self.including.contains(&first) {
            let round: Vec<&str> =
                self.including.iter().map(String::as_str).chain([first.as_str()]).collect();
            self.report.error(
                item.at,
                path,
                format!("files include each other in a circle: {}", round.join(" -> ")),
            );
            return None;
        }
        let mut documents = Vec::new();
        for file in &files {
            documents.extend(self.documents(&paths::join(dir, file), item.at, path)?);
        }
        let environment = list("env_file");
        let asked: Vec<String> = environment.iter().map(|file| paths::join(dir, file)).collect();
        let optional = asked.is_empty();
        let texts = if optional { vec![paths::join(&folder, ".env")] } else { asked };
        let outside = self.variables.environment.clone();
        for file in texts.iter().filter(|file| *file != "/dev/null") {
            match self.model.texts.get(file) {
                Some(Some(text)) => {
                    if let Err(error) = self.variables.environment.add_weakest(file, text) {
                        let message = format!("`{file}`, {error}");
                        self.report.error(item.at, path, message);
                    }
                }
                Some(None) if optional => {}
                Some(None) => {
                    self.report.error(item.at, path, format!("there is no file `{file}`"));
                }
                None => self.want(file, Kind::Text, item.at, path, optional),
            }
        }
        self.including.push(first);
        let tree = self.tree(documents, &folder);
        self.including.pop();
        self.variables.environment = outside;
        tree
    }

    fn import(&mut self, document: &mut Node, included: Node, at: Position, path: &Path<'_>) {
        let (Value::Map(sections), Value::Map(included)) = (&mut document.value, included.value) else {
            return;
        };
        for (name, entry) in included {
            let (true, Value::Map(theirs)) = (SECTIONS.contains(&name.as_str()), entry.node.value) else {
                continue;
            };
            if !matches!(sections.get(&name), Some(Entry { node: Node { value: Value::Map(_), .. }, .. })) {
                insert(sections, &name, Node::map(Map::new(), at));
            }
            let Some(Value::Map(ours)) = sections.get_mut(&name).map(|entry| &mut entry.node.value) else {
                continue;
            };
            for (key, entry) in theirs {
                if ours.get(&key).is_some_and(|own| !same(&own.node, &entry.node)) {
                    let message = format!("`{name}.{key}` is defined here and in the included file");
                    self.report.error(at, path, message).hint(
                        "change it in a file of its own, such as compose.override.yml, or with another `path` of `include`",
                    );
                    continue;
                }
                ours.entry(key).or_insert(entry);
            }
        }
    }

    /// The documents of a file that travels with the model.
    fn documents(&mut self, file: &str, at: Position, path: &Path<'_>) -> Option<Vec<Node>> {
        if file.contains("://") {
            self.report.error(at, path, format!("`{file}` is not a file, and nothing else can be read"));
            return None;
        }
        let documents: Vec<Node> = self
            .model
            .others
            .iter()
            .filter(|layer| layer.file == file)
            .map(|layer| layer.root.clone())
            .collect();
        if documents.is_empty() {
            self.want(file, Kind::Compose, at, path, false);
            return None;
        }
        self.documents += documents.len();
        if self.documents > MAX_DOCUMENTS {
            self.report.error(at, path, format!("more than {MAX_DOCUMENTS} files are included or extended"));
            return None;
        }
        Some(documents)
    }

    pub(crate) fn want(&mut self, file: &str, kind: Kind, at: Position, path: &Path<'_>, optional: bool) {
        if !self.wanted.iter().any(|wanted| wanted.path == file && wanted.kind == kind) {
            let keys = path.to_string();
            self.wanted.push(Wanted { path: file.to_owned(), kind, at, keys, optional });
        }
    }
}

fn section<'a>(document: &'a mut Node, name: &str) -> Option<&'a mut Map> {
    let Value::Map(sections) = &mut document.value else { return None };
    match &mut sections.get_mut(name)?.node.value {
        Value::Map(map) => Some(map),
        _ => None,
    }
}

/// How many values there are in a tree.
fn weight(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Map(map) => 1 + map.values().map(|entry| weight(&entry.node)).sum::<usize>(),
        _ => 1,
    }
}

/// Whether two values are the same wherever they stand.
fn same(one: &Node, other: &Node) -> bool {
    crate::model::to_json(one) == crate::model::to_json(other)
}
