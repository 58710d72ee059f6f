//! User, group, supplementary groups.

use rustix::process::{Gid, Uid};
use rustix::thread::CapabilitiesSecureBits;

use super::confine;
use crate::Error;
use crate::idmap::Mapped;
use crate::spec::User;

/// Becomes the user. With a single ID, one that is not root stays the only one there is but never gets root's
/// capabilities.
pub(super) fn assume(user: &User, mapped: Mapped) -> Result<(), Error> {
    if mapped.single {
        if user.uid != 0 {
            let bits = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
            rustix::thread::set_capabilities_secure_bits(bits)
                .map_err(confine("give up root's privileges"))?;
        }
        return Ok(());
    }
    let groups: Vec<Gid> = user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups).map_err(confine("set the supplementary groups"))?;
    // Capabilities are set exactly afterwards; until then they are kept, for ambient ones.
    rustix::thread::set_keep_capabilities(true).map_err(confine("keep capabilities"))?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(confine("set the group"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(confine("set the user"))?;
    Ok(())
}
