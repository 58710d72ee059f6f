//! This executable's own payload: opened once, by descriptor, so that replacing the file under us changes nothing.

use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use dpack_payload::application::{Application, Image, PROJECT_FILES, PROJECT_PATHS};
use dpack_payload::digest::DiffId;
use dpack_payload::platform::Platform;
use dpack_payload::{OpenError, Payload};

use crate::failure::{Context as _, Failure, did_you_mean};

/// Version of the runner.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The platform whose images this stub runs.
pub(crate) fn host_platform() -> Platform {
    Platform::new("linux", std::env::consts::ARCH, None)
}

/// Files of the project folder that travel in an executable.
pub(crate) struct ProjectFiles {
    /// The layer that holds them.
    pub(crate) layer: DiffId,
    /// What travels, with all below it, seen from the project folder; the empty path is the folder itself.
    pub(crate) paths: Vec<String>,
}

/// An executable with its payload.
pub(crate) struct Executable {
    payload: Payload<File>,
    platform: Platform,
}

/// An executable that is opened when somebody asks: to read its index is a fifth of a container's start, and most starts ask for
/// nothing that is in it.
pub(crate) struct Unopened {
    file: Cell<Option<File>>,
    opened: OnceCell<Executable>,
}

impl Unopened {
    /// Of an open file.
    pub(crate) fn new(file: File) -> Self {
        Self { file: Cell::new(Some(file)), opened: OnceCell::new() }
    }

    /// Opens it, once.
    pub(crate) fn get(&self) -> Result<&Executable> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let file = self.file.take().context("the executable could not be opened before")?;
        let executable = Executable::open(file)?;
        Ok(self.opened.get_or_init(|| executable))
    }
}

impl Executable {
    /// Opens what this process was started from.
    pub(crate) fn own() -> Result<Self> {
        let file = File::open("/proc/self/exe").map_err(|error| {
            Failure::environment(format!("failed to open this executable: {error}"))
                .hint("it has to be readable, not only executable: chmod +r")
        })?;
        Self::open(file)
    }

    /// Finds the payload in an open file.
    pub(crate) fn open(file: File) -> Result<Self> {
        match Payload::open(file) {
            Ok(payload) => Ok(Self { payload, platform: host_platform() }),
            Err(OpenError::NotFound) => Err(Failure::input("there is no application inside this file")
                .hint("this is a bare runner, or a copy was cut off; make an executable with: dpack build")
                .into()),
            Err(error) => Err(error).input(),
        }
    }

    /// The payload.
    pub(crate) fn payload(&self) -> &Payload<File> {
        &self.payload
    }

    /// The application.
    pub(crate) fn application(&self) -> &Application {
        self.payload.application()
    }

    /// The open file.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.payload.source().as_fd()
    }

    /// Length of the program without its payload.
    pub(crate) fn program_length(&self) -> u64 {
        self.payload.offset()
    }

    /// What distinguishes this executable from every other one: runner version and payload.
    pub(crate) fn build(&self) -> String {
        format!("{VERSION} {}", self.payload.digest())
    }

    /// The images for this device.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Image> {
        self.application().images.iter().filter(|image| image.platform == self.platform)
    }

    /// Refuses an executable that was built for other devices.
    pub(crate) fn check_platform(&self) -> Result<(), Failure> {
        let application = self.application();
        if application.images.is_empty() || self.images().next().is_some() {
            return Ok(());
        }
        let mut others: Vec<String> =
            application.images.iter().map(|image| image.platform.to_string()).collect();
        others.sort();
        others.dedup();
        let message = format!(
            "this executable has images for {}, and this device is {}",
            others.join(", "),
            self.platform
        );
        Err(Failure::input(message).hint(format!("build it with: dpack build --platform {}", self.platform)))
    }

    /// The image of a service on this device. The reference decides: interpolation on the device may have changed it since
    /// the executable was built. A service without one was built, and its image is its own.
    pub(crate) fn image(&self, service: &str, reference: &str) -> Result<&Image, Failure> {
        let built_with = self.images().find(|image| image.services.iter().any(|name| name == service));
        let named = self.images().find(|image| image.reference == reference);
        if let Some(image) = named.or(built_with.filter(|_| reference.is_empty())) {
            return Ok(image);
        }
        self.check_platform()?;
        let failure = Failure::input(format!(
            "service `{service}` wants image `{reference}`, which is not in this executable"
        ));
        Err(match built_with {
            Some(image) => failure
                .hint(format!("a variable changed it from `{}`, the image at build time", image.reference)),
            None => match did_you_mean(reference, self.images().map(|image| image.reference.as_str())) {
                Some(meant) => failure.hint(format!("there is `{meant}`")),
                None => failure,
            },
        })
    }

    /// Files of the project folder that travel in it.
    pub(crate) fn project_files(&self) -> Option<ProjectFiles> {
        let image = self.images().find(|image| image.reference == PROJECT_FILES)?;
        let config: serde_json::Value = serde_json::from_slice(image.config.as_bytes()).ok()?;
        let paths = config["config"]["Labels"][PROJECT_PATHS].as_str()?;
        Some(ProjectFiles {
            layer: *image.layers.first()?,
            paths: serde_json::from_slice(paths.as_bytes()).ok()?,
        })
    }

    /// Every layer that this device needs, each once.
    pub(crate) fn layers(&self) -> Vec<DiffId> {
        let mut layers: Vec<DiffId> = self.images().flat_map(|image| image.layers.iter().copied()).collect();
        layers.sort();
        layers.dedup();
        layers
    }
}
