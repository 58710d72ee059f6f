//! Reaching a registry: with TLS or without, through which proxy, by which authorities.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use reqwest::StatusCode;
use tokio::sync::OnceCell;

use super::auth::Challenge;
use super::failure::Failure;
use super::retry::Backoff;
use super::{Error, certificates, reference};

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

/// How one registry is reached.
pub(super) struct Endpoint {
    /// Scheme and host.
    pub(super) base: String,
    pub(super) http: reqwest::Client,
    /// Made for the first blob: a build that finds all it needs in the cache does without.
    pub(super) oci: OnceCell<oci_client::Client>,
    pub(super) oci_config: Mutex<Option<ClientConfig>>,
    /// What the registry asks for, as far as it is known.
    pub(super) challenge: Mutex<Challenge>,
    pub(super) plain_http: bool,
}

impl Endpoint {
    /// Finds out whether the registry speaks TLS and what it asks for.
    pub(super) async fn connect(name: &str, options: &Options) -> Result<Self, Failure> {
        let host = if name == "docker.io" { "index.docker.io" } else { name };
        let may_be_plain = reference::is_loopback(name) || options.insecure.contains(name);
        let (http, oci_config) = clients(name, options, may_be_plain)?;
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
        Ok(Endpoint {
            base,
            http,
            oci: OnceCell::new(),
            oci_config,
            challenge: Mutex::new(challenge),
            plain_http,
        })
    }
}

/// The HTTP client, and how oci-client makes its own just like it.
fn clients(
    name: &str,
    options: &Options,
    may_be_plain: bool,
) -> Result<(reqwest::Client, ClientConfig), Failure> {
    certificates::install_provider();
    let mut extra = certificates::extra(name, &options.authorities, &options.certificate_folders)
        .map_err(|error| Failure::Ours(Box::new(error)))?;
    let user_agent = concat!("dpack/", env!("CARGO_PKG_VERSION"));
    let build = |roots: &[oci_client::client::Certificate], only: bool| {
        let mut builder = reqwest::Client::builder()
            .user_agent(user_agent)
            // No redirection takes a token to where anybody can read it.
            .https_only(!may_be_plain)
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.read_timeout);
        if reference::is_loopback(name) {
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
            let http = build(&extra, true)
                .map_err(|error| Failure::Ours(Box::new(Error::Client(error.to_string()))))?;
            (http, std::mem::take(&mut extra))
        }
    };
    // A proxy is on another machine, and knows another loopback. oci-client has no switch for that, but an exception to
    // a proxy that is set explicitly.
    let proxy = reference::is_loopback(name).then(|| "http://127.0.0.1:9".to_owned());
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
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
