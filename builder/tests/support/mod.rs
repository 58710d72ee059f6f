//! A registry inside the test process, with faults on demand, and images made from a few files.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dpack_payload::digest::Digest;
use serde_json::{Value, json};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A registry on loopback.
pub struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    content: HashMap<String, (String, Vec<u8>)>,
    faults: Vec<(String, Fault)>,
    auth: Auth,
    ranges: bool,
    open_front: bool,
    requests: Vec<String>,
    issued: u32,
}

/// What goes wrong with the next request whose path contains some text.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error instead of an answer.
    Status(u16, Option<u64>),
    /// The connection breaks after so many bytes of the body.
    BreakAfter(usize),
    /// Other bytes of the same length.
    Lie,
}

#[derive(Clone, Default)]
pub enum Auth {
    #[default]
    None,
    Basic(&'static str, &'static str),
    /// Tokens by user name and password.
    Bearer(&'static str, &'static str),
    /// Tokens by refresh token.
    Refresh(&'static str),
}

impl Registry {
    pub fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { ranges: true, ..State::default() }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || answer(stream, address, &state));
            }
        });
        Self { address, state }
    }

    pub fn with_auth(self, auth: Auth) -> Self {
        self.state.lock().unwrap().auth = auth;
        self
    }

    /// Asks for credentials only where there is something to protect.
    pub fn with_open_front(self) -> Self {
        self.state.lock().unwrap().open_front = true;
        self
    }

    pub fn without_ranges(self) -> Self {
        self.state.lock().unwrap().ranges = false;
        self
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// The next request whose path contains `path` fails like this; each call is one failure.
    pub fn fail(&self, path: &str, fault: Fault) {
        self.state.lock().unwrap().faults.push((path.to_owned(), fault));
    }

    /// Makes tokens and passwords of before invalid.
    pub fn expire_tokens(&self) {
        self.state.lock().unwrap().issued += 1000;
    }

    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    pub fn forget_requests(&self) {
        self.state.lock().unwrap().requests.clear();
    }

    pub fn put(&self, path: String, media_type: &str, bytes: Vec<u8>) {
        self.state.lock().unwrap().content.insert(path, (media_type.to_owned(), bytes));
    }

    /// Pushes a single-platform image under a tag; returns its descriptor.
    pub fn push(&self, name: &str, tag: &str, image: &Image) -> Value {
        for blob in image.blobs() {
            let path = format!("/v2/{name}/blobs/{}", Digest::of(&blob));
            self.put(path, "application/octet-stream", blob);
        }
        self.push_manifest(name, tag, OCI_MANIFEST, &image.manifest(), Some(&image.platform))
    }

    /// Pushes an index of images under a tag.
    pub fn push_index(&self, name: &str, tag: &str, images: &[&Image]) -> Value {
        let entries: Vec<Value> =
            images.iter().map(|image| self.push(name, &format!("{tag}-part"), image)).collect();
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
        self.push_manifest(name, tag, OCI_INDEX, &index, None)
    }

    pub fn push_manifest(
        &self,
        name: &str,
        tag: &str,
        media_type: &str,
        manifest: &Value,
        platform: Option<&str>,
    ) -> Value {
        let bytes = manifest.to_string().into_bytes();
        let (digest, size) = (Digest::of(&bytes), bytes.len());
        for target in [tag.to_owned(), digest.to_string()] {
            self.put(format!("/v2/{name}/manifests/{target}"), media_type, bytes.clone());
        }
        let mut descriptor = json!({"mediaType": media_type, "digest": digest, "size": size});
        if let Some(platform) = platform {
            descriptor["platform"] = platform_json(platform);
        }
        descriptor
    }
}

fn platform_json(platform: &str) -> Value {
    let mut parts = platform.split('/');
    let mut json = json!({"os": parts.next().unwrap(), "architecture": parts.next().unwrap()});
    if let Some(variant) = parts.next() {
        json["variant"] = variant.into();
    }
    json
}

