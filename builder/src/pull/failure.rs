//! One failed request, before it is decided whether to try again.

use std::time::Duration;

use oci_client::errors::{OciDistributionError, OciErrorCode};
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;

use super::Error;
use super::auth::Challenge;
use super::retry::parse_retry_after;

/// How a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// May go away by itself: broken connections, 408, 429, 5xx.
    Transient {
        /// What happened, in a few words.
        reason: String,
        /// Pause the registry asks for.
        retry_after: Option<Duration>,
        /// True when the registry is busy, and so may ask for a pause.
        busy: bool,
    },
    /// 401 or 403, with the challenge of the answer.
    Unauthorized(Challenge),
    /// 404.
    NotFound,
    /// The range asked for is not there (416).
    NoRange,
    /// TLS: the certificate's issuer is unknown.
    UnknownAuthority,
    /// TLS: the certificate is not valid for another reason.
    Certificate(String),
    /// Not TLS at all.
    PlainHttp,
    /// Anything else; trying again would not help.
    Answer(String),
    /// Something on our side, before the registry was asked.
    Ours(Box<Error>),
}

impl Failure {
    /// A permanent failure.
    pub(super) fn answer(text: String) -> Self {
        Failure::Answer(text)
    }

    /// A failure of the connection.
    pub(super) fn transient(reason: impl ToString) -> Self {
        Failure::Transient { reason: reason.to_string(), retry_after: None, busy: false }
    }

    /// Sorts a failed request by its causes.
    pub(super) fn from_reqwest(error: reqwest::Error) -> Self {
        if error.is_builder() || error.is_redirect() {
            return Failure::Answer(innermost(&error));
        }
        match tls_cause(&error) {
            Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
                Failure::UnknownAuthority
            }
            Some(rustls::Error::InvalidCertificate(reason)) => Failure::Certificate(reason.to_string()),
            Some(rustls::Error::InvalidMessage(_)) => Failure::PlainHttp,
            Some(other) => Failure::Answer(format!("a broken TLS handshake: {other}")),
            None if error.is_timeout() => Failure::transient("it did not answer in time"),
            None => Failure::transient(innermost(&error)),
        }
    }

    /// A failure in the middle of an answer.
    pub(super) fn from_stream(error: &std::io::Error) -> Self {
        Failure::transient(format!("the connection broke: {}", innermost(error)))
    }

    /// Sorts a failure of oci-client.
    pub(super) fn from_oci(error: OciDistributionError) -> Self {
        match error {
            OciDistributionError::RequestError(error) => Self::from_reqwest(error),
            OciDistributionError::IoError(error) => Failure::transient(innermost(&error)),
            OciDistributionError::ServerError { code, message, .. } => {
                Self::from_status(code, &message, None)
            }
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => Failure::Unauthorized(Challenge::None),
            OciDistributionError::RegistryError { envelope, .. } => {
                let has =
                    |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
                if has(&[OciErrorCode::Toomanyrequests]) {
                    Self::from_status(429, "", None)
                } else if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    Failure::Unauthorized(Challenge::None)
                } else if has(&[OciErrorCode::BlobUnknown, OciErrorCode::NameUnknown, OciErrorCode::NotFound])
                {
                    Failure::NotFound
                } else {
                    Failure::Answer(envelope.to_string())
                }
            }
            other => Failure::Answer(other.to_string()),
        }
    }

    /// Sorts an answer by its status.
    pub(super) fn from_status(code: u16, message: &str, retry_after: Option<Duration>) -> Self {
        let status =
            StatusCode::from_u16(code).map_or_else(|_| code.to_string(), |status| status.to_string());
        match code {
            401 | 403 => Failure::Unauthorized(Challenge::None),
            404 => Failure::NotFound,
            416 => Failure::NoRange,
            408 | 429 | 500..=599 => Failure::Transient {
                reason: format!("it answered {status}"),
                retry_after,
                busy: matches!(code, 429 | 503),
            },
            _ => {
                let message: String = message.chars().filter(|c| !c.is_control()).take(200).collect();
                Failure::Answer(if message.is_empty() { status } else { format!("{status}: {message}") })
            }
        }
    }

    /// Passes a success on.
    pub(super) async fn check_status(response: reqwest::Response) -> Result<reqwest::Response, Self> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let challenge = Challenge::parse(response.headers());
        let retry_after = retry_after(&response);
        match Self::from_status(status.as_u16(), "", retry_after) {
            Failure::Unauthorized(_) => Err(Failure::Unauthorized(challenge)),
            Failure::Answer(_) => {
                let body = super::registry::read_bounded(response, 64 << 10).await.unwrap_or_default();
                Err(Self::from_status(status.as_u16(), &String::from_utf8_lossy(&body), None))
            }
            other => Err(other),
        }
    }
}

/// The pause that an answer asks for.
pub(super) fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    response.headers().get(RETRY_AFTER)?.to_str().ok().and_then(parse_retry_after)
}

/// The first cause, which says most: `Connection refused (os error 111)`.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The TLS error among the causes. An `io::Error` hides what it wraps from `source`, hence the second look.
fn tls_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            return tls_cause(inner);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_go_away_is_transient() {
        for code in [408, 429, 500, 502, 503, 504] {
            assert!(matches!(Failure::from_status(code, "", None), Failure::Transient { .. }), "{code}");
        }
        assert!(matches!(Failure::from_status(429, "", None), Failure::Transient { busy: true, .. }));
        assert!(matches!(Failure::from_status(404, "", None), Failure::NotFound));
        assert!(matches!(Failure::from_status(403, "", None), Failure::Unauthorized(_)));
        let Failure::Answer(text) = Failure::from_status(418, "tea\x1b[31m", None) else { panic!() };
        assert_eq!(text, "418 I'm a teapot: tea[31m");
    }
}
