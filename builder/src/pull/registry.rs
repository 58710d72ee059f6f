//! One registry: how it is reached, who we are to it, and requests that survive its bad moments.
//!
//! Blobs are streamed by oci-client. Manifests are fetched here, because oci-client would read one of any size into
//! memory, and its errors keep neither status nor `Retry-After`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dpack_payload::digest::Digest;
use oci_client::secrets::RegistryAuth;
use oci_client::token_cache::{RegistryToken, RegistryTokenType};
use oci_client::{Reference, RegistryOperation};
use reqwest::Method;
use reqwest::header::ACCEPT;
use tokio::sync::OnceCell;

use super::Error;
use super::auth::{Challenge, fetch_token};
use super::endpoint::{Endpoint, Options};
use super::failure::{Failure, retry_after};
use super::manifest::{self, MANIFEST_LIMIT};
use crate::cancel::Cancel;
use crate::credentials::{Credential, Credentials};
use crate::reporter::{Event, Reporter};

/// What all registries of a build share.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) options: Arc<Options>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) cancel: Cancel,
}

/// A registry; connects when it is first needed.
pub(super) struct Registry {
    name: String,
    context: Context,
    endpoint: OnceCell<Endpoint>,
    access: Mutex<HashMap<String, Access>>,
}

/// What a repository is shown.
#[derive(Clone)]
struct Access {
    credential: Option<Credential>,
    header: Header,
}

#[derive(Clone)]
enum Header {
    None,
    Basic(String, String),
    Bearer(String),
}

impl Registry {
    pub(super) fn new(name: &str, context: Context) -> Self {
        Self { name: name.to_owned(), context, endpoint: OnceCell::new(), access: Mutex::default() }
    }

    /// Host and port.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// The digest that a tag points to now; `None` when the registry does not say.
    pub(super) async fn head(&self, image: &str, parts: &Reference) -> Result<Option<Digest>, Error> {
        let response = self.manifest_request(image, parts, Method::HEAD).await?;
        let digest = response.headers().get("Docker-Content-Digest").and_then(|value| value.to_str().ok());
        Ok(digest.and_then(|digest| digest.parse().ok()))
    }

    /// The bytes of a manifest; not verified yet.
    pub(super) async fn manifest(&self, image: &str, parts: &Reference) -> Result<Vec<u8>, Error> {
        let attempt = async || {
            let response = self.request_once(image, parts, &Method::GET).await?;
            read_bounded(response, MANIFEST_LIMIT).await
        };
        self.retrying(image, parts.repository(), "pull a manifest from", attempt).await
    }

    async fn manifest_request(
        &self,
        image: &str,
        parts: &Reference,
        method: Method,
    ) -> Result<reqwest::Response, Error> {
        let attempt = async || self.request_once(image, parts, &method).await;
        self.retrying(image, parts.repository(), "look up a manifest in", attempt).await
    }

    async fn request_once(
        &self,
        image: &str,
        parts: &Reference,
        method: &Method,
    ) -> Result<reqwest::Response, Failure> {
        let endpoint = self.endpoint().await?;
        let target = parts.digest().or(parts.tag()).unwrap_or("latest");
        let url = format!("{}/v2/{}/manifests/{target}", endpoint.base, parts.repository());
        let request = endpoint.http.request(method.clone(), url).header(ACCEPT, manifest::ACCEPT);
        let header = self.authorize(image, parts).await?;
        let response = header.apply(request).send().await.map_err(Failure::from_reqwest)?;
        Failure::check_status(response).await
    }

    /// The oci-client of this registry, with a token for the repository of `parts` in its cache.
    pub(super) async fn oci(&self, image: &str, parts: &Reference) -> Result<&oci_client::Client, Failure> {
        let header = self.authorize(image, parts).await?;
        let endpoint = self.endpoint().await?;
        let make = async || {
            let config = endpoint.oci_config.lock().unwrap_or_else(PoisonError::into_inner).take();
            oci_client::Client::try_from(config.unwrap_or_default())
                .map_err(|error| Failure::Ours(Box::new(Error::Client(error.to_string()))))
        };
        let client = endpoint.oci.get_or_try_init(make).await?;
        let token = match header {
            Header::None => return Ok(client),
            Header::Basic(username, password) => RegistryTokenType::Basic(username, password),
            Header::Bearer(token) => RegistryTokenType::Bearer(RegistryToken::Token { token }),
        };
        // oci-client looks into its token cache only for registries it has been given some authentication for.
        client.store_auth_if_needed(parts.resolve_registry(), &RegistryAuth::Anonymous).await;
        client.tokens.insert(parts, RegistryOperation::Pull, token).await;
        Ok(client)
    }

    /// Asks a busy registry how long to wait; oci-client's errors do not say.
    pub(super) async fn ask_pause(
        &self,
        image: &str,
        parts: &Reference,
        digest: &Digest,
    ) -> Option<Duration> {
        let endpoint = self.endpoint().await.ok()?;
        let header = self.authorize(image, parts).await.ok()?;
        let url = format!("{}/v2/{}/blobs/{digest}", endpoint.base, parts.repository());
        retry_after(&header.apply(endpoint.http.head(url)).send().await.ok()?)
    }