fn answer(stream: TcpStream, address: SocketAddr, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    // A TLS greeting gets what Go's server says to it.
    let mut first = [0];
    if stream.peek(&mut first).unwrap_or(0) == 1 && first[0] == 0x16 {
        let _ = stream
            .write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.");
        return;
    }
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let mut parts = line.split_whitespace();
    let (Some(method), Some(target)) = (parts.next(), parts.next()) else { return };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).is_err() || header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap();
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();

    let mut state = state.lock().unwrap();
    let range = headers.get("range").map(String::as_str).unwrap_or_default();
    state.requests.push(format!("{method} {path} {range}").trim_end().to_owned());
    let found = state.faults.iter().position(|(part, _)| path.contains(part.as_str()));
    let fault = found.map(|position| state.faults.remove(position).1);
    if let Some(Fault::Status(code, retry_after)) = fault {
        let header = retry_after.map_or(String::new(), |seconds| format!("Retry-After: {seconds}\r\n"));
        return respond(&mut stream, code, &header, b"", method == "HEAD", None);
    }
    let authorization = headers.get("authorization").map(String::as_str).unwrap_or_default();
    if path == "/token" {
        return token(&mut stream, &mut state, query, authorization, &body);
    }
    let (wanted, challenge) = match &state.auth {
        Auth::None => (None, String::new()),
        Auth::Basic(user, password) => (
            Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))),
            "Basic realm=\"test\"".to_owned(),
        ),
        Auth::Bearer(..) | Auth::Refresh(_) => (
            Some(format!("Bearer token-{}", state.issued)),
            format!("Bearer realm=\"http://{address}/token\",service=\"test\""),
        ),
    };
    let open = state.open_front && path == "/v2/";
    if !open && wanted.is_some_and(|wanted| wanted != authorization) {
        let header = format!("WWW-Authenticate: {challenge}\r\n");
        return respond(&mut stream, 401, &header, b"{}", method == "HEAD", None);
    }
    if path == "/v2/" {
        return respond(&mut stream, 200, "", b"{}", method == "HEAD", None);
    }
    let Some((media_type, bytes)) = state.content.get(path).cloned() else {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#;
        let body = if path.contains("/blobs/") {
            br#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#.as_slice()
        } else {
            body
        };
        return respond(&mut stream, 404, "", body, method == "HEAD", None);
    };
    let ranges = state.ranges;
    drop(state);
    let digest = Digest::of(&bytes);
    let mut header = format!("Content-Type: {media_type}\r\nDocker-Content-Digest: {digest}\r\n");
    let mut bytes = bytes;
    if matches!(fault, Some(Fault::Lie)) {
        bytes.iter_mut().for_each(|byte| *byte ^= 1);
    }
    let mut code = 200;
    if let Some(start) = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'))
        && ranges
    {
        let start: usize = start.parse().unwrap();
        header += &format!("Content-Range: bytes {start}-{}/{}\r\n", bytes.len() - 1, bytes.len());
        bytes.drain(..start);
        code = 206;
    }
    let cut = if let Some(Fault::BreakAfter(bytes)) = fault { Some(bytes) } else { None };
    respond(&mut stream, code, &header, &bytes, method == "HEAD", cut);
}

fn token(stream: &mut TcpStream, state: &mut State, query: &str, authorization: &str, body: &str) {
    let allowed = match &state.auth {
        Auth::Bearer(user, password) => {
            let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            authorization == basic && query.contains("scope=repository%3A") && query.contains("service=test")
        }
        Auth::Refresh(token) => {
            body.contains("grant_type=refresh_token") && body.contains(&format!("refresh_token={token}"))
        }
        _ => false,
    };
    if !allowed {
        return respond(stream, 401, "", b"{}", false, None);
    }
    state.issued += 1;
    let body = json!({"access_token": format!("token-{}", state.issued)}).to_string();
    respond(stream, 200, "Content-Type: application/json\r\n", body.as_bytes(), false, None);
}

fn respond(stream: &mut TcpStream, code: u16, headers: &str, body: &[u8], head: bool, cut: Option<usize>) {
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {code} Test\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    );
    if !head {
        let _ = stream.write_all(&body[..cut.unwrap_or(length).min(length)]);
    }
    let _ = stream.flush();
}

/// How a layer is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// An image for one platform.
#[derive(Clone)]
pub struct Image {
    pub platform: String,
    pub layers: Vec<(Vec<u8>, Compression)>,
    /// Replaces the diff IDs of the config.
    pub diff_ids: Option<Vec<Digest>>,
    /// Media type prefix and separator of Docker instead of OCI.
    pub docker: bool,
}

impl Image {
    pub fn new(platform: &str) -> Self {
        Self { platform: platform.to_owned(), layers: Vec::new(), diff_ids: None, docker: false }
    }

