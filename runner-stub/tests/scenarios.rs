//! The same applications under Docker Compose and here: `scenarios/scenarios.json` has what is run, `scenarios/docker.json`
//! what Docker Engine and Docker Compose made of it (recorded by `ci/record.sh scenarios`, so that Docker is not needed here).
//!
//! What differs on purpose is listed in [`DIFFERENT`], with the reason.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use support::App;

/// Scenarios that run at the same time: most of them wait.
const AT_ONCE: usize = 4;

/// What is different here, by scenario and number of the step, and what it is here.
const DIFFERENT: &[(&str, usize, &str)] = &[
    // A command that cannot be executed is an exit, whose status says why.
    ("bad-command", 1, r#"{"a-1": ["exited", 127, ""]}"#),
    // Columns are as wide as what is in them.
    ("config-parts", 5, r#""NAME   REQUIRED   DEFAULT VALUE   ALTERNATE VALUE\nX      false      one\n""#),
    // Docker says on standard output why it cannot execute something.
    ("exec-flags", 3, r#"{"code": 127, "out": ""}"#),
    // Docker Compose runs `pre_stop` only when it has the Compose file at hand, and not for `stop`.
    ("post-start-pre-stop", 4, r#"{"code": 0, "out": "stopping\n"}"#),
    // What is no output of a container goes to standard error.
    ("up-attach-dependencies", 0, r#""dep\nweb\n""#),
    ("up-attach-dependencies", 1, r#""web\n""#),
    // Docker Compose loses the `ro` of `volumes_from`.
    ("volumes-from", 3, r#"{"code": 1, "out": ""}"#),
];

#[test]
fn every_scenario_goes_as_under_docker() {
    let scenarios: Vec<Value> = serde_json::from_str(include_str!("scenarios/scenarios.json")).unwrap();
    let docker: Map<String, Value> = serde_json::from_str(include_str!("scenarios/docker.json")).unwrap();
    let only = std::env::var("DPACK_SCENARIO").ok();
    let left: Vec<&Value> = scenarios
        .iter()
        .filter(|scenario| only.as_ref().is_none_or(|only| scenario["name"] == only.as_str()))
        .collect();
    assert!(only.is_some() || left.len() >= 100, "{} scenarios", left.len());
    let (left, differences) = (Mutex::new(left), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(scenario) = { left.lock().unwrap().pop() } {
                    let name = scenario["name"].as_str().unwrap();
                    let expected = docker.get(name).unwrap_or_else(|| panic!("`{name}` is not recorded"));
                    let found = compare(scenario, expected);
                    differences.lock().unwrap().extend(found);
                }
            });
        }
    });
    let mut differences = differences.into_inner().unwrap();
    differences.sort();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Runs a scenario; every step that went otherwise than under Docker.
fn compare(scenario: &Value, expected: &Value) -> Vec<String> {
    let name = scenario["name"].as_str().unwrap();
    let mut running = Running::new(scenario);
    let mut differences = Vec::new();
    for (number, step) in scenario["steps"].as_array().unwrap().iter().enumerate() {
        let (result, remark) = running.step(step);
        let known = DIFFERENT.iter().find(|(other, at, _)| *other == name && *at == number);
        let wanted = match known {
            Some((_, _, ours)) => serde_json::from_str(ours).unwrap(),
            None => expected[number].clone(),
        };
        if result != wanted {
            differences.push(format!(
                "{name} step {number} {step}\n  docker: {wanted}\n  here:   {result}\n  {remark}"
            ));
        }
    }
    differences
}

struct Running {
    app: App,
    env: BTreeMap<String, String>,
    ids: BTreeMap<String, Value>,
}

impl Running {
    fn new(scenario: &Value) -> Self {
        let mut content = json!({"services": scenario["services"]});
        for key in ["volumes", "secrets", "configs", "networks"] {
            if let Some(value) = scenario.get(key) {
                content[key] = value.clone();
            }
        }
        let files: BTreeMap<String, String> =
            serde_json::from_value(scenario.get("files").cloned().unwrap_or(json!({}))).unwrap();
        let app = App::with_files(content, &files);
        let env = serde_json::from_value(scenario.get("env").cloned().unwrap_or(json!({}))).unwrap();
        Self { app, env, ids: BTreeMap::new() }
    }

    fn compose(&self, arguments: &[&str]) -> support::Ended {
        self.app.run_with(arguments, &self.env)
    }

    /// Containers by name without the project's.
    fn rows(&self) -> BTreeMap<String, Value> {
        let rows = self.compose(&["ps", "-a", "--format", "json"]).out;
        let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| (row["Name"].as_str().unwrap().trim_start_matches("test-").to_owned(), row)).collect()
    }

    fn events(&self) -> Vec<(String, String)> {
        let out = self.compose(&["events", "--json", "--since", "1970-01-01", "--until", "0s"]).out;
        let events = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        events.map(|event| (text(&event, "service"), text(&event, "action"))).collect()
    }

    fn count(&self, service: &str, action: &str) -> usize {
        self.events().iter().filter(|event| event.0 == service && event.1 == action).count()
    }

    fn step(&mut self, step: &Value) -> (Value, String) {
        if let Some(arguments) = step.as_array() {
            let arguments: Vec<&str> = arguments.iter().map(|argument| argument.as_str().unwrap()).collect();
            let ended = self.compose(&arguments);
            let prints = ["exec", "run", "logs", "wait", "port"].iter().any(|verb| arguments.contains(verb));
            if prints {
                return (json!({"code": ended.code, "out": normal(&ended.out)}), ended.err);
            }
            // Docker Compose has one status for every failure; here it tells the kind.
            let code = ended.code.map(|code| code.min(1));
            return (json!({"code": code, "out": ""}), ended.err);
        }
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (key, value) = step.as_object().unwrap().iter().next().unwrap();
        let result = match key.as_str() {
            "out" | "code" => {
                let arguments: Vec<&str> =
                    value.as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect();
                let ended = self.compose(&arguments);
                let found = if key == "out" { json!(normal(&ended.out)) } else { json!(ended.code) };
                return (found, ended.err);
            }
            "ps" => {
                let state = |row: &Value| json!([row["State"], row["ExitCode"], row["Health"]]);
                self.rows().into_iter().map(|(name, row)| (name, state(&row))).collect()
            }
            "until" => {
                let (name, what) = (text(&value[0]), &value[1]);
                json!(eventually(|| self
                    .rows()
                    .get(&name)
                    .is_some_and(|row| row["State"] == *what || row["Health"] == *what)))
            }
            "events" => {
                let service = text(&value[0]);
                self.events().into_iter().filter(|event| event.0 == service).map(|event| event.1).collect()
            }
            "order" => {
                let action = text(value);
                self.events().into_iter().filter(|event| event.1 == action).map(|event| event.0).collect()
            }
            "count" => json!(self.count(&text(&value[0]), &text(&value[1]))),
            "until-count" => {
                let (service, action) = (text(&value[0]), text(&value[1]));
                json!(eventually(|| self.count(&service, &action) as u64 >= value[2].as_u64().unwrap()))
            }
            "ports" => {
                let rows = self.rows();
                let rows = rows.values().filter(|row| row["Service"] == *value);
                let publishers = rows.flat_map(|row| row["Publishers"].as_array().unwrap());
                let keys = ["URL", "TargetPort", "PublishedPort", "Protocol"];
                let mut ports: Vec<Value> =
                    publishers.map(|port| keys.iter().map(|key| port[*key].clone()).collect()).collect();
                ports.sort_by_key(Value::to_string);
                json!(ports)
            }
            "sleep" => {
                std::thread::sleep(Duration::from_secs_f64(value.as_f64().unwrap()));
                Value::Null
            }
            "logs" => {
                json!(normal(&self.compose(&["logs", "--no-log-prefix", "--no-color", &text(value)]).out))
            }
            "setenv" => {
                self.env.insert(text(&value[0]), text(&value[1]));
                Value::Null
            }
            "ids" => {
                let now: BTreeMap<String, Value> =
                    self.rows().into_iter().map(|(name, row)| (name, row["ID"].clone())).collect();
                let before = std::mem::replace(&mut self.ids, now);
                let word = |(name, id): (&String, &Value)| {
                    (name.clone(), json!(if before.get(name) == Some(id) { "same" } else { "new" }))
                };
                Value::Object(self.ids.iter().map(word).collect())
            }
            other => panic!("unknown step {other}"),
        };
        (result, String::new())
    }
}

fn eventually(mut so: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while !so() {
        if begin.elapsed() > Duration::from_secs(30) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    true
}

/// Container IDs and addresses are different each time.
fn normal(text: &str) -> String {
    let word = |word: &str| -> String {
        let hex = !word.is_empty() && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let parts: Vec<&str> = word.split('.').collect();
        let address = parts.len() == 4
            && parts.iter().all(|part| part.parse::<u8>().is_ok())
            && ["10", "172", "192"].contains(&parts[0]);
        match (hex && [12, 64].contains(&word.len()), address) {
            (true, _) => "<id>".to_owned(),
            (_, true) => "<ip>".to_owned(),
            _ => word.to_owned(),
        }
    };
    let text = text.replace("\r\n", "\n");
    let mut result = String::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).unwrap_or(rest.len());
        result.push_str(&word(&rest[..end]));
        let next = rest[end..].chars().next().map_or(0, char::len_utf8);
        result.push_str(&rest[end..end + next]);
        rest = &rest[end + next..];
    }
    result
}
