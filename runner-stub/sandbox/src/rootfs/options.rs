//! One entry of `mounts` as data: what is mounted, with which attributes, how it propagates.

use std::path::PathBuf;

use crate::Error;
use crate::idmap::Mapped;
use crate::spec::Mount;
use crate::sys::MountAttributes;

/// What to do for one entry of `mounts`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Path in the container.
    pub(super) target: String,
    pub(super) what: What,
    pub(super) attributes: MountAttributes,
    /// For the mounts below too (`rro`, `rnosuid`, …).
    pub(super) recursive_attributes: MountAttributes,
    /// Private without.
    pub(super) propagation: Option<Propagation>,
    /// A bind mount of anything but a device has none that open.
    pub(super) denies_devices: bool,
    /// What a new file system's files have for a label (`linux.mountLabel`).
    pub(super) label: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    Bind {
        source: PathBuf,
        subpath: Option<String>,
        recursive: bool,
        copy_up: bool,
    },
    FileSystem {
        kind: String,
        source: String,
        data: Vec<(String, Option<String>)>,
        copy_up: bool,
    },
    /// Layers of an image, the lowest first, as one tree that nobody writes to.
    Image {
        layers: Vec<PathBuf>,
        subpath: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Propagation {
    /// `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`.
    pub(super) kind: u64,
    pub(super) recursive: bool,
}

pub(super) const READ_ONLY: u64 = 0x1;
pub(super) const NO_SUID: u64 = 0x2;
pub(super) const NO_DEV: u64 = 0x4;
pub(super) const NO_EXEC: u64 = 0x8;
/// Not bits but a number in a field.
const ACCESS_TIME: u64 = 0x70;
const NO_ACCESS_TIME: u64 = 0x10;
const STRICT_ACCESS_TIME: u64 = 0x20;
const NO_DIRECTORY_ACCESS_TIME: u64 = 0x80;
const NO_SYMLINK_FOLLOW: u64 = 0x0020_0000;

pub(super) const PRIVATE: u64 = 1 << 18;
const SLAVE: u64 = 1 << 19;
const SHARED: u64 = 1 << 20;
const UNBINDABLE: u64 = 1 << 17;

/// The option by which a mount decides on the labels of its files.
pub(crate) const CONTEXT: &str = "context";

impl Plan {
    /// As runc: by the mount where the kernel lets an ordinary user do so, which is for these; by the root folder's attribute
    /// for message queues. `proc`, `sysfs` and control groups keep the policy's, bind mounts their files'.
    pub(super) fn label(&mut self, label: &str) {
        match &mut self.what {
            What::FileSystem { kind, data, .. } if ["tmpfs", "devpts"].contains(&kind.as_str()) => {
                if !data.iter().any(|(key, _)| key == CONTEXT) {
                    data.push((CONTEXT.to_owned(), Some(label.to_owned())));
                }
            }
            What::FileSystem { kind, .. } if kind == "mqueue" => self.label = Some(label.to_owned()),
            What::Image { .. } => self.label = Some(label.to_owned()),
            What::FileSystem { .. } | What::Bind { .. } => {}
        }
    }

    /// No device node opens on this mount. Pseudo-terminals stay, which are nodes of the container's own.
    pub(super) fn deny_devices(&mut self) {
        match &self.what {
            What::FileSystem { kind, .. } if kind == "devpts" => {}
            What::FileSystem { .. } | What::Image { .. } => add(&mut self.attributes, NO_DEV, 0),
            // Known when it is opened: the source may itself be a device, which is then meant.
            What::Bind { .. } => self.denies_devices = true,
        }
    }
}

/// What an option sets and clears in `mount_attr`.
fn attribute(name: &str) -> Option<(u64, u64)> {
    Some(match name {
        "ro" => (READ_ONLY, 0),
        "rw" => (0, READ_ONLY),
        "nosuid" => (NO_SUID, 0),
        "suid" => (0, NO_SUID),
        "nodev" => (NO_DEV, 0),
        "dev" => (0, NO_DEV),
        "noexec" => (NO_EXEC, 0),
        "exec" => (0, NO_EXEC),
        "noatime" => (NO_ACCESS_TIME, ACCESS_TIME),
        "strictatime" => (STRICT_ACCESS_TIME, ACCESS_TIME),
        "relatime" | "norelatime" | "atime" => (0, ACCESS_TIME),
        "nodiratime" => (NO_DIRECTORY_ACCESS_TIME, 0),
        "diratime" => (0, NO_DIRECTORY_ACCESS_TIME),
        "nosymfollow" => (NO_SYMLINK_FOLLOW, 0),
        "symfollow" => (0, NO_SYMLINK_FOLLOW),
        _ => return None,
    })
}

fn propagation(name: &str) -> Option<Propagation> {
    let (base, recursive) = match name.strip_prefix('r') {
        Some(base) => (base, true),
        None => (name, false),
    };
    let kind = match base {
        "private" => PRIVATE,
        "slave" => SLAVE,
        "shared" => SHARED,
        "unbindable" => UNBINDABLE,
        _ => return None,
    };
    Some(Propagation { kind, recursive })
}

/// `linux.rootfsPropagation`: only what keeps the container's mounts inside.
pub(super) fn root_propagation(name: Option<&str>) -> Result<Option<Propagation>, Error> {
    match name {
        None | Some("" | "private" | "rprivate") => Ok(None),
        Some(name @ ("slave" | "rslave")) => Ok(propagation(name)),
        Some(_) => Err(Error::Unsupported { property: "linux.rootfsPropagation" }),
    }
}

/// Checks an entry and takes its options apart.
pub(super) fn plan(mount: &Mount, mapped: Mapped) -> Result<Plan, Error> {
    let invalid =
        |reason: String| Error::Invalid { property: format!("mounts `{}`", mount.destination), reason };
    if !mount.destination.starts_with('/') || mount.destination.contains('\0') {
        return Err(invalid("an absolute path is needed".to_owned()));
    }
    let mut plan = Plan {
        target: mount.destination.clone(),
        what: What::Bind { source: PathBuf::new(), subpath: None, recursive: false, copy_up: false },
        attributes: MountAttributes::default(),
        recursive_attributes: MountAttributes::default(),
        propagation: None,
        denies_devices: false,
        label: None,
    };
    let (mut subpath, mut layers) = (None, Vec::new());
    let (mut bind, mut recursive, mut copy_up, mut data) =
        (mount.kind.as_deref() == Some("bind"), false, false, vec![]);
    for option in &mount.options {
        match option.as_str() {
            "bind" => bind = true,
            "rbind" => (bind, recursive) = (true, true),
            "x-dpack.copyup" | "tmpcopyup" => copy_up = true,
            name if name.starts_with("x-dpack.subpath=") => {
                subpath = name.split_once('=').map(|(_, path)| path.to_owned());
            }
            name if name.starts_with("x-dpack.layers=") => {
                let list = name.split_once('=').map_or("", |(_, list)| list);
                layers = serde_json::from_slice(list.as_bytes())
                    .map_err(|error| invalid(format!("its layers are no list of paths ({error})")))?;
            }
            "defaults" | "async" | "nolazytime" | "loud" => {}
            name if name.starts_with("x-") => {}
            name => {
                if let Some((set, clear)) = attribute(name) {
                    add(&mut plan.attributes, set, clear);
                } else if let Some((set, clear)) = name.strip_prefix('r').and_then(attribute) {
                    add(&mut plan.recursive_attributes, set, clear);
                } else if let Some(found) = propagation(name) {
                    plan.propagation = (found.kind != PRIVATE).then_some(found);
                } else if !mapped.single || !(name.starts_with("gid=") || name.starts_with("uid=")) {
                    // With a single ID no other could own anything.
                    let (key, value) = match name.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (name, None),
                    };
                    data.push((key.to_owned(), value));
                }
            }
        }
    }
    if bind {
        let source = mount.source.as_deref().filter(|source| source.starts_with('/'));
        let source = source.ok_or_else(|| invalid("an absolute source is needed".to_owned()))?;
        if let Some((key, _)) = data.first() {
            return Err(invalid(format!("`{key}` is not an option of a bind mount")));
        }
        plan.what = What::Bind { source: PathBuf::from(source), subpath, recursive, copy_up };
        return Ok(plan);
    }
    let kind = mount.kind.clone().ok_or_else(|| invalid("a type is needed".to_owned()))?;
    if kind == "overlay" && layers.len() > 1 && data.is_empty() {
        add(&mut plan.attributes, READ_ONLY | NO_DEV, 0);
        plan.what = What::Image { layers, subpath };
        return Ok(plan);
    }
    // What an ordinary user can mount; anything else would be an odd wish and a wide attack surface.
    if !["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"].contains(&kind.as_str()) {
        return Err(invalid(format!("file systems of type `{kind}` are not supported")));
    }
    if copy_up && kind != "tmpfs" {
        return Err(invalid("only a volume or a tmpfs can be copied up".to_owned()));
    }
    let source = mount.source.clone().unwrap_or_else(|| kind.clone());
    plan.what = What::FileSystem { kind, source, data, copy_up };
    Ok(plan)
}

