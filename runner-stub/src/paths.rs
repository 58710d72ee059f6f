//! Where things are on the device: the data folder (survives a reboot) and the runtime folder (sockets).
//!
//! The layout is drawn in ARCHITECTURE.md. Nothing outside these two folders is written. The supervisor's lock lies in
//! the data folder, because it guards what is there: two sessions that disagree about the runtime folder (`ssh` with
//! `XDG_RUNTIME_DIR`, `cron` without) must not get two supervisors.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dpack_payload::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::failure::{Context as _, Failure};

/// Longest path the kernel takes for a socket, without the final NUL (unix(7)).
const SOCKET_PATH: usize = 107;

/// What of the user's environment decides where things are.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// `--data-dir`, else `DPACK_DATA_DIR`.
    pub(crate) data_dir: Option<PathBuf>,
    /// `XDG_DATA_HOME`.
    pub(crate) xdg_data_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub(crate) xdg_runtime_dir: Option<PathBuf>,
    /// `HOME`.
    pub(crate) home: Option<PathBuf>,
    /// Effective user ID.
    pub(crate) uid: u32,
    /// `/run/user/UID` outlives the user's sessions.
    pub(crate) keeps_runtime_folder: bool,
}

/// The two folders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Paths {
    /// Data folder.
    pub(crate) data: PathBuf,
    /// Runtime folder.
    pub(crate) runtime: PathBuf,
    /// The data folder is not the user's usual one: other projects of the same name may run beside ours.
    pub(crate) apart: bool,
}

impl Paths {
    /// Decides on both folders; touches nothing.
    pub(crate) fn resolve(surroundings: &Surroundings) -> Result<Self, Failure> {
        let absolute = |path: &&PathBuf| path.is_absolute();
        let usual = (surroundings.xdg_data_home.as_ref().filter(absolute).cloned())
            .or_else(|| surroundings.home.as_ref().filter(absolute).map(|home| home.join(".local/share")))
            .map(|folder| folder.join("dpack"));
        let data = match (&surroundings.data_dir, &usual) {
            (Some(data), _) => std::path::absolute(data).unwrap_or_else(|_| data.clone()),
            (None, Some(usual)) => usual.clone(),
            (None, None) => {
                return Err(Failure::environment(
                    "no data folder: neither DPACK_DATA_DIR nor HOME is set, and /etc/passwd names no home",
                )
                .hint("export DPACK_DATA_DIR=/path/to/a/folder"));
            }
        };
        let runtime = (surroundings.xdg_runtime_dir.iter().filter(absolute))
            .chain([&PathBuf::from(format!("/run/user/{}", surroundings.uid))])
            .filter(|folder| outlives(folder, surroundings.uid, surroundings.keeps_runtime_folder))
            .find(|folder| folder.is_dir())
            .map_or_else(
                || PathBuf::from(format!("/tmp/dpack-{}", surroundings.uid)),
                |folder| folder.join("dpack"),
            );
        Ok(Self { apart: usual.as_ref() != Some(&data), data, runtime })
    }

    /// The folders and files of one project: where its supervisor is, or was when it was killed, else where one would be.
    /// `cron` and `ssh` have different runtime folders.
    pub(crate) fn find_project(&self, name: &str) -> ProjectPaths {
        let mut project = self.project(name);
        if let Ok(told) = fs::read_to_string(project.lock())
            && Path::new(&told).is_absolute()
            && Path::new(&told).is_dir()
        {
            project.runtime = told.into();
        }
        project
    }

    /// The folders and files of one project that is not up.
    fn project(&self, name: &str) -> ProjectPaths {
        let folder = self.data.join("projects").join(name);
        let mut runtime = self.runtime.join(name);
        let short = |path: &Path| Digest::of(path.as_os_str().as_encoded_bytes()).hex()[..12].to_owned();
        if self.apart {
            runtime = self.runtime.join(format!("{name}@{}", short(&folder)));
        }
        if runtime.join("supervisor.sock").as_os_str().len() > SOCKET_PATH {
            runtime = self.runtime.join(short(&folder));
        }
        ProjectPaths { folder, runtime }
    }

