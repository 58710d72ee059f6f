//! One credential file: parsing, and which of its entries applies.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Credential, Error};

/// Docker Hub under the name that Docker stores its credentials by.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// A parsed `config.json` or `auth.json`.
#[derive(Clone, Default)]
pub struct AuthFile {
    /// By normalised key: `registry` or `registry/path`.
    auths: BTreeMap<String, Credential>,
    /// Helper by normalised registry.
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

impl std::fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthFile").field("auths", &self.auths.keys()).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Raw {
    auths: BTreeMap<String, RawAuth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl AuthFile {
    /// Reads and parses `path`.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|reason| Error::Parse { path: path.to_owned(), reason })
    }

    /// Parses the JSON of a credential file.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let raw: Raw = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut auths = BTreeMap::new();
        for (key, entry) in raw.auths {
            if let Some(credential) = credential(&key, entry)? {
                auths.insert(normalise_key(&key), credential);
            }
        }
        let cred_helpers =
            raw.cred_helpers.into_iter().map(|(key, helper)| (normalise_key(&key), helper)).collect();
        Ok(Self { auths, cred_helpers, creds_store: raw.creds_store.filter(|helper| !helper.is_empty()) })
    }

    /// Helpers to ask about `registry`, the more specific first.
    pub(super) fn helpers(&self, registry: &str) -> impl Iterator<Item = &str> {
        let own = self.cred_helpers.get(registry).map(String::as_str).filter(|helper| !helper.is_empty());
        own.into_iter().chain(self.creds_store.as_deref())
    }

    /// The credential written in the file itself, by the longest key that is a path prefix of the image's name.
    pub(super) fn stored(&self, registry: &str, repository: &str) -> Option<Credential> {
        let mut key = format!("{registry}/{repository}");
        loop {
            if let Some(credential) = self.auths.get(&key) {
                return Some(credential.clone());
            }
            key.truncate(key.rfind('/')?);
        }
    }
}

/// The name by which helpers know `registry`.
pub(super) fn helper_key(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HUB_KEY } else { registry }
}

fn credential(key: &str, entry: RawAuth) -> Result<Option<Credential>, String> {
    if let Some(token) = entry.identitytoken.filter(|token| !token.is_empty()) {
        return Ok(Some(Credential::IdentityToken(token)));
    }
    if let (Some(username), Some(password)) = (entry.username, entry.password)
        && !username.is_empty()
    {
        return Ok(Some(Credential::Basic { username, password }));
    }
    let Some(encoded) = entry.auth.filter(|auth| !auth.is_empty()) else {
        return Ok(None); // an empty entry: the secret is with the `credsStore`
    };
    // The content is not put into the message: it may be most of a password.
    let bad = || format!("`auths`, `{key}`: `auth` is not base64 of user:password");
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| bad())?;
    let text = String::from_utf8(decoded).map_err(|_| bad())?;
    let (username, password) = text.split_once(':').ok_or_else(bad)?;
    // Docker pads some passwords with NUL.
    let password = password.trim_end_matches('\0').to_owned();
    Ok(Some(Credential::Basic { username: username.to_owned(), password }))
}

/// `https://index.docker.io/v1/` becomes `docker.io`; `https://host/v2/` becomes `host`; `host/path` stays.
fn normalise_key(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (host, path) = key.split_once('/').map_or((key, None), |(host, path)| (host, Some(path)));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    };
    path.map_or_else(|| host.to_owned(), |path| format!("{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Basic { username: username.into(), password: password.into() })
    }

    #[test]
    fn the_longest_path_wins_and_docker_hub_has_many_names() {
        let encode = |text: &str| STANDARD.encode(text);
        let file = AuthFile::parse(&format!(
            r#"{{"auths": {{
                "https://index.docker.io/v1/": {{"auth": "{}"}},
                "quay.example": {{"auth": "{}"}},
                "quay.example/team": {{"auth": "{}"}},
                "quay.example/team/app": {{"username": "app", "password": "p"}},
                "https://plain.example/v2/": {{"identitytoken": "refresh"}},
                "empty.example": {{}}
            }}, "HttpHeaders": {{}}}}"#,
            encode("hub:h:u:b"),
            encode("all:1"),
            encode("team:2\0\0"),
        ))
        .unwrap();
        for (registry, repository, expected) in [
            ("docker.io", "library/nginx", basic("hub", "h:u:b")),
            ("quay.example", "other/image", basic("all", "1")),
            ("quay.example", "team/image", basic("team", "2")),
            ("quay.example", "team/app", basic("app", "p")),
            ("quay.example", "team/application", basic("team", "2")),
            ("quay.example", "teams/app", basic("all", "1")),
            ("plain.example", "a", Some(Credential::IdentityToken("refresh".into()))),
            ("empty.example", "a", None),
            ("quay.example.evil", "team/app", None),
        ] {
            assert_eq!(file.stored(registry, repository), expected, "{registry}/{repository}");
        }
    }

    #[test]
    fn helpers_are_asked_in_order_and_broken_files_name_the_entry() {
        let file = AuthFile::parse(
            r#"{"credHelpers": {"gcr.example": "gcloud", "https://index.docker.io/v1/": "hub"}, "credsStore": "pass"}"#,
        )
        .unwrap();
        assert_eq!(file.helpers("gcr.example").collect::<Vec<_>>(), ["gcloud", "pass"]);
        assert_eq!(file.helpers("docker.io").collect::<Vec<_>>(), ["hub", "pass"]);
        assert_eq!(file.helpers("else.example").collect::<Vec<_>>(), ["pass"]);
        assert!(AuthFile::parse("").unwrap().helpers("a").next().is_none());

        let error = AuthFile::parse(r#"{"auths": {"r.example": {"auth": "secret!"}}}"#).unwrap_err();
        assert!(error.contains("r.example") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn debug_output_has_no_secret() {
        let file = AuthFile::parse(r#"{"auths": {"r": {"username": "u", "password": "hunter2"}}}"#).unwrap();
        assert!(!format!("{file:?} {:?}", file.stored("r", "a")).contains("hunter2"));
    }
}
