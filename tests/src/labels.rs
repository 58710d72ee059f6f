//! Devices with AppArmor or SELinux: machines whose kernel has one of them switched on, with a policy of the tests' own.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::output::Output;
use crate::programs::{cache, workspace};
use crate::vm::Vm;

/// Loads the profile `dpack-test`, which denies reading `/secret` and `/data/secret`.
const LOAD_PROFILE: &str = "
mount -t securityfs securityfs /sys/kernel/security
dd if=/in/apparmor of=/sys/kernel/security/apparmor/.load bs=1M 2>/dev/null
";

/// Loads the policy, and says as the package container-selinux does what containers are. The user may take that away.
const LOAD_POLICY: &str = "
mount -t selinuxfs selinuxfs /sys/fs/selinux
dd if=/in/selinux of=/sys/fs/selinux/load bs=4M 2>/dev/null
mkdir -p /etc/selinux/test/contexts
echo 'SELINUXTYPE=test' >/etc/selinux/config
cat >/etc/selinux/test/contexts/lxc_contexts <<'END'
process = \"system_u:system_r:container_t:s0\"
file = \"system_u:object_r:container_file_t:s0\"
ro_file = \"system_u:object_r:container_ro_file_t:s0\"
END
chown -R 1000 /etc/selinux/test/contexts
echo 1 >/sys/fs/selinux/enforce
";

impl Vm {
    /// AppArmor, with the profile `dpack-test`.
    pub fn apparmor(self) -> Result<Self> {
        let profile = prepared("apparmor")?;
        Ok(self
            .kernel_argument("security=apparmor")
            .kernel_argument("apparmor=1")
            .file(&profile)
            .first(LOAD_PROFILE))
    }

    /// SELinux, enforcing the policy in `vm/selinux.conf`.
    pub fn selinux(self) -> Result<Self> {
        let policy = prepared("selinux")?;
        Ok(self
            .kernel_argument("security=selinux")
            .kernel_argument("selinux=1")
            .file(&policy)
            .first(LOAD_POLICY))
    }
}

/// What the kernel is given, made when it is not there.
fn prepared(name: &str) -> Result<PathBuf> {
    let mut script = Command::new(workspace().join("tests/vm/labels.sh"));
    script.env("DPACK_DEV_CACHE", cache());
    Output::of(&mut script)?.success().context("failed to compile the policies of tests")?;
    Ok(cache().join("vm/labels").join(name))
}
