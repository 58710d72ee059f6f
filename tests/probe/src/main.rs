//! `probe`: a static program for the inside of a container. It reports what it sees, and does the few things that tests
//! want done there. Everything it knows comes from the standard library and `/proc`, so it runs in an empty image.
//!
//! ```text
//! probe                          report as JSON
//! probe serve PORT               HTTP: / the report, /get/HOST/PORT/PATH fetches that and passes it on
//! probe get HOST PORT PATH       fetches http://HOST:PORT/PATH
//! probe outside ADDRESS          plays the outside of a device at an address: who asks on UDP port 7 is told who he is, and by DNS
//!                                known.example has the address
//! probe ask HOST PORT            sends a datagram and prints what comes back
//! probe write PATH TEXT          appends a line to a file, and syncs it
//! probe read PATH                prints a file
//! probe lines COUNT MILLISECONDS prints numbered lines, the even ones on standard error
//! probe attack PATH WORD SECONDS looks for ways to a file of the device with this word in it
//! probe key NAME WORD COMMAND...  runs a command with such a key in a new session keyring, and its serial number in $KEY
//! probe reach NAME WORD SERIAL PID...  tries to read that key, and to get at these processes
//! probe calls                    what becomes of each system call, as JSON
//! probe call NUMBER              makes one; the exit status is its error
//! probe exit STATUS
//! probe wait                     until it is killed
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]

mod attack;
mod calls;
mod http;
mod outside;
mod reach;
mod report;

use std::fs::OpenOptions;
use std::io::{Error, Result, Write};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("probe: {error}");
            ExitCode::from(99)
        }
    }
}

fn run(arguments: &[&str]) -> Result<u8> {
    match arguments {
        [] => println!("{:#}", report::report()),
        ["serve", port] => http::serve(number(port)?)?,
        ["get", host, port, path] => print!("{}", http::get(host, number(port)?, path)?),
        ["outside", address] => outside::serve(address.parse().map_err(Error::other)?)?,
        ["ask", host, port] => println!("{}", outside::ask(host, number(port)?)?),
        ["write", path, text] => {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(file, "{text}")?;
            file.sync_all()?;
        }
        ["read", path] => print!("{}", std::fs::read_to_string(path)?),
        ["lines", count, pause] => lines(number(count)?, Duration::from_millis(number(pause)?)),
        ["attack", path, word, seconds] => {
            attack::attack(path, word, Duration::from_secs(number(seconds)?));
        }
        ["key", name, word, command @ ..] => return Err(reach::with_key(name, word, command)),
        ["reach", name, word, serial, processes @ ..] => {
            let processes = processes.iter().copied().map(number).collect::<Result<Vec<_>>>()?;
            reach::reach(name, word, number(serial)?, &processes)?;
        }
        ["calls"] => println!("{:#}", calls::table()?),
        ["call", call] => return Ok(calls::call(number(call)?)),
        ["exit", status] => return number(status),
        ["wait"] => loop {
            std::thread::park();
        },
        other => return Err(Error::other(format!("unknown command {other:?}"))),
    }
    Ok(0)
}

fn lines(count: u64, pause: Duration) {
    for line in 1..=count {
        if line % 2 == 0 {
            eprintln!("line {line}");
        } else {
            println!("line {line}");
        }
        std::thread::sleep(pause);
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::other(format!("`{text}` is not a number of the right size")))
}
