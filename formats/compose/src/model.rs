//! The model as it was loaded: one tree for each document of each file, variables not filled in yet.
//!
//! Files are merged after interpolation, as Docker Compose does it, because the merge rules look at values (`8080:80`
//! and `${PORT}:80` may be the same port). So the model is a list of layers. It travels in the executable as JSON:
//!
//! ```json
//! {"version": 1, "folder": "shop", "layers": [{"file": "compose.yml", "content": {"services": {}}}],
//!  "environment": [{"file": ".env", "text": "TAG=1\n"}]}
//! ```
//!
//! A tagged value is `{"!override": value}`; no key of a Compose file may look like that.

use std::collections::BTreeMap;

use serde_json::{Map as JsonMap, Value as Json};

use crate::diagnostic::{Diagnostic, Errors, Position, Report};
use crate::node::{Entry, MAX_DEPTH, Map, Node, Tag, Value};
use crate::schema;

/// Version of the JSON form.
const VERSION: u64 = 1;
/// Name of the embedded model in messages about the model as a whole.
const EMBEDDED: &str = "embedded model";

/// A Compose application whose variables are not filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub(crate) layers: Vec<Layer>,
    pub(crate) environment: Vec<EnvironmentFile>,
    /// Compose files that are extended or included, by path from the project's folder, one for each document.
    pub(crate) others: Vec<Layer>,
    /// Variable and label files that are referred to, by path from the project's folder; nothing for one that was not there.
    pub(crate) texts: BTreeMap<String, Option<String>>,
    /// Profiles that are active when nothing else says which.
    pub(crate) profiles: Vec<String>,
    /// Project name that was asked for when the model was loaded.
    pub(crate) name: Option<String>,
    /// Project name when nothing else says one: the folder's.
    pub(crate) folder: String,
    /// It was embedded: what images are built from stayed behind.
    pub(crate) embedded: bool,
}

/// One document of a Compose file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layer {
    /// The file as the user named it.
    pub(crate) file: String,
    pub(crate) root: Node,
}

/// A `.env` file that travels with the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvironmentFile {
    pub(crate) file: String,
    pub(crate) text: String,
}

impl Model {
    /// Names of the Compose files, in the order they are merged.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.layers.iter().map(|layer| layer.file.as_str())
    }

    /// A report whose file indexes are those of the layers.
    pub(crate) fn report(&self) -> Report {
        Report::new(self.layers.iter().chain(&self.others).map(|layer| layer.file.clone()).collect())
    }

    /// The form that is embedded in an executable. Folders are left out of file names: the result depends on nothing but
    /// the content of the files. So is `build`: it may hold what nobody else should know, and asks for variables.
    pub fn to_json(&self) -> Json {
        let mut json = JsonMap::new();
        json.insert("version".to_owned(), VERSION.into());
        if let Some(name) = &self.name {
            json.insert("name".to_owned(), name.as_str().into());
        }
        json.insert("folder".to_owned(), self.folder.as_str().into());
        let layers =
            self.layers.iter().map(|layer| pair(&layer.file, "content", without_builds(&layer.root)));
        json.insert("layers".to_owned(), layers.collect());
        let files = self.environment.iter().map(|file| pair(&file.file, "text", file.text.as_str().into()));
        json.insert("environment".to_owned(), files.collect());
        if !self.others.is_empty() {
            // These are looked up by their paths.
            let other = |layer: &Layer| serde_json::json!({"file": layer.file, "content": without_builds(&layer.root)});
            json.insert("others".to_owned(), self.others.iter().map(other).collect());
        }
        if !self.profiles.is_empty() {
            json.insert("profiles".to_owned(), self.profiles.clone().into());
        }
        if !self.texts.is_empty() {
            let texts = self.texts.iter().map(|(path, text)| (path.clone(), text.clone().into()));
            json.insert("texts".to_owned(), Json::Object(texts.collect()));
        }
        Json::Object(json)
    }

    /// Reads the embedded form.
    ///
    /// # Errors
    /// Another version, or content that [`Model::to_json`] does not write, or keys this version does not know.
    pub fn from_json(json: &Json) -> Result<Model, Errors> {
        if json.get("version").and_then(Json::as_u64) != Some(VERSION) {
            return Err(damaged("made by another version of dpack").into());
        }
        let mut model = Model {
            name: json.get("name").and_then(Json::as_str).map(str::to_owned),
            folder: text(json, "folder")?,
            embedded: true,
            ..Model::default()
        };
        for layer in list(json, "layers")? {
            let file = u16::try_from(model.layers.len()).map_err(|_| damaged("too many layers"))?;
            let content = layer.get("content").ok_or_else(|| damaged("a layer without content"))?;
            let root = from_json(content, Position { file, ..Position::default() }, 0)?;
            model.layers.push(Layer { file: text(layer, "file")?, root });
        }
        if json.get("others").is_some() {
            for layer in list(json, "others")? {
                let number = model.layers.len() + model.others.len();
                let file = u16::try_from(number).map_err(|_| damaged("too many layers"))?;
                let content = layer.get("content").ok_or_else(|| damaged("a layer without content"))?;
                let root = from_json(content, Position { file, ..Position::default() }, 0)?;
                model.others.push(Layer { file: text(layer, "file")?, root });
            }
        }
        if json.get("profiles").is_some() {
            let profiles = list(json, "profiles")?.iter().filter_map(Json::as_str);
            model.profiles = profiles.map(str::to_owned).collect();
        }
        if let Some(texts) = json.get("texts") {
            let texts = texts.as_object().ok_or_else(|| damaged("`texts` is not an object"))?;
            for (path, text) in texts {
                let text = match text {
                    Json::Null => None,
                    _ => Some(text.as_str().ok_or_else(|| damaged("a text is not a string"))?.to_owned()),
                };
                model.texts.insert(path.clone(), text);
            }
        }
        for file in list(json, "environment")? {
            model.environment.push(EnvironmentFile { file: text(file, "file")?, text: text(file, "text")? });
        }
        let mut report = model.report();
        schema::check(&model.layers, &mut report);
        schema::check(&model.others, &mut report);
        report.finish().map(|_| model)
    }
}

