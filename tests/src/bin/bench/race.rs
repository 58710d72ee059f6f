//! A race: contenders take turns, each measured from start to end of a whole process.
//!
//! Turns are taken A B C A B C, so that a machine that gets busy slows all of them, and ratios are made within a round.
//! The plan is data: it is written as JSON, and an agent inside the peers' root carries it out as root, because file
//! systems have to be mounted between turns. What is measured runs as the ordinary user.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// The argument that makes this program the agent.
pub(crate) const AGENT: &str = "--agent";

/// The ordinary user in the peers' root.
pub(crate) const USER: u32 = 1500;

/// Stands for the number of the round, in any argument and variable.
pub(crate) const ROUND: &str = "{round}";

/// A command line and who runs it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    line: Vec<String>,
    environment: Vec<(String, String)>,
    root: bool,
}

impl Step {
    /// A command of the ordinary user.
    pub(crate) fn user<S: Into<String>>(line: impl IntoIterator<Item = S>) -> Self {
        let line = line.into_iter().map(Into::into).collect();
        Self { line, environment: Vec::new(), root: false }
    }

    /// A shell script that root runs.
    pub(crate) fn root(script: impl Into<String>) -> Self {
        Self { root: true, ..Self::user(["sh".to_owned(), "-ec".to_owned(), script.into()]) }
    }

    /// A shell script that the ordinary user runs.
    pub(crate) fn script(script: impl Into<String>) -> Self {
        Self::user(["sh".to_owned(), "-ec".to_owned(), script.into()])
    }

    /// So many of it at once; `$NUMBER` tells them apart. Fails when one of them does.
    pub(crate) fn at_once(mut self, count: usize) -> Self {
        const SCRIPT: &str = "count=$1; shift; pids=; NUMBER=0; export NUMBER
            while [ $NUMBER -lt $count ]; do \"$@\" & pids=\"$pids $!\"; NUMBER=$((NUMBER + 1)); done
            for pid in $pids; do wait $pid; done";
        let before = ["sh", "-ec", SCRIPT, "sh", &count.to_string()].map(str::to_owned);
        self.line.splice(0..0, before);
        self
    }

    /// The same with a variable in its environment.
    pub(crate) fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }
}

/// Somebody who takes part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Contender {
    before: Vec<Step>,
    timed: Step,
    after: Vec<Step>,
}

impl Contender {
    /// What is measured.
    pub(crate) fn new(timed: Step) -> Self {
        Self { before: Vec::new(), timed, after: Vec::new() }
    }

    /// What is done before each turn, unmeasured.
    pub(crate) fn before(mut self, step: Step) -> Self {
        self.before.push(step);
        self
    }

    /// What is done after each turn, unmeasured.
    pub(crate) fn after(mut self, step: Step) -> Self {
        self.after.push(step);
        self
    }
}

/// The whole plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Race {
    pub(crate) rounds: u32,
    pub(crate) contenders: Vec<Contender>,
}

/// One turn of one contender.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// From start to end.
    pub(crate) seconds: f64,
    /// Processor time of the command and of everything it waited for.
    pub(crate) processor_seconds: f64,
}

impl Sample {
    /// What each of so many had of it.
    pub(crate) fn shared(&self, count: usize) -> Self {
        let share = |seconds: f64| seconds / count as f64;
        Self { seconds: share(self.seconds), processor_seconds: share(self.processor_seconds) }
    }
}

/// What came out: `samples[contender][round]`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Vec<Sample>>,
    /// Resident memory of the largest process in the race, in bytes.
    pub(crate) peak_memory: u64,
}

/// Carries out a plan and prints the outcome: what the agent does.
#[expect(clippy::print_stdout, reason = "the other side of the pipe reads it")]
pub(crate) fn agent(plan: &str) -> Result<()> {
    let race: Race = serde_json::from_str(plan).context("the plan of a race")?;
    let mut outcome = Outcome { samples: vec![Vec::new(); race.contenders.len()], peak_memory: 0 };
    for round in 0..race.rounds {
        for (contender, samples) in race.contenders.iter().zip(&mut outcome.samples) {
            for step in &contender.before {
                run(step, round)?;
            }
            let timed = run(&contender.timed, round);
            // a failed turn is cleaned up too, as far as that works
            let cleaned = contender.after.iter().map(|step| run(step, round)).collect::<Vec<_>>();
            samples.push(timed?);
            cleaned.into_iter().collect::<Result<Vec<_>>>()?;
        }
    }
    // in KiB (getrusage(2))
    outcome.peak_memory = u64::try_from(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())? * 1024;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn run(step: &Step, round: u32) -> Result<Sample> {
    let number = round.to_string();
    let fill = |text: &String| text.replace(ROUND, &number);
    let line: Vec<String> = step.line.iter().map(fill).collect();
    // a file and no pipe: what goes on in the background would keep a pipe open
    let complaints = tempfile::NamedTempFile::new()?;
    let mut command = Command::new(line.first().context("an empty command line")?);
    command
        .args(&line[1..])
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", "/home/dev")
        .env("XDG_RUNTIME_DIR", format!("/run/user/{USER}"))
        .env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
        .envs(step.environment.iter().map(|(name, value)| (name, fill(value))))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(complaints.path())?);
    if !step.root {
        command.uid(USER).gid(USER);
    }
    let processor = processor_seconds()?;
    let start = Instant::now();
    let status = command.status().with_context(|| format!("failed to start `{}`", line[0]))?;
    let seconds = start.elapsed().as_secs_f64();
    if !status.success() {
        let complaints = std::fs::read_to_string(complaints.path())?;
        bail!("`{}` failed with {status}\n{}", line.join(" "), complaints.trim_end());
    }
    Ok(Sample { seconds, processor_seconds: processor_seconds()? - processor })
}

fn processor_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_that_fails_fails_all() {
        let ends = |script: &str| {
            let step = Step::script(script).at_once(5);
            Command::new(&step.line[0]).args(&step.line[1..]).status().unwrap().success()
        };
        assert!(ends("[ $NUMBER -lt 5 ]"));
        assert!(!ends("[ $NUMBER != 3 ]"));
    }

    #[test]
    fn a_plan_survives_its_journey() {
        let contender = Contender::new(Step::user(["true"]).environment("A", ROUND))
            .before(Step::root("mount x"))
            .after(Step::script("exit 0"));
        let text = serde_json::to_string(&Race { rounds: 3, contenders: vec![contender] }).unwrap();
        let race: Race = serde_json::from_str(&text).unwrap();
        assert_eq!((race.rounds, race.contenders.len()), (3, 1));
        let contender = &race.contenders[0];
        assert!(!contender.timed.root && contender.before[0].root && !contender.after[0].root);
        assert_eq!(contender.timed.environment, [("A".to_owned(), ROUND.to_owned())]);
    }
}
