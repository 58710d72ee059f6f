//! `pre_start`: containers that run to their end, one after the other, before those of a service start.
//!
//! As in Docker Compose 5.3: a step has the networks and volumes of the container that it prepares, and a status other than 0
//! stops what comes after it. What was done once for a service is not done again for another replica, nor when a container
//! is started again; a container that is made anew is prepared anew.

use std::rc::Rc;
use std::sync::Arc;

use anyhow::Result;
use dpack_compose::project::{Healthcheck, Hook, Restart, Service};
use dpack_sandbox::record;

use super::super::reporter::Reporter;
use super::super::state::{Supervisor, Unit};
use super::create::Order;
use super::up::Up;
use crate::failure::Failure;
use crate::logs::{Reader, Start};
use crate::protocol::Phase;

/// Lines of a step that failed that its error repeats.
const TAIL: usize = 10;

impl Supervisor {
    /// Carries out what has to be before a container is started for the first time.
    pub(super) async fn pre_start(
        self: &Rc<Self>,
        up: &Rc<Up>,
        unit: &Rc<Unit>,
        reporter: &Reporter,
    ) -> Result<()> {
        let hooks = &unit.identity.definition.pre_start;
        if hooks.is_empty() || unit.running.get() {
            return Ok(());
        }
        let service = &unit.identity.service;
        let turn = Rc::clone(self.pre_start.borrow_mut().entry(service.clone()).or_default());
        let _turn = turn.lock().await;
        if unit.supervision().prepared {
            return Ok(());
        }
        let replicas = self.all().into_iter().filter(|other| other.identity.service == *service);
        let once = replicas.into_iter().any(|other| other.supervision().prepared);
        for (number, hook) in hooks.iter().enumerate().filter(|(_, hook)| hook.per_replica || !once) {
            self.pre_start_step(up, unit, number, hook, reporter).await?;
        }
        unit.supervise(|supervision| supervision.prepared = true)
    }

    /// Refuses to start what was never prepared.
    pub(crate) fn check_prepared(unit: &Unit) -> Result<(), Failure> {
        if unit.identity.definition.pre_start.is_empty() || unit.supervision().prepared {
            return Ok(());
        }
        let service = &unit.identity.service;
        Err(Failure::usage(format!("service `{service}`: its `pre_start` has not been carried out"))
            .hint(format!("up -d {service}")))
    }

    async fn pre_start_step(
        self: &Rc<Self>,
        up: &Rc<Up>,
        unit: &Rc<Unit>,
        number: usize,
        hook: &Hook,
        reporter: &Reporter,
    ) -> Result<()> {
        let name = format!("{}-pre_start-{number}", unit.identity.name);
        if let Some(left) = self.unit(&name) {
            // A supervisor was killed while it waited for it.
            self.stop_and_remove(&left, Some(0), reporter).await?;
        }
        reporter.container(&name, Phase::Starting);
        let step = self.create_pre_start(up, unit, &name, hook).await?;
        let overruled = self.overruled.notified();
        let started = self.start(&step).await;
        if started.is_ok() {
            tokio::select! {
                () = step.exited() => {}
                () = overruled => self.stop(&step, None).await?,
            }
        }
        let code = match record::state(&step.folder) {
            Ok(record::State::Exited(exit)) => exit.code,
            _ => 255,
        };
        let said = last_lines(&step).unwrap_or_default();
        self.remove_for_good(&step).await?;
        started?;
        reporter.container(&name, Phase::Exited);
        if code == 0 {
            return Ok(());
        }
        let service = &unit.identity.service;
        Err(Failure::input(format!(
            "service `{service}`: pre_start[{number}] exited with status {code}{said}"
        ))
        .into())
    }

    async fn create_pre_start(&self, up: &Up, unit: &Unit, name: &str, hook: &Hook) -> Result<Rc<Unit>> {
        let service_name = unit.identity.service.clone();
        let service = definition(&unit.identity.definition, hook);
        let image = self.executable.image(&service_name, &service.image)?.clone();
        self.create_container(Order {
            name: name.to_owned(),
            service_name,
            service,
            image,
            model: Arc::clone(&up.project),
            stacks: Arc::clone(&up.stacks),
            anonymous_of: unit.identity.name.clone(),
            number: 1,
            one_off: true,
            configuration: String::new(),
            aliases: false,
            remove: false,
        })
        .await
    }
}

/// A step as a service of its own: what it does not say itself is the service's, but for what belongs to an image.
fn definition(service: &Service, hook: &Hook) -> Service {
    let mut step = Service {
        ports: Vec::new(),
        restart: Restart::No,
        container_name: None,
        healthcheck: Some(Healthcheck { disable: true, ..Healthcheck::default() }),
        pre_start: Vec::new(),
        post_start: Vec::new(),
        pre_stop: Vec::new(),
        stdin_open: false,
        tty: false,
        working_dir: hook.working_dir.clone().or_else(|| service.working_dir.clone()),
        ..service.clone()
    };
    if let Some(image) = &hook.image {
        step.image.clone_from(image);
        (step.entrypoint, step.command, step.user) = (None, None, None);
    }
    if !hook.command.is_empty() {
        step.command = Some(hook.command.clone());
    }
    step.user = hook.user.clone().or(step.user);
    for name in &hook.unset_environment {
        step.environment.remove(name);
        step.unset_environment.insert(name.clone());
    }
    for (name, value) in &hook.environment {
        step.unset_environment.remove(name);
        step.environment.insert(name.clone(), value.clone());
    }
    step
}

/// What a step wrote last, to be put behind a message.
fn last_lines(unit: &Unit) -> Result<String> {
    let mut reader = Reader::open(&unit.folder.join("log.json"), Start::Last(TAIL))?;
    let mut said = String::new();
    while let Some(line) = reader.next()?.or_else(|| reader.rest()) {
        said += "\n";
        said += &line.text;
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_its_service_but_for_what_it_says() {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let service = Service {
            image: "app".into(),
            entrypoint: Some(vec!["/entry".into()]),
            command: Some(vec!["serve".into()]),
            user: Some("app".into()),
            working_dir: Some("/srv".into()),
            environment: pairs(&[("A", "1"), ("B", "2")]),
            restart: Restart::Always,
            pre_start: vec![Hook::default()],
            ..Service::default()
        };
        let hook = Hook {
            command: vec!["migrate".into()],
            environment: pairs(&[("B", "3")]),
            unset_environment: ["A".to_owned()].into(),
            ..Hook::default()
        };
        let own = definition(&service, &hook);
        assert_eq!(
            (own.image.as_str(), own.entrypoint.as_deref()),
            ("app", Some(&["/entry".to_owned()][..]))
        );
        assert_eq!(own.command, Some(vec!["migrate".to_owned()]));
        assert_eq!((own.user.as_deref(), own.working_dir.as_deref()), (Some("app"), Some("/srv")));
        assert_eq!(own.environment, pairs(&[("B", "3")]));
        assert!(own.pre_start.is_empty() && own.restart == Restart::No);

        let hook = Hook { image: Some("other".into()), user: Some("root".into()), ..Hook::default() };
        let other = definition(&service, &hook);
        assert_eq!((other.image.as_str(), other.entrypoint, other.command), ("other", None, None));
        assert_eq!((other.user.as_deref(), other.working_dir.as_deref()), (Some("root"), Some("/srv")));
    }
}