    /// Repeats `attempt` while it fails in ways that may go away, and once more when a token has expired.
    pub(super) async fn retrying<T>(
        &self,
        image: &str,
        repository: &str,
        action: &str,
        mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let (mut failures, mut renewed) = (0, false);
        loop {
            let failure = match self.context.cancel.or(attempt()).await? {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            match failure {
                Failure::Unauthorized(challenge) if !renewed && self.renew(repository, &challenge) => {
                    renewed = true;
                }
                Failure::Transient { reason, retry_after, .. } => {
                    failures += 1;
                    self.pause(image, action, failures, &reason, retry_after).await?;
                }
                other => return Err(self.error(image, repository, action, other)),
            }
        }
    }

    /// Waits before the next attempt, or fails when there shall be none.
    pub(super) async fn pause(
        &self,
        image: &str,
        action: &str,
        failures: u32,
        reason: &str,
        asked: Option<Duration>,
    ) -> Result<(), Error> {
        let Some(pause) = self.context.options.backoff.pause(failures, asked) else {
            let mut reason = reason.to_owned();
            if let Some(asked) = asked {
                reason = format!("{reason} and asks to wait {} s", asked.as_secs());
            }
            return Err(Error::Unreachable {
                image: image.to_owned(),
                action: action.to_owned(),
                registry: self.name.clone(),
                attempts: failures,
                reason,
            });
        };
        let reason = format!("failed to {action} registry `{}`: {reason}", self.name);
        self.context.reporter.report(Event::Retry { reason, pause });
        Ok(self.context.cancel.or(tokio::time::sleep(pause)).await?)
    }

    /// Turns a failure that is final into what the user sees.
    pub(super) fn error(&self, image: &str, repository: &str, action: &str, failure: Failure) -> Error {
        let (image, registry) = (image.to_owned(), self.name.clone());
        match failure {
            Failure::NotFound => Error::NotFound { image, registry },
            Failure::Unauthorized(_) => {
                let access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
                let had_credentials =
                    access.get(repository).is_some_and(|access| access.credential.is_some());
                Error::Unauthorized { image, registry, had_credentials }
            }
            Failure::UnknownAuthority => Error::UnknownAuthority { registry },
            Failure::Certificate(reason) => Error::Certificate { registry, reason },
            Failure::PlainHttp => Error::PlainHttp { registry },
            Failure::Ours(error) => *error,
            Failure::NoRange => {
                Error::Answer { registry, action: action.to_owned(), status: "416 to a range".to_owned() }
            }
            Failure::Answer(status) => {
                Error::Answer { registry, action: format!("the attempt to {action} it"), status }
            }
            Failure::Transient { reason, .. } => {
                Error::Unreachable { image, action: action.to_owned(), registry, attempts: 1, reason }
            }
        }
    }

    async fn endpoint(&self) -> Result<&Endpoint, Failure> {
        let connect = || Endpoint::connect(&self.name, &self.context.options);
        self.endpoint.get_or_try_init(connect).await
    }

    /// What requests for the repository of `parts` carry; fetches a token when there is none.
    async fn authorize(&self, image: &str, parts: &Reference) -> Result<Header, Failure> {
        let repository = parts.repository();
        let known = self.access.lock().unwrap_or_else(PoisonError::into_inner).get(repository).cloned();
        if let Some(Access { header, .. }) = &known
            && !matches!(header, Header::None)
        {
            return Ok(header.clone());
        }
        let endpoint = self.endpoint().await?;
        let challenge = endpoint.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if challenge == Challenge::None {
            return Ok(Header::None);
        }
        let credential = match known {
            Some(access) => access.credential,
            None => self.context.credentials.find(&self.name, repository, &|error| {
                self.context.reporter.report(Event::Warning(format!("image `{image}`: {error}")));
            }),
        };
        let remember = |header: &Header| {
            let access = Access { credential: credential.clone(), header: header.clone() };
            self.access.lock().unwrap_or_else(PoisonError::into_inner).insert(repository.to_owned(), access);
        };
        // Kept also when the token server refuses, so that the error can tell whether there was a credential.
        remember(&Header::None);
        let header = match (&challenge, &credential) {
            (Challenge::Bearer { realm, service }, credential) => Header::Bearer(
                fetch_token(
                    &endpoint.http,
                    (realm, service.as_deref()),
                    repository,
                    credential.as_ref(),
                    endpoint.plain_http,
                )
                .await?,
            ),
            (_, Some(Credential::Basic { username, password })) => {
                Header::Basic(username.clone(), password.clone())
            }
            (_, Some(Credential::IdentityToken(token))) => Header::Bearer(token.clone()),
            (_, None) => Header::None,
        };
        remember(&header);
        Ok(header)
    }

    /// Prepares for another attempt after a refusal; false when that would be the same again.
    fn renew(&self, repository: &str, challenge: &Challenge) -> bool {
        if self.forget_token(repository) {
            return true;
        }
        // A registry that asks for nothing on its first page, but does for this repository.
        let Some(endpoint) = self.endpoint.get() else { return false };
        let mut known = endpoint.challenge.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *known == Challenge::None && *challenge != Challenge::None;
        if news {
            known.clone_from(challenge);
        }
        news
    }

    /// Drops a token that was refused; false when there is none that could be renewed.
    pub(super) fn forget_token(&self, repository: &str) -> bool {
        let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        match access.get_mut(repository) {
            Some(Access { header: header @ Header::Bearer(_), .. }) => {
                *header = Header::None;
                true
            }
            _ => false,
        }
    }
}

impl Header {
    fn apply(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match self {
            Header::None => request,
            Header::Basic(username, password) => request.basic_auth(username, Some(password)),
            Header::Bearer(token) => request.bearer_auth(token),
        }
    }
}

/// Reads an answer of at most `limit` bytes.
pub(super) async fn read_bounded(mut response: reqwest::Response, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Failure::from_reqwest)? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(Failure::answer(format!("more than the {limit} bytes allowed")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
