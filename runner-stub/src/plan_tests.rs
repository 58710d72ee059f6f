//! Plans as text: what is there above, what is planned below.

use dpack_compose::project::Dependency;
use serde_json::json;

use super::*;

/// `web` needs `app`, `app` needs `redis`; `cron` stands alone.
fn shop() -> Project {
    let service = |dependencies: &[&str]| Service {
        image: "image".into(),
        depends_on: dependencies.iter().map(|name| ((*name).to_owned(), Dependency::default())).collect(),
        ..Service::default()
    };
    let services = [("web", &["app"][..]), ("app", &["redis"]), ("redis", &[]), ("cron", &[])];
    Project {
        name: "shop".into(),
        services: services.into_iter().map(|(name, needs)| (name.to_owned(), service(needs))).collect(),
        ..Project::default()
    }
}

fn hashes() -> BTreeMap<String, String> {
    shop().services.into_keys().map(|name| (name, "new".to_owned())).collect()
}

fn existing(service: &str, configuration: &str, running: bool) -> Existing {
    Existing {
        name: format!("shop-{service}-1"),
        service: service.into(),
        number: 1,
        one_off: false,
        configuration: configuration.into(),
        running,
    }
}

fn everything_running() -> Vec<Existing> {
    ["app", "cron", "redis", "web"].map(|service| existing(service, "new", true)).into()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn only(services: &[&str]) -> UpOptions {
    UpOptions { services: names(services), ..UpOptions::default() }
}

#[test]
fn first_up_creates_dependencies_first() {
    let plan = up(&shop(), &hashes(), &[], &UpOptions::default()).unwrap();
    assert_eq!(
        plan.to_string(),
        "create shop-cron-1\n\
         create shop-redis-1\n\
         create shop-app-1 after shop-redis-1\n\
         create shop-web-1 after shop-app-1\n"
    );
}

#[test]
fn up_of_one_service_takes_its_dependencies_along() {
    let plan = up(&shop(), &hashes(), &[], &only(&["app"])).unwrap();
    assert_eq!(plan.to_string(), "create shop-redis-1\ncreate shop-app-1 after shop-redis-1\n");
}

#[test]
fn up_twice_keeps_everything() {
    let plan = up(&shop(), &hashes(), &everything_running(), &UpOptions::default()).unwrap();
    assert!(plan.steps.iter().all(|step| step.action == Action::Keep), "{plan}");
}

#[test]
fn what_changed_is_recreated_what_stopped_is_started_the_rest_stays() {
    let there = [existing("redis", "old", true), existing("app", "new", false), existing("web", "new", true)];
    let plan = up(&shop(), &hashes(), &there, &UpOptions::default()).unwrap();
    assert_eq!(
        plan.to_string(),
        "create shop-cron-1\n\
         recreate shop-redis-1\n\
         start shop-app-1 after shop-redis-1\n\
         keep shop-web-1 after shop-app-1\n"
    );
}

#[test]
fn what_is_made_anew_can_be_chosen() {
    let there = [existing("redis", "old", true), existing("app", "new", true)];
    for (recreate, expected) in [
        (Recreate::Changed, "recreate shop-redis-1\nkeep shop-app-1 after shop-redis-1\n"),
        (Recreate::None, "keep shop-redis-1\nkeep shop-app-1 after shop-redis-1\n"),
        (Recreate::Selected, "recreate shop-redis-1\nrecreate shop-app-1 after shop-redis-1\n"),
        (Recreate::Dependencies, "recreate shop-redis-1\nkeep shop-app-1 after shop-redis-1\n"),
        (Recreate::All, "recreate shop-redis-1\nrecreate shop-app-1 after shop-redis-1\n"),
    ] {
        let options = UpOptions { recreate, ..only(&["app"]) };
        assert_eq!(up(&shop(), &hashes(), &there, &options).unwrap().to_string(), expected, "{recreate:?}");
    }
    let options = UpOptions { recreate: Recreate::Selected, no_dependencies: true, ..only(&["app"]) };
    assert_eq!(up(&shop(), &hashes(), &there, &options).unwrap().to_string(), "recreate shop-app-1\n");
}

#[test]
fn a_container_whose_name_was_changed_is_replaced() {
    let mut named = shop();
    named.services.get_mut("cron").unwrap().container_name = Some("clock".into());
    let plan = up(&named, &hashes(), &[existing("cron", "old", true)], &only(&["cron"])).unwrap();
    assert_eq!(plan.to_string(), "remove shop-cron-1\ncreate clock\n");
}

#[test]
fn what_is_one_containers_own_is_not_scaled() {
    let on_networks = |place: serde_json::Value| json!({"networks": {"n": place}});
    for (key, value, expected) in [
        ("container_name", json!("clock"), "be named `clock`"),
        ("network", on_networks(json!({"ipv4_address": "10.1.0.9"})), "have the address 10.1.0.9"),
        ("mac_address", json!("02:42:ac:11:00:03"), "have the address 02:42:ac:11:00:03"),
        ("ports", json!([{"target": 81}, {"target": 80, "published": 8080}]), "publish port 8080"),
        ("ports", json!([{"target": 80, "published": 8080, "published_last": 8089}]), ""),
    ] {
        let mut service =
            serde_json::to_value(Service { image: "image".into(), ..Service::default() }).unwrap();
        service[key] = value;
        let mut project = shop();
        let service: Service = serde_json::from_value(service).unwrap();
        project.services.insert("cron".to_owned(), Service { replicas: Some(2), ..service });
        let message = up(&project, &hashes(), &[], &only(&["cron"])).err().map(|failure| failure.message);
        let expected = (!expected.is_empty())
            .then(|| format!("service `cron` cannot have 2 containers: all of them would {expected}"));
        assert_eq!(message, expected, "{key}");
    }
}

#[test]
fn only_what_does_not_run_is_removed_by_rm() {
    let there = [existing("redis", "new", true), existing("app", "new", false)];
    assert_eq!(remove(&shop(), &there, &[], false).unwrap().to_string(), "remove shop-app-1\n");
    assert_eq!(
        remove(&shop(), &there, &[], true).unwrap().to_string(),
        "remove shop-app-1\nremove shop-redis-1 after shop-app-1\n"
    );
}

#[test]
fn surplus_replicas_go_and_orphans_are_noticed() {
    let surplus = Existing { name: "shop-cron-2".into(), number: 2, ..existing("cron", "new", true) };
    let plan = up(
        &shop(),
        &hashes(),
        &[existing("cron", "new", true), surplus.clone(), existing("gone", "x", true)],
        &only(&["cron"]),
    );
    assert_eq!(plan.unwrap().to_string(), "keep shop-cron-1\nremove shop-cron-2\norphan shop-gone-1\n");
    let options = UpOptions { remove_orphans: true, ..only(&["cron"]) };
    let plan = up(&shop(), &hashes(), &[surplus, existing("gone", "x", true)], &options);
    let expected = "create shop-cron-1\nremove shop-cron-2\nremove shop-gone-1\n";
    assert_eq!(plan.unwrap().to_string(), expected);
}

#[test]
fn stop_goes_from_dependents_to_dependencies() {
    let plan = stop(&shop(), &everything_running(), &[]).unwrap();
    assert_eq!(
        plan.to_string(),
        "stop shop-web-1\n\
         stop shop-app-1 after shop-web-1\n\
         stop shop-redis-1 after shop-app-1\n\
         stop shop-cron-1\n"
    );
    let plan = stop(&shop(), &everything_running(), &names(&["redis"])).unwrap();
    assert_eq!(plan.to_string(), "stop shop-redis-1\n", "dependents that are not meant go on");
}

#[test]
fn down_removes_one_off_containers_and_on_request_orphans() {
    let one_off = Existing { name: "shop-redis-run-ab".into(), one_off: true, ..existing("redis", "", true) };
    let there =
        [existing("gone", "x", false), existing("redis", "new", true), one_off, existing("app", "new", true)];
    let spared = down(&shop(), &there, &[], false).unwrap();
    assert!(spared.to_string().ends_with("orphan shop-gone-1\n"), "{spared}");
    assert_eq!(down(&shop(), &there, &names(&["app"]), false).unwrap().to_string(), "remove shop-app-1\n");
    let plan = down(&shop(), &there, &[], true).unwrap();
    assert_eq!(
        plan.to_string(),
        "remove shop-gone-1\n\
         remove shop-app-1\n\
         remove shop-redis-1 after shop-app-1\n\
         remove shop-redis-run-ab after shop-app-1\n"
    );
}

#[test]
fn start_makes_nothing() {
    let there = [existing("redis", "old", false), existing("app", "new", true)];
    let plan = start(&shop(), &there, &[]).unwrap();
    assert_eq!(plan.to_string(), "start shop-redis-1\nkeep shop-app-1 after shop-redis-1\n");
    let failure = start(&shop(), &there, &names(&["web"])).unwrap_err();
    assert_eq!(failure.message, "service `web` has no container to start");
}

#[test]
fn unknown_services_and_circles_are_refused() {
    let failure = up(&shop(), &hashes(), &[], &only(&["rdis"])).unwrap_err();
    assert_eq!(
        (failure.message.as_str(), failure.hint.as_deref()),
        ("no such service: `rdis`", Some("did you mean `redis`?"))
    );
    let mut circle = shop();
    circle.services.get_mut("redis").unwrap().depends_on.insert("web".into(), Dependency::default());
    let failure = up(&circle, &hashes(), &[], &UpOptions::default()).unwrap_err();
    assert_eq!(failure.message, "services depend on each other in a circle: app, redis, web");
}
