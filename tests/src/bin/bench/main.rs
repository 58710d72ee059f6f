//! `bench`: ratios between dpack and its peers, measured in one run on one machine. `cargo xtask bench` starts it.
//!
//! ```text
//! one module per benchmark      start, first_start, many, size, build, memory, network, storage
//!   └─> race                    contenders take turns: A B C A B C …
//!         └─> peers             inside a root where the peers are installed, by ourselves as its agent
//!   └─> report                  rows with ratio and aim, as a table or as JSON
//! ```
//!
//! A time that misses its aim fails nothing: machines differ, and a busy one says little. Only what does not work fails.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]

mod application;
mod build;
mod first_start;
mod image;
mod load;
mod many;
mod memory;
mod network;
mod options;
mod peers;
mod race;
mod report;
mod size;
mod start;
mod storage;

use std::process::ExitCode;

use anyhow::Result;

use options::Options;
use peers::Peers;
use report::Report;

/// What every benchmark gets.
struct Context {
    options: Options,
    peers: Peers,
}

type Benchmark = fn(&Context, &mut Report) -> Result<()>;

/// In the order in which they are run and printed.
const BENCHMARKS: &[(&str, Benchmark)] = &[
    ("start", start::run),
    ("first-start", first_start::run),
    ("many", many::run),
    ("build", build::run),
    ("memory", memory::run),
    ("size", size::run),
    ("network", network::run),
    ("storage", storage::run),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, plan] = &arguments[..]
        && word == race::AGENT
    {
        return race::agent(plan);
    }
    if let [word, load @ ..] = &arguments[..]
        && word == load::LOAD
    {
        return load::run(load);
    }
    let options = Options::parse(arguments, BENCHMARKS.iter().map(|(name, _)| *name))?;
    let context = Context { peers: Peers::prepare()?, options };
    let mut report = Report::default();
    for (name, benchmark) in BENCHMARKS {
        if context.options.wants(name) {
            eprintln!("bench: {name}");
            // what went wrong in one is part of the report; the others are still worth knowing
            if let Err(error) = benchmark(&context, &mut report) {
                report.fail(name, &error);
            }
        }
    }
    match context.options.json {
        true => println!("{}", report.to_json()?),
        false => print!("{report}"),
    }
    report.into_result()
}
