//! `cargo xtask test`: everything a change has to pass, and one line at the end that says so.
//!
//! A step that fails does not keep the others from running, unless they need it.

use std::io::{self, BufRead, BufReader};
use std::ops::AddAssign;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::{check, process, setup, sizes, stubs, workspace};

/// Runs everything; with a filter, only the tests whose name has it.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    let mut summary = Summary::default();
    setup::everything()?;
    if filter.is_none() {
        summary.step("formatting and lints", check::format_and_lint());
        summary.step("documentation", check::documentation());
        summary.step("dependency policy", check::dependencies());
    }

    // two cargos, two target folders: while one links with a single thread, the other compiles
    let (built, unit) = std::thread::scope(|scope| {
        let building = scope.spawn(|| stubs::build(&[]).and_then(|()| stubs::build_probes()));
        let unit = cargo_test(&["--workspace", "--exclude", "dpack-tests"], filter, None);
        (building.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the build panicked"))), unit)
    });
    summary.tests("unit tests", unit);
    let built = built.and_then(|()| {
        process::run(workspace::cargo()?.args(["build", "--quiet", "--locked", "--release", "-p", "dpack"]))
    });
    if summary.step("building the stubs and dpack", built) {
        if filter.is_none() {
            summary.step("stub sizes", sizes::compare());
        }
        let skipped = workspace::root()?.join("target/skipped-tests");
        // there is none after the first run, and none when nothing was skipped
        let _ = std::fs::remove_file(&skipped);
        summary.tests("integration tests", cargo_test(&["-p", "dpack-tests"], filter, Some(&skipped)));
    }
    summary.close()
}

/// Numbers of `cargo test`, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// What `cargo test` said: numbers, and the lines about the tests that failed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    counts: Counts,
    failures: Vec<String>,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

#[derive(Default)]
struct Summary {
    outcome: Outcome,
    complaints: Vec<String>,
}

impl Summary {
    /// Notes how a step ended; one that failed counts like a failed test.
    fn step(&mut self, what: &str, result: Result<()>) -> bool {
        let Err(error) = result else { return true };
        eprintln!("xtask: {what}: {error:#}");
        self.complaints.push(what.to_owned());
        self.outcome.counts.failed += 1;
        false
    }

    fn tests(&mut self, what: &str, result: Result<Outcome>) {
        match result {
            Ok(Outcome { counts, failures }) => {
                self.outcome.counts += counts;
                self.outcome.failures.extend(failures);
                if counts.failed > 0 {
                    self.complaints.push(what.to_owned());
                }
            }
            Err(error) => {
                self.step(what, Err(error));
            }
        }
    }

    /// Repeats what failed, which is far above by now, and prints the numbers.
    fn close(self) -> Result<()> {
        let Outcome { counts: Counts { passed, failed, skipped }, failures } = self.outcome;
        for line in failures {
            println!("{line}");
        }
        let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
        println!("\n{passed} passed, {failed} failed{skipped}");
        if !self.complaints.is_empty() {
            bail!("failed: {}", self.complaints.join(", "));
        }
        Ok(())
    }
}

/// Runs `cargo test`, passes its output on and counts. Fails when tests did not even run.
fn cargo_test(arguments: &[&str], filter: Option<&str>, skips: Option<&Path>) -> Result<Outcome> {
    let mut cargo = workspace::cargo()?;
    cargo.args(["test", "--quiet", "--locked", "--no-fail-fast"]).args(arguments).args(filter);
    // the message names the place; the calls that led there would bury it
    cargo.env("RUST_BACKTRACE", "0");
    if let Some(skips) = skips {
        cargo.env("DPACK_TEST_SKIPPED", skips);
        cargo.env("DPACK_TEST_BINARY", workspace::release_folder()?.join("dpack"));
    }
    let mut child = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start `{}`", process::describe(&cargo)))?;
    let output = child.stdout.take().context("cargo's output is piped")?;
    let lines = BufReader::new(output).lines().map(|line| line.inspect(|line| println!("{line}")));
    let mut outcome = read(lines)?;
    // cargo fails for a test that does not compile, too, and then no test failed
    if !child.wait()?.success() && outcome.counts.failed == 0 {
        bail!("`{}` failed without a failed test", process::describe(&cargo));
    }
    let noted = skips.and_then(|skips| std::fs::read_to_string(skips).ok()).unwrap_or_default();
    print!("{noted}");
    let noted = noted.lines().count() as u64;
    // the harness counts a test that returned early as passed
    outcome.counts.passed = outcome.counts.passed.saturating_sub(noted);
    outcome.counts.skipped += noted;
    Ok(outcome)
}

/// Reads the output of the test harness, of one test program after the other.
fn read(lines: impl Iterator<Item = io::Result<String>>) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut in_failures = false;
    for line in lines {
        let line = line?;
        let result = result_line(&line);
        // a section for each test that failed, between this line and the result
        in_failures = (in_failures || line == "failures:") && result.is_none();
        outcome.counts += result.unwrap_or_default();
        if in_failures {
            outcome.failures.push(line);
        }
    }
    Ok(outcome)
}

/// Reads `test result: ok. 6 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s`.
fn result_line(line: &str) -> Option<Counts> {
    let numbers = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |name: &str| -> Option<u64> {
        numbers
            .split("; ")
            .find_map(|part| part.strip_suffix(name))
            .and_then(|number| number.trim().parse().ok())
    };
    Some(Counts { passed: number(" passed")?, failed: number(" failed")?, skipped: number(" ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted_and_others_are_not() {
        let line = "test result: FAILED. 6 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.02s";
        assert_eq!(result_line(line), Some(Counts { passed: 6, failed: 2, skipped: 1 }));
        assert_eq!(result_line("running 6 tests"), None);
        assert_eq!(result_line("test result: unknown"), None);
    }

    #[test]
    fn what_is_said_of_failed_tests_is_kept() {
        let output = "running 1 test\n.\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
            running 2 tests\n.F\nfailures:\n\n---- it stdout ----\nleft: 1\n\n\nfailures:\n    it\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let outcome = read(output.lines().map(|line| Ok(line.to_owned()))).unwrap();
        assert_eq!(outcome.counts, Counts { passed: 2, failed: 1, skipped: 0 });
        assert_eq!(
            outcome.failures.join("\n"),
            "failures:\n\n---- it stdout ----\nleft: 1\n\n\nfailures:\n    it\n"
        );
    }
}