    /// Makes a folder below the data folder. All of it is for this user only, also where the data folder was there before
    /// and open to others: what containers are told in their environment lies there, and set-user-ID files of images and
    /// containers, which belong to this user outside of the container.
    pub(crate) fn make_data(&self, folder: &Path) -> Result<()> {
        let parts = ["layers", "projects"].map(|part| self.data.join(part));
        let made = parts.iter().try_for_each(|part| make_private(part));
        let made = made.and_then(|()| fs::create_dir_all(folder));
        made.with_context(|| format!("failed to create the data folder `{}`", folder.display())).environment()
    }
}

/// Whether a runtime folder outlives the user's sessions, as containers do, which have to be found again.
fn outlives(folder: &Path, uid: u32, keeps_runtime_folder: bool) -> bool {
    keeps_runtime_folder || folder != Path::new(&format!("/run/user/{uid}"))
}

/// Makes a folder, and those on the way to it, for this user only; closes one that is there.
fn make_private(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
    if fs::metadata(folder)?.mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// The folders and files of one project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProjectPaths {
    /// `projects/<project>` in the data folder.
    pub(crate) folder: PathBuf,
    /// The project's part of the runtime folder.
    pub(crate) runtime: PathBuf,
}

impl ProjectPaths {
    /// What the last `up` asked for.
    pub(crate) fn record(&self) -> PathBuf {
        self.folder.join("project.json")
    }

    /// Held by the supervisor as long as it lives; says where its runtime folder is.
    pub(crate) fn lock(&self) -> PathBuf {
        self.folder.join("supervisor.lock")
    }

    /// Says in the lock, which is held, where the runtime folder is ([`Paths::find_project`]).
    pub(crate) fn tell_runtime(&self) -> std::io::Result<()> {
        fs::write(self.lock(), self.runtime.as_os_str().as_encoded_bytes())
    }

    /// Makes the runtime folder, for this user only. One in `/tmp` could have been made by somebody else first.
    pub(crate) fn make_runtime(&self, uid: u32) -> Result<()> {
        for folder in self.runtime.parent().into_iter().chain([self.runtime.as_path()]) {
            let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(folder);
            made.with_context(|| format!("failed to create the runtime folder `{}`", folder.display()))?;
            let metadata = fs::symlink_metadata(folder)?;
            if !metadata.is_dir() || metadata.uid() != uid || metadata.mode() & 0o077 != 0 {
                return Err(Failure::environment(format!(
                    "the runtime folder `{}` is not this user's alone",
                    folder.display()
                ))
                .hint(format!("remove it, or: chmod 700 {}", folder.display()))
                .into());
            }
        }
        Ok(())
    }

    /// What the supervisor has to say to nobody in particular.
    pub(crate) fn supervisor_log(&self) -> PathBuf {
        self.folder.join("supervisor.log")
    }

    /// What happened to containers.
    pub(crate) fn events(&self) -> PathBuf {
        self.folder.join("events.json")
    }

    /// The same, earlier.
    pub(crate) fn earlier_events(&self) -> PathBuf {
        self.folder.join("events.1.json")
    }

    /// What a container shares as `/dev/shm`: in memory, where the runtime folder is.
    pub(crate) fn shared_memory(&self, container: &str) -> PathBuf {
        self.runtime.join("shm").join(container)
    }

    /// All containers.
    pub(crate) fn containers(&self) -> PathBuf {
        self.folder.join("containers")
    }

    /// One container.
    pub(crate) fn container(&self, name: &str) -> PathBuf {
        self.containers().join(name)
    }