fn add(attributes: &mut MountAttributes, set: u64, clear: u64) {
    attributes.set = (attributes.set & !clear) | set;
    attributes.clear = (attributes.clear & !set) | clear;
    // The kernel wants the whole field cleared when a part is set.
    if attributes.set & (NO_ACCESS_TIME | STRICT_ACCESS_TIME) != 0 {
        attributes.clear |= ACCESS_TIME;
    }
}

/// Panics when a plan is not what [`plan`] promises of any entry.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn hold_to_rules(mount: &Mount) {
    for single in [false, true] {
        let Ok(mut plan) = plan(mount, Mapped { single }) else { continue };
        assert!(plan.target.starts_with('/') && !plan.target.contains('\0'));
        for attributes in [&plan.attributes, &plan.recursive_attributes] {
            assert_eq!(attributes.set & attributes.clear & !ACCESS_TIME, 0, "set and cleared at once");
            let time = attributes.set & ACCESS_TIME;
            // mount_setattr(2): one value of the field, and the whole field is cleared with it.
            assert!(time.count_ones() <= 1 && (time == 0 || attributes.clear & ACCESS_TIME == ACCESS_TIME));
        }
        match &plan.what {
            What::Bind { source, .. } => assert!(source.is_absolute()),
            What::Image { layers, .. } => assert!(layers.len() > 1),
            What::FileSystem { kind, data, .. } => {
                assert!(!["overlay", "bind", ""].contains(&kind.as_str()));
                assert!(!single || data.iter().all(|(key, _)| key != "uid" && key != "gid"));
            }
        }
        plan.deny_devices();
        let devpts = matches!(&plan.what, What::FileSystem { kind, .. } if kind == "devpts");
        assert!(devpts || plan.denies_devices || plan.attributes.set & NO_DEV != 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Mapped = Mapped { single: false };

    fn entry(kind: &str, source: &str, options: &str) -> Mount {
        Mount {
            destination: "/data".to_owned(),
            kind: Some(kind.to_owned()),
            source: Some(source.to_owned()),
            options: options.split(',').map(str::to_owned).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn bind_mounts_take_attributes_and_nothing_else() {
        let bind = plan(&entry("none", "/srv", "rbind,ro,nosuid,rprivate,x-dpack.copyup"), FULL).unwrap();
        assert_eq!(
            bind.what,
            What::Bind { source: "/srv".into(), subpath: None, recursive: true, copy_up: true }
        );
        assert_eq!((bind.attributes.set, bind.attributes.clear), (READ_ONLY | NO_SUID, 0));
        assert_eq!(bind.propagation, None);
        assert!(plan(&entry("bind", "/srv", "size=1"), FULL).is_err());
        assert!(plan(&entry("bind", "srv", "ro"), FULL).is_err());
        let recursive = plan(&entry("bind", "/srv", "rbind,rro,rslave"), FULL).unwrap();
        assert_eq!(recursive.recursive_attributes.set, READ_ONLY);
        assert_eq!(recursive.propagation, Some(Propagation { kind: SLAVE, recursive: true }));
    }

    #[test]
    fn what_features_promises_is_understood() {
        let features = crate::oci::features();
        let promised = features["mountOptions"].as_array().unwrap();
        assert!(promised.len() > 40);
        for option in promised.iter().map(|option| option.as_str().unwrap()) {
            let kind = if option == "tmpcopyup" { "tmpfs" } else { "bind" };
            let understood = plan(&entry(kind, "/srv", option), FULL).unwrap();
            if let What::FileSystem { data, copy_up, .. } = understood.what {
                assert!(data.is_empty() && copy_up, "{option} would be passed on to the kernel");
            }
        }
        assert!(plan(&entry("proc", "proc", "tmpcopyup"), FULL).is_err());
    }

    #[test]
    fn later_options_win_and_access_times_are_one_field() {
        let plan = plan(&entry("tmpfs", "tmpfs", "ro,rw,noatime,strictatime,mode=755"), FULL).unwrap();
        assert_eq!(plan.attributes.set, STRICT_ACCESS_TIME);
        assert_eq!(plan.attributes.clear, READ_ONLY | ACCESS_TIME);
    }

    #[test]
    fn owners_that_do_not_exist_are_left_out() {
        let devpts = entry("devpts", "devpts", "newinstance,gid=5,mode=0620");
        let What::FileSystem { data, .. } = plan(&devpts, Mapped { single: true }).unwrap().what else {
            panic!()
        };
        assert_eq!(data, [("newinstance".to_owned(), None), ("mode".to_owned(), Some("0620".to_owned()))]);
        assert!(plan(&entry("ext4", "/dev/sda", "rw"), FULL).is_err());
    }
}
