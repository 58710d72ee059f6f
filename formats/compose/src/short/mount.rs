//! `volumes` and `tmpfs` in short form.

/// `[SOURCE:]TARGET[:OPTION,…]`
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ShortMount {
    pub(crate) source: Option<String>,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    pub(crate) nocopy: bool,
    /// `z` or `Z`.
    pub(crate) selinux: Option<String>,
    /// `rshared` and the like.
    pub(crate) propagation: Option<String>,
}

impl ShortMount {
    /// Whether the source is a path of the device rather than a volume.
    pub(crate) fn is_bind(&self) -> bool {
        self.source.as_deref().is_some_and(is_path)
    }
}

/// Paths start with `.`, `/` or `~`; everything else names a volume.
pub(crate) fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~'])
}

/// Reads an entry of `volumes`.
pub(crate) fn parse(text: &str) -> Result<ShortMount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(format!("`{text}` has an empty part, expected `[SOURCE:]TARGET[:OPTIONS]`"));
    }
    let mut mount = ShortMount::default();
    let options = match parts.as_slice() {
        [target] => {
            mount.target = (*target).to_owned();
            return Ok(mount);
        }
        [source, target, rest @ ..] if rest.len() < 2 => {
            mount.source = Some((*source).to_owned());
            mount.target = (*target).to_owned();
            rest.first().copied().unwrap_or_default()
        }
        _ => return Err(format!("`{text}` has too many parts, expected `[SOURCE:]TARGET[:OPTIONS]`")),
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => mount.read_only = true,
            // Docker Desktop's caches and the kind of mount say nothing new here.
            "rw" | "cached" | "delegated" | "consistent" | "volume" => {}
            "nocopy" => mount.nocopy = true,
            "z" | "Z" => mount.selinux = Some(option.to_owned()),
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                mount.propagation = Some(option.to_owned());
            }
            _ => return Err(format!("unknown mount option `{option}`")),
        }
    }
    Ok(mount)
}

/// `TARGET[:OPTION,…]` of `tmpfs`
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ShortTmpfs {
    pub(crate) target: String,
    pub(crate) read_only: bool,
    pub(crate) size: Option<u64>,
    pub(crate) mode: Option<u32>,
}

/// Reads an entry of `tmpfs`.
pub(crate) fn parse_tmpfs(text: &str) -> Result<ShortTmpfs, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let mut mount = ShortTmpfs { target: target.to_owned(), ..ShortTmpfs::default() };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "ro" => mount.read_only = true,
            // What every tmpfs of a container has.
            "rw" | "noexec" | "nosuid" | "nodev" => {}
            "size" => mount.size = Some(super::size::parse(value)?),
            "mode" => mount.mode = Some(mode(value)?),
            _ => return Err(format!("tmpfs option `{name}` is not supported")),
        }
    }
    Ok(mount)
}

/// Permission bits in octal.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.filter(|_| !text.starts_with('+')).ok_or_else(|| format!("`{text}` is not an octal file mode"))
}
