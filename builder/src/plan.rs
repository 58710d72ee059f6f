//! What has to be built: which images for which services, from where, for which platforms. A pure function.

use std::collections::{BTreeMap, BTreeSet};

use dpack_compose::Project;
use dpack_compose::project::{Build, Service};
use dpack_payload::platform::Platform;
use dpack_targets::{TARGETS, Target};

use crate::error::Kind;
use crate::pull::{Error as PullError, ImageReference, LocalSource};

/// A build that can be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Name of the project.
    pub project: String,
    /// Images, in order of their references.
    pub images: Vec<PlannedImage>,
    /// Executables, in the order asked for.
    pub executables: Vec<Executable>,
}

/// One image of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedImage {
    /// Reference as the Compose file has it.
    pub reference: String,
    /// Services that use it.
    pub services: Vec<String>,
    /// Where to take it from instead of its registry.
    pub local: Option<LocalSource>,
    /// How to make it, when it is neither in a registry nor in files.
    pub build: Option<PlannedBuild>,
}

/// An image that has to be made first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedBuild {
    /// What the Compose file says.
    pub build: Build,
    /// The service that says so.
    pub service: String,
}

/// One executable to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// Its platform.
    pub platform: Platform,
    /// Row of the target table.
    pub target: &'static Target,
    /// Name of the file.
    pub file_name: String,
}

/// Why there is nothing to build.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No runner for this platform.
    #[error("dpack cannot build for `{0}`")]
    Platform(Platform),
    /// No service, so no image.
    #[error("the project `{0}` has no services")]
    NoServices(String),
    /// `--from` names an image that no service uses.
    #[error("--from names the image `{name}`, which no service uses; there are {images}")]
    UnusedSource {
        /// The name given.
        name: String,
        /// Images of the project.
        images: String,
    },
    /// Two services make one image in two ways.
    #[error("services `{}` and `{}` build the image `{image}` in two ways", .services[0], .services[1])]
    TwoBuilds {
        /// The services.
        services: [String; 2],
        /// Name of the image.
        image: String,
    },
    /// A reference in the Compose file that is none.
    #[error("service `{service}`: {source}")]
    Reference {
        /// The service.
        service: String,
        /// What is wrong.
        source: Box<PullError>,
    },
}

impl Error {
    /// What sort of trouble it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Platform(_) | Error::UnusedSource { .. } => Kind::Usage,
            Error::NoServices(_) | Error::TwoBuilds { .. } | Error::Reference { .. } => Kind::Input,
        }
    }

    /// The remedy, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Platform(_) => {
                let known: Vec<_> = TARGETS.iter().map(|target| target.platform).collect();
                Some(format!("choose from {}", known.join(", ")))
            }
            Error::Reference { source, .. } => source.hint(),
            Error::TwoBuilds { .. } => Some("give each its own `image`".to_owned()),
            _ => None,
        }
    }
}

/// Plans a build of `project` for `platforms`, with images of `sources` taken from files.
pub fn plan(
    project: &Project,
    platforms: &[Platform],
    sources: &BTreeMap<String, LocalSource>,
) -> Result<Plan, Error> {
    let mut services: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, service) in &project.services {
        services.entry(image_name(project, name)).or_default().push(name.clone());
        for image in service.other_images() {
            services.entry(image.to_owned()).or_default();
        }
    }
    if services.is_empty() {
        return Err(Error::NoServices(project.name.clone()));
    }
    let mut unused: BTreeSet<&String> = sources.keys().collect();
    let mut images = Vec::new();
    for (reference, services) in services {
        let source = sources.iter().find(|(name, _)| same_image(name, &reference));
        let mut build = None;
        if let Some((name, _)) = source {
            unused.remove(name);
        } else {
            let users = || {
                let uses =
                    |(_, service): &(_, &Service)| service.other_images().any(|image| image == reference);
                project.services.iter().filter(uses).map(|(name, _)| name.clone()).collect::<Vec<_>>()
            };
            ImageReference::parse(&reference).map_err(|source| Error::Reference {
                service: if services.is_empty() { users() } else { services.clone() }.join(", "),
                source: Box::new(source),
            })?;
            build = planned_build(project, &reference, &services)?;
        }
        let local = source.map(|(_, source)| source.clone());
        images.push(PlannedImage { reference, services, local, build });
    }
    if let Some(name) = unused.first() {
        let known: Vec<_> = images.iter().map(|image| image.reference.as_str()).collect();
        return Err(Error::UnusedSource { name: (*name).clone(), images: known.join(", ") });
    }
    let mut executables: Vec<Executable> = Vec::new();
    for platform in platforms {
        let target =
            Target::for_platform(&platform.to_string()).ok_or_else(|| Error::Platform(platform.clone()))?;
        if executables.iter().all(|executable| executable.target != target) {
            let file_name = format!("{}-{}", project.name, target.suffix);
            executables.push(Executable { platform: platform.clone(), target, file_name });
        }
    }
    Ok(Plan { project: project.name.clone(), images, executables })
}