    pub fn layer(mut self, compression: Compression, files: &[(&str, &[u8])]) -> Self {
        self.layers.push((tar(files), compression));
        self
    }

    pub fn config(&self) -> Vec<u8> {
        let diff_ids = self
            .diff_ids
            .clone()
            .unwrap_or_else(|| self.layers.iter().map(|(tar, _)| Digest::of(tar)).collect());
        let mut config = platform_json(&self.platform);
        config["config"] = json!({"Cmd": ["/bin/true"], "Env": ["PATH=/bin"]});
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        serde_json::to_vec_pretty(&config).unwrap()
    }

    pub fn layer_blobs(&self) -> Vec<Vec<u8>> {
        self.layers.iter().map(|(tar, compression)| compress(tar, *compression)).collect()
    }

    pub fn blobs(&self) -> Vec<Vec<u8>> {
        let mut blobs = self.layer_blobs();
        blobs.push(self.config());
        blobs
    }

    pub fn manifest(&self) -> Value {
        let prefix = if self.docker { "docker.image.rootfs.diff" } else { "oci.image.layer.v1" };
        let separator = if self.docker { "." } else { "+" };
        let layers: Vec<Value> = self
            .layer_blobs()
            .iter()
            .zip(&self.layers)
            .map(|(blob, (_, compression))| {
                let suffix = match compression {
                    Compression::None => String::new(),
                    Compression::Gzip => format!("{separator}gzip"),
                    Compression::Zstd => format!("{separator}zstd"),
                };
                let media_type = format!("application/vnd.{prefix}.tar{suffix}");
                json!({"mediaType": media_type, "digest": Digest::of(blob), "size": blob.len()})
            })
            .collect();
        let config = self.config();
        json!({
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": Digest::of(&config),
                "size": config.len(),
            },
            "layers": layers,
        })
    }

    /// Writes an OCI image layout.
    pub fn write_layout(&self, folder: &Path, name: &str) {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let manifest = self.manifest().to_string().into_bytes();
        for blob in self.blobs().iter().chain([&manifest]) {
            std::fs::write(blobs.join(Digest::of(blob).hex()), blob).unwrap();
        }
        std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": OCI_MANIFEST,
            "digest": Digest::of(&manifest),
            "size": manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": name},
        }]});
        std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
    }
}

pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn compress(bytes: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(bytes, 1).unwrap(),
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// A tar with one entry whose header says what it says.
pub fn raw_tar(name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size);
    header.set_cksum();
    [header.as_bytes().as_slice(), &[0; 1024]].concat()
}

/// The smallest static executables that can carry a payload, one for each target.
pub fn write_stubs(folder: &Path) {
    for target in dpack_targets::TARGETS {
        let path = folder.join(target.triple);
        std::fs::create_dir_all(&path).unwrap();
        let wide = target.elf.class == 2;
        std::fs::write(path.join("dpack-runner"), stub(wide, target.elf.machine)).unwrap();
    }
}

/// An ELF header and one loadable segment (gABI, chapters 4 and 5).
fn stub(wide: bool, machine: u16) -> Vec<u8> {
    let (header, segment, section) = if wide { (64_u16, 56_u16, 64_u16) } else { (52, 32, 40) };
    let mut elf = b"\x7fELF".to_vec();
    elf.extend([if wide { 2 } else { 1 }, 1, 1]);
    elf.resize(16, 0);
    let word = |value: u64| value.to_le_bytes()[..if wide { 8 } else { 4 }].to_vec();
    elf.extend(2_u16.to_le_bytes());
    elf.extend(machine.to_le_bytes());
    elf.extend(1_u32.to_le_bytes());
    elf.extend(word(0x1_0000));
    elf.extend(word(u64::from(header)));
    elf.extend(word(0));
    elf.extend(0_u32.to_le_bytes());
    for value in [header, segment, 1, section, 0, 0] {
        elf.extend(value.to_le_bytes());
    }
    assert_eq!(elf.len(), usize::from(header));
    let size = u64::from(header + segment);
    elf.extend(1_u32.to_le_bytes());
    if wide {
        elf.extend(5_u32.to_le_bytes());
    }
    for value in [0, 0x1_0000, 0x1_0000, size, size] {
        elf.extend(word(value));
    }
    if !wide {
        elf.extend(5_u32.to_le_bytes());
    }
    elf.extend(word(0x1000));
    elf
}
