//! Two services in one static program, so that the demo's images need nothing but this file.
//!
//! ```text
//! browser ── hello web 8080 counter:7000 ── hello counter 7000 /data/visits
//! ```

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]

use std::fs;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["web", port, counter] => serve(port, |stream| page(stream, counter)),
        ["counter", port, file] => serve(port, |stream| count(stream, file)),
        _ => Err(Error::new(
            ErrorKind::InvalidInput,
            "usage: hello web PORT COUNTER | hello counter PORT FILE",
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hello: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers one connection after the other; a bad one does not end the service.
fn serve(port: &str, mut answer: impl FnMut(TcpStream) -> Result<()>) -> Result<()> {
    let port: u16 = port.parse().map_err(Error::other)?;
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("listening on port {port}");
    for stream in listener.incoming() {
        let stream = stream?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        if let Err(error) = answer(stream) {
            eprintln!("request failed: {error}");
        }
    }
    Ok(())
}

/// One HTTP answer, whatever was asked for.
fn page(mut stream: TcpStream, counter: &str) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?.take(8192));
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let (status, body) = match visits(counter) {
        Ok(visits) => ("200 OK", format!("Hello from {}, visitor {visits}\n", std::env::consts::ARCH)),
        Err(error) => ("503 Service Unavailable", format!("the counter does not answer: {error}\n")),
    };
    println!("{status}: {}", body.trim_end());
    write!(
        stream,
        "HTTP/1.0 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn visits(counter: &str) -> Result<String> {
    let stream = TcpStream::connect(counter)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut visits = String::new();
    stream.take(32).read_to_string(&mut visits)?;
    Ok(visits)
}

/// Adds one and says how many. Written aside and renamed: a power cut costs a visitor, not the file.
fn count(mut stream: TcpStream, file: &str) -> Result<()> {
    let before: u64 = match fs::read_to_string(file) {
        Ok(text) => text.trim().parse().map_err(Error::other)?,
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let now = before.saturating_add(1);
    let aside = format!("{file}.new");
    fs::write(&aside, now.to_string())?;
    fs::rename(aside, file)?;
    println!("visitor {now}");
    write!(stream, "{now}")
}
