//! Clients and a server of small exchanges, played by this program inside the peers' root: what is told is one number, or two.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The argument that makes this program one of them.
pub(crate) const LOAD: &str = "--load";

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Clients that connect at the same time.
const CLIENTS: usize = 4;

/// `serve PORT`, `connect ADDRESS COUNT`, `latency ADDRESS COUNT`, `hold ADDRESS COUNT`.
#[expect(clippy::print_stdout, reason = "the number that was asked for")]
pub(crate) fn run(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", port] => serve(port.parse()?)?,
        ["connect", address, count] => println!("{:.1}", connect(address.parse()?, count.parse()?)?),
        ["latency", address, count] => {
            let (middle, late) = latency(address.parse()?, count.parse()?)?;
            println!("{middle:.7} {late:.7}");
        }
        ["hold", address, count] => hold(address.parse()?, count.parse()?)?,
        _ => bail!("no load like {words:?}"),
    }
    Ok(())
}

/// Answers every request of every connection.
fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let answer = move || -> std::io::Result<()> {
            let mut request = [0; REQUEST.len()];
            stream.set_nodelay(true)?;
            loop {
                stream.read_exact(&mut request)?;
                stream.write_all(ANSWER)?;
            }
        };
        thread::Builder::new().stack_size(64 * 1024).spawn(answer)?;
    }
    Ok(())
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(REQUEST)?;
    let mut answer = [0; ANSWER.len()];
    stream.read_exact(&mut answer).context("the server gave up")?;
    if answer != ANSWER {
        bail!("the answer is wrong");
    }
    Ok(())
}

/// Connections a second, each with one exchange.
fn connect(address: SocketAddr, count: usize) -> Result<f64> {
    let begin = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            thread::spawn(move || {
                (0..count / CLIENTS).try_for_each(|_| exchange(&mut TcpStream::connect(address)?))
            })
        })
        .collect();
    for client in clients {
        client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    Ok((count / CLIENTS * CLIENTS) as f64 / begin.elapsed().as_secs_f64())
}

/// Seconds of an exchange over one connection: median, and the 99th of a hundred.
fn latency(address: SocketAddr, count: usize) -> Result<(f64, f64)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        exchange(&mut stream)?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let at = |hundredth: usize| times.get(count * hundredth / 100).copied().unwrap_or(f64::NAN);
    Ok((at(50), at(99)))
}

/// Keeps connections, each after one exchange, until it is killed.
fn hold(address: SocketAddr, count: usize) -> Result<()> {
    let kept = (0..count).map(|_| {
        let mut stream = TcpStream::connect(address)?;
        exchange(&mut stream)?;
        Ok(stream)
    });
    let _kept = kept.collect::<Result<Vec<_>>>()?;
    std::fs::write("/tmp/dpack-bench-held", b"")?;
    thread::sleep(Duration::from_secs(600));
    Ok(())
}