    /// All named volumes.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.folder.join("volumes")
    }

    /// Files of the project folder that travelled in an executable.
    pub(crate) fn all_files(&self) -> PathBuf {
        self.folder.join("files")
    }

    /// Those of one layer.
    pub(crate) fn files(&self, layer: &Digest) -> PathBuf {
        self.all_files().join(layer.hex())
    }

    /// The supervisor's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime.join("supervisor.sock")
    }

    /// The network process's socket.
    pub(crate) fn network_socket(&self) -> PathBuf {
        self.runtime.join("network.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(data_dir: Option<&str>, xdg: Option<&str>, home: Option<&str>) -> Result<Paths, Failure> {
        Paths::resolve(&Surroundings {
            data_dir: data_dir.map(PathBuf::from),
            xdg_data_home: xdg.map(PathBuf::from),
            xdg_runtime_dir: None,
            home: home.map(PathBuf::from),
            uid: 4_000_000,
            keeps_runtime_folder: false,
        })
    }

    #[test]
    fn the_data_folder_follows_flag_then_xdg_then_home() {
        for (data_dir, xdg, home, expected, apart) in [
            (Some("/d"), Some("/x"), Some("/h"), "/d", true),
            (None, Some("/x"), Some("/h"), "/x/dpack", false),
            (None, Some("relative"), Some("/h"), "/h/.local/share/dpack", false),
            (None, None, Some("/h"), "/h/.local/share/dpack", false),
            (Some("/x/dpack"), Some("/x"), None, "/x/dpack", false),
        ] {
            let paths = resolve(data_dir, xdg, home).unwrap();
            assert_eq!((paths.data.as_path(), paths.apart), (Path::new(expected), apart));
            assert_eq!(paths.runtime, Path::new("/tmp/dpack-4000000"));
        }
        assert!(resolve(None, None, None).is_err());
    }

    #[test]
    fn a_runtime_folder_that_goes_with_the_session_is_not_used() {
        let uid = 4_000_000;
        let folder = tempfile::tempdir().unwrap();
        assert!(!outlives(Path::new("/run/user/4000000/"), uid, false));
        assert!(outlives(Path::new("/run/user/4000000"), uid, true));
        assert!(outlives(folder.path(), uid, false));
    }

    #[test]
    fn a_project_stays_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let [data, one, other] = ["data", "one", "other"].map(|name| folder.path().join(name));
        let paths = |runtime: &Path| Paths { data: data.clone(), runtime: runtime.to_owned(), apart: false };
        let project = paths(&one).find_project("shop");
        assert_eq!(project.runtime, one.join("shop"));
        fs::create_dir_all(&project.folder).unwrap();
        fs::create_dir_all(&project.runtime).unwrap();
        project.tell_runtime().unwrap();
        assert_eq!(paths(&other).find_project("shop").runtime, one.join("shop"));
        assert_eq!(paths(&other).find_project("elsewhere").runtime, other.join("elsewhere"));
        fs::remove_dir(&project.runtime).unwrap();
        assert_eq!(paths(&other).find_project("shop").runtime, other.join("shop"));
    }

    #[test]
    fn socket_paths_fit_the_kernel_and_differ_by_data_folder() {
        let usual = resolve(None, None, Some("/h")).unwrap();
        assert_eq!(usual.project("shop").runtime, Path::new("/tmp/dpack-4000000/shop"));
        let (one, other) =
            (resolve(Some("/a"), None, Some("/h")).unwrap(), resolve(Some("/b"), None, Some("/h")).unwrap());
        assert_ne!(one.project("shop").runtime, other.project("shop").runtime);
        assert!(usual.project(&"x".repeat(200)).socket().as_os_str().len() <= SOCKET_PATH);
    }

    /// A set-user-ID file of an image would otherwise make every user of the device this user.
    #[test]
    fn layers_and_projects_are_closed_to_others_in_a_data_folder_that_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir_all(data.join("layers")).unwrap();
        for open in [&data, &data.join("layers")] {
            fs::set_permissions(open, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let paths = Paths { data: data.clone(), runtime: folder.path().join("r"), apart: false };
        paths.make_data(&paths.project("shop").folder).unwrap();
        assert!(data.join("projects/shop").is_dir());
        for part in ["layers", "projects"] {
            assert_eq!(fs::metadata(data.join(part)).unwrap().mode() & 0o777, 0o700, "{part}");
        }
    }

    #[test]
    fn a_runtime_folder_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let uid = fs::metadata(folder.path()).unwrap().uid();
        let paths = Paths { data: folder.path().join("d"), runtime: folder.path().join("r"), apart: false };
        let project = paths.project("shop");
        project.make_runtime(uid).unwrap();
        assert!(project.make_runtime(uid + 1).is_err());
    }
}
