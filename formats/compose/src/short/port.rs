//! `ports` in short form: `[[IP:][PUBLISHED]:]TARGET[/PROTOCOL]`, ports being numbers or ranges.

use std::net::IpAddr;

/// One published port of a short form; ranges are already spread out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShortPort {
    pub(crate) host_ip: Option<String>,
    /// A number, or a range to choose from when many ports stand before one target.
    pub(crate) published: Option<String>,
    pub(crate) target: u16,
    pub(crate) protocol: String,
}

/// Reads a short form.
pub(crate) fn parse(text: &str) -> Result<Vec<ShortPort>, String> {
    let (addresses, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (before, target) = match addresses.rsplit_once(':') {
        Some((before, target)) => (Some(before), target),
        None => (None, addresses),
    };
    let (host_ip, published) = match before.map(|before| before.rsplit_once(':').unwrap_or(("", before))) {
        Some((host_ip, published)) => (address(host_ip)?, published),
        None => (None, ""),
    };
    let targets = range(target)?;
    let count = targets.end() - targets.start();
    let entry = |published: Option<String>, target: u16| ShortPort {
        host_ip: host_ip.clone(),
        published,
        target,
        protocol: protocol.to_ascii_lowercase(),
    };
    if published.is_empty() {
        return Ok(targets.map(|target| entry(None, target)).collect());
    }
    let hosts = range(published)?;
    let host_count = hosts.end() - hosts.start();
    if host_count == count {
        return Ok(hosts.zip(targets).map(|(host, target)| entry(Some(host.to_string()), target)).collect());
    }
    if count == 0 {
        return Ok(vec![entry(Some(published.to_owned()), *targets.start())]);
    }
    let (hosts, targets) = (u32::from(host_count) + 1, u32::from(count) + 1);
    Err(format!("the range `{published}` has {hosts} ports, the range `{target}` has {targets}"))
}

/// The address before the ports; IPv6 stands in brackets.
fn address(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner.unwrap_or(text).parse::<IpAddr>() {
        Ok(ip) if ip.is_ipv4() || inner.is_some() => Ok(Some(inner.unwrap_or(text).to_owned())),
        Ok(_) => Err(format!("put the IPv6 address in brackets: `[{text}]`")),
        Err(_) => Err(format!("`{text}` is not an IP address")),
    }
}

/// `8080` or `8080-8090`.
pub(crate) fn range(text: &str) -> Result<std::ops::RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(format!("the range `{text}` ends before it starts"));
    }
    Ok(first..=last)
}

fn number(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ if digits => Err(format!("port {text} is out of range, ports go up to 65535")),
        _ => Err(format!("`{text}` is not a port number")),
    }
}