fn damaged(message: &str) -> Diagnostic {
    Diagnostic::about_file(EMBEDDED, message)
}

fn text(json: &Json, key: &str) -> Result<String, Diagnostic> {
    let text = json.get(key).and_then(Json::as_str);
    text.map(str::to_owned).ok_or_else(|| damaged(&format!("`{key}` is missing or not a string")))
}

fn list<'a>(json: &'a Json, key: &str) -> Result<&'a [Json], Diagnostic> {
    let list = json.get(key).and_then(Json::as_array);
    list.map(Vec::as_slice).ok_or_else(|| damaged(&format!("`{key}` is missing or not a list")))
}

fn pair(file: &str, key: &str, value: Json) -> Json {
    let name = file.rsplit('/').next().unwrap_or(file);
    let mut json = JsonMap::new();
    json.insert("file".to_owned(), name.into());
    json.insert(key.to_owned(), value);
    Json::Object(json)
}

/// A file as JSON, without the `build` of its services.
fn without_builds(root: &Node) -> Json {
    let mut root = root.clone();
    if let Value::Map(sections) = &mut root.value
        && let Some(Value::Map(services)) = sections.get_mut("services").map(|entry| &mut entry.node.value)
    {
        for service in services.values_mut() {
            if let Value::Map(fields) = &mut service.node.value {
                fields.remove("build");
            }
        }
    }
    to_json(&root)
}

/// A tree as JSON.
pub(crate) fn to_json(node: &Node) -> Json {
    let json = match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(number) => Json::Number(number.clone()),
        Value::Text(text) => Json::String(text.clone()),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(map) => {
            Json::Object(map.iter().map(|(key, entry)| (key.clone(), to_json(&entry.node))).collect())
        }
    };
    match node.tag {
        Some(tag) => Json::Object([(tag.name().to_owned(), json)].into_iter().collect()),
        None => json,
    }
}

fn from_json(json: &Json, at: Position, depth: usize) -> Result<Node, Diagnostic> {
    // Tags add a level.
    if depth > 2 * MAX_DEPTH {
        return Err(damaged("nested too deep"));
    }
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => Value::Number(number.clone()),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => {
            let items = items.iter().map(|item| from_json(item, at, depth + 1));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        Json::Object(object) => {
            let mut map = Map::new();
            for (key, value) in object {
                let node = from_json(value, at, depth + 1)?;
                if let (Some(tag), 1, None) = (Tag::from_name(key), object.len(), node.tag) {
                    return Ok(Node { tag: Some(tag), ..node });
                }
                map.insert(key.clone(), Entry { key_at: at, node });
            }
            Value::Map(map)
        }
    };
    Ok(Node::new(value, at))
}