/// Name of a service's image: one that has none, because it is built, gets the one that Docker Compose gives.
fn image_name(project: &Project, service: &str) -> String {
    match project.services.get(service).map(|service| service.image.as_str()) {
        None | Some("") => format!("{}-{service}", project.name),
        Some(image) => image.to_owned(),
    }
}

/// How an image is made: as the one service says that says so.
fn planned_build(project: &Project, image: &str, services: &[String]) -> Result<Option<PlannedBuild>, Error> {
    let mut found: Option<PlannedBuild> = None;
    for name in services {
        let Some(build) = project.services.get(name).and_then(|service| service.build.as_ref()) else {
            continue;
        };
        match found {
            Some(found) if found.build != *build => {
                let services = [found.service, name.clone()];
                return Err(Error::TwoBuilds { services, image: image.to_owned() });
            }
            Some(_) => {}
            None => found = Some(PlannedBuild { build: build.clone(), service: name.clone() }),
        }
    }
    Ok(found)
}

/// True when two spellings mean one image: `nginx` and `docker.io/library/nginx:latest`.
fn same_image(one: &str, other: &str) -> bool {
    let canonical = |text| ImageReference::parse(text).map(|reference| reference.canonical()).ok();
    one == other || canonical(one).is_some_and(|one| Some(one) == canonical(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(services: &[(&str, &str)]) -> Project {
        let service = |image: &str| Service { image: image.to_owned(), ..Service::default() };
        Project {
            name: "shop".into(),
            services: services.iter().map(|(name, image)| ((*name).to_owned(), service(image))).collect(),
            ..Project::default()
        }
    }

    fn platforms(texts: &[&str]) -> Vec<Platform> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn services_share_images_and_platforms_become_file_names() {
        let project = project(&[("web", "nginx"), ("api", "app:1"), ("proxy", "nginx")]);
        let source = LocalSource::parse("oci:app").unwrap();
        let sources = BTreeMap::from([("docker.io/library/app:1".to_owned(), source.clone())]);
        let plan =
            plan(&project, &platforms(&["linux/arm/v7", "linux/arm64/v8", "linux/arm64"]), &sources).unwrap();
        let images: Vec<_> =
            plan.images.iter().map(|image| (image.reference.as_str(), image.services.join(","))).collect();
        assert_eq!(images, [("app:1", "api".to_owned()), ("nginx", "proxy,web".to_owned())]);
        assert_eq!(plan.images[0].local, Some(source));
        let files: Vec<_> = plan.executables.iter().map(|executable| executable.file_name.as_str()).collect();
        assert_eq!(files, ["shop-armv7", "shop-arm64"]);
    }

    #[test]
    fn an_image_is_built_as_the_services_say() {
        let mut project = project(&[("web", ""), ("api", "app"), ("job", "app"), ("db", "redis")]);
        let build = |target: &str| Build { target: Some(target.to_owned()), ..Build::default() };
        for (service, target) in [("web", "w"), ("api", "a")] {
            project.services.get_mut(service).unwrap().build = Some(build(target));
        }
        let amd64 = platforms(&["linux/amd64"]);
        let found = plan(&project, &amd64, &BTreeMap::new()).unwrap();
        let images: Vec<_> = found
            .images
            .iter()
            .map(|image| (image.reference.as_str(), image.build.as_ref().map(|build| build.service.as_str())))
            .collect();
        assert_eq!(images, [("app", Some("api")), ("redis", None), ("shop-web", Some("web"))]);
        assert_eq!(found.images[0].services, ["api", "job"]);

        let source = LocalSource::parse("oci:app").unwrap();
        let given = plan(&project, &amd64, &BTreeMap::from([("shop-web".to_owned(), source)])).unwrap();
        assert_eq!(given.images[2].build, None, "files take the place of a build");

        project.services.get_mut("job").unwrap().build = Some(build("other"));
        let error = plan(&project, &amd64, &BTreeMap::new()).unwrap_err().to_string();
        assert_eq!(error, "services `api` and `job` build the image `app` in two ways");
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let amd64 = platforms(&["linux/amd64"]);
        let web = project(&[("web", "nginx")]);
        let error = plan(&web, &platforms(&["linux/riscv64"]), &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("linux/riscv64") && error.hint().unwrap().contains("linux/arm64"));

        let sources = BTreeMap::from([("redis".to_owned(), LocalSource::parse("oci:r").unwrap())]);
        let error = plan(&web, &amd64, &sources).unwrap_err().to_string();
        assert!(error.contains("`redis`") && error.contains("nginx"), "{error}");

        let error = plan(&project(&[("web", "Bad Name")]), &amd64, &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("`web`") && error.contains("`Bad Name`"), "{error}");
        assert!(matches!(plan(&project(&[]), &amd64, &BTreeMap::new()), Err(Error::NoServices(_))));
    }
}
