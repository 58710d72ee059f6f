//! What happened to containers: `events.json` in the project's folder, one JSON object a line, as `docker compose events
//! --json` prints it.
//!
//! Whoever does something to a container appends; whoever wants to know reads, and nobody has to be alive for that. A full
//! file becomes `events.1.json`. Nothing waits for the disk: after a power cut the last events may be missing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::container::Identity;
use crate::paths::ProjectPaths;
use crate::time;

/// Size at which a file is full.
const FULL: u64 = 1 << 20;

/// One event, with the names of Docker Compose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// RFC 3339.
    pub(crate) time: String,
    /// `container`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// `create`, `start`, `die`, `kill`, `stop`, `destroy`, `health_status: healthy` …
    pub(crate) action: String,
    /// Container ID.
    pub(crate) id: String,
    /// Service name.
    pub(crate) service: String,
    /// Image, name and what belongs to the action: `exitCode`, `signal`.
    pub(crate) attributes: BTreeMap<String, String>,
}

/// Notes an event. One that cannot be written is lost: it must not hinder what it tells of.
pub(crate) fn append(project: &ProjectPaths, identity: &Identity, action: &str, more: &[(&str, String)]) {
    let mut attributes = identity.definition.labels.clone();
    attributes.insert("image".to_owned(), identity.image.clone());
    attributes.insert("name".to_owned(), identity.name.clone());
    attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let event = Event {
        time: time::format(time::now()),
        kind: "container".to_owned(),
        action: action.to_owned(),
        id: identity.id.clone(),
        service: identity.service.clone(),
        attributes,
    };
    let Ok(mut line) = serde_json::to_vec(&event) else { return };
    line.push(b'\n');
    let path = project.events();
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() >= FULL) {
        let _ = fs::rename(&path, project.earlier_events());
    }
    let opened = File::options().create(true).append(true).open(&path);
    let _ = opened.and_then(|mut file| file.write_all(&line));
}

/// Reads events, those that are still to come too.
#[derive(Debug)]
pub(crate) struct Reader {
    project: ProjectPaths,
    inode: u64,
    offset: u64,
}

impl Reader {
    /// From the first event that is there, or from the next one on.
    pub(crate) fn new(project: &ProjectPaths, from_beginning: bool) -> Self {
        let now = fs::metadata(project.events()).ok().filter(|_| !from_beginning);
        let (inode, offset) = now.map_or((0, 0), |metadata| (metadata.ino(), metadata.len()));
        Self { project: project.clone(), inode, offset }
    }

    /// What is there by now and was not read yet.
    pub(crate) fn read(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for path in [self.project.earlier_events(), self.project.events()] {
            let Ok(file) = File::open(path) else { continue };
            let inode = file.metadata()?.ino();
            // The earlier file is read only when it is the one that was read, or none was.
            if self.inode != inode {
                let newer = fs::metadata(self.project.events()).is_ok_and(|metadata| metadata.ino() == inode);
                if self.inode != 0 && !newer {
                    continue;
                }
                (self.inode, self.offset) = (inode, 0);
            }
            self.offset += read_lines(file, self.offset, &mut events)?;
        }
        Ok(events)
    }
}

/// Whole lines from `offset` on; how many bytes they have.
fn read_lines(mut file: File, offset: u64, events: &mut Vec<Event>) -> Result<u64> {
    file.seek(SeekFrom::Start(offset))?;
    let (mut reader, mut line, mut read) = (BufReader::new(file), Vec::new(), 0);
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Ok(read);
        }
        read += length as u64;
        // What a power cut left is passed over.
        events.extend(serde_json::from_slice::<Event>(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str) -> String {
        format!(
            "{{\"time\":\"1970-01-01T00:00:01Z\",\"type\":\"container\",\"action\":\"{action}\",\"id\":\"1\",\
             \"service\":\"web\",\"attributes\":{{}}}}\n"
        )
    }

    fn actions(reader: &mut Reader) -> Vec<String> {
        reader.read().unwrap().into_iter().map(|event| event.action).collect()
    }

    #[test]
    fn events_are_read_once_across_a_full_file_and_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let project = ProjectPaths { folder: folder.path().into(), runtime: folder.path().into() };
        fs::write(project.earlier_events(), event("create")).unwrap();
        fs::write(
            project.events(),
            [event("start"), "\0\n".to_owned(), event("die")[..9].to_owned()].concat(),
        )
        .unwrap();
        let (mut all, mut new) = (Reader::new(&project, true), Reader::new(&project, false));
        assert_eq!(actions(&mut all), ["create", "start"]);
        assert!(actions(&mut new).is_empty());
        fs::write(project.events(), [event("start"), "\0\n".to_owned(), event("die")].concat()).unwrap();
        assert_eq!(actions(&mut all), ["die"]);
        fs::rename(project.events(), project.earlier_events()).unwrap();
        fs::write(project.events(), event("stop")).unwrap();
        assert_eq!(actions(&mut all), ["stop"]);
    }
}
