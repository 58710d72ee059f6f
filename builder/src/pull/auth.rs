//! Showing who we are: a registry's challenge, and the token that answers it.
//!
//! Docker's token protocol (distribution/spec/auth): a 401 names a realm; the realm gives a token for one repository, by
//! user name and password, by refresh token (OAuth2), or to anybody. oci-client has only the first and the last, and
//! reports no failures, so the exchange is done here; its result is handed to oci-client.

use http_auth::parser::ChallengeParser;
use reqwest::Url;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::failure::Failure;
use crate::credentials::Credential;

/// Largest answer of a token server.
const TOKEN_LIMIT: u64 = 1 << 20;

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Nothing.
    None,
    /// User name and password with each request.
    Basic,
    /// A token from another server.
    Bearer {
        /// The token server.
        realm: String,
        /// Name of the registry, as the token server knows it.
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads the `WWW-Authenticate` headers of an answer; a token is preferred over a password.
    pub(super) fn parse(headers: &HeaderMap) -> Self {
        let mut found = Challenge::None;
        for value in headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()) {
            for challenge in ChallengeParser::new(value).map_while(Result::ok) {
                let parameter = |name: &str| {
                    let mut all = challenge.params.iter();
                    all.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("bearer")
                    && let Some(realm) = parameter("realm")
                {
                    return Challenge::Bearer { realm, service: parameter("service") };
                }
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    found = Challenge::Basic;
                }
            }
        }
        found
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// Fetches a token that may pull `repository`.
pub(super) async fn fetch_token(
    http: &reqwest::Client,
    challenge: (&str, Option<&str>),
    repository: &str,
    credential: Option<&Credential>,
    plain_http: bool,
) -> Result<String, Failure> {
    let (realm, service) = challenge;
    let mut url = Url::parse(realm)
        .map_err(|error| Failure::answer(format!("a token realm that is no URL: {realm}: {error}")))?;
    // A registry behind TLS must not make us send a password in the clear.
    if url.scheme() != "https" && !plain_http {
        return Err(Failure::answer(format!("a token realm without TLS: {realm}")));
    }
    let scope = format!("repository:{repository}:pull");
    let mut parameters = vec![("scope", scope.as_str())];
    if let Some(service) = service {
        parameters.push(("service", service));
    }
    let request = match credential {
        Some(Credential::IdentityToken(token)) => {
            parameters.extend([
                ("grant_type", "refresh_token"),
                ("refresh_token", token.as_str()),
                ("client_id", "dpack"),
            ]);
            http.post(url).form(&parameters)
        }
        Some(Credential::Basic { username, password }) => {
            url.query_pairs_mut().extend_pairs(&parameters);
            http.get(url).basic_auth(username, Some(password))
        }
        None => {
            url.query_pairs_mut().extend_pairs(&parameters);
            http.get(url)
        }
    };
    let response = request.send().await.map_err(Failure::from_reqwest)?;
    let response = Failure::check_status(response).await?;
    let bytes = super::registry::read_bounded(response, TOKEN_LIMIT).await?;
    let answer: TokenAnswer = serde_json::from_slice(&bytes)
        .map_err(|_| Failure::answer("its token server's answer is not a token".to_owned()))?;
    answer
        .token
        .or(answer.access_token)
        .filter(|token| !token.is_empty())
        .ok_or_else(|| Failure::answer("its token server gave no token".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_in_any_order_and_spelling() {
        let bearer = |service: Option<&str>| Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: service.map(str::to_owned),
        };
        for (headers, expected) in [
            (vec![], Challenge::None),
            (vec![r#"Basic realm="Registry""#], Challenge::Basic),
            (vec![r#"Bearer realm="https://auth.example/token",service="r""#], bearer(Some("r"))),
            (vec![r#"bearer Service="r", Realm="https://auth.example/token", scope="x""#], bearer(Some("r"))),
            (vec![r#"Basic realm="a""#, r#"Bearer realm="https://auth.example/token""#], bearer(None)),
            (vec![r#"Basic realm="a", Bearer realm="https://auth.example/token""#], bearer(None)),
            (vec![r#"Bearer service="r""#], Challenge::None),
            (vec!["\"nonsense"], Challenge::None),
        ] {
            let mut map = HeaderMap::new();
            for header in &headers {
                map.append(WWW_AUTHENTICATE, header.parse().unwrap());
            }
            assert_eq!(Challenge::parse(&map), expected, "{headers:?}");
        }
    }
}
