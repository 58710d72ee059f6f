//! The protocol of `docker-credential-*`: `get` takes a registry on stdin and answers with JSON on stdout.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::{Credential, Error};

/// User name by which a helper says that its secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks helper `docker-credential-<helper>` about `key`; `None` when it has nothing.
pub(super) fn get(helper: &str, key: &str) -> Result<Option<Credential>, Error> {
    let error =
        |reason: String| Error::Helper { helper: helper.to_owned(), registry: key.to_owned(), reason };
    if helper.contains(['/', '\\']) {
        return Err(error("a helper's name has no slash".to_owned()));
    }
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| error(format!("it cannot be run: {source}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that exits without reading breaks the pipe; what it says then is more useful than that.
        let _ = stdin.write_all(key.as_bytes());
    }
    let output = child.wait_with_output().map_err(|source| error(source.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let text = text.trim();
        // The one error that docker-credential-helpers defines as "not an error".
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(error(if text.is_empty() {
            output.status.to_string()
        } else {
            text.chars().take(200).collect()
        }));
    }
    parse(&text).map_err(error)
}

fn parse(text: &str) -> Result<Option<Credential>, String> {
    let answer: Answer =
        serde_json::from_str(text).map_err(|_| "its answer is not a JSON credential".to_owned())?;
    Ok(match answer {
        Answer { secret, .. } if secret.is_empty() => None,
        Answer { username, secret } if username == TOKEN_USER => Some(Credential::IdentityToken(secret)),
        Answer { username, secret } => Some(Credential::Basic { username, password: secret }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_credentials() {
        assert_eq!(
            parse(r#"{"ServerURL": "r", "Username": "u", "Secret": "s"}"#),
            Ok(Some(Credential::Basic { username: "u".into(), password: "s".into() }))
        );
        assert_eq!(
            parse(r#"{"ServerURL": "r", "Username": "<token>", "Secret": "t"}"#),
            Ok(Some(Credential::IdentityToken("t".into())))
        );
        assert_eq!(parse(r#"{"ServerURL": "r", "Username": "", "Secret": ""}"#), Ok(None));
        assert!(parse("no").is_err());
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let error = get("dpack-none", "r.example").unwrap_err().to_string();
        assert!(error.contains("docker-credential-dpack-none") && error.contains("r.example"), "{error}");
        assert!(get("../../tmp/x", "r").unwrap_err().to_string().contains("slash"));
    }
}
