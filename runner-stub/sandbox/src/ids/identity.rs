//! Who a process believes to be, and what the ID calls do to it: credentials(7), setuid(2), setreuid(2), setresuid(2),
//! setfsuid(2). Values only.

use nix::errno::Errno;

/// `-1`: leave it as it is.
const UNCHANGED: u32 = u32::MAX;

/// User IDs or group IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    pub(super) file_system: u32,
}

/// A process' identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user: Ids,
    pub(super) group: Ids,
    /// Supplementary.
    pub(super) groups: Vec<u32>,
    /// It asked to keep its capabilities when it becomes another user (prctl(2), `PR_SET_KEEPCAPS`), until it executes
    /// something else. setpriv(1) does, and changes its group after its user.
    pub(super) keeps_capabilities: bool,
}

impl Ids {
    pub(super) fn all(id: u32) -> Self {
        Ids { real: id, effective: id, saved: id, file_system: id }
    }

    pub(super) fn set(self, id: u32, privileged: bool) -> Result<Self, Errno> {
        match id {
            UNCHANGED => Err(Errno::EINVAL),
            _ if privileged => Ok(Ids::all(id)),
            _ if id == self.real || id == self.saved => Ok(Ids { effective: id, file_system: id, ..self }),
            _ => Err(Errno::EPERM),
        }
    }

    pub(super) fn set_two(self, real: u32, effective: u32, privileged: bool) -> Result<Self, Errno> {
        let allowed = |id, others: &[u32]| id == UNCHANGED || privileged || others.contains(&id);
        if !allowed(real, &[self.real, self.effective])
            || !allowed(effective, &[self.real, self.effective, self.saved])
        {
            return Err(Errno::EPERM);
        }
        let new = Ids { real: or(real, self.real), effective: or(effective, self.effective), ..self };
        let saves = real != UNCHANGED || (effective != UNCHANGED && effective != self.real);
        Ok(Ids { saved: if saves { new.effective } else { self.saved }, file_system: new.effective, ..new })
    }

    pub(super) fn set_three(self, ids: [u32; 3], privileged: bool) -> Result<Self, Errno> {
        let own = [UNCHANGED, self.real, self.effective, self.saved];
        if !privileged && ids.iter().any(|id| !own.contains(id)) {
            return Err(Errno::EPERM);
        }
        let effective = or(ids[1], self.effective);
        Ok(Ids {
            real: or(ids[0], self.real),
            effective,
            saved: or(ids[2], self.saved),
            file_system: effective,
        })
    }

    /// Never fails: what is not allowed changes nothing.
    pub(super) fn set_file_system(self, id: u32, privileged: bool) -> Self {
        let own = [self.real, self.effective, self.saved, self.file_system];
        let allowed = id != UNCHANGED && (privileged || own.contains(&id));
        Ids { file_system: if allowed { id } else { self.file_system }, ..self }
    }
}

fn or(id: u32, old: u32) -> u32 {
    if id == UNCHANGED { old } else { id }
}

impl Identity {
    pub(super) fn has_group(&self, gid: u32) -> bool {
        self.group.file_system == gid || self.groups.contains(&gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Ids = Ids { real: 1, effective: 2, saved: 3, file_system: 2 };

    #[test]
    fn root_becomes_a_user_for_good_and_a_user_only_whom_it_has_been() {
        let user = Ids::all(0).set(999, true).unwrap();
        assert_eq!(user, Ids::all(999));
        assert_eq!(user.set(0, false), Err(Errno::EPERM));
        assert_eq!(USER.set(3, false), Ok(Ids { effective: 3, file_system: 3, ..USER }));
        assert_eq!(USER.set(2, false), Err(Errno::EPERM), "setuid(2) does not look at the effective one");
        assert_eq!(USER.set(UNCHANGED, true), Err(Errno::EINVAL));
    }

    #[test]
    fn the_saved_id_follows_as_setreuid_says() {
        let swapped = USER.set_two(2, 1, false).unwrap();
        assert_eq!(swapped, Ids { real: 2, effective: 1, saved: 1, file_system: 1 });
        let back = USER.set_two(UNCHANGED, 1, false).unwrap();
        assert_eq!(back.saved, 3, "an effective ID that is the real one saves nothing");
        assert_eq!(
            USER.set_two(3, UNCHANGED, false),
            Err(Errno::EPERM),
            "the real ID never from the saved one"
        );
        assert_eq!(USER.set_two(UNCHANGED, 9, false), Err(Errno::EPERM));
        assert_eq!(USER.set_two(UNCHANGED, 9, true).unwrap().saved, 9);
    }

    #[test]
    fn each_of_three_is_set_or_left() {
        let temporary = Ids::all(0).set_three([UNCHANGED, 33, UNCHANGED], true).unwrap();
        assert_eq!(temporary, Ids { real: 0, effective: 33, saved: 0, file_system: 33 });
        assert_eq!(temporary.set_three([UNCHANGED, 0, UNCHANGED], false), Ok(Ids::all(0)));
        assert_eq!(USER.set_three([9, UNCHANGED, UNCHANGED], false), Err(Errno::EPERM));
        assert_eq!(USER.set_file_system(3, false).file_system, 3);
        assert_eq!(USER.set_file_system(9, false), USER);
    }
}
