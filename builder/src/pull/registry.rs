//! One registry: how it is reached, who we are to it, and requests that survive its bad moments.
//!
//! Blobs are streamed by oci-client. Manifests are fetched here, because oci-client would read one of any size into
//! memory, and its errors keep neither status nor `Retry-After`.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dpack_payload::digest::Digest;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::token_cache::{RegistryToken, RegistryTokenType};
use oci_client::{Reference, RegistryOperation};
use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode};
use tokio::sync::OnceCell;

use super::auth::{Challenge, fetch_token};
use super::failure::{Failure, retry_after};
use super::manifest::{self, MANIFEST_LIMIT};
use super::retry::Backoff;
use super::{Error, certificates, reference};
use crate::cancel::Cancel;
use crate::credentials::{Credential, Credentials};
use crate::reporter::{Event, Reporter};

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Registries that may be spoken to without TLS, besides loopback.
    pub insecure: BTreeSet<String>,
    /// Further authorities for every registry.
    pub authorities: Vec<PathBuf>,
    /// Folders with authorities for single registries.
    pub certificate_folders: Vec<PathBuf>,
    /// When to give up.
    pub backoff: Backoff,
    /// Limit for connecting.
    pub connect_timeout: Duration,
    /// Limit for a pause in the middle of an answer.
    pub read_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            insecure: BTreeSet::new(),
            authorities: Vec::new(),
            certificate_folders: certificates::CERTIFICATE_FOLDERS.map(PathBuf::from).to_vec(),
            backoff: Backoff::default(),
            connect_timeout: Duration::from_secs(20),
            read_timeout: Duration::from_secs(60),
        }
    }
}

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

struct Endpoint {
    base: String,
    http: reqwest::Client,
    /// Made for the first blob: a build that finds all it needs in the cache does without.
    oci: OnceCell<oci_client::Client>,
    oci_config: Mutex<Option<ClientConfig>>,
    challenge: Challenge,
    plain_http: bool,
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
                .map_err(|error| Failure::answer(error.to_string()))
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
                Failure::Unauthorized(_) if !renewed && self.forget_token(repository) => renewed = true,
                Failure::Transient { reason, retry_after, .. } => {
                    failures += 1;
                    self.pause(action, failures, &reason, retry_after).await?;
                }
                other => return Err(self.error(image, repository, action, other)),
            }
        }
    }

    /// Waits before the next attempt, or fails when there shall be none.
    pub(super) async fn pause(
        &self,
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
            Failure::NoRange => {
                Error::Answer { registry, action: action.to_owned(), status: "416 to a range".to_owned() }
            }
            Failure::Answer(status) => {
                Error::Answer { registry, action: format!("the attempt to {action} it"), status }
            }
            Failure::Transient { reason, .. } => {
                Error::Unreachable { action: action.to_owned(), registry, attempts: 1, reason }
            }
        }
    }

    async fn endpoint(&self) -> Result<&Endpoint, Failure> {
        self.endpoint.get_or_try_init(|| self.connect()).await
    }

    /// Finds out whether the registry speaks TLS and what it asks for.
    async fn connect(&self) -> Result<Endpoint, Failure> {
        let host = if self.name == "docker.io" { "index.docker.io" } else { &self.name };
        let may_be_plain =
            reference::is_loopback(&self.name) || self.context.options.insecure.contains(&self.name);
        let (http, oci_config) = self.clients()?;
        let url = |scheme: &str| format!("{scheme}://{host}/v2/");
        let mut request = http.get(url("https"));
        if may_be_plain {
            // A server that expects HTTP may wait for the rest of what it takes for a request.
            request = request.timeout(Duration::from_secs(5));
        }
        let (response, plain_http) = match request.send().await.map_err(Failure::from_reqwest) {
            Ok(response) => (response, false),
            Err(failure @ (Failure::PlainHttp | Failure::Transient { .. })) if may_be_plain => {
                let response = http.get(url("http")).send().await.map_err(Failure::from_reqwest)?;
                // What TLS servers say to plain HTTP: the first failure was the real one.
                if response.status() == StatusCode::BAD_REQUEST {
                    return Err(failure);
                }
                (response, true)
            }
            Err(failure) => return Err(failure),
        };
        let challenge = match Failure::check_status(response).await {
            Ok(_) => Challenge::None,
            Err(Failure::Unauthorized(challenge)) => challenge,
            // Some registries have no page there; the manifest request will tell.
            Err(Failure::NotFound | Failure::Answer(_)) => Challenge::None,
            Err(failure) => return Err(failure),
        };
        let protocol = if plain_http { ClientProtocol::Http } else { ClientProtocol::Https };
        let oci_config = Mutex::new(Some(ClientConfig { protocol, ..oci_config }));
        let scheme = if plain_http { "http" } else { "https" };
        let base = format!("{scheme}://{host}");
        Ok(Endpoint { base, http, oci: OnceCell::new(), oci_config, challenge, plain_http })
    }

    fn clients(&self) -> Result<(reqwest::Client, ClientConfig), Failure> {
        certificates::install_provider();
        let options = &self.context.options;
        let mut extra = certificates::extra(&self.name, &options.authorities, &options.certificate_folders)
            .map_err(|error| Failure::answer(error.to_string()))?;
        let user_agent = concat!("dpack/", env!("CARGO_PKG_VERSION"));
        let build = |roots: &[oci_client::client::Certificate], only: bool| {
            let mut builder = reqwest::Client::builder()
                .user_agent(user_agent)
                .connect_timeout(options.connect_timeout)
                .read_timeout(options.read_timeout);
            if reference::is_loopback(&self.name) {
                builder = builder.no_proxy();
            }
            let roots: Vec<_> = roots.iter().filter_map(|root| root.try_into().ok()).collect();
            builder = if only { builder.tls_certs_only(roots) } else { builder.tls_certs_merge(roots) };
            builder.build()
        };
        let (http, only) = match build(&extra, false) {
            Ok(http) => (http, Vec::new()),
            // The machine has no authorities of its own.
            Err(_) => {
                extra.extend(certificates::built_in());
                let http = build(&extra, true).map_err(|error| Failure::answer(error.to_string()))?;
                (http, std::mem::take(&mut extra))
            }
        };
        // A proxy is on another machine, and knows another loopback. oci-client has no switch for that, but an exception to
        // a proxy that is set explicitly.
        let proxy = reference::is_loopback(&self.name).then(|| "http://127.0.0.1:9".to_owned());
        let host = self.name.rsplit_once(':').map_or(self.name.as_str(), |(host, _)| host);
        let config = ClientConfig {
            http_proxy: proxy.clone(),
            https_proxy: proxy.clone(),
            no_proxy: proxy.map(|_| host.to_owned()),
            tls_certs_only: only,
            extra_root_certificates: extra,
            connect_timeout: Some(options.connect_timeout),
            read_timeout: Some(options.read_timeout),
            user_agent,
            // We renew tokens when the registry refuses them, not when a clock says so.
            default_token_expiration_secs: 24 * 60 * 60,
            ..ClientConfig::default()
        };
        Ok((http, config))
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
        let challenge = match &endpoint.challenge {
            Challenge::None => return Ok(Header::None),
            challenge => challenge,
        };
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
        let header = match (challenge, &credential) {
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
