//! Just enough HTTP/1.0 to be asked and to ask.

use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::report;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Answers requests on every address, for ever.
pub(crate) fn serve(port: u16) -> Result<()> {
    // one that listens on :: would not do: a container may have no IPv6
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("listening on {port}");
    for connection in listener.incoming() {
        let connection = connection?;
        std::thread::spawn(move || {
            if let Err(error) = answer(connection) {
                eprintln!("probe: {error}");
            }
        });
    }
    Ok(())
}

fn answer(mut connection: TcpStream) -> Result<()> {
    connection.set_read_timeout(Some(TIMEOUT))?;
    let mut request = String::new();
    let mut reader = BufReader::new(connection.try_clone()?.take(8192));
    reader.read_line(&mut request)?;
    let mut header = String::from("-");
    while !header.trim().is_empty() {
        header.clear();
        reader.read_line(&mut header)?;
    }
    let path = request.split(' ').nth(1).unwrap_or("/");
    let parts: Vec<&str> = path.trim_start_matches('/').splitn(4, '/').collect();
    let (status, body) = match parts[..] {
        [""] => ("200 OK", format!("{:#}\n", report::report())),
        ["get", host, port, path] => {
            match port.parse().map_err(Error::other).and_then(|port| get(host, port, path)) {
                Ok(body) => ("200 OK", body),
                Err(error) => ("502 Bad Gateway", format!("{error}\n")),
            }
        }
        _ => ("404 Not Found", String::from("no such page\n")),
    };
    write!(connection, "HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Fetches a page; any status but 200 is an error.
pub(crate) fn get(host: &str, port: u16, path: &str) -> Result<String> {
    let mut connection = connect(host, port)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    write!(connection, "GET /{} HTTP/1.0\r\nHost: {host}\r\n\r\n", path.trim_start_matches('/'))?;
    let mut response = Vec::new();
    connection.read_to_end(&mut response)?;
    let response = String::from_utf8_lossy(&response).into_owned();
    let (head, body) = response.split_once("\r\n\r\n").ok_or_else(|| Error::other("no HTTP response"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(Error::other(format!("{}: {body}", head.lines().next().unwrap_or_default()))),
    }
}

fn connect(host: &str, port: u16) -> Result<TcpStream> {
    let mut last = Error::other(format!("`{host}` has no address"));
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}
